//! Questions about numbers whose temporary withdrawal ended a moment ago: the
//! register's writer records that within milliseconds, and is waited for. What is said
//! of numbers about which nobody knows.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::problem::{Code, Problem};
use crate::limits::{OVERDUE_LOOK, OVERDUE_WAIT_MAX};
use crate::query::Unknown;

/// One request's patience with numbers that are overdue.
#[derive(Default)]
pub(super) struct Patience {
    /// From the first of them that was met.
    until: Option<Instant>,
}

impl Patience {
    /// Waits for a moment, after which the register is to be looked at again; `false`
    /// at once when that was long enough: whoever is unsure then does not answer.
    pub(super) async fn wait(&mut self) -> bool {
        let now = Instant::now();
        if now >= *self.until.get_or_insert(now + OVERDUE_WAIT_MAX) {
            return false;
        }
        tokio::time::sleep(OVERDUE_LOOK).await;
        true
    }
}

impl From<Unknown> for Problem {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Overdue { since } => Self::new(
                Code::RegisterUnavailable,
                "a temporary withdrawal has ended and is not recorded as ended yet, so no answer is given",
            )
            .with("unavailable_since", since.to_string())
            .retry_after(Duration::from_secs(1)),
            Unknown::NotLoaded { since } => Self::new(
                Code::RegisterUnavailable,
                "nobody has ever been reserved in the register: it is not loaded yet, so no answer is given",
            )
            .with("unavailable_since", since.to_string())
            .retry_after(Duration::from_secs(60)),
            // Since when, nobody knows: it is the clock that was set.
            Unknown::AheadOfNow => Self::new(
                Code::RegisterUnavailable,
                "a change lies ahead of the clock, so what was so before it is not known; ask about now",
            )
            .retry_after(Duration::from_secs(5)),
        }
    }
}
