//! A clock that lies behind what is on record was set wrong, or had been set wrong
//! when that was recorded; nobody knows which.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::{Clock, Moment};

/// What a clock is judged by; shared by its clones.
#[derive(Debug)]
pub(super) struct Guard {
    behind_max_seconds: i64,
    /// The latest moment on record, in seconds since 1970.
    recorded: AtomicI64,
}

/// The clock lies further behind what is on record than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockBehind {
    /// What the clock shows.
    pub now: Moment,
    /// The latest moment on record.
    pub recorded: Moment,
}

impl fmt::Display for ClockBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now, recorded } = self;
        write!(f, "the clock shows {now}, but something was recorded at {recorded}: one of both is wrong")
    }
}

impl std::error::Error for ClockBehind {}

impl Clock {
    /// This clock, which may lie `behind_max` behind what is on record and no more:
    /// [`Self::judged`] then knows no moment until it has caught up.
    #[must_use]
    pub fn guarded(self, behind_max: Duration) -> Self {
        let behind_max_seconds = i64::try_from(behind_max.as_secs()).unwrap_or(i64::MAX);
        let guard = Guard { behind_max_seconds, recorded: AtomicI64::new(i64::MIN) };
        Self { guard: Some(Arc::new(guard)), ..self }
    }

    /// Something on record is of this moment.
    pub fn has_recorded(&self, moment: Moment) {
        let Some(guard) = &self.guard else { return };
        // Read first: it is written once a second and read with every question.
        if guard.recorded.load(Ordering::Relaxed) < moment.0 {
            guard.recorded.fetch_max(moment.0, Ordering::Relaxed);
        }
    }

    /// The present whole second, of a clock that can be believed. One that is not
    /// guarded always is.
    ///
    /// # Errors
    /// [`ClockBehind`] with both moments.
    pub fn judged(&self) -> Result<Moment, ClockBehind> {
        let now = self.now();
        let Some(guard) = &self.guard else { return Ok(now) };
        let recorded = guard.recorded.load(Ordering::Relaxed);
        if recorded.saturating_sub(now.0) > guard.behind_max_seconds {
            return Err(ClockBehind { now, recorded: Moment(recorded) });
        }
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_believed_until_it_lies_too_far_behind_and_again_when_it_has_caught_up() {
        let moment = |seconds: i64| Moment::from_unix_seconds(1_795_000_000 + seconds);
        let (plain, hand) = Clock::manual(moment(0));
        let clock = plain.clone().guarded(Duration::from_secs(60));
        assert_eq!(clock.judged(), Ok(moment(0)), "nothing is on record");
        clock.clone().has_recorded(moment(100));
        clock.has_recorded(moment(90));
        plain.has_recorded(moment(9_999));
        for (now, believed) in [(39, false), (40, true), (100, true), (99_999, true), (-99_999, false)] {
            hand.set(moment(now));
            let expected = ClockBehind { now: moment(now), recorded: moment(100) };
            assert_eq!(clock.judged(), if believed { Ok(moment(now)) } else { Err(expected) });
            assert_eq!((plain.judged(), clock.now()), (Ok(moment(now)), moment(now)));
        }
    }
}
