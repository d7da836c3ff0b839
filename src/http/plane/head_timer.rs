//! The time of an HTTP/1.1 head, kept by the worker's look-out.
//!
//! hyper arms a timer for every head and drops it with the head's end: a box, a
//! place in the runtime's timer wheel and two readings of the clock a request.
//! Here it arms a mark, and the look-out counts how often it has seen it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// No head is awaited.
const IDLE: u32 = u32::MAX;
/// The head is late.
const LATE: u32 = u32::MAX - 1;

/// How often the look-out has seen the head awaited; hyper's timers must be
/// `Sync`, though all of this stays on one thread.
#[derive(Debug)]
pub(super) struct HeadMark(AtomicU32);

impl HeadMark {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU32::new(IDLE)))
    }

    /// Seen once more; says whether the head has just become late.
    pub(super) fn seen(&self, looks_max: u32) -> bool {
        let seen = self.0.load(Ordering::Relaxed);
        if seen >= LATE {
            return false;
        }
        let late = seen >= looks_max;
        self.0.store(if late { LATE } else { seen + 1 }, Ordering::Relaxed);
        late
    }
}

/// Gives hyper the mark for a timer. The duration it asks for is the look-out's
/// to judge.
#[derive(Debug, Clone)]
pub(super) struct HeadTimer {
    mark: Arc<HeadMark>,
    /// hyper adds the time-out to this; nobody reads the sum.
    origin: Instant,
}

impl HeadTimer {
    pub(super) fn new(mark: Arc<HeadMark>, origin: Instant) -> Self {
        Self { mark, origin }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, _duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.mark.0.store(0, Ordering::Relaxed);
        Box::pin(UntilLate(Arc::clone(&self.mark)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.origin))
    }

    fn now(&self) -> Instant {
        self.origin
    }

    fn reset(&self, _sleep: &mut Pin<Box<dyn Sleep>>, _deadline: Instant) {
        // The one that is armed: a second would disarm it when it goes.
        self.mark.0.store(0, Ordering::Relaxed);
    }
}

/// Resolves when the look-out finds the head late; it wakes the connection then.
struct UntilLate(Arc<HeadMark>);

impl Future for UntilLate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        if self.0.0.load(Ordering::Relaxed) == LATE { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Sleep for UntilLate {}

impl Drop for UntilLate {
    fn drop(&mut self) {
        self.0.0.store(IDLE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(sleep: &mut Pin<Box<dyn Sleep>>) -> bool {
        sleep.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn a_head_is_late_after_the_looks_it_may_have_and_said_once() {
        let mark = HeadMark::new();
        let timer = HeadTimer::new(Arc::clone(&mark), Instant::now());
        assert!(!mark.seen(0), "nothing is awaited");
        let mut sleep = timer.sleep_until(timer.now() + Duration::from_secs(5));
        for _ in 0..3 {
            assert!(!mark.seen(3));
            assert!(!is_over(&mut sleep));
        }
        assert!(mark.seen(3));
        assert!(is_over(&mut sleep));
        assert!(!mark.seen(3), "said once");
    }

    #[test]
    fn every_head_has_its_own_time() {
        let mark = HeadMark::new();
        let timer = HeadTimer::new(Arc::clone(&mark), Instant::now());
        drop(timer.sleep(Duration::ZERO));
        assert!(!mark.seen(0), "the head has come");
        let mut sleep = timer.sleep(Duration::ZERO);
        assert!(!mark.seen(1));
        timer.reset(&mut sleep, timer.now());
        assert!(!mark.seen(1), "begun anew");
        assert!(mark.seen(1));
    }
}
