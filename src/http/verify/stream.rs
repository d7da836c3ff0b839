//! `POST /v1/verify/batch` as NDJSON: answers flow while the request still
//! arrives, in order, with back-pressure.
//!
//! Lines are answered in chunks: whatever has arrived, up to a bound, is one
//! record and one state of the register. While a chunk is put on record the
//! next one collects, so the chunks grow with the load by themselves.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::render::{self, LineRefusal};
use super::{admit, ask, history, identify, now, told, unrecorded};
use crate::audit::{Item, Receipt, Refusal, Verification};
use crate::clock::Moment;
use crate::gate::{Denied, Permit};
use crate::http::plane::{Connection, Verdict};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{Reply, ReplyBody};
use crate::limits::{STREAM_CHUNK_LINES_MAX, STREAM_LINE_BYTES_MAX, STREAM_LINES_MAX};
use crate::pesel::Pesel;
use crate::query::{Answer, Query};

/// Bytes of request that are held while a chunk is being recorded.
const AHEAD_BYTES_MAX: usize = 256 * 1024;
/// Answer chunks that may wait for a slow reader.
const ANSWERS_AHEAD: usize = 2;
/// What stands for a line over the bound: no JSON, so refused as unreadable.
const TOO_LONG: &[u8] = b"!too long\n";
/// Longest wait for the per-second limit before the permission is asked again.
const PACE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Begins a stream: refused like any request before the first line, by a last
/// line without `index` after it.
pub(super) fn verify(connection: Rc<Connection>, request: Request<Incoming>) -> Result<Reply, Problem> {
    if connection.worker.is_draining() {
        // Its first chunk could not be answered any more.
        return Err(Problem::draining());
    }
    let (head, body) = request.into_parts();
    // Each chunk asks for its own permit; this one says whether to begin.
    drop(admit(&connection, &head.headers)?);
    let (answers, receiver) = mpsc::channel(ANSWERS_AHEAD);
    let input = Input {
        body,
        buffer: BytesMut::new(),
        ended: false,
        broken: false,
        skipping: false,
        idle: connection.worker.settings.stream_idle_timeout,
    };
    let stream = Stream { connection, headers: head.headers, answers, next_index: 0 };
    tokio::task::spawn_local(stream.run(input));
    let mut reply = Reply::new(ReplyBody::stream(receiver));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(reply)
}

struct Stream {
    connection: Rc<Connection>,
    /// Permission is asked again for every chunk, from the same head.
    headers: http::HeaderMap,
    answers: mpsc::Sender<Bytes>,
    next_index: u64,
}

/// Nobody reads the answers any more.
struct Gone;

impl Stream {
    async fn run(mut self, mut input: Input) {
        loop {
            let lines = match input.lines().await {
                Ok(Some(lines)) => lines,
                Ok(None) => return self.connection.control.body_read_to_its_end(),
                Err(problem) => return self.end_with(&problem).await,
            };
            match self.answer(&mut input, lines).await {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) => return,
                Err(problem) => return self.end_with(&problem).await,
            }
        }
    }

    /// The last line of a stream that cannot go on.
    async fn end_with(self, problem: &Problem) {
        self.connection.worker.tally.refused(problem.code());
        let line = serde_json::json!({"error": problem.code().name(), "detail": problem.detail()});
        // A reader that is gone misses nothing.
        drop(self.answers.send(format!("{line}\n").into()).await);
    }

    /// Answers a chunk: permit, look-up, record, answer lines.
    async fn answer(&mut self, input: &mut Input, lines: Bytes) -> Result<Result<(), Gone>, Problem> {
        let worker = Rc::clone(&self.connection.worker);
        let mut asked = read_lines(&lines, now(&worker));
        while !asked.is_empty() {
            if worker.is_draining() {
                return Err(Problem::draining());
            }
            let room = STREAM_LINES_MAX.saturating_sub(self.next_index);
            if room == 0 {
                return Err(Problem::new(
                    Code::ContentTooLarge,
                    format!("at most {STREAM_LINES_MAX} lines in a stream"),
                ));
            }
            let (mut permit, count) =
                self.permit(asked.len().min(usize::try_from(room).unwrap_or(usize::MAX))).await?;
            let rest = asked.split_off(count);
            let out = {
                let (pending, answered) = self.record(&permit, &asked).await?;
                permit.spend();
                let receipt = input
                    .read_on_while(pending)
                    .await
                    .map_err(|lost| Problem::audit_unavailable(lost.since))?;
                self.render(&receipt, &asked, &answered)
            };
            self.next_index += asked.len() as u64;
            if self.answers.send(out).await.is_err() {
                return Ok(Err(Gone));
            }
            asked = rest;
        }
        Ok(Ok(()))
    }

    /// A permit for as many lines as the key may ask at once, `wanted` at the
    /// most; waits for the limit per second rather than failing the stream.
    async fn permit(&self, wanted: usize) -> Result<(Permit, usize), Problem> {
        let gate = &self.connection.worker.handles.gate;
        let mut count = wanted.max(1);
        loop {
            let identity = identify(&self.connection, &self.headers)?;
            let cost = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
            match gate.admit(&self.connection.peer, identity, cost) {
                Ok(permit) => return Ok((permit, count)),
                Err(Denied::BatchLargerThanBurst { burst, .. }) => count = (burst as usize).clamp(1, count),
                Err(Denied::RateLimited { retry_after, .. }) => {
                    tokio::time::sleep(retry_after.min(PACE_WAIT_MAX)).await;
                }
                Err(Denied::QuotaExceeded { .. }) if count > 1 => count /= 2,
                Err(denied) => return Err(denied.into()),
            }
        }
    }

    async fn record(
        &self,
        permit: &Permit,
        asked: &[Line],
    ) -> Result<(crate::audit::Pending, Answered), Problem> {
        let worker = &self.connection.worker;
        let queries: Vec<Query> = asked.iter().filter_map(|line| line.query.as_ref().ok().copied()).collect();
        let history::Answered { answers, register, answered_at } =
            history::answer_all(worker, permit, &queries).await?;
        let mut next = answers.into_iter();
        let results = asked
            .iter()
            .map(|line| match &line.query {
                Ok(_) => next.next().map(Ok).ok_or_else(Problem::internal),
                Err(refusal) => Ok(Err(*refusal)),
            })
            .collect::<Result<Vec<_>, Problem>>()?;
        let verification = Verification {
            answered_at,
            asked_at: None,
            key_id: permit.key_id(),
            institution: permit.institution().name.as_str(),
            address: permit.address(),
            register: register.into(),
            reference: None,
        };
        let items = asked.iter().zip(&results).map(|(line, result)| line.item(result));
        let pending =
            worker.recorder.record_chunk(&verification, self.next_index, items).map_err(unrecorded)?;
        Ok((pending, Answered { results, register }))
    }

    fn render(&self, receipt: &Receipt, asked: &[Line], answered: &Answered) -> Bytes {
        let mut out = BytesMut::with_capacity(asked.len() * 160 + 256);
        let (mut reserved, mut refused) = (0, 0);
        let mut head = Some(answered.register);
        for (index, (line, result)) in (self.next_index..).zip(asked.iter().zip(&answered.results)) {
            match (&line.pesel, result) {
                (Some(pesel), Ok(answer)) => {
                    reserved += u64::from(answer.reserved());
                    render::stream_line(&mut out, receipt, index, pesel, answer, head.take());
                }
                (_, Err(refusal)) => {
                    refused += 1;
                    render::stream_refusal(&mut out, index, *refusal);
                }
                (None, Ok(_)) => {}
            }
        }
        let tally = &self.connection.worker.tally;
        tally.verified_many(Verdict::Reserved, reserved);
        tally.verified_many(Verdict::Refused, refused);
        tally.verified_many(Verdict::NotReserved, asked.len() as u64 - reserved - refused);
        out.freeze()
    }
}

struct Answered {
    results: Vec<Result<Answer, LineRefusal>>,
    register: render::RegisterState,
}

/// One line as asked.
struct Line {
    pesel: Option<Pesel>,
    query: Result<Query, LineRefusal>,
    at: Option<Moment>,
    reference: Option<Box<str>>,
}

impl Line {
    fn item<'a>(&'a self, result: &Result<Answer, LineRefusal>) -> Item<&'a str> {
        match (result, &self.query) {
            (Ok(answer), Ok(query)) => Item::Verified {
                ordinal: query.ordinal(),
                told: told(answer),
                asked_at: self.at,
                reference: self.reference.as_deref(),
            },
            (Err(refusal), _) | (_, Err(refusal)) => Item::Refused(match refusal {
                LineRefusal::Line(ask::LineError::Pesel(error)) => Refusal::InvalidPesel(*error),
                LineRefusal::Line(ask::LineError::Malformed) => Refusal::MalformedLine,
                LineRefusal::FutureMoment => Refusal::FutureMoment,
            }),
        }
    }
}

fn read_lines(lines: &[u8], now: Moment) -> Vec<Line> {
    let mut asked = Vec::with_capacity(lines.len() / 14 + 1);
    let mut rest = lines;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        // A line over the bound is refused whether it came in pieces or in one.
        let line = if end > STREAM_LINE_BYTES_MAX { TOO_LONG } else { &rest[..end] };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        rest = rest.get(end + 1..).unwrap_or_default();
        // A blank line asks nothing and has no index.
        if !line.trim_ascii().is_empty() {
            asked.push(read_line(line, now));
        }
    }
    asked
}

fn read_line(line: &[u8], now: Moment) -> Line {
    match ask::line(line) {
        Ok(single) => Line {
            query: Query::new(single.pesel.ordinal(), single.terms.at, now)
                .map_err(|_| LineRefusal::FutureMoment),
            pesel: Some(single.pesel),
            at: single.terms.at,
            reference: single.terms.reference.map(|text| text.into_owned().into_boxed_str()),
        },
        Err(error) => Line { pesel: None, query: Err(LineRefusal::Line(error)), at: None, reference: None },
    }
}

/// What each line of a chunk says, in words: the number with its terms, or the
/// code of its refusal.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_for_fuzzing(lines: &[u8], now: Moment) -> Vec<String> {
    let words = |line: &Line| match (&line.query, &line.pesel) {
        (Err(LineRefusal::Line(ask::LineError::Malformed)), _) => "malformed-request".to_owned(),
        (Err(LineRefusal::Line(ask::LineError::Pesel(_))), _) => "invalid-pesel".to_owned(),
        (Err(LineRefusal::FutureMoment), _) => "future-moment".to_owned(),
        (Ok(_), pesel) => format!(
            "{} {:?} {:?}",
            pesel.map_or_else(String::new, |pesel| pesel.digits().to_owned()),
            line.at,
            line.reference
        ),
    };
    read_lines(lines, now).iter().map(words).collect()
}

/// The request's side of a stream: frames in, whole lines out.
struct Input {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
    /// The request broke off: what is left of it is no line.
    broken: bool,
    /// In the middle of a line that is too long: its end is awaited.
    skipping: bool,
    idle: Duration,
}

impl Input {
    /// Whole lines, at least one, at most a chunk; `None` at the end.
    async fn lines(&mut self) -> Result<Option<Bytes>, Problem> {
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
            if tokio::time::timeout(self.idle, self.read_frame()).await.is_err() {
                return Err(Problem::new(Code::RequestTimeout, "the stream paused for too long"));
            }
        }
    }

    /// Goes on reading while a record becomes durable.
    async fn read_on_while<F: Future>(&mut self, wanted: F) -> F::Output {
        let mut wanted = std::pin::pin!(wanted);
        loop {
            if self.ended || self.broken || self.buffer.len() >= AHEAD_BYTES_MAX {
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
