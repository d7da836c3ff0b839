//! Ends of temporary withdrawals that wait for their imports: each for those that told
//! it, and for no others.

use EventKind::{Reservation, Withdrawal};

use super::disk::{Disk, Left};
use super::*;

const DAY: i64 = 86_400;

fn opened() -> (Disk, Opened) {
    let disk = Disk::default();
    let opened = Opened::with_clock(disk.opener(), 10 * DAY).expect("it opens");
    (disk, opened)
}

/// Reserved, and withdrawn until an end.
fn withdrawn(n: u32, end: i64) -> Vec<ImportLine> {
    let withdrawal = line(person(n), Withdrawal, DAY, Channel::EService);
    let withdrawal = ImportLine { reserve_again_at: Some(moment(end)), ..withdrawal };
    vec![line(person(n), Reservation, 0, Channel::Gmina), withdrawal]
}

/// Made a lasting one, before its end.
fn lasting(n: u32) -> Vec<ImportLine> {
    vec![line(person(n), Withdrawal, 2 * DAY, Channel::Gmina)]
}

/// Of somebody else.
fn other(n: u32) -> Vec<ImportLine> {
    vec![line(person(n), Reservation, 0, Channel::Bank)]
}

fn send(opened: &Opened, run: &ImportRun, lines: Vec<ImportLine>) -> u64 {
    let outcome = opened.runtime.block_on(async { run.send(lines).await?.outcome().await });
    outcome.expect("imported").recorded
}

/// An import whose connection is cut behind these lines.
fn cut(opened: &Opened, lines: Vec<ImportLine>) {
    send(opened, &opened.commander.import_run(true), lines);
}

/// How many events the number has, when the writer has looked at what is over and
/// what is due.
fn events_of(opened: &Opened, n: u32) -> usize {
    opened.submit(ex_officio(person(9_999))).expect("allowed");
    opened.reader.entry(person(n)).expect("readable").events().len()
}

fn has_ended(opened: &Opened, n: u32) -> bool {
    let is_recorded = events_of(opened, n) == 3;
    assert_eq!(opened.reader.snapshot().state(person(n)).is_reserved(), is_recorded);
    is_recorded
}

/// One network failure breaks all imports at once.
#[test]
fn an_import_sent_again_lets_go_of_nothing_that_another_one_told() {
    let (_disk, opened) = opened();
    for n in 1..=2 {
        cut(&opened, withdrawn(n, 3 * DAY));
    }
    // The first of them again, and whole.
    opened.import([withdrawn(1, 3 * DAY), lasting(1)].concat()).expect("imported");
    assert!(!has_ended(&opened, 2), "it waits for the other one");
    opened.import([withdrawn(2, 3 * DAY), lasting(2)].concat()).expect("nothing came before it");
    assert_eq!([events_of(&opened, 1), events_of(&opened, 2)], [3, 3]);
    assert_eq!(opened.states(), states_of(&opened.all_events()));
    assert!(![1, 2].iter().any(|n| opened.reader.snapshot().state(person(*n)).is_reserved()));
}

/// A load takes minutes, in which ends fall due.
#[test]
fn an_end_that_falls_due_waits_for_the_import_that_told_it() {
    let (_disk, opened) = opened();
    let end = 10 * DAY + 60;
    let run = opened.commander.import_run(true);
    send(&opened, &run, [withdrawn(1, end), withdrawn(2, end)].concat());
    opened.hand.set(moment(end));
    for n in 1..=2 {
        assert!(!has_ended(&opened, n), "its import is under way");
        assert!(opened.reader.snapshot().overdue(person(n), moment(end)).is_some(), "nobody is told of it");
    }
    assert_eq!(send(&opened, &run, lasting(1)), 1);
    run.finish();
    assert!(has_ended(&opened, 2));
    assert!(!opened.reader.snapshot().state(person(1)).is_reserved());
}

#[test]
fn an_import_that_is_complete_waits_for_no_other() {
    let (_disk, opened) = opened();
    let (run, unrelated) = (opened.commander.import_run(true), opened.commander.import_run(true));
    send(&opened, &unrelated, other(10));
    send(&opened, &run, withdrawn(1, 3 * DAY));
    send(&opened, &unrelated, other(11));
    assert!(!has_ended(&opened, 1));
    run.finish();
    assert!(has_ended(&opened, 1));
    send(&opened, &unrelated, withdrawn(2, 3 * DAY));
    assert!(!has_ended(&opened, 2));
}

/// A restart breaks all imports at once, too; nobody knows then which import told what.
#[test]
fn over_a_restart_each_end_waits_for_the_import_that_tells_it_again() {
    let (disk, opened) = opened();
    let during = 10 * DAY + 60;
    cut(&opened, withdrawn(1, 3 * DAY));
    cut(&opened, withdrawn(2, during));
    // Of an import that is complete, and of nobody's import.
    opened.import(withdrawn(3, during)).expect("imported");
    opened.submit(reserve(person(4))).expect("allowed");
    opened.submit(withdraw_until(person(4), 10 * DAY + 1_800)).expect("allowed");
    let (mut disk, mut opened) = (disk, opened);
    for _ in 0..2 {
        disk = disk.after_power_loss(Left::Nothing);
        opened.stop();
        opened = Opened::with_clock(disk.opener(), 10 * DAY + 1_800).expect("it opens");
        assert_eq!([3, 4].map(|n| opened.reader.snapshot().state(person(n)).is_reserved()), [true; 2]);
        opened.import(other(10)).expect("imported");
        assert_eq!([1, 2].map(|n| has_ended(&opened, n)), [false; 2], "that one told neither");
    }
    opened.import([withdrawn(2, during), lasting(2)].concat()).expect("nothing came before it");
    assert!(!has_ended(&opened, 1), "it is not sent again yet");
    opened.import(withdrawn(1, 3 * DAY)).expect("known");
    assert!(has_ended(&opened, 1));
    assert_eq!(opened.states(), states_of(&opened.all_events()));
    opened.reader.verify_chain().expect("whole");
}

/// Known lines hold an end as new ones do, over a restart too.
#[test]
fn an_end_told_again_waits_for_the_import_that_tells_it_now() {
    let (disk, opened) = opened();
    let end = 10 * DAY + 60;
    opened.import(withdrawn(1, end)).expect("imported");
    cut(&opened, withdrawn(1, end));
    let found = disk.after_power_loss(Left::Nothing);
    opened.stop();
    let opened = Opened::with_clock(found.opener(), end).expect("it opens");
    assert!(!has_ended(&opened, 1));
    opened.import([withdrawn(1, end), lasting(1)].concat()).expect("nothing came before it");
    assert_eq!(events_of(&opened, 1), 3);
}

/// Whatever became durable of a chunk whose sender was told that the disk failed: it
/// waits for that chunk to be sent again.
#[test]
fn an_end_waits_behind_a_failed_commit_wherever_it_failed() {
    let told = || withdrawn(1, 3 * DAY);
    let (disk, opened) = opened();
    let begin = disk.operations();
    cut(&opened, told());
    let end = disk.operations();
    let mut durable = 0;
    for operation in begin..end {
        let disk = Disk::default();
        let opened = Opened::with_clock(disk.opener(), 10 * DAY).expect("it opens");
        let run = opened.commander.import_run(true);
        disk.fail_from(operation);
        let outcome = opened.runtime.block_on(async { run.send(told()).await?.outcome().await });
        drop(run);
        disk.heal();
        until(|| *opened.commander.health() == Health::Ok);
        let known = events_of(&opened, 1);
        assert!([0, 2].contains(&known), "operation {operation}: {known}");
        durable += usize::from(outcome.is_err() && known == 2);
        opened.import([told(), lasting(1)].concat()).expect("nothing came before it");
        assert_eq!(events_of(&opened, 1), 3);
    }
    assert!(durable > 0, "of {} operations none is behind the commit", end - begin);
}

/// A file that was cut in the middle of its last line.
#[test]
fn an_import_of_which_a_chunk_without_a_number_was_refused_is_not_complete() {
    let (_disk, opened) = opened();
    let run = opened.commander.import_run(true);
    send(&opened, &run, withdrawn(1, 3 * DAY));
    let refused = opened.runtime.block_on(async { run.refuse(Vec::new()).await?.outcome().await });
    assert!(refused.is_ok(), "word of it was taken");
    run.finish();
    assert!(!has_ended(&opened, 1), "what was in that line, nobody knows");
    // Sent again, with the line whole.
    assert!(opened.import([withdrawn(1, 3 * DAY), lasting(1)].concat()).is_ok());
    assert!(!opened.reader.snapshot().state(person(1)).is_reserved());
}

/// What comes behind a chunk that was lost would be out of order for it, and an import
/// with a hole in it is not whole.
#[test]
fn an_import_of_which_the_disk_refused_a_chunk_has_ended() {
    let (disk, opened) = opened();
    let run = opened.commander.import_run(true);
    send(&opened, &run, withdrawn(1, 3 * DAY));
    let next = |lines| opened.runtime.block_on(async { run.send(lines).await?.outcome().await });
    disk.fail_from(disk.operations());
    assert!(matches!(next(withdrawn(2, 3 * DAY)), Err(CommandError::Unavailable { .. })));
    disk.heal();
    until(|| *opened.commander.health() == Health::Ok);
    assert_eq!(next(lasting(2)), Err(CommandError::ImportEnded));
    run.finish();
    assert!(!has_ended(&opened, 1), "what was to come of it, nobody knows");
    assert_eq!(events_of(&opened, 2), 0);
}
