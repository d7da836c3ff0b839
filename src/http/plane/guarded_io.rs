//! The socket as hyper sees it: bytes read ahead are given first, writes that
//! stall are marked.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::control::Control;
use super::frame_budget::FrameBudget;
use super::hang_up::HangUp;
use crate::http::closing::{Documented, Unreadable};

/// Bytes of HTTP/2's connection preface.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct GuardedIo<S> {
    inner: Documented<S>,
    control: Rc<Control>,
    /// Read while telling HTTP/1.1 from HTTP/2; given to hyper first.
    ahead: Vec<u8>,
    ahead_given: usize,
    /// HTTP/2 only.
    budget: Option<FrameBudget>,
}

impl<S> GuardedIo<S> {
    /// `ahead` is given first; of HTTP/2 it is the preface.
    pub(super) fn new(inner: Documented<S>, control: Rc<Control>, ahead: Vec<u8>, http2: bool) -> Self {
        let budget = http2.then(|| FrameBudget::new(Instant::now()));
        Self { inner, control, ahead, ahead_given: 0, budget }
    }

    /// See [`Documented::take_kept_back`].
    pub(super) const fn take_kept_back(&mut self) -> Option<Unreadable> {
        self.inner.take_kept_back()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead_given < this.ahead.len() {
            let rest = &this.ahead[this.ahead_given..];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            this.ahead_given += count;
            if this.ahead_given == this.ahead.len() {
                this.ahead = Vec::new();
                this.ahead_given = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if let Some(budget) = &mut this.budget {
            let written = this.control.written_bytes();
            let counted = budget.count(&buf.filled()[before..], written, Instant::now);
            if counted.is_err() {
                metrics::counter!("peselgate_connections_refused_total", "reason" => "frame-flood")
                    .increment(1);
                return Poll::Ready(Err(io::Error::other("a flood of HTTP/2 frames")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> GuardedIo<S> {
    fn note(&self, result: Poll<io::Result<usize>>, offered: usize) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending => self.control.write_blocked(),
            Poll::Ready(Ok(written)) => {
                self.control.wrote(*written);
                if *written == offered {
                    self.control.write_flows();
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        result
    }
}

impl<S: AsyncWrite + HangUp + Unpin> AsyncWrite for GuardedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(result, buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.streams().are_paused() && self.inner.inner().has_hung_up(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        match &result {
            Poll::Pending => self.control.write_blocked(),
            Poll::Ready(_) => self.control.write_flows(),
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
