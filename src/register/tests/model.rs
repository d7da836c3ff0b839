//! Random commands under random clocks, against a list of events a number.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::*;

const PAUSE: i64 = 30 * 60;

/// An event as the model expects it: number, moment, kind, by the clock?
type Expected = (Ordinal, Moment, EventKind, bool);

/// What is known of one number.
#[derive(Debug, Clone, Default)]
struct Known {
    events: Vec<(i64, EventKind)>,
    until: Option<i64>,
}

impl Known {
    /// The state at a moment, from the definition.
    fn state_at(&self, at: i64) -> State {
        let mut state = State::Absent;
        for (when, kind) in self.events.iter().filter(|(when, _)| *when <= at) {
            state = match (kind, state) {
                (EventKind::Reservation, State::Reserved { .. }) => state,
                (EventKind::Reservation, _) => State::Reserved { reserved_at: moment(*when) },
                (EventKind::Withdrawal, State::Reserved { reserved_at }) => {
                    State::Withdrawn { reserved_at, withdrawn_at: moment(*when) }
                }
                (EventKind::Withdrawal | EventKind::Renumbering, _) => state,
            };
        }
        state
    }

    fn state(&self) -> State {
        self.state_at(i64::MAX)
    }
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Reserve,
    ExOfficio,
    Withdraw,
    WithdrawUntil(i64),
}

#[derive(Default)]
struct Model {
    numbers: BTreeMap<Ordinal, Known>,
    log: Vec<Expected>,
}

impl Model {
    /// The clock shows this: what is due takes effect.
    fn look(&mut self, now: i64) {
        let mut due: Vec<_> = self
            .numbers
            .iter()
            .filter_map(|(ordinal, known)| Some((known.until.filter(|until| *until <= now)?, *ordinal)))
            .collect();
        due.sort_unstable();
        for (until, ordinal) in due {
            self.record(ordinal, until, EventKind::Reservation, true);
        }
    }

    /// The moment of the event, or `None` when it is refused.
    fn ask(&mut self, ordinal: Ordinal, asked: Asked, now: i64) -> Option<i64> {
        let known = self.numbers.get(&ordinal).cloned().unwrap_or_default();
        let at = known.events.last().map_or(now, |(last, _)| now.max(*last));
        let (kind, until) = match (asked, known.state()) {
            (Asked::ExOfficio, _) | (Asked::Reserve, State::Absent) => (EventKind::Reservation, None),
            (Asked::Reserve, State::Withdrawn { withdrawn_at, .. }) if moment(at - PAUSE) >= withdrawn_at => {
                (EventKind::Reservation, None)
            }
            (Asked::Withdraw, State::Reserved { .. }) => (EventKind::Withdrawal, None),
            (Asked::Withdraw, State::Withdrawn { .. }) if known.until.is_some() => {
                (EventKind::Withdrawal, None)
            }
            (Asked::WithdrawUntil(until), State::Reserved { .. }) if until >= at + PAUSE => {
                (EventKind::Withdrawal, Some(until))
            }
            _ => return None,
        };
        self.record(ordinal, at, kind, false);
        self.numbers.get_mut(&ordinal).expect("recorded").until = until;
        Some(at)
    }

    fn record(&mut self, ordinal: Ordinal, at: i64, kind: EventKind, by_clock: bool) {
        let known = self.numbers.entry(ordinal).or_default();
        known.events.push((at, kind));
        known.until = None;
        self.log.push((ordinal, moment(at), kind, by_clock));
    }
}

fn random(rng: &mut Rng, people: u32, now: i64) -> (Ordinal, Asked) {
    let asked = match rng.below(10) {
        0..=3 => Asked::Reserve,
        4 => Asked::ExOfficio,
        5..=6 => Asked::Withdraw,
        _ => Asked::WithdrawUntil(now + PAUSE - 3 + i64::from(rng.below(4_000))),
    };
    (person(rng.below(people)), asked)
}

fn submission((ordinal, asked): (Ordinal, Asked)) -> Submission {
    match asked {
        Asked::Reserve => reserve(ordinal),
        Asked::ExOfficio => ex_officio(ordinal),
        Asked::Withdraw => withdraw(ordinal),
        Asked::WithdrawUntil(until) => withdraw_until(ordinal, until),
    }
}

/// The clock goes on, mostly by little; now and then it is set, either way.
fn step(rng: &mut Rng, now: i64) -> i64 {
    now + match rng.below(20) {
        0..=6 => 0,
        7..=11 => i64::from(rng.below(3)),
        12..=16 => i64::from(rng.below(900)),
        17 => i64::from(rng.below(20_000)),
        18 => -i64::from(rng.below(4_000)),
        _ => -1,
    }
}

/// All events, in order, in pages.
fn log(opened: &Opened) -> Vec<Expected> {
    let mut found = Vec::new();
    loop {
        let page = opened.reader.events(Sequence::new(found.len() as u64), usize::MAX).expect("readable");
        let page = page.events();
        if page.is_empty() {
            return found;
        }
        found.extend(page.iter().map(|stored| {
            let event = stored.event();
            (event.ordinal(), event.moment(), event.kind(), event.scheduled_by().is_some())
        }));
    }
}

/// Every path of an answer, at every event's second and beside it.
fn compare(opened: &Opened, model: &Model, rng: &mut Rng, now: i64) -> usize {
    let snapshot = opened.reader.snapshot_owned();
    let mut from_history = 0;
    let expected: BTreeMap<_, _> = model.numbers.iter().map(|(n, known)| (*n, known.state())).collect();
    assert_eq!(opened.states(), expected);
    for (ordinal, known) in &model.numbers {
        let seconds = known.events.iter().flat_map(|(at, _)| [at - 1, *at, at + 1]);
        let random: Vec<_> = (0..3).map(|_| i64::from(rng.below(now.max(1) as u32))).collect();
        for at in seconds.chain(random) {
            let expected = known.state_at(at);
            let read = opened.reader.state_from_history(*ordinal, moment(at), snapshot.sequence());
            assert_eq!(read.expect("readable"), expected, "history as of {at}");
            match snapshot.state_at(*ordinal, moment(at)) {
                AsOf::Known(state) => assert_eq!(state, expected, "memory as of {at}"),
                AsOf::History => from_history += 1,
            }
        }
        let entry = opened.reader.entry(*ordinal).expect("readable");
        assert_eq!(entry.state(), known.state());
        assert_eq!(entry.re_reservation_at(), known.until.map(moment));
        assert_eq!(entry.events().len(), known.events.len());
    }
    from_history
}

fn run(seed: u64, commands: usize, people: u32, restart_every: u32) {
    let mut rng = Rng(seed);
    let disk = Disk::default();
    let mut opened = Opened::with(disk.opener()).expect("it opens");
    let mut model = Model::default();
    let (mut now, mut done, mut allowed) = (0, 0, 0);
    while done < commands {
        now = step(&mut rng, now).max(0);
        if rng.below(restart_every) == 0 {
            opened.stop();
            opened = Opened::with_clock(disk.opener(), now).expect("it opens");
        }
        opened.hand.set(moment(now));
        model.look(now);
        let asked: Vec<_> = (0..=rng.below(60)).map(|_| random(&mut rng, people, now)).collect();
        let outcomes = opened.submit_all(asked.iter().copied().map(submission).collect());
        done += asked.len();
        for ((ordinal, asked), outcome) in asked.into_iter().zip(outcomes) {
            let expected = model.ask(ordinal, asked, now).map(moment);
            match outcome {
                Ok(outcome) => {
                    assert_eq!(Some(outcome.event().event().moment()), expected, "{asked:?} at {now}");
                    allowed += 1;
                }
                Err(CommandError::Refused(refusal)) => {
                    assert_eq!(expected, None, "{asked:?} at {now}: {refusal}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    let scheduled = model.log.iter().filter(|event| event.3).count();
    assert!(
        allowed > commands / 5 && scheduled > commands / 50,
        "{allowed} allowed, {scheduled} by the clock"
    );
    assert_eq!(log(&opened), model.log);
    assert!(compare(&opened, &model, &mut rng, now) > commands / 50);
    assert_eq!(opened.reader.verify_chain().expect("whole").last.value(), model.log.len() as u64);
    opened.stop();
    let opened = Opened::with_clock(disk.opener(), now).expect("it opens");
    compare(&opened, &model, &mut rng, now);
}

#[test]
fn twenty_thousand_random_commands_agree_with_lists_of_events() {
    run(0x0BAD_CAFE_1234_5678, 20_000, 250, 40);
}

#[test]
#[ignore = "minutes: the same with a million commands"]
fn a_million_random_commands_agree_with_lists_of_events() {
    run(0x1CE_B00D_A5A5_5A5A, 1_000_000, 20_000, 400);
}
