//! Ends of temporary withdrawals that an import brought too late: for which imports
//! they wait, and until when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::words::Stamp;
use super::run::Ledger;
use crate::clock::Moment;
use crate::limits::IMPORT_LATE_ENDS_HELD_SECONDS;

const HELD: Duration = Duration::from_secs(IMPORT_LATE_ENDS_HELD_SECONDS as u64);

/// The imports for which they wait: each one that brought a chunk while something
/// waited. One that is complete says nothing about another that is not.
#[derive(Default)]
pub(super) struct Late(Vec<Awaited>);

struct Awaited {
    ledger: Arc<Ledger>,
    /// ... and until when, should it have broken off.
    until: Instant,
}

impl Late {
    /// How often complete imports are looked for while something waits for one.
    pub(super) const TICK: Duration = Duration::from_millis(50);

    /// Is this import awaited?
    pub(super) fn awaits(&self, ledger: &Arc<Ledger>) -> bool {
        self.0.iter().any(|awaited| Arc::ptr_eq(&awaited.ledger, ledger))
    }

    /// An import that broke off is being sent again.
    pub(super) fn forget_broken_off(&mut self) {
        self.0.retain(|awaited| !awaited.broke_off());
    }

    /// Waits for an import that brought a chunk just now.
    pub(super) fn await_import(&mut self, ledger: &Arc<Ledger>) {
        // Those that are over hold nothing up, and would pile up behind one that is not.
        self.0.retain(|awaited| !awaited.is_over() && !Arc::ptr_eq(&awaited.ledger, ledger));
        self.0.push(Awaited { ledger: Arc::clone(ledger), until: Instant::now() + HELD });
    }

    /// Waits for an import that broke off with an earlier process, which recorded
    /// such ends last at `late`, for what is left of the time.
    pub(super) fn await_interrupted(&mut self, late: Stamp, now: Moment) {
        let passed = now.unix_seconds() - i64::from(late.seconds());
        let passed = Duration::from_secs(u64::try_from(passed).unwrap_or(0));
        self.0.push(Awaited { ledger: Arc::default(), until: Instant::now() + HELD.saturating_sub(passed) });
    }

    /// Is no import awaited?
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Imports are awaited, and all of them are complete or given up.
    pub(super) fn is_over(&self) -> bool {
        !self.is_empty() && self.0.iter().all(Awaited::is_over)
    }

    /// Nothing is awaited any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Awaited {
    /// Nobody holds it who could bring another chunk.
    fn broke_off(&self) -> bool {
        Arc::strong_count(&self.ledger) == 1
    }

    fn is_over(&self) -> bool {
        self.ledger.is_complete() || self.until <= Instant::now()
    }
}
