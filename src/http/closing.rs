//! How an HTTP/1.1 connection ends, the same on all planes: a head that cannot
//! be read gets a problem document instead of hyper's bare status, a late one a
//! 408, and what the client still sends is read for a while, so that the answer
//! is not lost to a reset.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::problem::{Code, Problem};
use super::reply::add_common_headers;
use super::request_id::RequestId;

/// How long a client may go on sending after its early answer; also what a drain
/// waits for at the most.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes it may go on sending.
pub(super) const LINGER_BYTES_MAX: usize = 1024 * 1024;
/// Bytes discarded at once.
const DISCARD_BYTES: usize = 16 * 1024;

/// Whose refusals are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    Verification,
    Control,
}

impl Plane {
    fn count(self, code: Code) {
        let name = match self {
            Self::Verification => "peselgate_refusals_total",
            Self::Control => "peselgate_control_refusals_total",
        };
        metrics::counter!(name, "code" => code.name()).increment(1);
    }
}

/// Where a connection ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) plane: Plane,
    pub(super) over_tls: bool,
}

impl Edge {
    /// A whole HTTP/1.1 answer with a problem document, for a connection that ends with
    /// it before there was a request to answer.
    fn answer(self, code: Code, detail: &'static str) -> Vec<u8> {
        self.plane.count(code);
        let request_id = RequestId::from_number(rand::rng().next_u64());
        let body = Problem::new(code, detail).document(request_id.as_str());
        let status = http::StatusCode::from_u16(code.status()).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default();
        let mut answer = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
             connection: close\r\n",
            code.status(),
            body.len(),
        )
        .into_bytes();
        let mut fields = HeaderMap::new();
        add_common_headers(&mut fields, &request_id, self.over_tls);
        for (name, value) in &fields {
            answer.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(&body);
        answer
    }
}

/// Why a head could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable {
    code: Code,
    detail: &'static str,
}

/// A socket on which hyper's own bare answers are kept back, for [`end`] to say as
/// problem documents.
pub(super) struct Documented<S> {
    inner: S,
    /// HTTP/2 has no such answers.
    http1: bool,
    kept_back: Option<Unreadable>,
}

impl<S> Documented<S> {
    pub(super) const fn http1(inner: S) -> Self {
        Self { inner, http1: true, kept_back: None }
    }

    pub(super) const fn http2(inner: S) -> Self {
        Self { inner, http1: false, kept_back: None }
    }

    pub(super) const fn inner(&self) -> &S {
        &self.inner
    }

    /// The answer that was kept back; what is written from now on goes out.
    pub(super) const fn take_kept_back(&mut self) -> Option<Unreadable> {
        self.kept_back.take()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Documented<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Documented<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.http1 && self.kept_back.is_none() && is_of_client_error(buf) {
            self.kept_back = unreadable_of_bare_answer(buf);
        }
        if self.kept_back.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.kept_back.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What is known of a connection when hyper has let go of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// A head that could not be read: the refusal is still to be said.
    pub(super) unreadable: Option<Unreadable>,
    /// Bytes of a head that did not become one.
    pub(super) head_begun: bool,
    /// There is, or may come, more of the last request than was read.
    pub(super) unread: bool,
}

/// Ends a connection after `served`: says what is left to say and closes gently. To
/// whom sent an unreadable head that is said when `turn` has come.
///
/// # Errors
/// Whatever broke the connection.
pub(super) async fn end<I>(
    io: &mut I,
    edge: Edge,
    served: Result<(), hyper::Error>,
    left: Left,
    turn: impl Future<Output = ()>,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(Unreadable { code, detail }) = left.unreadable {
        let answer = edge.answer(code, detail);
        turn.await;
        say_last(io, &answer).await?;
        return served.map_err(io::Error::other);
    }
    match served {
        Err(error) if error.is_timeout() => late_head(io, edge, left.head_begun).await,
        served => {
            if left.unread {
                // hyper has shut the writing half down, or could not.
                linger(io).await;
            }
            served.map_err(io::Error::other)
        }
    }
}

/// 408 to somebody who began a head and did not end it; an idle connection is
/// closed without a word.
///
/// # Errors
/// Whatever broke the connection.
pub(super) async fn late_head<I>(io: &mut I, edge: Edge, head_begun: bool) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    if head_begun {
        return say_last(io, &edge.answer(Code::RequestTimeout, "the head was not complete in time")).await;
    }
    io.shutdown().await
}

async fn say_last<I>(io: &mut I, answer: &[u8]) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(answer).await?;
    io.flush().await?;
    io.shutdown().await?;
    linger(io).await;
    Ok(())
}

/// Reads and discards what the client still sends: closing a socket with unread
/// bytes resets it, and a reset takes the answer from a client that has not read
/// it yet. Bounded in time and bytes, so that nobody keeps a place this way.
async fn linger(io: &mut (impl AsyncRead + Unpin)) {
    // On the heap: a connection's future is not the larger for its rare end.
    let mut rest = vec![0u8; DISCARD_BYTES];
    let discarding = async {
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX {
            match io.read(&mut rest).await {
                Ok(0) | Err(_) => return,
                Ok(count) => discarded += count,
            }
        }
    };
    // Late is one more way to be over.
    drop(tokio::time::timeout(LINGER_MAX, discarding).await);
}

/// Of either version: behind a question in HTTP/1.0 hyper goes on in it.
fn is_of_client_error(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 4") || head.starts_with(b"HTTP/1.0 4")
}

/// hyper answers a head that it cannot read by itself, with a status and
/// nothing else. Every answer of ours carries `x-request-id`; one of the 4xx
/// class without it, and without a body, is hyper's.
fn unreadable_of_bare_answer(head: &[u8]) -> Option<Unreadable> {
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
    Some(Unreadable { code, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_answers_are_kept_back() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let Unreadable { code, detail } = unreadable_of_bare_answer(bare).expect("bare");
        assert_eq!(code, Code::HeaderFieldsTooLarge);
        let answer = |over_tls| Edge { plane: Plane::Control, over_tls }.answer(code, detail);
        let text = String::from_utf8(answer(false)).expect("text");
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
        assert!(text.contains("\"code\":\"header-fields-too-large\""), "{text}");
        assert!(!text.contains("strict-transport-security"), "{text}");
        let text = String::from_utf8(answer(true)).expect("text");
        assert!(text.contains("\r\nstrict-transport-security: "), "{text}");
        let ours = b"HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n";
        assert!(unreadable_of_bare_answer(ours).is_none());
        let with_body = b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello";
        assert!(unreadable_of_bare_answer(with_body).is_none());
    }

    /// Gives bytes without an end and counts them.
    struct Endless(usize);

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let count = buf.remaining();
            buf.put_slice(&vec![0; count]);
            self.0 += count;
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_discarded_is_bounded() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut client = Endless(0);
        runtime.block_on(linger(&mut client));
        assert!((LINGER_BYTES_MAX..LINGER_BYTES_MAX + DISCARD_BYTES).contains(&client.0), "{}", client.0);
    }
}
