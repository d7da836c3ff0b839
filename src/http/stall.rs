//! The write deadline of the control planes: a client that leaves its answer
//! unread is let go, so that it holds neither its place nor what is under way for
//! it. The verification plane's worker keeps the same time by a table of its own.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes that must be taken within the deadline once the socket is full.
const PROGRESS_BYTES_MIN: usize = 4 * 1024;

/// How long a connection waits for a client that takes nothing: the plane's
/// time, or what the answer under way asks for.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    usual: Duration,
    millis: Arc<AtomicU64>,
}

impl Patience {
    pub(super) fn new(usual: Duration) -> Self {
        let patience = Self { usual, millis: Arc::default() };
        patience.become_that_of(None);
        patience
    }

    /// Of the next answer; `None` has the usual one.
    pub(super) fn become_that_of(&self, answer: Option<Unhurried>) {
        let patience = answer.map_or(self.usual, |Unhurried(patience)| patience);
        self.millis.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// A response's word, in its extensions, that its reader may rest for this long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unhurried(pub(super) Duration);

/// A socket whose writes end with an error when the other end takes too little.
pub(super) struct Stalling<S> {
    inner: S,
    patience: Patience,
    /// Since the socket took no more; armed only then.
    waiting: Option<Waiting>,
}

struct Waiting {
    end: Pin<Box<Sleep>>,
    /// Bytes taken meanwhile.
    taken: usize,
}

impl<S> Stalling<S> {
    pub(super) const fn new(inner: S, patience: Patience) -> Self {
        Self { inner, patience, waiting: None }
    }

    /// The socket takes no more for now: is it the end?
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let patience = self.patience.now();
        let waiting = self
            .waiting
            .get_or_insert_with(|| Waiting { end: Box::pin(tokio::time::sleep(patience)), taken: 0 });
        while waiting.end.as_mut().poll(cx).is_ready() {
            if waiting.taken < PROGRESS_BYTES_MIN {
                return Poll::Ready(Err(io::Error::other("the answer was left unread for too long")));
            }
            waiting.taken = 0;
            waiting.end.as_mut().reset(Instant::now() + patience);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        match &polled {
            Poll::Pending => return self.wait(cx),
            Poll::Ready(Ok(taken)) if *taken == buf.len() => self.waiting = None,
            Poll::Ready(Ok(taken)) => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.taken += taken;
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(flushed) = Pin::new(&mut self.inner).poll_flush(cx) {
            self.waiting = None;
            return Poll::Ready(flushed);
        }
        self.wait(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_shutdown(cx) {
            Poll::Pending => self.wait(cx),
            ended => ended,
        }
    }
}
