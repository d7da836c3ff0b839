//! The socket as hyper sees it: bytes read ahead are given first, writes that
//! stall are marked, and hyper's own bare error answers become problem documents.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::control::Control;
use super::frame_budget::FrameBudget;
use crate::http::problem::{Code, Problem};

/// Bytes of HTTP/2's connection preface.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct GuardedIo<S> {
    inner: S,
    control: Rc<Control>,
    /// Read while telling HTTP/1.1 from HTTP/2; given to hyper first.
    ahead: Vec<u8>,
    ahead_given: usize,
    /// What replaces an answer of hyper's own, while it is being written.
    substitute: Option<(Vec<u8>, usize)>,
    /// HTTP/2 only.
    budget: Option<FrameBudget>,
}

impl<S> GuardedIo<S> {
    /// `ahead` is given first; of HTTP/2 it is the preface.
    pub(super) fn new(inner: S, control: Rc<Control>, ahead: Vec<u8>, http2: bool) -> Self {
        let budget = http2.then(|| FrameBudget::new(Instant::now()));
        Self { inner, control, ahead, ahead_given: 0, substitute: None, budget }
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

    /// Writes the substitute as far as it goes; `covered` is what hyper is told
    /// once all of it is out.
    fn write_substitute(&mut self, cx: &mut Context<'_>, covered: usize) -> Poll<io::Result<usize>> {
        while let Some((bytes, done)) = &mut self.substitute {
            match std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes[*done..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *done += count,
            }
            if *done == bytes.len() {
                self.substitute = None;
            }
        }
        Poll::Ready(Ok(covered))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.budget.is_none() && self.substitute.is_none() && buf.starts_with(b"HTTP/1.1 4") {
            self.substitute = problem_for_bare_answer(buf).map(|bytes| (bytes, 0));
        }
        if self.substitute.is_some() {
            return self.write_substitute(cx, buf.len());
        }
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(result, buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

/// hyper answers a head that it cannot read by itself, with a status and
/// nothing else. Every answer of ours carries `x-request-id`; one of the 4xx
/// class without it, and without a body, is hyper's.
fn problem_for_bare_answer(head: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(head).ok()?;
    if !text.ends_with("\r\n\r\n") || text.contains("x-request-id") || !text.contains("content-length: 0\r\n")
    {
        return None;
    }
    let (code, detail) = match text.get(9..12)? {
        "414" => (Code::UriTooLong, "the request target is too long"),
        "431" => (Code::HeaderFieldsTooLarge, "the head is too large or has too many fields"),
        _ => (Code::MalformedRequest, "the head is no HTTP/1.1 request"),
    };
    metrics::counter!("peselgate_refusals_total", "code" => code.name()).increment(1);
    Some(closing_answer(code, detail))
}

/// A whole HTTP/1.1 answer with a problem document, for a connection that ends
/// with it before there was a request to answer.
pub(super) fn closing_answer(code: Code, detail: &'static str) -> Vec<u8> {
    let request_id = "unreadable";
    let body = Problem::new(code, detail).document(request_id);
    let reason = http::StatusCode::from_u16(code.status()).ok().and_then(|status| status.canonical_reason());
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: {request_id}\r\n\
         connection: close\r\n\r\n",
        code.status(),
        reason.unwrap_or(""),
        body.len(),
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_answers_are_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let answer = problem_for_bare_answer(bare).expect("bare");
        let text = String::from_utf8(answer).expect("text");
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
        assert!(text.contains("\"code\":\"header-fields-too-large\""), "{text}");
        let ours = b"HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n";
        assert!(problem_for_bare_answer(ours).is_none());
        let with_body = b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello";
        assert!(problem_for_bare_answer(with_body).is_none());
    }
}
