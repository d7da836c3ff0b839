//! How an HTTP/1.1 connection ends, the same on all planes: a head that cannot
//! be read gets a problem document instead of hyper's bare status, a late one a
//! 408, and what the client still sends is read for a while, so that the answer
//! is not lost to a reset.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::problem::{Code, Problem};

/// How long a client may go on sending after its early answer; also what a drain
/// waits for at the most.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes it may go on sending.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
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

/// A socket on which hyper's own bare answers become problem documents.
pub(super) struct Documented<S> {
    inner: S,
    /// `None` where the protocol is HTTP/2, which has no such answers.
    plane: Option<Plane>,
    /// What replaces an answer of hyper's own, while it is being written.
    substitute: Option<(Vec<u8>, usize)>,
    has_substituted: bool,
}

impl<S> Documented<S> {
    pub(super) const fn http1(inner: S, plane: Plane) -> Self {
        Self { inner, plane: Some(plane), substitute: None, has_substituted: false }
    }

    pub(super) const fn http2(inner: S) -> Self {
        Self { inner, plane: None, substitute: None, has_substituted: false }
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
        if let Some(plane) = self.plane
            && self.substitute.is_none()
            && buf.starts_with(b"HTTP/1.1 4")
            && let Some((code, answer)) = problem_for_bare_answer(buf)
        {
            plane.count(code);
            self.substitute = Some((answer, 0));
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
    plane: Plane,
    served: Result<(), hyper::Error>,
    left: Left,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    match served {
        Err(error) if error.is_timeout() => late_head(io, plane, left.head_begun).await,
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
pub(super) async fn late_head<I>(io: &mut I, plane: Plane, head_begun: bool) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    if head_begun {
        plane.count(Code::RequestTimeout);
        io.write_all(&closing_answer(Code::RequestTimeout, "the head was not complete in time")).await?;
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
fn problem_for_bare_answer(head: &[u8]) -> Option<(Code, Vec<u8>)> {
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
    Some((code, closing_answer(code, detail)))
}

/// A whole HTTP/1.1 answer with a problem document, for a connection that ends
/// with it before there was a request to answer.
fn closing_answer(code: Code, detail: &'static str) -> Vec<u8> {
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
        let (code, answer) = problem_for_bare_answer(bare).expect("bare");
        assert_eq!(code, Code::HeaderFieldsTooLarge);
        let text = String::from_utf8(answer).expect("text");
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
        assert!(text.contains("\"code\":\"header-fields-too-large\""), "{text}");
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
