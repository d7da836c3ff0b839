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

/// The store failed and is to be opened again.
pub(super) struct Failure {
    pub(super) since: Moment,
    pub(super) retry_at: Instant,
    pause: Duration,
}

impl Writer {
    pub(super) fn fail(&mut self, error: &StoreError) -> Moment {
        tracing::error!(%error, "the register cannot be written");
        let since = self.clock.now();
        self.failure = Some(Failure { since, retry_at: Instant::now() + RETRY_FIRST, pause: RETRY_FIRST });
        self.health.store(Arc::new(Health::Failed { since, reason: error.to_string() }));
        self.measures.writable(false);
        since
    }

    /// Opens a failed store again, and shows readers what turned out to be durable.
    pub(super) fn retry(&mut self) {
        let Some(failure) = &mut self.failure else { return };
        match self.store.reopen(self.head.sequence) {
            Ok(Reopened { head, changes, held }) => {
                self.failure = None;
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
                self.health.store(Arc::new(Health::Ok));
                self.measures.writable(true);
                tracing::info!(sequence = %head.sequence, "the register can be written again");
            }
            Err(error) => {
                failure.pause = (failure.pause * 2).min(RETRY_MAX);
                failure.retry_at = Instant::now() + failure.pause;
                let reason = error.to_string();
                self.health.store(Arc::new(Health::Failed { since: failure.since, reason }));
            }
        }
    }
}
