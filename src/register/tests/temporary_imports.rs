//! Imported temporary withdrawals: judged as the law does, ended once, at their own
//! second, however the history is cut into chunks.

use std::collections::BTreeMap;

use EventKind::{Reservation, Withdrawal};

use super::disk::{Disk, Left};
use super::*;
use crate::limits::IMPORT_CHUNKS_PER_COMMIT_MAX;

const DAY: i64 = 86_400;

fn opened() -> (Disk, Opened) {
    let disk = Disk::default();
    let opened = Opened::with_clock(disk.opener(), 10 * DAY).expect("it opens");
    (disk, opened)
}

fn until_line(n: u32, seconds: i64, end: i64) -> ImportLine {
    let reserve_again_at = Some(moment(end));
    ImportLine { reserve_again_at, ..line(person(n), Withdrawal, seconds, Channel::EService) }
}

fn reserved(n: u32, seconds: i64) -> ImportLine {
    line(person(n), Reservation, seconds, Channel::Gmina)
}

/// Kind, second, and by the clock?
fn history(opened: &Opened, n: u32) -> Vec<(EventKind, i64, bool)> {
    let entry = opened.reader.entry(person(n)).expect("readable");
    let told = entry.events().iter().map(StoredEvent::event);
    told.map(|event| {
        let seconds = event.moment().unix_seconds() - START;
        (event.kind(), seconds, event.scheduled_by().is_some())
    })
    .collect()
}

#[test]
fn an_end_is_judged_as_the_law_does() {
    let (_disk, opened) = opened();
    opened.import(vec![reserved(1, 0), until_line(1, 60, 20 * DAY)]).expect("imported");
    let refused = |line: ImportLine| match opened.import(vec![reserved(2, 0), line]) {
        Err(CommandError::ImportRefused(lines)) => lines[0].reason,
        other => panic!("{other:?}"),
    };
    for channel in
        [Channel::Bank, Channel::Skok, Channel::Post, Channel::IdCardRegister, Channel::PeselRegister]
    {
        let lasting = line(person(1), Withdrawal, 60, channel);
        assert_eq!(refused(lasting), LineReason::ChannelMayNotWithdraw, "{channel:?}");
        let temporary = ImportLine { channel, ..until_line(2, 60, DAY) };
        assert_eq!(refused(temporary), LineReason::ChannelMayNotWithdraw, "{channel:?}");
    }
    let at_gmina = ImportLine { channel: Channel::Gmina, ..until_line(2, 60, DAY) };
    assert_eq!(refused(at_gmina), LineReason::TemporaryWithdrawalByEServiceOnly);
    assert_eq!(refused(until_line(2, 60, 60 + 1_799)), LineReason::ReReservationTooSoon);
    assert_eq!(refused(until_line(2, 60, 0)), LineReason::ReReservationTooSoon);
    assert_eq!(refused(until_line(2, 60, 1 << 32)), LineReason::MomentOutOfRange);
    let of_reservation = ImportLine { reserve_again_at: Some(moment(DAY)), ..reserved(3, 0) };
    assert_eq!(refused(of_reservation), LineReason::EndOfNoWithdrawal);
    // Known with another end, or with none: nobody guesses which one holds.
    assert_eq!(refused(until_line(1, 60, 21 * DAY)), LineReason::EndDiffers);
    let lasting = line(person(1), Withdrawal, 60, Channel::EService);
    assert_eq!(refused(lasting), LineReason::EndDiffers);
    assert_eq!(opened.all_events().len(), 2, "nothing of it was recorded");
    opened.import(vec![reserved(2, 0), until_line(2, 60, 60 + 1_800)]).expect("half an hour is enough");
}

#[test]
fn an_end_that_is_to_come_comes() {
    let (disk, opened) = opened();
    let feed =
        vec![reserved(1, 0), until_line(1, DAY, 11 * DAY), reserved(2, 0), until_line(2, DAY, 12 * DAY)];
    opened.import(feed.clone()).expect("imported");
    // Made a lasting one, by a line.
    opened.import(vec![line(person(2), Withdrawal, 2 * DAY, Channel::Gmina)]).expect("imported");
    let entry = opened.reader.entry(person(1)).expect("readable");
    assert_eq!(entry.re_reservation_at(), Some(moment(11 * DAY)));
    opened.stop();
    let opened = Opened::with_clock(disk.opener(), 11 * DAY - 1).expect("it opens");
    assert!(!opened.reader.snapshot().state(person(1)).is_reserved());
    opened.hand.set(moment(13 * DAY));
    until(|| opened.reader.snapshot().state(person(1)).is_reserved());
    let again = opened.import(feed).expect("known");
    assert_eq!((again.recorded, again.already_there), (0, 4));
    assert_eq!(
        history(&opened, 1),
        [(Reservation, 0, false), (Withdrawal, DAY, false), (Reservation, 11 * DAY, true)]
    );
    assert!(!opened.reader.snapshot().state(person(2)).is_reserved());
}

#[test]
fn an_end_that_has_passed_is_recorded_once_with_its_own_moment() {
    let (disk, opened) = opened();
    let feed = vec![reserved(1, 0), until_line(1, DAY, 2 * DAY)];
    opened.import(feed.clone()).expect("imported");
    until(|| opened.reader.snapshot().reserved_count() == 1);
    let expected = [(Reservation, 0, false), (Withdrawal, DAY, false), (Reservation, 2 * DAY, true)];
    assert_eq!(history(&opened, 1), expected);
    let state = opened.reader.snapshot().state(person(1));
    assert_eq!(state, State::Reserved { reserved_at: moment(2 * DAY) });
    // Again, with the end as another register told it, and after a restart.
    let told = line(person(1), Reservation, 2 * DAY, Channel::EService);
    for opened in [opened, Opened::with_clock(disk.opener(), 10 * DAY).expect("it opens")] {
        let again = opened.import([&feed[..], std::slice::from_ref(&told)].concat()).expect("known");
        assert_eq!((again.recorded, again.already_there), (0, 3));
        assert_eq!(history(&opened, 1), expected);
        opened.reader.verify_chain().expect("whole");
        opened.stop();
    }
}

#[test]
fn what_a_later_chunk_tells_counts_before_the_clock_does() {
    let (_disk, opened) = opened();
    let run = opened.commander.import_run(true);
    let send = |lines| opened.runtime.block_on(async { run.send(lines).await?.outcome().await });
    send((1..=4).flat_map(|n| [reserved(n, 0), until_line(n, DAY, 3 * DAY)]).collect()).expect("imported");
    // Other people's changes go on meanwhile; nothing that waits for the import does.
    opened.submit(reserve(person(9))).expect("allowed");
    assert_eq!(opened.reader.snapshot().reserved_count(), 1);
    send(vec![
        // Brought forward; made a lasting one; withdrawn after its end.
        reserved(1, 2 * DAY),
        line(person(2), Withdrawal, 2 * DAY, Channel::Gmina),
        line(person(3), Withdrawal, 4 * DAY, Channel::Gmina),
    ])
    .expect("imported");
    opened.submit(reserve(person(10))).expect("allowed");
    assert_eq!(history(&opened, 4).len(), 2, "it waits still");
    run.finish();
    until(|| history(&opened, 4).len() == 3);
    assert_eq!(history(&opened, 1)[2..], [(Reservation, 2 * DAY, false)]);
    assert_eq!(history(&opened, 2)[2..], [(Withdrawal, 2 * DAY, false)]);
    assert_eq!(history(&opened, 3)[2..], [(Reservation, 3 * DAY, true), (Withdrawal, 4 * DAY, false)]);
    assert_eq!(history(&opened, 4)[2..], [(Reservation, 3 * DAY, true)]);
    assert_eq!(opened.states(), states_of(&opened.all_events()));
    opened.reader.verify_chain().expect("whole");
    let refused = opened.import(vec![reserved(4, 2 * DAY)]);
    let refusals = vec![LineRefusal { index: 0, reason: LineReason::OutOfOrder }];
    assert_eq!(refused, Err(CommandError::ImportRefused(refusals)), "what is in force is not rewritten");
}

/// All chunks may have been sent long before the last of them is decided.
#[test]
fn an_import_is_complete_when_its_last_chunk_is_decided() {
    let (disk, opened) = opened();
    let run = opened.commander.import_run(true);
    let others = (10..10 + IMPORT_CHUNKS_PER_COMMIT_MAX as u32).map(|n| vec![reserved(n, 0)]);
    let mut chunks = vec![vec![reserved(1, 0), until_line(1, DAY, 3 * DAY)]];
    chunks.extend(others);
    chunks.push(vec![reserved(1, 2 * DAY)]);
    // More than one commit's, all of them sent before the first commit is through.
    let held = disk.hold();
    let in_flight: Vec<_> = chunks
        .into_iter()
        .map(|lines| opened.runtime.block_on(run.send(lines)).expect("there is room"))
        .collect();
    run.finish();
    drop(held);
    for chunk in in_flight {
        opened.runtime.block_on(chunk.outcome()).expect("imported");
    }
    assert_eq!(
        history(&opened, 1),
        [(Reservation, 0, false), (Withdrawal, DAY, false), (Reservation, 2 * DAY, false)]
    );
}

/// Another import that is complete meanwhile says nothing about one that is not, nor
/// about one that broke off; that one is not waited for when it has been sent again.
#[test]
fn each_import_is_waited_for() {
    let (_disk, opened) = opened();
    let send = |run: &ImportRun, lines: Vec<ImportLine>| {
        opened.runtime.block_on(async { run.send(lines).await?.outcome().await }).map(|told| told.recorded)
    };
    let first = || vec![reserved(1, 0), until_line(1, DAY, 3 * DAY)];
    let (slow, broken) = (opened.commander.import_run(true), opened.commander.import_run(true));
    assert_eq!(send(&slow, first()), Ok(2));
    let broken_off = || vec![reserved(2, 0), until_line(2, DAY, 3 * DAY)];
    assert_eq!(send(&broken, broken_off()), Ok(2));
    drop(broken);
    for n in 10..14 {
        assert_eq!(opened.import(vec![reserved(n, 0)]).map(|told| told.recorded), Ok(1));
        // The writer has looked at what is over when it answers a command.
        opened.submit(ex_officio(person(n + 10))).expect("allowed");
        assert_eq!(history(&opened, 1).len(), 2, "the slow one is under way");
    }
    assert_eq!(send(&slow, vec![reserved(1, 2 * DAY)]), Ok(1));
    slow.finish();
    opened.submit(ex_officio(person(30))).expect("allowed");
    assert_eq!(history(&opened, 2).len(), 2, "it broke off, and may be sent again");
    assert_eq!(opened.import(broken_off()).map(|told| told.recorded), Ok(0));
    until(|| history(&opened, 2).len() == 3);
    assert_eq!(history(&opened, 1)[2..], [(Reservation, 2 * DAY, false)]);
    assert_eq!(history(&opened, 2)[2..], [(Reservation, 3 * DAY, true)]);
}

/// Until an end that waits is recorded nobody is told that the number is not
/// reserved, and whatever is filed meanwhile comes after it.
#[test]
fn what_waits_is_overdue_and_a_filing_comes_after_its_end() {
    let (_disk, opened) = opened();
    let run = opened.commander.import_run(true);
    let lines = (1..=3).flat_map(|n| [reserved(n, 0), until_line(n, DAY, 3 * DAY)]);
    opened.runtime.block_on(async { run.send(lines.collect()).await?.outcome().await }).expect("imported");
    let overdue = |n, at| opened.reader.snapshot().overdue(person(n), moment(at));
    for n in 1..=3 {
        assert_eq!(overdue(n, 3 * DAY - 1), None);
        // The register has known of it for a moment, not for a week.
        assert_eq!(overdue(n, 3 * DAY), Some(moment(10 * DAY)));
    }
    // Refused as to a reserved number, and nothing is recorded by that.
    let refused = opened.submit(reserve(person(1)));
    assert_eq!(refused.err(), Some(CommandError::Refused(Refusal::AlreadyReserved)));
    assert_eq!(history(&opened, 1).len(), 2);
    opened.submit(withdraw(person(2))).expect("it is reserved");
    opened.submit(ex_officio(person(3))).expect("allowed");
    let end = (Reservation, 3 * DAY, true);
    assert_eq!(history(&opened, 2)[2..], [end, (Withdrawal, 10 * DAY, false)]);
    assert_eq!(history(&opened, 3)[2..], [end, (Reservation, 10 * DAY, false)]);
    assert_eq!([overdue(2, 10 * DAY), overdue(3, 10 * DAY)], [None, None]);
    assert_eq!(opened.states(), states_of(&opened.all_events()));
    run.finish();
    until(|| overdue(1, 10 * DAY).is_none());
    assert_eq!(history(&opened, 1)[2..], [end]);
    assert_eq!(opened.all_events().len(), 11, "each end once");
    opened.reader.verify_chain().expect("whole");
}

/// A later chunk may tell what came before an end, also when the process died
/// between the two and the import is sent again.
#[test]
fn an_import_that_broke_off_with_its_process_is_waited_for() {
    let (disk, opened) = opened();
    let first: Vec<_> = (1..=3).flat_map(|n| [reserved(n, 0), until_line(n, DAY, 3 * DAY)]).collect();
    let later = vec![reserved(1, 2 * DAY), line(person(2), Withdrawal, 2 * DAY, Channel::Gmina)];
    let run = opened.commander.import_run(true);
    opened.runtime.block_on(async { run.send(first.clone()).await?.outcome().await }).expect("imported");
    // One more that is to end while nobody is there.
    opened.submit(reserve(person(9))).expect("allowed");
    opened.submit(withdraw_until(person(9), 10 * DAY + 1_800)).expect("allowed");
    let found = disk.after_power_loss(Left::Nothing);
    opened.stop();
    // However long nobody was there: it could not be sent again.
    for seconds in [0, 600, 1_800] {
        let found = found.after_power_loss(Left::Nothing);
        let opened = Opened::with_clock(found.opener(), 10 * DAY + seconds).expect("it opens");
        for n in 1..=3 {
            assert_eq!(history(&opened, n).len(), 2, "{n} after {seconds} s");
        }
        assert_eq!(history(&opened, 9).len(), if seconds < 1_800 { 2 } else { 3 });
        let run = opened.commander.import_run(true);
        let send = |lines: &[ImportLine]| {
            let lines = lines.to_vec();
            opened.runtime.block_on(async { run.send(lines).await?.outcome().await })
        };
        assert_eq!(send(&first).map(|outcome| outcome.recorded), Ok(0));
        assert_eq!(history(&opened, 3).len(), 2, "it waits for the chunk that is to come");
        assert_eq!(send(&later).map(|outcome| outcome.recorded), Ok(2));
        run.finish();
        until(|| history(&opened, 3).len() == 3);
        assert_eq!(history(&opened, 1)[2..], [(Reservation, 2 * DAY, false)]);
        assert_eq!(history(&opened, 2)[2..], [(Withdrawal, 2 * DAY, false)]);
        assert_eq!(history(&opened, 3)[2..], [(Reservation, 3 * DAY, true)]);
        opened.reader.verify_chain().expect("whole");
        // Nothing waits any more: what the clock finds due at a start, it carries out.
        opened.submit(withdraw_until(person(3), 10 * DAY + seconds + 1_800)).expect("allowed");
        opened.stop();
        let opened = Opened::with_clock(found.opener(), 10 * DAY + seconds + 1_800).expect("it opens");
        assert_eq!(history(&opened, 3).len(), 5);
    }
}

/// A history made by commands and the clock.
fn made(rng: &mut Rng) -> Vec<StoredEvent> {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let mut now = 0;
    for _ in 0..150 {
        now += i64::from(rng.below(5_000));
        opened.hand.set(moment(now));
        // Nobody twice in a second: a temporary withdrawal made a lasting one in its
        // own second is refused by an import, for it cannot tell which one holds.
        let first = rng.below(25);
        let submissions = (0..8).map(|n| {
            let number = person((first + n) % 25);
            match rng.below(8) {
                0..=2 => reserve(number),
                3 => ex_officio(number),
                4 => withdraw(number),
                _ => withdraw_until(number, now + 1_800 + i64::from(rng.below(9_000))),
            }
        });
        for outcome in opened.submit_all(submissions.collect()) {
            assert!(matches!(outcome, Ok(_) | Err(CommandError::Refused(_))));
        }
    }
    opened.all_events()
}

fn by_number<'a>(
    events: impl IntoIterator<Item = &'a StoredEvent>,
) -> BTreeMap<Ordinal, Vec<(Moment, EventKind, Option<Moment>)>> {
    let mut numbers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events.into_iter().map(StoredEvent::event) {
        let told = (event.moment(), event.kind(), event.reserve_again_at());
        numbers.entry(event.ordinal()).or_default().push(told);
    }
    numbers
}

/// One register's history into another one, in chunks of any size, with the ends
/// that the clock recorded and without them: both say the same of every number.
#[test]
fn a_history_is_the_same_after_an_import_however_it_is_cut() {
    let mut rng = Rng(0x7E4D_0A17_0FF1_CE01);
    for round in 0..12 {
        let events = made(&mut rng);
        let with_ends = round % 2 == 0;
        let told = events.iter().map(StoredEvent::event);
        let lines: Vec<_> = told
            .filter(|event| with_ends || event.scheduled_by().is_none())
            .map(|event| ImportLine {
                ordinal: event.ordinal(),
                kind: event.kind(),
                moment: event.moment(),
                channel: event.channel(),
                registrant: event.registrant().clone(),
                reserve_again_at: event.reserve_again_at(),
            })
            .collect();
        let disk = Disk::default();
        let last = events.iter().map(|event| event.event().moment()).max().expect("events");
        let now = last.unix_seconds() - START;
        let opened = Opened::with_clock(disk.opener(), now).expect("it opens");
        let run = opened.commander.import_run(true);
        opened.runtime.block_on(async {
            let (mut rest, mut in_flight) = (&lines[..], Vec::new());
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(rest.len().min(1 + rng.below(60) as usize));
                in_flight.push(run.send(chunk.to_vec()).await.expect("sent"));
                rest = behind;
            }
            for chunk in in_flight {
                chunk.outcome().await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
            }
        });
        run.finish();
        let expected = by_number(&events);
        // Readers of the snapshot see an event a little later than those of the store.
        until(|| by_number(&opened.all_events()) == expected && opened.states() == states_of(&events));
        let recorded = opened.all_events().len();
        let again = opened.import(lines.clone()).expect("known");
        assert_eq!((again.recorded, again.already_there), (0, lines.len() as u64), "round {round}");
        opened.reader.verify_chain().expect("whole");
        opened.stop();
        let opened = Opened::with_clock(disk.opener(), now).expect("it opens");
        assert_eq!(opened.all_events().len(), recorded, "round {round}");
    }
}

/// An end is made ready minutes before its second; an import may tell of it anew until
/// then, with the same end.
#[test]
fn what_was_made_ready_follows_an_import() {
    let disk = Disk::default();
    let opened = Opened::with_clock(disk.opener(), 10_000).expect("it opens");
    let (number, end) = (person(1), 14_000);
    opened.submit(reserve(number)).expect("allowed");
    opened.submit(withdraw_until(number, end)).expect("allowed");
    opened.hand.set(moment(end - 60));
    // Between two commands the writer makes ready what is near, every few milliseconds.
    let begun = std::time::Instant::now();
    for n in (2..).take_while(|_| begun.elapsed() < std::time::Duration::from_millis(100)) {
        opened.submit(reserve(person(n))).expect("allowed");
    }
    let again = line(number, Withdrawal, 11_000, Channel::EService);
    let again = ImportLine { reserve_again_at: Some(moment(end)), ..again };
    opened.import(vec![line(number, Reservation, 10_500, Channel::IdCardRegister), again]).expect("imported");
    opened.hand.set(moment(end));
    until(|| opened.reader.snapshot().state(number).is_reserved());
    assert_eq!(opened.reader.entry(number).expect("readable").events().len(), 5);
    assert_eq!(opened.states(), states_of(&opened.all_events()));
    opened.reader.verify_chain().expect("whole");
}
