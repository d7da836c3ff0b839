//! Commands: acknowledged is durable and visible, and counts once.

use super::disk::Disk;
use super::*;
use crate::clock::ClockBehind;
use crate::limits::{REGISTER_COMMANDS_PENDING_MAX, REGISTER_COMMANDS_PER_COMMIT_MAX};

#[test]
fn what_many_at_once_were_told_is_what_is_found_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let opened = Opened::at(&path);
    let mut acknowledged: Vec<StoredEvent> = Vec::new();
    for round in 0..6 {
        opened.hand.set(moment(round * 3_600));
        let outcomes = opened.runtime.block_on(async {
            let tasks: Vec<_> = (0..300u32)
                .map(|n| {
                    let commander = opened.commander.clone();
                    // Three about each number at once: they are decided in turn.
                    let number = person(n / 3 * (round as u32 % 2 + 1));
                    let submission = if n % 3 == 1 { withdraw(number) } else { reserve(number) };
                    async move { commander.submit(submission).await }
                })
                .collect();
            let mut joined = Vec::new();
            let mut running = Vec::new();
            let local = tokio::task::LocalSet::new();
            local
                .run_until(async {
                    for task in tasks {
                        running.push(tokio::task::spawn_local(task));
                    }
                    for task in running {
                        joined.push(task.await.expect("no panic"));
                    }
                })
                .await;
            joined
        });
        for outcome in outcomes {
            match outcome {
                Ok(outcome) => acknowledged.push(outcome.event().clone()),
                Err(CommandError::Refused(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
    acknowledged.sort_by_key(StoredEvent::sequence);
    assert!(acknowledged.len() > 600);
    assert_eq!(opened.all_events(), acknowledged);
    assert_eq!(opened.states(), states_of(&acknowledged));
    let before = opened.states();
    let chain = opened.reader.verify_chain().expect("whole");
    opened.stop();
    let reopened = Opened::at(&path);
    assert_eq!(reopened.all_events(), acknowledged);
    assert_eq!(reopened.states(), before);
    assert_eq!(reopened.reader.verify_chain().expect("whole"), chain);
    let snapshot = reopened.reader.snapshot();
    assert_eq!(snapshot.sequence(), chain.last);
    assert_eq!(Some(snapshot.as_of()), acknowledged.last().map(|last| last.event().moment()));
}

#[test]
fn an_answer_comes_after_the_change_is_visible() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Opened::at(&dir.path().join("register.redb"));
    for n in 0..30 {
        let outcome = opened.submit(reserve(person(n))).expect("allowed");
        let snapshot = opened.reader.snapshot();
        assert_eq!(snapshot.sequence(), outcome.event().sequence());
        assert_eq!(snapshot.state(person(n)), State::Reserved { reserved_at: moment(0) });
        assert_eq!(snapshot.reserved_count(), u64::from(n) + 1);
    }
}

#[test]
fn an_empty_register_is_as_of_its_creation() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let created = Opened::at(&path).reader.snapshot().as_of();
    assert_eq!(created, moment(0));
    let (clock, _) = Clock::manual(moment(5_000));
    let config = RegisterConfig { path, cache_bytes: RegisterConfig::CACHE_BYTES_DEFAULT };
    let (reader, commander, thread) = loop {
        // The writer of the first opening ends on its own.
        match open(&config, clock.clone()) {
            Ok(parts) => break parts,
            Err(OpenError::Store(StoreError::Disk(_))) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(reader.snapshot().as_of(), created);
    assert_eq!(reader.snapshot().sequence(), Sequence::ZERO);
    assert_eq!(reader.snapshot().state(person(1)), State::Absent);
    assert!(reader.entry(person(1)).expect("readable").events().is_empty());
    drop(commander);
    thread.stop();
}

#[test]
fn the_law_reaches_the_caller() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Opened::at(&dir.path().join("register.redb"));
    let refusal = |submission| opened.submit(submission).expect_err("refused");
    assert_eq!(refusal(withdraw(person(1))), CommandError::Refused(Refusal::NotReserved));
    opened.submit(reserve(person(1))).expect("allowed");
    assert_eq!(refusal(reserve(person(1))), CommandError::Refused(Refusal::AlreadyReserved));
    opened.submit(withdraw(person(1))).expect("allowed");
    let allowed_from = moment(1_800);
    assert_eq!(refusal(reserve(person(1))), CommandError::Refused(Refusal::FilingTooSoon { allowed_from }));
    opened.hand.set(allowed_from);
    opened.submit(reserve(person(1))).expect("allowed");
    let too_soon = Refusal::ReReservationTooSoon { allowed_from: moment(3_600) };
    assert_eq!(refusal(withdraw_until(person(1), 3_599)), CommandError::Refused(too_soon));
    assert_eq!(opened.all_events().len(), 3, "a refusal leaves no trace in the register");
}

#[test]
fn ex_officio_on_a_reserved_number_is_recorded_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Opened::at(&dir.path().join("register.redb"));
    opened.submit(reserve(person(1))).expect("allowed");
    opened.hand.set(moment(60));
    let command = command(person(1), Change::Reservation, Channel::PeselRegister);
    opened.submit(filed(command)).expect("allowed");
    assert_eq!(opened.reader.snapshot().state(person(1)), State::Reserved { reserved_at: moment(0) });
    let entry = opened.reader.entry(person(1)).expect("readable");
    assert_eq!(entry.events().len(), 2);
    assert_eq!(entry.events()[1].event().channel(), Channel::PeselRegister);
    assert_eq!(opened.reader.snapshot().sequence(), Sequence::new(2));
}

#[test]
fn a_clock_that_steps_back_reorders_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let opened = Opened::at(&path);
    opened.submit(reserve(person(1))).expect("allowed");
    opened.hand.set(moment(-500));
    let withdrawal = opened.submit(withdraw(person(1))).expect("allowed");
    assert_eq!(withdrawal.event().event().moment(), moment(0));
    let other = opened.submit(reserve(person(2))).expect("allowed");
    assert_eq!(other.event().event().moment(), moment(-500), "another number goes by the clock");
    opened.stop();
    Opened::at(&path);
}

/// Not by a second or two but by more than a clock that is kept right ever does.
#[test]
fn a_clock_too_far_behind_what_is_recorded_takes_no_filing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (clock, hand) = Clock::manual(moment(0));
    let clock = clock.guarded(std::time::Duration::from_secs(60));
    let opener = file_opener(dir.path().join("register.redb"), CACHE_BYTES);
    let (reader, commander, thread) = open_with(opener, clock).expect("it opens");
    let opened = Opened { reader, commander, thread, hand, runtime: runtime() };
    opened.hand.set(moment(100));
    opened.submit(reserve(person(1))).expect("allowed");
    opened.hand.set(moment(39));
    let behind = CommandError::ClockBehind(ClockBehind { now: moment(39), recorded: moment(100) });
    assert_eq!(opened.submit(reserve(person(2))).map(drop), Err(behind.clone()));
    assert_eq!(opened.import(Vec::new()).map(drop), Err(behind));
    assert_eq!(opened.reader.snapshot().sequence(), Sequence::new(1));
    opened.hand.set(moment(40));
    opened.submit(reserve(person(2))).expect("allowed");
    assert!(opened.import(Vec::new()).is_ok());
}

#[test]
fn a_request_sent_twice_counts_once_for_a_day() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let opened = Opened::at(&path);
    let keyed = |submission: Submission, scope: &str, request: &[u8]| Submission {
        idempotency: Some(Idempotency::new(scope, "key-1", request)),
        ..submission
    };
    // Both in one batch: the first is not in any row when the second comes.
    let twice = opened.runtime.block_on(async {
        let submission = keyed(reserve(person(1)), "a", b"reserve 1");
        let (first, second) =
            tokio::join!(opened.commander.submit(submission.clone()), opened.commander.submit(submission));
        [first.expect("allowed"), second.expect("allowed")]
    });
    assert_eq!(twice[0].event(), twice[1].event());
    assert_eq!(twice.each_ref().map(Outcome::replayed), [false, true]);
    // Withdrawn meanwhile: the answer is still the first one.
    opened.submit(withdraw(person(1))).expect("allowed");
    opened.stop();
    let opened = Opened::at(&path);
    let again = opened.submit(keyed(reserve(person(1)), "a", b"reserve 1")).expect("replayed");
    assert!(again.replayed());
    assert_eq!(again.event(), twice[0].event());
    let conflict = opened.submit(keyed(reserve(person(2)), "a", b"reserve 2"));
    assert_eq!(conflict.expect_err("refused"), CommandError::IdempotencyConflict);
    opened.submit(keyed(reserve(person(2)), "b", b"reserve 2")).expect("another caller's key");
    opened.hand.set(moment(86_399));
    assert!(opened.submit(keyed(reserve(person(1)), "a", b"reserve 1")).expect("replayed").replayed());
    opened.hand.set(moment(86_400));
    let anew = opened.submit(keyed(reserve(person(1)), "a", b"reserve 1")).expect("allowed");
    assert!(!anew.replayed());
    // Its commit forgot what had expired, and not what it remembered itself.
    assert!(opened.submit(keyed(reserve(person(1)), "a", b"reserve 1")).expect("replayed").replayed());
    assert_eq!(opened.all_events().len(), 4);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let spare = 10;
    let count = REGISTER_COMMANDS_PENDING_MAX + REGISTER_COMMANDS_PER_COMMIT_MAX + spare;
    let outcomes = opened.runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        // The writer takes one batch at the most and waits for the disk.
        let held = disk.hold();
        let tasks: Vec<_> = (0..count as u32)
            .map(|n| {
                let commander = opened.commander.clone();
                tokio::task::spawn_local(async move { commander.submit(reserve(person(n))).await })
            })
            .collect();
        // Refused while the disk still stands, or this never ends.
        while tasks.iter().filter(|task| task.is_finished()).count() < spare {
            tokio::task::yield_now().await;
        }
        drop(held);
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.expect("no panic"));
        }
        outcomes
    }));
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    let recorded = outcomes.len() - refused;
    assert!(refused >= spare);
    assert!(outcomes.into_iter().filter_map(Result::err).all(|error| error == CommandError::Overloaded));
    assert_eq!(opened.reader.snapshot().sequence().value(), recorded as u64, "the rest is all recorded");
}
