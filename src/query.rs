//! The answer, as a pure function of a permission, a question and a state of
//! the register: no runtime, no clock, no I/O.

use crate::clock::Moment;
use crate::environment::Environment;
use crate::gate::Permit;
use crate::pesel::Ordinal;
use crate::register::{AsOf, Snapshot, State};

/// The moment a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The moment of the answer.
    Now,
    /// A past moment [art. 23j, art. 23m(3)].
    At(Moment),
}

/// One question about one number.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    ordinal: Ordinal,
    when: When,
}

/// The asked moment lies in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FutureMoment;

impl Query {
    /// A question about `at`, or about now when there is none.
    ///
    /// # Errors
    /// [`FutureMoment`] when `at` lies after `now`.
    pub fn new(ordinal: Ordinal, at: Option<Moment>, now: Moment) -> Result<Self, FutureMoment> {
        match at {
            Some(at) if at > now => Err(FutureMoment),
            Some(at) => Ok(Self { ordinal, when: When::At(at) }),
            None => Ok(Self { ordinal, when: When::Now }),
        }
    }

    /// The number asked about.
    #[must_use]
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// The moment asked about.
    #[must_use]
    pub const fn when(&self) -> When {
        self.when
    }
}

/// What an institution gets to know [art. 23m]: never the registrant, the
/// channel or the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    reserved_at: Option<Moment>,
    withdrawn_at: Option<Moment>,
}

impl Answer {
    const fn of(state: State) -> Self {
        match state {
            State::Absent => Self { reserved_at: None, withdrawn_at: None },
            State::Reserved { reserved_at } => Self { reserved_at: Some(reserved_at), withdrawn_at: None },
            State::Withdrawn { reserved_at, withdrawn_at } => {
                Self { reserved_at: Some(reserved_at), withdrawn_at: Some(withdrawn_at) }
            }
        }
    }

    /// Is the number reserved at the asked moment?
    #[must_use]
    pub const fn reserved(&self) -> bool {
        self.reserved_at.is_some() && self.withdrawn_at.is_none()
    }

    /// Since when, or for a withdrawn number, since when it had been.
    #[must_use]
    pub const fn reserved_at(&self) -> Option<Moment> {
        self.reserved_at
    }

    /// The moment of the last change that the answer tells; it lies ahead of the
    /// clock when that was set back after the change.
    #[must_use]
    pub const fn last_change(&self) -> Option<Moment> {
        match self.withdrawn_at {
            Some(moment) => Some(moment),
            None => self.reserved_at,
        }
    }

    /// When the reservation was withdrawn.
    #[must_use]
    pub const fn withdrawn_at(&self) -> Option<Moment> {
        self.withdrawn_at
    }
}

/// A state in the words of an answer, for whoever may see the whole entry.
#[must_use]
pub const fn entry_fields(state: State) -> Answer {
    Answer::of(state)
}

/// What memory can say: the answer, or that the entry's history must be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Answered(Answer),
    /// The asked moment lies before the entry's last change.
    NeedsHistory,
    /// Nobody knows.
    Unknown(Unknown),
}

/// Why a question has no answer. It is a refusal, never "not reserved".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The number's temporary withdrawal has ended, and the register has not recorded
    /// that yet: it is reserved again, or something else was recorded that this
    /// state of the register does not know. No answer.
    Overdue {
        /// When the withdrawal ended, or the register got to know of it if that was
        /// later: from then on nobody could be answered. Not after now.
        since: Moment,
    },
    /// Nothing has ever been recorded in this register of real people: it is not loaded
    /// yet, and "not reserved" of everybody would be the most dangerous of answers.
    NotLoaded {
        /// When it was made.
        since: Moment,
    },
    /// The entry's last change lies ahead of the clock, so nobody knows when it
    /// happened, nor what was so at a moment before: no answer.
    AheadOfNow,
}

/// Answers from memory. `now` was read from the clock when `snapshot` was at hand
/// already, so that the one cannot be ahead of the other by the order in which
/// they were looked at.
///
/// A question about now gets the state after all events, even if the clock was
/// set back since: a change is in force from its event on. It is then answered as
/// of [`answered_at`], the moment that an event of that number would get now.
#[must_use]
pub fn answer(permit: &Permit, query: &Query, snapshot: &Snapshot, now: Moment) -> Outcome {
    if snapshot.is_untouched() && permit.key().environment() == Environment::Production {
        return Outcome::Unknown(Unknown::NotLoaded { since: snapshot.as_of() });
    }
    let state = snapshot.state(query.ordinal);
    let moment = match query.when {
        When::Now => now,
        When::At(at) => at,
    };
    if matches!(state, State::Withdrawn { .. })
        && let Some(since) = snapshot.overdue(query.ordinal, moment)
    {
        return Outcome::Unknown(Unknown::Overdue { since: since.min(now) });
    }
    let answer = Answer::of(state);
    match query.when {
        When::Now => Outcome::Answered(answer),
        When::At(_) if answer.last_change() > Some(now) => Outcome::Unknown(Unknown::AheadOfNow),
        When::At(at) => match snapshot.state_at(query.ordinal, at) {
            AsOf::Known(state) => Outcome::Answered(Answer::of(state)),
            AsOf::History => Outcome::NeedsHistory,
        },
    }
}

/// The moment of an answer to these questions: by the clock, or that of the last
/// change they tell about now, when the clock was set back before it.
#[must_use]
pub fn answered_at<'a>(now: Moment, answers: impl IntoIterator<Item = (&'a Query, &'a Answer)>) -> Moment {
    let about_now = answers.into_iter().filter(|(query, _)| query.when == When::Now);
    about_now.filter_map(|(_, answer)| answer.last_change()).fold(now, Moment::max)
}

/// Answers with the state that the entry's history gave for the asked moment.
#[must_use]
pub const fn answer_from_history(_permit: &Permit, state: State) -> Answer {
    Answer::of(state)
}

#[cfg(test)]
mod tests {
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
        for (number, reserved, as_of) in
            [(1, true, 60), (2, false, 86_400), (3, true, 86_400), (4, false, 60)]
        {
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
        let (Outcome::Answered(first), Outcome::Answered(last)) = (one.1, three.1) else {
            panic!("answered")
        };
        assert_eq!(answered_at(moment(60), [(&three.0, &last), (&one.0, &first)]), moment(86_400));
        assert_eq!(answered_at(moment(60), [(&one.0, &first)]), moment(60));
    }
}
