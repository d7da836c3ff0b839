//! One request's panic stays one request's.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The handler panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Turns a panic of a handler into a value: the request fails, is counted, and
/// the server goes on.
pub(crate) async fn catch_panic<F: Future>(handler: F) -> Result<F::Output, Panicked> {
    let mut handler = pin!(handler);
    // What a handler shares with others (counters, scratch space, channels) is
    // consistent at every step, or is thrown away with it.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Context;

    fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_panic_becomes_a_value() {
        let broken = async { std::panic::panic_any("no message is kept") };
        assert_eq!(now(catch_panic(broken)), Poll::<Result<(), _>>::Ready(Err(Panicked)));
        assert_eq!(now(catch_panic(async { 7 })), Poll::Ready(Ok(7)));
    }
}
