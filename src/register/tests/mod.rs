//! The room as a whole: commands, imports, failures of the disk, tampering.

mod backlog;
mod crash;
mod disk;
mod failures;
mod feeds;
mod held_ends;
mod history;
mod imports;
mod model;

mod renumbering;
mod retries;
mod scale;
mod schedule;
mod tampering;
mod temporary_imports;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::clock::{ClockHand, Moment};
use crate::pesel::Ordinal;

/// Small in most tests, so that the disk is read.
const CACHE_BYTES: usize = 1 << 20;
const START: i64 = 1_795_000_000; // 2026-11-18

/// The n-th of some people born from 1850 on.
fn person(n: u32) -> Ordinal {
    Ordinal::new((18_262 + n / 7) * 10_000 + n % 10_000).expect("in range")
}

fn moment(seconds: i64) -> Moment {
    Moment::from_unix_seconds(START + seconds)
}

fn registrant() -> Registrant {
    Registrant::new("Urząd Gminy Wąchock").expect("a name")
}

fn command(ordinal: Ordinal, change: Change, channel: Channel) -> Command {
    Command {
        ordinal,
        change,
        channel,
        registrant: registrant(),
        applicant: None,
        obstacle: None,
        document_seen: None,
        majority_by_marriage: false,
    }
}

fn filed(command: Command) -> Submission {
    Submission { command, idempotency: None, delivery: None }
}

fn reserve(ordinal: Ordinal) -> Submission {
    filed(command(ordinal, Change::Reservation, Channel::EService))
}

fn withdraw(ordinal: Ordinal) -> Submission {
    let change = Change::Withdrawal { reserve_again_at: None };
    filed(command(ordinal, change, Channel::EService))
}

fn withdraw_until(ordinal: Ordinal, seconds: i64) -> Submission {
    let change = Change::Withdrawal { reserve_again_at: Stamp::try_from(moment(seconds)).ok() };
    filed(command(ordinal, change, Channel::EService))
}

fn ex_officio(ordinal: Ordinal) -> Submission {
    filed(command(ordinal, Change::Reservation, Channel::PeselRegister))
}

/// Waits for what another thread is about to make true.
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it never came");
        std::thread::yield_now();
    }
}

fn line(ordinal: Ordinal, kind: EventKind, seconds: i64, channel: Channel) -> ImportLine {
    ImportLine {
        ordinal,
        kind,
        moment: moment(seconds),
        channel,
        registrant: registrant(),
        reserve_again_at: None,
    }
}

/// A chunk as an import of its own that may change as much as it likes.
async fn import(commander: &Commander, lines: Vec<ImportLine>) -> Result<ImportOutcome, CommandError> {
    let run = commander.import_run(true);
    let chunk = run.send(lines).await?;
    run.finish();
    chunk.outcome().await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// An open register, its clock and its runtime.
struct Opened {
    reader: Reader,
    commander: Commander,
    thread: WriterThread,
    hand: ClockHand,
    runtime: tokio::runtime::Runtime,
}

impl Opened {
    fn at(path: &Path) -> Self {
        Self::with(file_opener(path.to_owned(), CACHE_BYTES)).expect("it opens")
    }

    fn with(opener: Opener) -> Result<Self, OpenError> {
        Self::with_clock(opener, 0)
    }

    /// Opened when the clock shows this.
    fn with_clock(opener: Opener, seconds: i64) -> Result<Self, OpenError> {
        let (clock, hand) = Clock::manual(moment(seconds));
        let (reader, commander, thread) = open_with(opener, clock)?;
        Ok(Self { reader, commander, thread, hand, runtime: runtime() })
    }

    fn submit(&self, submission: Submission) -> Result<Outcome, CommandError> {
        self.runtime.block_on(self.commander.submit(submission))
    }

    /// Submits all of them at once, to be decided in this order.
    fn submit_all(&self, submissions: Vec<Submission>) -> Vec<Result<Outcome, CommandError>> {
        self.runtime.block_on(tokio::task::LocalSet::new().run_until(async {
            let tasks: Vec<_> = submissions
                .into_iter()
                .map(|submission| {
                    let commander = self.commander.clone();
                    tokio::task::spawn_local(async move { commander.submit(submission).await })
                })
                .collect();
            let mut outcomes = Vec::with_capacity(tasks.len());
            for task in tasks {
                outcomes.push(task.await.expect("no panic"));
            }
            outcomes
        }))
    }

    fn import(&self, lines: Vec<ImportLine>) -> Result<ImportOutcome, CommandError> {
        self.runtime.block_on(import(&self.commander, lines))
    }

    fn states(&self) -> BTreeMap<Ordinal, State> {
        self.reader.snapshot().iter().collect()
    }

    fn all_events(&self) -> Vec<StoredEvent> {
        self.reader.events(Sequence::ZERO, usize::MAX).expect("readable").into_events()
    }

    fn stop(self) -> Reader {
        self.thread.stop();
        self.reader
    }
}

/// The states by the definition: each event after the one before.
fn states_of<'a>(events: impl IntoIterator<Item = &'a StoredEvent>) -> BTreeMap<Ordinal, State> {
    let mut states = BTreeMap::new();
    for event in events {
        let event = event.event();
        let moment = event.moment();
        let state = states.entry(event.ordinal()).or_insert(State::Absent);
        *state = match (event.kind(), *state) {
            (EventKind::Reservation, State::Reserved { .. }) => *state,
            (EventKind::Reservation, _) => State::Reserved { reserved_at: moment },
            (EventKind::Withdrawal, State::Reserved { reserved_at }) => {
                State::Withdrawn { reserved_at, withdrawn_at: moment }
            }
            (EventKind::Withdrawal | EventKind::Renumbering, _) => *state,
        };
    }
    states
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % u64::from(bound)) as u32
    }
}
