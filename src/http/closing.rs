//! How an HTTP/1.1 connection ends, the same on all planes: a head that cannot
//! be read gets a problem document instead of hyper's bare status, a late one a
//! 408, and what the client still sends is read for a while, so that the answer
//! is not lost to a reset.

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

/// A socket on which hyper's own bare answers become problem documents.
pub(super) struct Documented<S> {
    inner: S,
    /// `None` where the protocol is HTTP/2, which has no such answers.
    edge: Option<Edge>,
    /// What replaces an answer of hyper's own, while it is being written.
    substitute: Option<(Vec<u8>, usize)>,
    has_substituted: bool,
}

impl<S> Documented<S> {
    pub(super) const fn http1(inner: S, edge: Edge) -> Self {
        Self { inner, edge: Some(edge), substitute: None, has_substituted: false }
    }

    pub(super) const fn http2(inner: S) -> Self {
        Self { inner, edge: None, substitute: None, has_substituted: false }
    }

    pub(super) const fn inner(&self) -> &S {
        &self.inner
    }

    /// A head could not be read; what follows it is not read either.
    pub(super) const fn has_substituted(&self) -> bool {
        self.has_substituted
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

impl<S: AsyncWrite + Unpin> Documented<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Documented<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(edge) = self.edge
            && self.substitute.is_none()
            && buf.starts_with(b"HTTP/1.1 4")
            && let Some((code, detail)) = problem_for_bare_answer(buf)
        {
            self.substitute = Some((edge.answer(code, detail), 0));
            self.has_substituted = true;
        }
        if self.substitute.is_some() {
            return self.write_substitute(cx, buf.len());
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What is known of a connection when hyper has let go of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// Bytes of a head that did not become one.
    pub(super) head_begun: bool,
    /// There is, or may come, more of the last request than was read.
    pub(super) unread: bool,
}

/// Ends a connection after `served`: says what is left to say and closes gently.
///
/// # Errors
/// Whatever broke the connection.
pub(super) async fn end<I>(
    io: &mut I,
    edge: Edge,
    served: Result<(), hyper::Error>,
    left: Left,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
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
        io.write_all(&edge.answer(Code::RequestTimeout, "the head was not complete in time")).await?;
        io.flush().await?;
    }
    io.shutdown().await?;
    if head_begun {
        linger(io).await;
    }
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

/// hyper answers a head that it cannot read by itself, with a status and
/// nothing else. Every answer of ours carries `x-request-id`; one of the 4xx
/// class without it, and without a body, is hyper's.
fn problem_for_bare_answer(head: &[u8]) -> Option<(Code, &'static str)> {
    let text = std::str::from_utf8(head).ok()?;
    if !text.ends_with("\r\n\r\n") || text.contains("x-request-id") || !text.contains("content-length: 0\r\n")
    {
        return None;
    }
    Some(match text.get(9..12)? {
        "414" => (Code::UriTooLong, "the request target is too long"),
        "431" => (Code::HeaderFieldsTooLarge, "the head is too large or has too many fields"),
        _ => (Code::MalformedRequest, "the head is no HTTP/1.1 request"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_answers_are_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let (code, detail) = problem_for_bare_answer(bare).expect("bare");
        assert_eq!(code, Code::HeaderFieldsTooLarge);
        let answer = |over_tls| Edge { plane: Plane::Control, over_tls }.answer(code, detail);
        let text = String::from_utf8(answer(false)).expect("text");
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
        assert!(text.contains("\"code\":\"header-fields-too-large\""), "{text}");
        assert!(!text.contains("strict-transport-security"), "{text}");
        let text = String::from_utf8(answer(true)).expect("text");
        assert!(text.contains("\r\nstrict-transport-security: "), "{text}");
        let ours = b"HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n";
        assert!(problem_for_bare_answer(ours).is_none());
        let with_body = b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello";
        assert!(problem_for_bare_answer(with_body).is_none());
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
