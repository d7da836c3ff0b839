//! Answers from memory, and where there is none.

use std::num::NonZeroU32;

use super::*;
use crate::access::testing::world as access_world;
use crate::clock::Clock;
use crate::gate::{FailureLimits, Gate, IdentityCache, Peer};
use crate::register::{
    self, Change, Channel, Command, EventKind, ImportLine, RegisterConfig, Registrant, Submission,
};

fn moment(seconds: i64) -> Moment {
    Moment::from_unix_seconds(1_795_000_000 + seconds)
}

fn permit() -> Permit {
    permit_of(Environment::Test)
}

fn permit_of(environment: Environment) -> Permit {
    let world = access_world(environment);
    let (_, plain) = world.issue(world.new_key(&["8.8.8.0/24"]));
    let gate = Gate::new(world.reader.clone(), FailureLimits::default());
    let peer = Peer::from_socket("8.8.8.8:4711".parse().expect("socket"));
    let header = format!("Bearer {}", plain.reveal()).into_bytes();
    let identity = gate.identify(&peer, Some(&header), &mut IdentityCache::default()).expect("known");
    gate.admit(&peer, identity, NonZeroU32::MIN).expect("allowed")
}

/// A register, a way to file something about one of its numbers, and a hand on
/// its clock.
struct World {
    reader: register::Reader,
    commander: register::Commander,
    _thread: register::WriterThread,
    hand: crate::clock::ClockHand,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let config = RegisterConfig { path: dir.path().join("r"), cache_bytes: 1 << 20 };
    let (clock, hand) = Clock::manual(moment(0));
    register::create(&config.path, moment(0)).expect("a register");
    let (reader, commander, thread) = register::open(&config, clock).expect("it opens");
    World { reader, commander, _thread: thread, hand, _dir: dir }
}

fn numbered(number: u32) -> Ordinal {
    Ordinal::new(182_620_000 + number).expect("in range")
}

impl World {
    fn file(&self, number: u32, change: Change) {
        let command = Command {
            ordinal: numbered(number),
            change,
            channel: Channel::EService,
            registrant: Registrant::new("e-usługa").expect("a name"),
            applicant: None,
            obstacle: None,
            document_seen: None,
            majority_by_marriage: false,
        };
        let submission = Submission { command, idempotency: None, delivery: None };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(self.commander.submit(submission)).expect("allowed");
    }
}

/// Of real people; one for tests may well be empty.
#[test]
fn a_register_in_which_nothing_was_recorded_is_not_loaded() {
    let world = world();
    let permits = [Environment::Test, Environment::Production].map(permit_of);
    let ask = |number: u32, at: Option<Moment>| {
        let query = Query::new(numbered(number), at, moment(9)).expect("not in the future");
        let snapshot = world.reader.snapshot();
        permits.each_ref().map(|permit| match answer(permit, &query, &snapshot, moment(9)) {
            Outcome::Answered(answer) => Some(answer.reserved()),
            outcome => {
                assert_eq!(outcome, Outcome::Unknown(Unknown::NotLoaded { since: snapshot.as_of() }));
                None
            }
        })
    };
    for at in [None, Some(moment(5))] {
        assert_eq!(ask(1, at), [Some(false), None]);
    }
    world.file(1, Change::Reservation);
    assert_eq!([ask(1, None), ask(2, None)], [[Some(true); 2], [Some(false); 2]]);
}

/// A state of the register that was taken before a temporary withdrawal ended
/// says nothing about the number from that second on.
#[test]
fn an_end_that_is_not_recorded_is_no_answer() {
    let world = world();
    for number in 1..=3 {
        world.file(number, Change::Reservation);
    }
    world.hand.set(moment(10));
    let until = Change::Withdrawal { reserve_again_at: moment(3_600).try_into().ok() };
    world.file(1, until);
    world.file(2, Change::Withdrawal { reserve_again_at: None });
    let snapshot = world.reader.snapshot();
    let permit = permit();
    let ask = |number: u32, at: Option<i64>, now: i64| {
        let query = Query::new(numbered(number), at.map(moment), moment(now)).expect("not in the future");
        match answer(&permit, &query, &snapshot, moment(now)) {
            Outcome::Answered(answer) => Some(answer.reserved()),
            outcome => {
                assert_eq!(outcome, Outcome::Unknown(Unknown::Overdue { since: moment(3_600) }));
                None
            }
        }
    };
    for (number, at, now, expected) in [
        (1, None, 3_599, Some(false)),
        (1, None, 3_600, None),
        (1, None, 99_999, None),
        (1, Some(3_599), 99_999, Some(false)),
        (1, Some(3_600), 99_999, None),
        (1, Some(5), 99_999, Some(true)),
        (2, None, 99_999, Some(false)),
        (3, None, 99_999, Some(true)),
        (4, None, 99_999, Some(false)),
    ] {
        assert_eq!(ask(number, at, now), expected, "{number} at {at:?}, asked at {now}");
    }
}

/// Nobody could be told anything of the number before the register heard of it.
#[test]
fn no_answer_is_owed_since_before_the_register_knew_of_it() {
    let world = world();
    world.hand.set(moment(0));
    let line = |kind, at, end: Option<i64>| ImportLine {
        ordinal: numbered(1),
        kind,
        moment: moment(at),
        channel: Channel::EService,
        registrant: Registrant::new("e-usługa").expect("a name"),
        reserve_again_at: end.map(moment),
    };
    let lines = vec![
        line(EventKind::Reservation, -90_000, None),
        line(EventKind::Withdrawal, -80_000, Some(-10_800)),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let import = world.commander.import_run(true);
    runtime.block_on(async { import.send(lines).await?.outcome().await }).expect("imported");
    let permit = permit();
    for (now, at, since) in [(0, None, 0), (900, None, 0), (901, Some(-10_800), 0), (-60, None, -60)] {
        // Other changes do not move it; it never lies ahead of a clock that was set back.
        world.hand.set(moment(now));
        world.file(2 + (now + 60) as u32, Change::Reservation);
        let query = Query::new(numbered(1), at.map(moment), moment(now)).expect("not in the future");
        let outcome = answer(&permit, &query, &world.reader.snapshot(), moment(now));
        assert_eq!(
            outcome,
            Outcome::Unknown(Unknown::Overdue { since: moment(since) }),
            "at {at:?}, asked at {now}"
        );
    }
}

/// The clock ran a day ahead, two changes were filed, and it was set back.
#[test]
fn a_change_ahead_of_the_clock_is_in_force_and_its_past_is_not_known() {
    let world = world();
    let file = |number, change| world.file(number, change);
    let lasting = Change::Withdrawal { reserve_again_at: None };
    file(1, Change::Reservation);
    file(2, Change::Reservation);
    world.hand.set(moment(86_400));
    file(2, lasting);
    file(3, Change::Reservation);
    world.hand.set(moment(60));
    let permit = permit();
    let snapshot = world.reader.snapshot();
    let ask = |number: u32, at: Option<i64>, now: i64| {
        let query = Query::new(numbered(number), at.map(moment), moment(now)).expect("not in the future");
        (query, answer(&permit, &query, &snapshot, moment(now)))
    };
    for (number, reserved, as_of) in [(1, true, 60), (2, false, 86_400), (3, true, 86_400), (4, false, 60)] {
        let (query, Outcome::Answered(answer)) = ask(number, None, 60) else {
            panic!("about now there is always an answer")
        };
        assert_eq!(answer.reserved(), reserved, "{number}");
        let answered_at = answered_at(moment(60), [(&query, &answer)]);
        assert_eq!(answered_at, moment(as_of), "{number}");
        assert!(answer.last_change().is_none_or(|change| change <= answered_at));
    }
    // About a given moment: not known while the change lies ahead, and as by the
    // register's moments when the clock has come to it.
    for at in [-1, 0, 60] {
        assert_eq!(ask(2, Some(at), 60).1, Outcome::Unknown(Unknown::AheadOfNow));
        assert_eq!(ask(3, Some(at), 60).1, Outcome::Unknown(Unknown::AheadOfNow));
        assert!(matches!(ask(1, Some(at), 60).1, Outcome::Answered(_)));
        let known = Answer { reserved_at: None, withdrawn_at: None };
        assert_eq!(ask(3, Some(at), 86_400).1, Outcome::Answered(known));
    }
    // A batch is as of the latest of its answers about now.
    let (one, three) = (ask(1, None, 60), ask(3, None, 60));
    let (Outcome::Answered(first), Outcome::Answered(last)) = (one.1, three.1) else { panic!("answered") };
    assert_eq!(answered_at(moment(60), [(&three.0, &last), (&one.0, &first)]), moment(86_400));
    assert_eq!(answered_at(moment(60), [(&one.0, &first)]), moment(60));
}
