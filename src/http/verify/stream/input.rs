//! The request's side of a stream: frames in, whole lines out.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::line::TOO_LONG;
use crate::http::problem::{Code, Problem};
use crate::limits::{STREAM_AHEAD_BYTES_MAX, STREAM_CHUNK_LINES_MAX, STREAM_LINE_BYTES_MAX};

/// The body of a stream's request.
pub(super) struct Input {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
    /// The request broke off: what is left of it is no line.
    broken: bool,
    /// In the middle of a line that is too long: its end is awaited.
    skipping: bool,
    idle: Duration,
    /// When the next line must be complete. Neither bytes of it nor blank lines put
    /// this off, or one byte now and then would hold a stream for ever.
    late_at: Option<Instant>,
}

impl Input {
    pub(super) fn new(body: Incoming, idle: Duration) -> Self {
        let buffer = BytesMut::new();
        Self { body, buffer, ended: false, broken: false, skipping: false, idle, late_at: None }
    }

    /// Something was asked and is answered: the next line has its own time.
    pub(super) fn was_answered(&mut self) {
        self.late_at = None;
    }

    /// Whole lines, at least one, at most a chunk; `None` at the end.
    ///
    /// # Errors
    /// When the request breaks off, when no line is complete in time, and when the
    /// plane `drains` meanwhile.
    pub(super) async fn lines(&mut self, drains: impl Future<Output = ()>) -> Result<Option<Bytes>, Problem> {
        let mut drains = pin!(drains);
        loop {
            if let Some(lines) = self.take_lines() {
                return Ok(Some(lines));
            }
            if self.broken {
                return Err(Problem::new(Code::MalformedRequest, "the stream broke off"));
            }
            if self.ended {
                return Ok(None);
            }
            let late_at = *self.late_at.get_or_insert_with(|| Instant::now() + self.idle);
            tokio::select! {
                // What is there is read before anybody is called late.
                biased;
                () = &mut drains => return Err(Problem::draining()),
                () = self.read_frame() => {}
                () = tokio::time::sleep_until(late_at) => {
                    return Err(Problem::new(Code::RequestTimeout, "no line was complete for too long"));
                }
            }
        }
    }

    /// Goes on reading while something else is awaited: over HTTP/2 what lies unread
    /// counts against the whole connection (`limits::HTTP2_CONNECTION_WINDOW_BYTES`).
    pub(super) async fn read_on_while<F: Future>(&mut self, wanted: F) -> F::Output {
        let mut wanted = pin!(wanted);
        loop {
            if self.ended || self.broken || self.buffer.len() >= STREAM_AHEAD_BYTES_MAX {
                return wanted.await;
            }
            tokio::select! {
                biased;
                output = &mut wanted => return output,
                () = self.read_frame() => {}
            }
        }
    }

    async fn read_frame(&mut self) {
        match self.body.frame().await {
            None => self.ended = true,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
            }
            Some(Err(_)) => self.broken = true,
        }
    }

    /// Cuts whole lines off the buffer. A line over the bound becomes an
    /// unreadable stub, so that it is refused in its place and the stream goes on.
    fn take_lines(&mut self) -> Option<Bytes> {
        if self.skipping {
            match memchr::memchr(b'\n', &self.buffer) {
                Some(end) => {
                    drop(self.buffer.split_to(end + 1));
                    self.skipping = false;
                }
                None => self.buffer.clear(),
            }
        }
        let mut end = 0;
        let mut count = 0;
        for newline in memchr::memchr_iter(b'\n', &self.buffer) {
            end = newline + 1;
            count += 1;
            if count == STREAM_CHUNK_LINES_MAX {
                break;
            }
        }
        if end > 0 {
            return Some(self.buffer.split_to(end).freeze());
        }
        if self.buffer.len() > STREAM_LINE_BYTES_MAX {
            self.buffer.clear();
            self.skipping = true;
            return Some(Bytes::from_static(TOO_LONG));
        }
        if self.ended && !self.buffer.is_empty() {
            self.buffer.put_u8(b'\n');
            return Some(self.buffer.split().freeze());
        }
        None
    }
}
