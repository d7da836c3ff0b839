//! Re-reservations by the clock: at their second, once, whatever happens between.

use super::disk::{Disk, Left};
use super::*;

fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    (dir, path)
}

fn reopened(path: &Path, seconds: i64) -> Opened {
    Opened::with_clock(file_opener(path.to_owned(), 1 << 20), seconds).expect("it opens")
}

fn is_reserved_since(opened: &Opened, ordinal: Ordinal, seconds: i64) -> bool {
    opened.reader.snapshot().state(ordinal) == State::Reserved { reserved_at: moment(seconds) }
}

fn scheduled(opened: &Opened) -> Vec<(Ordinal, Moment)> {
    let events = opened.all_events();
    let scheduled = events.iter().map(StoredEvent::event).filter(|event| event.scheduled_by().is_some());
    scheduled.map(|event| (event.ordinal(), event.moment())).collect()
}

#[test]
fn at_the_chosen_second_the_reservation_stands_with_that_second() {
    let (_dir, path) = file();
    let opened = Opened::at(&path);
    opened.submit(reserve(person(1))).expect("allowed");
    opened.hand.set(moment(60));
    let withdrawal = opened.submit(withdraw_until(person(1), 3_600)).expect("allowed");
    let entry = opened.reader.entry(person(1)).expect("readable");
    assert_eq!(entry.re_reservation_at(), Some(moment(3_600)));
    opened.hand.set(moment(3_599));
    // A command of that second goes by the writer: it had its chance.
    opened.submit(reserve(person(2))).expect("allowed");
    let withdrawn = State::Withdrawn { reserved_at: moment(0), withdrawn_at: moment(60) };
    assert_eq!(opened.reader.snapshot().state(person(1)), withdrawn);
    // No command: the writer comes by itself.
    opened.hand.set(moment(3_600));
    until(|| is_reserved_since(&opened, person(1), 3_600));
    let entry = opened.reader.entry(person(1)).expect("readable");
    let last = entry.events().last().expect("an event").event();
    assert_eq!(last.scheduled_by(), Some(withdrawal.event().sequence()));
    assert_eq!((last.channel(), last.registrant()), (Channel::EService, &registrant()));
    assert_eq!(entry.re_reservation_at(), None);
    opened.hand.set(moment(90_000));
    opened.submit(withdraw(person(2))).expect("allowed");
    assert_eq!(scheduled(&opened), [(person(1), moment(3_600))], "once");
    opened.reader.verify_chain().expect("whole");
}

#[test]
fn what_fell_due_while_nobody_was_there_has_its_own_moment() {
    let (_dir, path) = file();
    let opened = Opened::at(&path);
    for n in 1..4 {
        opened.submit(reserve(person(n))).expect("allowed");
        opened.submit(withdraw_until(person(n), 9_000 - i64::from(n) * 1_000)).expect("allowed");
    }
    opened.stop();
    let opened = reopened(&path, 7_500);
    // Before anybody asks: in the order of the moments, the third still waits.
    assert_eq!(scheduled(&opened), [(person(3), moment(6_000)), (person(2), moment(7_000))]);
    let snapshot = opened.reader.snapshot_owned();
    assert_eq!(snapshot.state(person(2)), State::Reserved { reserved_at: moment(7_000) });
    assert!(!snapshot.state(person(1)).is_reserved());
    for (at, expected) in [(6_999, false), (7_000, true), (-1, false), (0, false)] {
        let state = opened.reader.state_from_history(person(2), moment(at), snapshot.sequence());
        assert_eq!(state.expect("readable").is_reserved(), expected, "as of {at}");
    }
    opened.stop();
    let opened = reopened(&path, 7_600);
    assert_eq!(scheduled(&opened).len(), 2, "a second start repeats nothing");
    opened.hand.set(moment(8_000));
    until(|| is_reserved_since(&opened, person(1), 8_000));
}

#[test]
fn a_command_of_the_same_second_finds_it_done() {
    let (_dir, path) = file();
    let opened = Opened::at(&path);
    opened.submit(reserve(person(1))).expect("allowed");
    opened.submit(withdraw_until(person(1), 3_600)).expect("allowed");
    opened.hand.set(moment(3_600));
    let withdrawal = opened.submit(withdraw(person(1))).expect("it is reserved");
    assert_eq!(withdrawal.event().event().moment(), moment(3_600));
    let kinds: Vec<_> = opened.all_events().iter().map(|event| event.event().kind()).collect();
    use EventKind::{Reservation, Withdrawal};
    assert_eq!(kinds, [Reservation, Withdrawal, Reservation, Withdrawal]);
}

#[test]
fn what_ends_a_temporary_withdrawal_drops_its_schedule() {
    let (_dir, path) = file();
    let opened = Opened::at(&path);
    for n in 1..=3 {
        opened.submit(reserve(person(n))).expect("allowed");
        opened.submit(withdraw_until(person(n), 7_200)).expect("allowed");
    }
    opened.hand.set(moment(1_800));
    opened.submit(ex_officio(person(1))).expect("allowed");
    opened.submit(withdraw(person(2))).expect("made a lasting one");
    opened.submit(reserve(person(3))).expect("brought forward");
    // Withdrawn again, to a later moment: the first one is no more.
    opened.submit(withdraw_until(person(3), 9_000)).expect("allowed");
    opened.hand.set(moment(8_999));
    opened.submit(reserve(person(9))).expect("allowed");
    assert_eq!(scheduled(&opened), []);
    assert!(is_reserved_since(&opened, person(1), 1_800));
    assert!(!opened.reader.snapshot().state(person(2)).is_reserved());
    opened.stop();
    let opened = reopened(&path, 100_000);
    assert_eq!(scheduled(&opened), [(person(3), moment(9_000))]);
}

#[test]
fn a_clock_that_jumps_neither_repeats_nor_reorders() {
    let (_dir, path) = file();
    let opened = Opened::at(&path);
    for n in 1..=3 {
        opened.submit(reserve(person(n))).expect("allowed");
        opened.submit(withdraw_until(person(n), 40_000 - i64::from(n) * 5_000)).expect("allowed");
    }
    // Days ahead at once: all, with their own moments.
    opened.hand.set(moment(500_000));
    until(|| opened.reader.snapshot().reserved_count() == 3);
    let expected = [(person(3), moment(25_000)), (person(2), moment(30_000)), (person(1), moment(35_000))];
    assert_eq!(scheduled(&opened), expected);
    // Back before they were due: they stand.
    opened.hand.set(moment(100));
    let withdrawal = opened.submit(withdraw(person(1))).expect("allowed");
    assert_eq!(withdrawal.event().event().moment(), moment(35_000), "not before the event before");
    opened.stop();
    let opened = reopened(&path, 26_000);
    assert_eq!(scheduled(&opened), expected);
    opened.hand.set(moment(600_000));
    opened.submit(reserve(person(8))).expect("allowed");
    assert_eq!(scheduled(&opened), expected);
    opened.reader.verify_chain().expect("whole");
}

#[test]
fn ten_thousand_in_one_second_are_one_commit() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let people = || (0..10_000u32).map(person);
    for chunk in people().collect::<Vec<_>>().chunks(2_000) {
        let submissions =
            chunk.iter().flat_map(|number| [reserve(*number), withdraw_until(*number, 86_400)]).collect();
        assert!(opened.submit_all(submissions).iter().all(Result::is_ok));
    }
    assert_eq!(opened.reader.snapshot().reserved_count(), 0);
    opened.hand.set(moment(86_400));
    until(|| match opened.reader.snapshot().reserved_count() {
        0 => false,
        10_000 => true,
        some => panic!("{some} of them are shown"),
    });
    let mut expected: Vec<_> = people().map(|ordinal| (ordinal, moment(86_400))).collect();
    expected.sort_unstable();
    let events = opened.all_events();
    assert_eq!(events.len(), 10_000, "a page");
    let scheduled = opened.reader.events(Sequence::new(20_000), 10_000).expect("readable").into_events();
    let found = scheduled.iter().map(|event| (event.event().ordinal(), event.event().moment()));
    assert!(found.eq(expected));
    assert_eq!(opened.reader.verify_chain().expect("whole").last, Sequence::new(30_000));
}

/// Three temporary withdrawals, due one after the other.
fn three_withdrawn(opened: &Opened) -> bool {
    (1..=3).all(|n| {
        opened.submit(reserve(person(n))).is_ok()
            && opened.submit(withdraw_until(person(n), 3_600 + i64::from(n))).is_ok()
    })
}

#[test]
fn each_takes_effect_once_wherever_the_power_goes() {
    let (begin, end) = {
        let disk = Disk::default();
        let opened = Opened::with(disk.opener()).expect("it opens");
        assert!(three_withdrawn(&opened));
        let begin = disk.operations();
        for second in 3_601..=3_603 {
            opened.hand.set(moment(second));
            until(|| scheduled(&opened).len() as i64 == second - 3_600);
        }
        (begin, disk.operations())
    };
    let expected: Vec<_> = (1..=3).map(|n| (person(n), moment(3_600 + i64::from(n)))).collect();
    for cut in begin..end {
        let disk = Disk::default();
        let opened = Opened::with(disk.opener()).expect("it opens");
        assert!(three_withdrawn(&opened));
        disk.fail_from(cut);
        let mut shown = 0;
        for second in 3_601..=3_603 {
            opened.hand.set(moment(second));
            until(|| {
                shown = opened.reader.snapshot().reserved_count() as usize;
                shown as i64 == second - 3_600 || *opened.commander.health() != Health::Ok
            });
        }
        for left in [Left::Nothing, Left::Everything, Left::EverySecond] {
            let context = format!("power gone at operation {cut} of {end}, {left:?} left");
            let found = disk.after_power_loss(left);
            // Nobody has waited since: what is durable is what was shown, or more.
            let before =
                Opened::with_clock(found.opener(), 100).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(scheduled(&before).len() >= shown, "{context}");
            before.stop();
            let after = Opened::with_clock(found.opener(), 9_000).expect("it opens");
            assert_eq!(scheduled(&after), expected, "{context}");
            assert_eq!(after.states(), states_of(&after.all_events()), "{context}");
            after.reader.verify_chain().expect("whole");
        }
        // And without a loss of power: the disk heals, the writer goes on.
        disk.heal();
        until(|| opened.reader.snapshot().reserved_count() == 3);
        assert_eq!(scheduled(&opened), expected, "healed after operation {cut}");
    }
}
