//! A rate with a burst over one atomic.
//!
//! The arithmetic is governor's (GCRA, the generic cell rate algorithm); the
//! state is an atomic of ours, so that what is left can be read without charging
//! and a charge can be given back.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// One atomic of theoretical arrival time, read as the backlog at a moment. A
/// governor limiter over it begins and decides at that moment.
pub(crate) struct Backlog<'a> {
    /// When the burst will be whole again, in nanoseconds.
    pub(crate) arrival: &'a AtomicU64,
    /// The moment of the decision, in the same nanoseconds.
    pub(crate) now: u64,
}

impl StateStore for Backlog<'_> {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = self.arrival.load(Ordering::Acquire);
        loop {
            let (outcome, backlog) = decide(Some(Nanos::new(seen.saturating_sub(self.now))))?;
            let next = self.now.saturating_add(backlog.as_u64());
            match self.arrival.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(outcome),
                Err(other) => seen = other,
            }
        }
    }
}

/// The moment of a [`Backlog`], as governor's clock.
struct ThisMoment;

impl governor::clock::Clock for ThisMoment {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(0)
    }
}

pub(crate) enum BacklogFull {
    /// More than the burst.
    Never,
    /// Not before this time has passed.
    Until(Duration),
}

/// One decision of governor over a backlog; building its limiter for it is a
/// few instructions and keeps the state in the one atomic.
pub(crate) fn charge_backlog(
    backlog: Backlog<'_>,
    interval: Duration,
    burst: NonZeroU32,
    n: NonZeroU32,
) -> Result<(), BacklogFull> {
    let quota = Quota::with_period(interval).ok_or(BacklogFull::Never)?.allow_burst(burst);
    let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(quota, backlog, ThisMoment);
    match limiter.check_n(n) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(not_until)) => Err(BacklogFull::Until(not_until.wait_time_from(Nanos::new(0)))),
        Err(_) => Err(BacklogFull::Never),
    }
}
