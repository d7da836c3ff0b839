//! A worker's own counters: plain cells on the hot path, handed over to the
//! shared metrics a few times a second and before every scrape.

use std::cell::Cell;
use std::time::Duration;

use crate::http::problem::Code;
use crate::telemetry::{ANSWER_SECONDS_BUCKETS, DECISION_SECONDS_BUCKETS};

/// What became of one asked number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reserved,
    NotReserved,
    /// Answered with an error of its own inside a batch or a stream.
    Refused,
}

/// The counters of one worker.
pub(crate) struct Tally {
    verdicts: [(Cell<u64>, metrics::Counter); 3],
    refusals: Vec<(Cell<u64>, metrics::Counter)>,
    panics: (Cell<u64>, metrics::Counter),
    decision: LocalHistogram,
    answer: LocalHistogram,
}

impl Tally {
    pub(super) fn new() -> Self {
        let verdict = |outcome| {
            (Cell::new(0), metrics::counter!("peselgate_verifications_total", "outcome" => outcome))
        };
        Self {
            verdicts: [verdict("reserved"), verdict("not-reserved"), verdict("refused")],
            refusals: Code::ALL
                .iter()
                .map(|code| {
                    (Cell::new(0), metrics::counter!("peselgate_refusals_total", "code" => code.name()))
                })
                .collect(),
            panics: (Cell::new(0), metrics::counter!("peselgate_handler_panics_total")),
            decision: LocalHistogram::new(
                DECISION_SECONDS_BUCKETS,
                metrics::histogram!("peselgate_decision_seconds"),
            ),
            answer: LocalHistogram::new(
                ANSWER_SECONDS_BUCKETS,
                metrics::histogram!("peselgate_answer_seconds"),
            ),
        }
    }

    pub(crate) fn verified(&self, verdict: Verdict) {
        self.verified_many(verdict, 1);
    }

    pub(crate) fn verified_many(&self, verdict: Verdict, count: u64) {
        let cell = &self.verdicts[verdict as usize].0;
        cell.set(cell.get() + count);
    }

    pub(crate) fn refused(&self, code: Code) {
        if let Some((cell, _)) = self.refusals.get(code as usize) {
            cell.set(cell.get() + 1);
        }
    }

    pub(crate) fn panicked(&self) {
        self.panics.0.set(self.panics.0.get() + 1);
    }

    /// From the head's arrival to the record's hand-over, waits for the body excluded.
    pub(crate) fn decided_in(&self, time: Duration) {
        self.decision.record(time);
    }

    /// From the head's arrival to the answer's hand-over.
    pub(crate) fn answered_in(&self, time: Duration) {
        self.answer.record(time);
    }

    pub(super) fn hand_over(&self) {
        let counters = self.verdicts.iter().chain(&self.refusals).chain([&self.panics]);
        for (cell, counter) in counters {
            let count = cell.replace(0);
            if count > 0 {
                counter.increment(count);
            }
        }
        self.decision.hand_over();
        self.answer.hand_over();
    }
}

/// Counts and sums per bucket; each bucket is handed over as its mean, so that
/// bucket, count and sum of the shared histogram come out exact.
struct LocalHistogram {
    bounds: &'static [f64],
    bounds_nanos: Vec<u64>,
    buckets: Vec<(Cell<u64>, Cell<u64>)>,
    shared: metrics::Histogram,
}

impl LocalHistogram {
    fn new(bounds: &'static [f64], shared: metrics::Histogram) -> Self {
        let bounds_nanos: Vec<u64> = bounds.iter().map(|bound| (bound * 1e9).round() as u64).collect();
        let buckets = (0..=bounds.len()).map(|_| (Cell::new(0), Cell::new(0))).collect();
        Self { bounds, bounds_nanos, buckets, shared }
    }

    fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let slot = self.bounds_nanos.iter().position(|bound| nanos <= *bound).unwrap_or(self.bounds.len());
        let (count, sum) = &self.buckets[slot];
        count.set(count.get() + 1);
        sum.set(sum.get().saturating_add(nanos));
    }

    fn hand_over(&self) {
        for (slot, (count, sum)) in self.buckets.iter().enumerate() {
            let (count, sum) = (count.replace(0), sum.replace(0));
            if count > 0 {
                let mean = sum as f64 / count as f64 / 1e9;
                // Rounding must not push a mean over its bucket's bound.
                let mean = self.bounds.get(slot).map_or(mean, |bound| mean.min(*bound));
                self.shared.record_many(mean, usize::try_from(count).unwrap_or(usize::MAX));
            }
        }
    }
}
