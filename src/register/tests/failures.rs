//! Every instant at which the disk may fail or the power go.

use super::disk::{Disk, Left};
use super::*;

/// What the caller knows after a run: acknowledged, and asked for at all.
struct Run {
    acknowledged: Vec<StoredEvent>,
    asked: usize,
}

/// A few commits, until the disk fails.
fn run(opened: &Opened) -> Run {
    let mut run = Run { acknowledged: Vec::new(), asked: 0 };
    for n in 0..6 {
        let submission = if n == 4 { withdraw(person(1)) } else { reserve(person(n)) };
        run.asked += 1;
        match opened.submit(submission) {
            Ok(outcome) => run.acknowledged.push(outcome.event().clone()),
            Err(CommandError::Unavailable { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    run
}

/// Acknowledged events are there; of the others, no more than the last.
fn check(opened: &Opened, run: &Run, context: &str) {
    let events = opened.all_events();
    assert!(events.len() >= run.acknowledged.len() && events.len() <= run.asked, "{context}");
    assert_eq!(events[..run.acknowledged.len()], run.acknowledged, "{context}");
    assert_eq!(opened.states(), states_of(&events), "{context}");
    assert_eq!(opened.reader.snapshot().sequence().value(), events.len() as u64, "{context}");
    let report = opened.reader.verify_chain().expect("whole");
    assert_eq!(report.last.value(), events.len() as u64, "{context}");
}

fn created() -> (Disk, u64) {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let operations = disk.operations();
    opened.stop();
    (disk, operations)
}

#[test]
fn no_acknowledged_event_is_lost_wherever_the_power_goes() {
    let (disk, made) = created();
    let total = {
        let opened = Opened::with(disk.opener()).expect("it opens");
        assert_eq!(run(&opened).acknowledged.len(), 6);
        disk.operations()
    };
    for cut in made..total {
        let disk = Disk::default();
        let opened = Opened::with(disk.opener()).expect("it opens");
        disk.fail_from(cut);
        let run = run(&opened);
        for left in [Left::Nothing, Left::Everything, Left::EverySecond] {
            let context = format!("power gone at operation {cut} of {total}, {left:?} left");
            let found = disk.after_power_loss(left);
            let reopened = Opened::with(found.opener()).unwrap_or_else(|error| panic!("{context}: {error}"));
            check(&reopened, &run, &context);
        }
    }
}

#[test]
fn a_making_that_was_cut_off_is_made_again_or_refused_but_never_taken_for_a_register() {
    let (_, made) = created();
    let mut usable = 0;
    for cut in 0..made {
        let disk = Disk::default();
        disk.fail_from(cut);
        assert!(Opened::with(disk.opener()).is_err(), "operation {cut} of {made}");
        for left in [Left::Nothing, Left::Everything, Left::EverySecond] {
            if let Ok(opened) = Opened::with(disk.after_power_loss(left).opener()) {
                assert_eq!(run(&opened).acknowledged.len(), 6);
                usable += 1;
            }
        }
    }
    assert!(usable > 0);
}

#[test]
fn the_register_recovers_when_the_disk_does() {
    let (_, made) = created();
    // Every operation of the first commits, then some.
    for cut in (made..made + 40).step_by(3) {
        let disk = Disk::default();
        let opened = Opened::with(disk.opener()).expect("it opens");
        disk.fail_from(cut);
        let mut run = run(&opened);
        if run.acknowledged.len() == 6 {
            continue;
        }
        assert!(matches!(*opened.commander.health(), Health::Failed { .. }));
        // Reading goes on, from memory and for what was acknowledged.
        let seen = opened.states();
        assert_eq!(seen, states_of(&run.acknowledged), "nothing is shown that may not be durable");
        disk.heal();
        let again = loop {
            match opened.submit(reserve(person(99))) {
                Ok(outcome) => break outcome,
                Err(CommandError::Unavailable { since }) => assert_eq!(since, moment(0)),
                Err(other) => panic!("{other}"),
            }
            std::thread::yield_now();
        };
        assert_eq!(*opened.commander.health(), Health::Ok);
        run.asked += 1;
        let events = opened.all_events();
        assert_eq!(events.last(), Some(again.event()));
        run.acknowledged.truncate(run.asked - 2);
        check(&opened, &run, &format!("failed at operation {cut}"));
    }
}

#[test]
fn a_healed_disk_is_found_without_a_command() {
    let (_, made) = created();
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    disk.fail_from(made);
    assert!(matches!(opened.submit(reserve(person(1))), Err(CommandError::Unavailable { .. })));
    disk.heal();
    while *opened.commander.health() != Health::Ok {
        std::thread::yield_now();
    }
}

/// A register on a disk that lets it be opened and takes nothing.
fn on_a_full_disk() -> (Disk, Opened) {
    let (disk, _) = created();
    let before = disk.operations();
    Opened::with(disk.opener()).expect("it opens").stop();
    let opening = disk.operations() - before;
    let opened = Opened::with(disk.opener()).expect("it opens");
    disk.let_itself_be_opened_only(opening);
    (disk, opened)
}

/// Nobody asks for a change, and nobody is told that one would be taken.
#[test]
fn a_full_disk_is_not_taken_for_a_healed_one_because_it_lets_itself_be_opened() {
    let (disk, opened) = on_a_full_disk();
    let since = moment(7);
    opened.hand.set(since);
    assert!(matches!(opened.submit(reserve(person(1))), Err(CommandError::Unavailable { .. })));
    let openings = disk.openings();
    while disk.openings() < openings + 4 {
        assert!(matches!(*opened.commander.health(), Health::Failed { since: told, .. } if told == since));
        std::thread::yield_now();
    }
    disk.heal();
    until(|| *opened.commander.health() == Health::Ok);
}

/// A full disk lets the register be opened, and refuses every change.
#[test]
fn an_outage_is_one_however_often_the_store_is_opened_again() {
    let (disk, opened) = on_a_full_disk();
    let since = moment(7);
    opened.hand.set(since);
    let unavailable = || Err(CommandError::Unavailable { since });
    for second in 1..=4 {
        let openings = disk.openings();
        let told = opened.submit(reserve(person(1))).map(|outcome| outcome.replayed());
        assert_eq!(told, unavailable(), "{second}");
        opened.hand.set(moment(7 + second));
        while disk.openings() == openings {
            assert!(
                matches!(*opened.commander.health(), Health::Failed { since: told, .. } if told == since)
            );
            std::thread::yield_now();
        }
    }
    disk.heal();
    while let Err(error) = opened.submit(reserve(person(1))) {
        assert_eq!(error, CommandError::Unavailable { since });
        std::thread::yield_now();
    }
    assert_eq!(*opened.commander.health(), Health::Ok);
    // What fails now is another outage.
    disk.fail_from(disk.operations());
    let told = opened.submit(reserve(person(2))).map(|outcome| outcome.replayed());
    assert_eq!(told, Err(CommandError::Unavailable { since: moment(11) }));
}

#[test]
fn a_stopped_writer_says_so() {
    let (disk, _) = created();
    let Opened { commander, thread, runtime, .. } = Opened::with(disk.opener()).expect("it opens");
    assert_eq!(*commander.health(), Health::Ok);
    thread.stop();
    assert!(matches!(*commander.health(), Health::Failed { .. }));
    let refused = runtime.block_on(commander.submit(reserve(person(1))));
    assert!(matches!(refused, Err(CommandError::Unavailable { .. })));
    let refused = runtime.block_on(import(&commander, Vec::new()));
    assert!(matches!(refused, Err(CommandError::Unavailable { .. })));
}

/// A file exchanged for an older one, or a disk that lied about what it had synced: what
/// readers were shown is ahead of it, and is not written on from there.
#[test]
fn a_store_that_went_back_is_not_written_on() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    opened.submit(reserve(person(1))).expect("allowed");
    let before = disk.after_power_loss(Left::Nothing);
    opened.submit(reserve(person(2))).expect("allowed");
    let whole = disk.after_power_loss(Left::Nothing);
    disk.fail_from(disk.operations());
    assert!(matches!(opened.submit(reserve(person(3))), Err(CommandError::Unavailable { .. })));
    disk.put_back(&before);
    disk.heal();
    let opened_before = disk.openings();
    until(|| disk.openings() >= opened_before + 2);
    assert!(
        matches!(&*opened.commander.health(), Health::Failed { reason, .. } if reason.contains("are gone"))
    );
    assert!(matches!(opened.submit(reserve(person(3))), Err(CommandError::Unavailable { .. })));
    assert!(opened.reader.snapshot().state(person(2)).is_reserved(), "as it was told");
    disk.put_back(&whole);
    until(|| *opened.commander.health() == Health::Ok);
    opened.submit(reserve(person(3))).expect("allowed");
    assert_eq!(opened.states(), states_of(&opened.all_events()));
    opened.reader.verify_chain().expect("whole");
}
