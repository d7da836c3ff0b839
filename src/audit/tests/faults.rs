//! Disks that fail and disks that are full.

use std::io;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use super::simulated::{Operation, SimulatedDisk};
use super::support::{Machine, Refused, config, finished, record};
use crate::audit::check::check_disk;
use crate::audit::segment::segment_name;
use crate::audit::start::FoundTrail;
use crate::audit::{RecordRefused, TrailHealth};
use crate::clock::Moment;
use crate::environment::Environment;

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

/// Fails the `nth` operation of a kind, counted from now, and only that one.
fn fail_nth(disk: &SimulatedDisk, nth: usize, kind: fn(&Operation) -> bool) {
    let mut seen = 0;
    disk.fail(Box::new(move |operation| {
        seen += usize::from(kind(operation));
        (kind(operation) && seen == nth).then(eio)
    }));
}

/// After the first failed sync or write of the writer no receipt is made, even
/// though the disk is well again.
#[test]
fn a_failure_is_final() {
    let kinds: [fn(&Operation) -> bool; 2] =
        [|op| matches!(op, Operation::Sync { .. }), |op| matches!(op, Operation::Write { .. })];
    for kind in kinds {
        let mut failures = 0;
        for nth in 1..60 {
            let disk = SimulatedDisk::new();
            let mut machine = Machine::start(&disk).expect("new");
            let mut failed = std::pin::pin!(machine.trail().failed());
            let mut context = Context::from_waker(Waker::noop());
            assert!(failed.as_mut().poll(&mut context).is_pending());
            fail_nth(&disk, nth, kind);
            let mut given = Vec::new();
            let mut since = None;
            for value in 0..30 {
                machine.hand.set(Moment::from_unix_seconds(1_795_000_000 + i64::from(value)));
                let outcome = machine.record(value);
                match (&outcome, since) {
                    (Ok(receipt), None) => given.push(receipt.verification_id()),
                    (Err(Refused::Later(unavailable)), None) => since = Some(unavailable.since),
                    (Err(Refused::AtOnce(RecordRefused::Unavailable { since: told })), Some(since)) => {
                        assert_eq!(*told, since);
                    }
                    _ => panic!("operation {nth}, value {value}: {outcome:?}"),
                }
            }
            if let Some(since) = since {
                failures += 1;
                assert!(
                    matches!(machine.trail().health(), TrailHealth::Failed { since: s, .. } if s == since)
                );
                match failed.as_mut().poll(&mut context) {
                    Poll::Ready(failure) => {
                        assert!(
                            failure.is_of_disk() && failure.reason().contains("os error 5"),
                            "{failure:?}"
                        );
                    }
                    Poll::Pending => panic!("the failure is not told"),
                }
            }
            drop(machine);
            disk.heal();
            let again = Machine::start(&disk).expect("recoverable");
            for id in &given {
                assert!(again.trail().find(*id).expect("readable").is_some());
            }
        }
        assert!(failures > 20, "{failures}");
    }
}

/// Requests that wait when the sync fails are all refused, those before it are
/// not.
#[test]
fn everybody_who_waits_is_told() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    let before = record(&machine.recorder, 1).expect("taken");
    machine.turn().expect("no fault");
    fail_nth(&disk, 1, |op| matches!(op, Operation::Sync { .. }));
    let waiting: Vec<_> = (2..6).map(|value| record(&machine.recorder, value).expect("taken")).collect();
    machine.turn().expect_err("a failed sync");
    assert!(finished(before).is_ok());
    for pending in waiting {
        assert!(finished(pending).is_err());
    }
    assert!(matches!(record(&machine.recorder, 7), Err(RecordRefused::Unavailable { .. })));
}

/// A full disk: not ready at once, answers while there is room, then refusals;
/// with space again everything recovers, and nothing answered is lost.
#[test]
fn a_full_disk_meets_the_preparer_only() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    machine.hand.set(Moment::from_unix_seconds(1_795_000_100));
    // Segments cannot be filled any more; what is allocated can be written.
    disk.fail(Box::new(|operation| match operation {
        Operation::Write { bytes, .. } if bytes.len() >= 1024 => Some(enospc()),
        _ => None,
    }));
    let mut given = Vec::new();
    let mut refused = 0;
    for value in 0..60 {
        match machine.record(value) {
            Ok(receipt) => {
                assert_eq!(refused, 0, "an answer between refusals");
                given.push(receipt.verification_id());
            }
            Err(Refused::Later(told)) => {
                assert_eq!((refused, told.since), (0, Moment::from_unix_seconds(1_795_000_100)));
                refused += 1;
            }
            Err(Refused::AtOnce(RecordRefused::Unavailable { since })) => {
                assert_eq!(since, Moment::from_unix_seconds(1_795_000_100));
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(given.len() > 12 && refused > 10, "{} {refused}", given.len());
    match machine.trail().health() {
        TrailHealth::NoSpace { since, reason } => {
            assert_eq!(since, Moment::from_unix_seconds(1_795_000_100));
            assert!(reason.contains("os error 28"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // The partial segment was given back.
    assert!(!disk.image().contains_key("spare.tmp"));
    // Space returns.
    disk.heal();
    machine.preparer.step();
    assert_eq!(machine.trail().health(), TrailHealth::Writable);
    for value in 60..80 {
        given.push(machine.record(value).expect("durable").verification_id());
    }
    for id in &given {
        assert!(machine.trail().find(*id).expect("readable").is_some());
    }
    machine.close();
    assert_eq!(check_disk(&disk).expect("sound").verifications, given.len() as u64);
}

/// What is logged on this thread while `work` goes on.
fn logged(work: impl FnOnce()) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let writer = file.reopen().expect("a file");
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(Mutex::new(writer)).finish();
    tracing::subscriber::with_default(subscriber, work);
    std::fs::read_to_string(file.path()).expect("text")
}

/// A disk may stay full for hours: each reason is a line, and the end of it one.
#[test]
fn a_reason_is_logged_once_and_its_end_too() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    disk.fail(Box::new(|operation| matches!(operation, Operation::Create { .. }).then(enospc)));
    let log = logged(|| {
        while machine.trail().status().spare_ready {
            machine.record(5).expect("durable");
        }
        (0..5).for_each(|_| machine.preparer.step());
        disk.fail(Box::new(|operation| matches!(operation, Operation::Create { .. }).then(eio)));
        (0..5).for_each(|_| machine.preparer.step());
        disk.heal();
        (0..5).for_each(|_| machine.preparer.step());
    });
    let lines = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    assert_eq!((lines("WARN"), lines("os error 28"), lines("os error 5")), (2, 1, 1), "{log}");
    assert_eq!((lines("INFO"), lines("prepared again")), (1, 1), "{log}");
}

/// Readiness falls with the first failed preparation, not with the last room.
#[test]
fn health_tells_of_a_missing_spare_while_answers_go_on() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    disk.fail(Box::new(|operation| matches!(operation, Operation::Rename { .. }).then(enospc)));
    while machine.trail().status().segment == 1 {
        machine.record(5).expect("durable");
    }
    machine.record(6).expect("there is room");
    assert!(matches!(machine.trail().health(), TrailHealth::NoSpace { .. }));
    assert!(!machine.trail().status().spare_ready);
    machine.close();
    assert!(check_disk(&disk).expect("sound").is_intact());
}

/// A start on a full disk fails with the reason when it needs a segment.
#[test]
fn a_start_without_room_says_so() {
    let disk = SimulatedDisk::new();
    disk.fail(Box::new(|operation| matches!(operation, Operation::Write { .. }).then(enospc)));
    let error = Machine::start(&disk).err().expect("no room").to_string();
    assert!(error.contains("os error 28"), "{error}");
}

#[test]
fn more_than_may_wait_is_refused_as_overload() {
    let disk = SimulatedDisk::new();
    let small = crate::audit::TrailConfig { pending_bytes_max: 1000, ..config(1 << 16) };
    let mut machine = Machine::start_with(&disk, &small, 1_795_000_000).expect("new");
    let mut waiting = Vec::new();
    let refused = loop {
        match record(&machine.recorder, 1) {
            Ok(pending) => waiting.push(pending),
            Err(refused) => break refused,
        }
        if waiting.len() % 3 == 0 {
            machine.recorder.hand_over();
        }
    };
    assert_eq!(refused, RecordRefused::Overloaded);
    assert!((8..=12).contains(&waiting.len()), "{}", waiting.len());
    machine.turn().expect("no fault");
    for pending in waiting {
        finished(pending).expect("durable");
    }
    machine.record(2).expect("there is room again");
}

#[test]
fn a_record_larger_than_a_segment_is_refused() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    let item = crate::audit::Item::verified(super::support::ordinal(1), super::support::told(1));
    let verification = super::support::verification();
    let large = machine.recorder.record_batch(&verification, std::iter::repeat_n(item, 500));
    assert_eq!(large.err(), Some(RecordRefused::TooLarge));
    let name = "n".repeat(201);
    let named = crate::audit::Verification { institution: &name, ..verification };
    assert_eq!(machine.recorder.record_single(&named, item).err(), Some(RecordRefused::TooLarge));
    // The largest that is let in does fit.
    let mut count = 400;
    let pending = loop {
        match machine.recorder.record_batch(&verification, std::iter::repeat_n(item, count)) {
            Ok(pending) => break pending,
            Err(_) => count -= 1,
        }
    };
    machine.turn().expect("no fault");
    finished(pending).expect("durable");
    machine.close();
    assert_eq!(check_disk(&disk).expect("sound").verifications, 1);
}

/// Dropped requests are written all the same and leave nothing behind.
#[test]
fn abandoned_requests_leave_no_place_taken() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    for round in 0..50 {
        let kept = record(&machine.recorder, round).expect("taken");
        drop(record(&machine.recorder, round).expect("taken"));
        machine.turn().expect("no fault");
        drop(record(&machine.recorder, round).expect("taken"));
        finished(kept).expect("durable");
    }
    machine.turn().expect("no fault");
    assert_eq!(machine.recorder.places(), 0);
    machine.close();
    assert_eq!(check_disk(&disk).expect("sound").verifications, 150);
}

/// Another environment's trail is not written to, nor is one whose start ends after it
/// was found: its torn tail and what was prepared stay.
#[test]
fn a_trail_that_is_only_looked_at_stays_as_it_is() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    machine.record(1).expect("durable");
    let segment = machine.trail().status().segment;
    drop(machine);
    let last = disk.image()[&segment_name(segment)].iter().rposition(|byte| *byte != 0).expect("written");
    disk.tamper(&segment_name(segment), |bytes| bytes[last - 3] ^= 1);
    let before = disk.image();
    let find = |environment| {
        let (clock, _hand) = crate::clock::Clock::manual(Moment::from_unix_seconds(0));
        FoundTrail::on(std::sync::Arc::new(disk.clone()), config(2048), clock, environment)
    };
    let found = find(Environment::Test).expect("found");
    let torn = found.found().torn.clone().expect("a torn tail");
    drop(found);
    let refused = find(Environment::Production).err();
    assert!(matches!(refused, Some(crate::audit::OpenError::WrongEnvironment { .. })));
    assert!(disk.image() == before, "something was written");
    let machine = Machine::start(&disk).expect("recoverable");
    assert_eq!(machine.recovered.found.torn, Some(torn));
    assert!(machine.recovered.kept.is_some());
}
