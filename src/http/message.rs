//! Request bodies: bounded in size and time, read only for who may ask.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};

use crate::http::closing::{LINGER_BYTES_MAX, LINGER_MAX};
use crate::http::plane::Connection;
use crate::http::problem::{Code, Problem};
use crate::limits::{HEAD_BYTES_MAX, TARGET_BYTES_MAX};

/// What a body is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    Ndjson,
}

/// Judges the request target's length; the engine's own bound is the whole head's.
///
/// # Errors
/// 414.
pub(crate) fn target_fits(target: &Uri) -> Result<(), Problem> {
    let bytes = target.path().len() + target.query().map_or(0, str::len);
    if bytes > TARGET_BYTES_MAX {
        let detail = format!("a request target has at most {TARGET_BYTES_MAX} bytes");
        return Err(Problem::new(Code::UriTooLong, detail).with("bytes_max", TARGET_BYTES_MAX));
    }
    Ok(())
}

/// Where no query is taken, none is: a number in a URL ends up in somebody's log, and
/// whoever sends another believes that it does something.
///
/// # Errors
/// 400.
pub(crate) fn has_no_query(target: &Uri) -> Result<(), Problem> {
    match target.query() {
        Some(_) => Err(Problem::new(Code::MalformedRequest, "no query is taken; numbers go into the body")),
        None => Ok(()),
    }
}

/// HTTP/1.1 names exactly one host (RFC 9112, 3.2): two of them are two opinions
/// on where a request goes.
///
/// # Errors
/// 400.
pub(crate) fn host_is_one(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    if version != Version::HTTP_11 {
        return Ok(());
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => Ok(()),
        _ => Err(Problem::new(Code::MalformedRequest, "HTTP/1.1 has exactly one host field")),
    }
}

/// Refuses a transfer coding around what has a length beforehand: only a stream has
/// none, everywhere else it is a second opinion on where the message ends.
///
/// # Errors
/// 400.
pub(crate) fn has_length(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Problem::new(Code::MalformedRequest, "send content-length, no transfer-encoding"));
    }
    Ok(())
}

/// Judges the head's size as HTTP/2 counts it (RFC 9113, 6.5.2: 32 bytes for each
/// field beside its name and value). HTTP/1.1's engine judges what it reads.
///
/// # Errors
/// 431.
pub(crate) fn head_fits(target: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    const PER_FIELD: usize = 32;
    // The method, scheme, authority and path are fields too.
    let authority = target.authority().map_or(0, |authority| authority.as_str().len());
    let path = target.path_and_query().map_or(0, |path| path.as_str().len());
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD);
    if authority + path + 4 * PER_FIELD + fields.sum::<usize>() > HEAD_BYTES_MAX {
        return Err(Problem::new(Code::HeaderFieldsTooLarge, "the head is too large or has too many fields")
            .with("bytes_max", HEAD_BYTES_MAX));
    }
    Ok(())
}

/// Judges the head's words on the body.
///
/// # Errors
/// 415 for another media type or a content coding, 400 for a body framed twice.
pub(crate) fn media_type(headers: &HeaderMap) -> Result<MediaType, Problem> {
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(Problem::new(Code::MalformedRequest, "content-length beside transfer-encoding"));
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Problem::new(Code::UnsupportedMediaType, "no content-encoding is taken"));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(MediaType::Json) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(MediaType::Json)
    } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
        Ok(MediaType::Ndjson)
    } else {
        Err(Problem::new(
            Code::UnsupportedMediaType,
            "send content-type: application/json (a stream: application/x-ndjson)",
        ))
    }
}

/// Bytes that a frame counts for at least, while what nobody wants is discarded.
const DISCARDED_FRAME_BYTES_MIN: usize = 256;

/// Takes what is left of a body that nobody wants, over HTTP/2: dropped, its stream would
/// be reset behind the answer, and there are clients that then lose the answer (curl
/// before 8). Bounded in time and bytes as the end of an HTTP/1.1 connection is.
pub(crate) fn discard(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    tokio::task::spawn_local(tokio::time::timeout(LINGER_MAX, async move {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await
            && discarded < LINGER_BYTES_MAX
        {
            discarded += frame.data_ref().map_or(0, Bytes::len).max(DISCARDED_FRAME_BYTES_MIN);
        }
    }));
}

/// A body, and how long it was waited for.
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    /// Nothing where it had come with its head.
    pub(crate) waited: Option<Duration>,
}

/// Reads a body that is no stream.
///
/// # Errors
/// 413 over `bytes_max`, 408 when it comes too slowly, 400 when it breaks off or
/// is framed by a transfer coding it does not need.
pub(crate) async fn read_whole(
    connection: &Connection,
    version: Version,
    headers: &HeaderMap,
    body: Incoming,
    bytes_max: usize,
    arrived: Instant,
) -> Result<WholeBody, Problem> {
    has_length(headers)?;
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large(bytes_max));
    }
    if version == Version::HTTP_2 {
        let reading = Whole { control: None, body, bytes: BytesMut::new(), bytes_max, waits_since: None };
        tokio::time::timeout(connection.worker.settings.body_read_timeout, reading)
            .await
            .unwrap_or_else(|_| Err(too_slow()))
    } else {
        // HTTP/1.1 has one body at a time; the worker's look-out keeps its time.
        connection.control.body_begins(arrived);
        let control = Some(Rc::clone(&connection.control));
        let read = Whole { control, body, bytes: BytesMut::new(), bytes_max, waits_since: None }.await;
        connection.control.body_ends();
        if read.is_ok() {
            connection.control.body_read_to_its_end();
        }
        read
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Code::ContentTooLarge, format!("at most {bytes_max} bytes")).with("bytes_max", bytes_max)
}

fn too_slow() -> Problem {
    Problem::new(Code::RequestTimeout, "the body was not complete in time")
}

struct Whole {
    control: Option<Rc<crate::http::plane::Control>>,
    body: Incoming,
    bytes: BytesMut,
    bytes_max: usize,
    /// A body that has come with its head costs no reading of the clock.
    waits_since: Option<Instant>,
}

impl Whole {
    fn ended(&self, bytes: Bytes) -> WholeBody {
        WholeBody { bytes, waited: self.waits_since.map(|since| since.elapsed()) }
    }
}

impl Future for Whole {
    type Output = Result<WholeBody, Problem>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if this.control.as_ref().is_some_and(|control| control.is_body_late()) {
                return Poll::Ready(Err(too_slow()));
            }
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
                this.waits_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            let Some(frame) = frame else {
                let bytes = std::mem::take(&mut this.bytes).freeze();
                return Poll::Ready(Ok(this.ended(bytes)));
            };
            let Ok(frame) = frame else {
                return Poll::Ready(Err(Problem::new(Code::MalformedRequest, "the body broke off")));
            };
            let Ok(data) = frame.into_data() else { continue };
            if this.bytes.len() + data.len() > this.bytes_max {
                return Poll::Ready(Err(too_large(this.bytes_max)));
            }
            if this.bytes.is_empty() && this.body.is_end_stream() {
                return Poll::Ready(Ok(this.ended(data)));
            }
            this.bytes.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn media_types_are_told_apart() {
        let judged = |pairs: &[(http::HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(name, HeaderValue::from_static(value));
            }
            media_type(&headers).map_err(|problem| problem.code())
        };
        assert_eq!(judged(&[]), Ok(MediaType::Json));
        assert_eq!(judged(&[(CONTENT_TYPE, "application/json; charset=utf-8")]), Ok(MediaType::Json));
        assert_eq!(judged(&[(CONTENT_TYPE, "Application/X-NDJSON")]), Ok(MediaType::Ndjson));
        assert_eq!(judged(&[(CONTENT_TYPE, "text/plain")]), Err(Code::UnsupportedMediaType));
        assert_eq!(judged(&[(CONTENT_ENCODING, "gzip")]), Err(Code::UnsupportedMediaType));
        assert_eq!(
            judged(&[(CONTENT_LENGTH, "1"), (TRANSFER_ENCODING, "chunked")]),
            Err(Code::MalformedRequest)
        );
    }
}
