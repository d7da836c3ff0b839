//! Whether the store of access can be written, for those who don't own it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::error::AccessError;
use crate::clock::{Clock, Moment};

/// Since when the store can't be written, if it can't.
#[derive(Debug)]
pub(super) struct Health {
    /// Unix seconds; [`i64::MAX`] as long as it can.
    since: AtomicI64,
    clock: Clock,
}

impl Health {
    pub(super) fn new(clock: Clock) -> Self {
        Self { since: AtomicI64::new(i64::MAX), clock }
    }

    pub(super) fn unavailable_since(&self) -> Option<Moment> {
        let since = self.since.load(Ordering::Acquire);
        (since != i64::MAX).then(|| Moment::from_unix_seconds(since))
    }

    /// What a caller is told while the store, or the writer's thread, is gone.
    pub(super) fn gone(&self) -> AccessError {
        AccessError::Unavailable { since: self.unavailable_since().unwrap_or_else(|| self.clock.now()) }
    }

    /// The store failed now; the first failure of a row counts.
    pub(super) fn lost(&self) {
        let now = self.clock.now().unix_seconds();
        if self.since.load(Ordering::Acquire) == i64::MAX {
            // One thread writes here: no other can come between.
            self.since.store(now, Ordering::Release);
        }
    }

    /// The store can be written again.
    pub(super) fn found(&self) {
        self.since.store(i64::MAX, Ordering::Release);
    }
}

/// Held by the writer's thread. Whatever ends that, a panic included, the store is
/// lost from then on, and a panic is counted as its failure.
pub(super) struct Ending(pub(super) Arc<Health>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the writer of access ended unexpectedly: keys and tokens stay as they are");
            metrics::counter!("peselgate_access_store_failures_total").increment(1);
        }
        self.0.lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_leaves_word_since_when() {
        let noon = Moment::parse("2026-11-21T12:00:00Z").expect("a moment");
        let (clock, hand) = Clock::manual(noon);
        let health = Arc::new(Health::new(clock));
        let ending = Ending(Arc::clone(&health));
        let thread = std::thread::spawn(move || {
            let _ending = ending;
            std::panic::panic_any("no message is kept");
        });
        assert!(thread.join().is_err());
        hand.set(Moment::parse("2026-11-21T12:30:00Z").expect("a moment"));
        assert_eq!(health.unavailable_since(), Some(noon));
        assert_eq!(health.gone(), AccessError::Unavailable { since: noon });
    }
}
