//! Responses and their bodies, and the headers that every response has.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::http::request_id::{RequestId, X_REQUEST_ID};

/// A response of the verification plane.
pub type Reply = Response<ReplyBody>;

/// A body that is whole, or that flows while it is made.
#[derive(Debug)]
pub struct ReplyBody(Content);

/// Bytes of a whole body that are handed to the connection at once. It copies them
/// into its own buffer and takes more only when that is nearly out: so much, and not
/// another copy of a large answer, lies there for a client that does not read.
pub(super) const PIECE_BYTES: usize = 32 * 1024;

#[derive(Debug)]
enum Content {
    Full(Option<Bytes>),
    /// The channel's small capacity is the back-pressure of a stream.
    Stream(mpsc::Receiver<Bytes>),
}

impl ReplyBody {
    /// A body that is whole.
    #[must_use]
    pub const fn full(bytes: Bytes) -> Self {
        Self(Content::Full(Some(bytes)))
    }

    /// A body fed through a channel; it ends when the sender is dropped.
    #[must_use]
    pub const fn stream(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self(Content::Stream(receiver))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Content::Full(Some(rest)) if rest.len() > PIECE_BYTES => {
                Poll::Ready(Some(Ok(Frame::data(rest.split_to(PIECE_BYTES)))))
            }
            Content::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Stream(receiver) => {
                receiver.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Content::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Full(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Content::Full(None) => SizeHint::with_exact(0),
            Content::Stream(_) => SizeHint::new(),
        }
    }
}

/// A 200 with a JSON body.
pub(crate) fn json(body: Bytes) -> Reply {
    json_in(HeaderMap::with_capacity(8), body)
}

/// The same in the fields of the question, which nobody reads any more: hyper
/// keeps them for the connection's next question, so that neither side of it
/// allocates.
pub(crate) fn json_in(mut headers: HeaderMap, body: Bytes) -> Reply {
    headers.clear();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = Response::new(ReplyBody::full(body));
    *response.headers_mut() = headers;
    response
}

/// The same answer to HEAD: it says how long its body would be, and has none. hyper does
/// this by itself for HTTP/1.1 alone.
pub(crate) fn head_alone(reply: Reply) -> Reply {
    let (mut head, body) = reply.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, ReplyBody(Content::Full(None)))
}

const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const CONTENT_SECURITY_POLICY: HeaderName = HeaderName::from_static("content-security-policy");
const STRICT_TRANSPORT_SECURITY: HeaderName = HeaderName::from_static("strict-transport-security");

/// What every response carries, errors included: nothing may be cached (a
/// change takes effect at once), nothing may be sniffed, nothing may be framed.
pub(crate) fn add_common_headers(headers: &mut HeaderMap, request_id: &RequestId, over_tls: bool) {
    headers.insert(X_REQUEST_ID, request_id.header());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    if over_tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_comes_in_pieces_and_is_told_by_what_is_left() {
        for bytes in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let whole: Bytes = (0..bytes).map(|at| (at / 1_000) as u8).collect();
            let mut body = ReplyBody::full(whole.clone());
            let mut context = Context::from_waker(std::task::Waker::noop());
            let mut seen = Vec::new();
            while !body.is_end_stream() {
                assert_eq!(body.size_hint().exact(), Some((bytes - seen.len()) as u64));
                let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) else {
                    panic!("a whole body is there");
                };
                let piece = frame.into_data().expect("data");
                assert!(piece.len() <= PIECE_BYTES);
                seen.extend_from_slice(&piece);
            }
            assert_eq!(seen, whole);
        }
    }
}
