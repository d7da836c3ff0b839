//! One request's panic stays one request's.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The handler panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Turns a panic of a handler into a value: the request fails, is counted, and
/// the server goes on.
pub(crate) struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> CatchPanic<F> {
    pub(crate) fn new(handler: F) -> Self {
        Self(Box::pin(handler))
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // What a handler shares with others (counters, scratch space, channels)
        // is consistent at every step, or is thrown away with it.
        let inner = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_value() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut broken = CatchPanic::new(async { std::panic::panic_any("no message is kept") });
        assert_eq!(Pin::new(&mut broken).poll(&mut cx), Poll::<Result<(), _>>::Ready(Err(Panicked)));
        let mut sound = CatchPanic::new(async { 7 });
        assert_eq!(Pin::new(&mut sound).poll(&mut cx), Poll::Ready(Ok(7)));
    }
}
