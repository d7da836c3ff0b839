//! What the writer does when the disk fails: it refuses, and opens the store again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::super::store::{Reopened, StoreError};
use super::super::Health;
use super::Writer;
use crate::clock::Moment;

/// The first pause before a failed store is opened again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A store that fails again so soon after it was opened, with no commit of a change in
/// between, has not been writable meanwhile: a nearly full disk takes little and no more.
const TRUSTED_AFTER: Duration = Duration::from_secs(60);

/// An outage of the store, from its first failure until something was committed.
pub(super) struct Failure {
    since: Moment,
    phase: Phase,
    pause: Duration,
    /// It was opened again and failed again.
    is_relapse: bool,
}

#[derive(Clone, Copy)]
enum Phase {
    /// To be opened again at this moment.
    Down(Instant),
    /// Opened, and tried with what comes; trusted at this moment if nothing does.
    Opened(Instant),
}

impl Failure {
    /// Since when the store is closed; `None` when it is opened again.
    pub(super) fn down_since(&self) -> Option<Moment> {
        matches!(self.phase, Phase::Down(_)).then_some(self.since)
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Down(at) => Some(at),
            Phase::Opened(_) => None,
        }
    }

    /// When a store that was opened again counts as writable without a commit.
    pub(super) fn trusted_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Down(_) => None,
            Phase::Opened(at) => Some(at),
        }
    }
}

impl Writer {
    pub(super) fn fail(&mut self, error: &StoreError) -> Moment {
        tracing::error!(%error, "the register cannot be written");
        let (since, pause, is_relapse) = match &self.failure {
            Some(before) => (before.since, (before.pause * 2).min(RETRY_MAX), true),
            None => (self.clock.now(), RETRY_FIRST, false),
        };
        let phase = Phase::Down(Instant::now() + pause);
        self.failure = Some(Failure { since, phase, pause, is_relapse });
        self.health.store(Arc::new(Health::Failed { since, reason: error.to_string() }));
        self.measures.writable(false);
        since
    }

    /// Is the store closed?
    pub(super) fn is_down(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.down_since().is_some())
    }

    /// Something was committed, or nothing failed for long enough: the outage is over.
    pub(super) fn recovered(&mut self) {
        if let Some(Failure { is_relapse: true, .. }) = self.failure.take() {
            self.tell_writable();
        }
    }

    /// Trusts a store that was opened again a while ago.
    pub(super) fn trust(&mut self) {
        let trusted_at = self.failure.as_ref().and_then(Failure::trusted_at);
        if trusted_at.is_some_and(|at| at <= Instant::now()) {
            self.recovered();
        }
    }

    fn tell_writable(&self) {
        self.health.store(Arc::new(Health::Ok));
        self.measures.writable(true);
        tracing::info!(sequence = %self.head.sequence, "the register can be written again");
    }

    /// Opens a failed store again, and shows readers what turned out to be durable.
    pub(super) fn retry(&mut self) {
        let Some(failure) = &mut self.failure else { return };
        match self.store.reopen(self.head.sequence) {
            Ok(Reopened { head, changes, held }) => {
                failure.phase = Phase::Opened(Instant::now() + TRUSTED_AFTER);
                let is_relapse = failure.is_relapse;
                if head.sequence > self.head.sequence {
                    let base = self.publisher.last();
                    // Of commands or of an import, nobody knows; what is held says the store.
                    self.schedule.follow_imports(&changes);
                    self.show(&base, head, changes);
                }
                // An import that was told of the failure will be sent again.
                let of_it = held.beyond(&self.stored_held);
                self.schedule.hold_interrupted(of_it.numbers(), Instant::now());
                self.stored_held = held;
                if !is_relapse {
                    self.tell_writable();
                }
            }
            Err(error) => {
                failure.pause = (failure.pause * 2).min(RETRY_MAX);
                failure.phase = Phase::Down(Instant::now() + failure.pause);
                let reason = error.to_string();
                self.health.store(Arc::new(Health::Failed { since: failure.since, reason }));
            }
        }
    }
}
