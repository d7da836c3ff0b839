//! Questions about numbers whose temporary withdrawal ended a moment ago: the
//! register's writer records that within milliseconds, and is waited for.

use tokio::time::Instant;

use crate::clock::Moment;
use crate::http::problem::Problem;
use crate::limits::{OVERDUE_LOOK, OVERDUE_WAIT_MAX};

/// One request's patience with numbers that are overdue.
#[derive(Default)]
pub(super) struct Patience {
    /// From the first of them that was met.
    until: Option<Instant>,
}

impl Patience {
    /// Waits for a moment, after which the register is to be looked at again.
    ///
    /// # Errors
    /// 503 when that was long enough: whoever is unsure does not answer.
    pub(super) async fn wait(&mut self, since: Moment) -> Result<(), Problem> {
        let now = Instant::now();
        if now >= *self.until.get_or_insert(now + OVERDUE_WAIT_MAX) {
            return Err(Problem::overdue(since));
        }
        tokio::time::sleep(OVERDUE_LOOK).await;
        Ok(())
    }
}
