//! The summary: counts of rows, for people and programs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::Outcome;
use crate::cli::progress::rate;

/// Rows by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tally {
    reserved: u64,
    not_reserved: u64,
    wrong: u64,
}

impl Tally {
    pub(super) fn count(&mut self, outcome: &Outcome<'_>) {
        match outcome {
            Outcome::Verified(verdict) if verdict.reserved => self.reserved += 1,
            Outcome::Verified(_) => self.not_reserved += 1,
            Outcome::Wrong(_) => self.wrong += 1,
        }
    }

    pub(super) fn count_unasked(&mut self) {
        self.wrong += 1;
    }

    pub(super) const fn rows(&self) -> u64 {
        self.reserved + self.not_reserved + self.wrong
    }

    pub(super) const fn has_wrong(&self) -> bool {
        self.wrong > 0
    }

    /// As JSON. `error` is why it could not finish.
    pub(super) fn json(&self, resumed: u64, elapsed: Duration, error: Option<&str>) -> String {
        let rows_per_second = rate(self.rows() - resumed, elapsed).round();
        json!({
            "finished": error.is_none(),
            "rows": self.rows(),
            "reserved": self.reserved,
            "not_reserved": self.not_reserved,
            "wrong": self.wrong,
            "rows_resumed": resumed,
            "seconds": (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            "rows_per_second": rows_per_second,
            "error": error,
        })
        .to_string()
    }

    /// For people.
    pub(super) fn sentence(&self, resumed: u64, elapsed: Duration) -> String {
        let Self { reserved, not_reserved, wrong } = self;
        let before = if resumed > 0 { format!(" ({resumed} of them before)") } else { String::new() };
        format!(
            "{} rows{before}: {reserved} reserved, {not_reserved} not reserved, {wrong} wrong; {:.1} s, {:.0} rows a second",
            self.rows(),
            elapsed.as_secs_f64(),
            rate(self.rows() - resumed, elapsed)
        )
    }
}
