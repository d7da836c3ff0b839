//! Ends of temporary withdrawals that an import brought too late: for which import
//! they wait, and until when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::words::Stamp;
use super::run::Ledger;
use crate::clock::Moment;
use crate::limits::IMPORT_LATE_ENDS_HELD_SECONDS;

const HELD: Duration = Duration::from_secs(IMPORT_LATE_ENDS_HELD_SECONDS as u64);

/// The import for which they wait.
pub(super) struct Late {
    ledger: Arc<Ledger>,
    /// ... and until when, should it have broken off.
    until: Instant,
}

impl Late {
    /// How often a complete import is looked for while something waits for one.
    pub(super) const TICK: Duration = Duration::from_millis(50);

    /// An import that brought a chunk just now.
    pub(super) fn of(ledger: Arc<Ledger>) -> Self {
        Self { ledger, until: Instant::now() + HELD }
    }

    /// An import that broke off with an earlier process, which recorded such ends
    /// last at `late`: it is awaited for what is left of the time.
    pub(super) fn interrupted(late: Stamp, now: Moment) -> Self {
        let passed = now.unix_seconds() - i64::from(late.seconds());
        let passed = Duration::from_secs(u64::try_from(passed).unwrap_or(0));
        Self { ledger: Arc::default(), until: Instant::now() + HELD.saturating_sub(passed) }
    }

    /// Is the import complete, or given up?
    pub(super) fn is_over(&self) -> bool {
        self.ledger.is_complete() || self.until <= Instant::now()
    }
}
