//! Whether traffic should come here, why not, and the word in the log when that
//! changes: an outage is evidence, and must be told from the log alone.

use std::fmt;
use std::mem::discriminant;
use std::time::{Duration, Instant};

use super::ops::OpsBoard;
use crate::clock::{Clock, ClockBehind, Moment};

/// How often the watch looks: outages that are shorter may be missed by it, never by
/// those who were refused.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why no traffic should come here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReady {
    /// The parts are not built yet.
    Starting,
    /// The instance is asked to end.
    Draining,
    /// The clock is not believed.
    Clock(ClockBehind),
    /// A production register in which nobody was ever reserved.
    HoldsNobody,
    /// The trail has no prepared segment.
    NoRoom {
        /// Since when.
        since: Moment,
        /// What the system said.
        reason: String,
    },
    /// The trail has failed for good.
    Failed {
        /// Since when.
        since: Moment,
        /// What failed.
        reason: String,
    },
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting: the register is being loaded"),
            Self::Draining => f.write_str("draining: the instance is shutting down"),
            Self::Clock(behind) => write!(f, "clock: {behind}"),
            Self::HoldsNobody => f.write_str("register: nobody has ever been reserved in it; import first"),
            Self::NoRoom { since, reason } => {
                write!(f, "audit: no room is prepared since {since}: {reason}")
            }
            Self::Failed { since, reason } => write!(f, "audit: failed at {since}: {reason}"),
        }
    }
}

/// The reasons as one text.
#[must_use]
pub fn joined(reasons: &[NotReady]) -> String {
    reasons.iter().map(NotReady::to_string).collect::<Vec<_>>().join("; ")
}

/// Logs when readiness is lost, why, and when it is back; ends with a drain, which is
/// no outage.
pub async fn watch(board: OpsBoard, clock: Clock) {
    let mut log = Log::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let reasons = board.not_ready();
        if reasons.contains(&NotReady::Draining) {
            return;
        }
        match log.look(reasons, clock.now(), Instant::now()) {
            Some(Change::Lost(reasons)) => {
                tracing::error!(reasons = joined(&reasons), "not ready: no traffic should come here");
            }
            Some(Change::Back { since, until }) => tracing::info!(%since, %until, "ready again"),
            None => {}
        }
    }
}

/// What was said of readiness last.
#[derive(Debug, Default)]
struct Log(Option<Outage>);

#[derive(Debug)]
struct Outage {
    reasons: Vec<NotReady>,
    /// `None`: seen by a clock that is not believed.
    since: Option<Moment>,
    began: Instant,
}

/// What is to be said.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// Readiness is lost, or for other reasons than before.
    Lost(Vec<NotReady>),
    /// It is back.
    Back { since: Moment, until: Moment },
}

impl Log {
    fn look(&mut self, reasons: Vec<NotReady>, now: Moment, at: Instant) -> Option<Change> {
        if reasons.is_empty() {
            let Outage { since, began, .. } = self.0.take()?;
            let lasted = i64::try_from(at.duration_since(began).as_secs()).unwrap_or(i64::MAX);
            let counted = Moment::from_unix_seconds(now.unix_seconds().saturating_sub(lasted));
            return Some(Change::Back { since: since.unwrap_or(counted), until: now });
        }
        // By their kinds: a clock that is behind shows another moment with every look.
        let kinds = |reasons: &[NotReady]| reasons.iter().map(discriminant).collect::<Vec<_>>();
        match &mut self.0 {
            Some(outage) if kinds(&outage.reasons) == kinds(&reasons) => return None,
            Some(outage) => outage.reasons.clone_from(&reasons),
            None => {
                let is_believed = !reasons.iter().any(|reason| matches!(reason, NotReady::Clock(_)));
                let since = is_believed.then_some(now);
                self.0 = Some(Outage { reasons: reasons.clone(), since, began: at });
            }
        }
        Some(Change::Lost(reasons))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(seconds: i64) -> Moment {
        Moment::from_unix_seconds(1_795_000_000 + seconds)
    }

    fn no_room(reason: &str) -> NotReady {
        NotReady::NoRoom { since: moment(0), reason: reason.to_owned() }
    }

    fn behind(now: i64) -> NotReady {
        NotReady::Clock(ClockBehind { now: moment(now), recorded: moment(10) })
    }

    #[test]
    fn an_outage_is_told_once_when_it_begins_changes_and_ends() {
        let began = Instant::now();
        let mut log = Log::default();
        let mut look = |second: u64, reasons: &[NotReady]| {
            log.look(reasons.to_vec(), moment(second as i64), began + Duration::from_secs(second))
        };
        let lost = |reasons: &[NotReady]| Some(Change::Lost(reasons.to_vec()));
        assert_eq!(look(0, &[]), None);
        assert_eq!(look(1, &[no_room("full")]), lost(&[no_room("full")]));
        assert_eq!(look(2, &[no_room("still full")]), None);
        let both = [NotReady::HoldsNobody, no_room("full")];
        assert_eq!(look(3, &both), lost(&both));
        assert_eq!(look(4, &both), None);
        assert_eq!(look(5, &[NotReady::HoldsNobody]), lost(&[NotReady::HoldsNobody]));
        assert_eq!(look(6, &[]), Some(Change::Back { since: moment(1), until: moment(6) }));
        assert_eq!(look(7, &[]), None);
        assert_eq!(look(8, &[NotReady::HoldsNobody]), lost(&[NotReady::HoldsNobody]));
        assert_eq!(look(9, &[]), Some(Change::Back { since: moment(8), until: moment(9) }));
    }

    /// The moment that a wrong clock showed is none since when something was so.
    #[test]
    fn the_beginning_that_a_wrong_clock_saw_is_counted_back_from_the_end() {
        let began = Instant::now();
        let mut log = Log::default();
        let mut look = |second: u64, shown: i64, reasons: &[NotReady]| {
            log.look(reasons.to_vec(), moment(shown), began + Duration::from_secs(second))
        };
        assert_eq!(look(0, -3_600, &[behind(-3_600)]), Some(Change::Lost(vec![behind(-3_600)])));
        for second in 1..40 {
            let shown = second as i64 - 3_600;
            assert_eq!(look(second, shown, &[behind(shown)]), None);
        }
        assert_eq!(look(40, 70, &[]), Some(Change::Back { since: moment(30), until: moment(70) }));
    }
}
