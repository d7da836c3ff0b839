//! `POST /admin/v1/import`: a history as NDJSON, in chunks that are recorded
//! whole or not at all; one answer line a chunk, in order, while the request still
//! arrives and further chunks are on their way.

use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::places::ImportPlaces;
use super::register::speaks_for;
use super::{Caller, Handles};
use crate::access::{DirectoryReader, Role};
use crate::clock::Moment;
use crate::gate::Officer;
use crate::http::flow::{Stop, caught, flow};
use crate::http::message::{MediaType, media_type};
use crate::http::problem::{Code, Problem};
use crate::http::reply::ReplyBody;
use crate::http::verify::ask::is_object;
use crate::limits::{IMPORT_CHUNK_LINES, IMPORT_CHUNKS_PENDING_MAX, STREAM_LINE_BYTES_MAX};
use crate::pesel::{Ordinal, Pesel};
use crate::register::{Channel, ChunkInFlight, CommandError, EventKind, ImportLine, ImportRun, Registrant};

/// Answer lines that may wait for a slow reader.
const ANSWERS_AHEAD: usize = 4;
const BROKEN_OFF: &str = "the import broke off; unfinished chunks were not recorded";
const PAUSED: &str = "no line was complete for too long; unfinished chunks were not recorded";
const DEACTIVATED: &str = "the token is not valid any more; unfinished chunks were not recorded";
const READING_FAILED: &str = "the import could not be read on; unfinished chunks were not recorded";
const LINE_TOO_LONG: &str = "a line is too long; the import ends before its chunk";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The import may shrink or grow the register by as much as it says.
    #[serde(default)]
    allow_mass_change: bool,
}

pub(super) async fn import(
    State(handles): State<Handles>,
    Extension(places): Extension<ImportPlaces>,
    caller: Caller,
    options: Result<Query<Options>, QueryRejection>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let officer = caller.needs(&[Role::Operator, Role::Source])?;
    if media_type(request.headers())? != MediaType::Ndjson {
        return Err(Problem::new(Code::UnsupportedMediaType, "send content-type: application/x-ndjson"));
    }
    let Query(options) = options.map_err(|_| {
        Problem::new(Code::MalformedRequest, "the query is `allow_mass_change=true`, or nothing")
    })?;
    let place = places.take()?;
    let (answers, receiver) = mpsc::channel(ANSWERS_AHEAD);
    let (told, to_tell) = mpsc::channel(IMPORT_CHUNKS_PENDING_MAX);
    let import = Import {
        run: handles.commander.import_run(options.allow_mass_change),
        officer,
        directory: handles.directory.clone(),
        told,
        chunk: 0,
        first_line: 0,
        lines: Vec::new(),
    };
    let input = Input { body: request.into_body(), idle: handles.import_idle_timeout, late_at: None };
    tokio::spawn(place.clone().during(told_to_the_end(import.told.clone(), import.run(input))));
    // What becomes of chunks is counted by the register.
    tokio::spawn(place.during(flow(answer(to_tell, answers.clone()), answers, |_| ())));
    let body = Body::new(ReplyBody::stream(receiver));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    pesel: std::borrow::Cow<'a, str>,
    kind: EventKind,
    moment: Moment,
    channel: Channel,
    registrant: std::borrow::Cow<'a, str>,
    reserve_again_at: Option<Moment>,
}

/// The reading half: lines in, chunks to the register's writer, several in flight.
struct Import {
    run: ImportRun,
    officer: Officer,
    /// Knows whether they still are one.
    directory: DirectoryReader,
    told: mpsc::Sender<Told>,
    chunk: u64,
    /// Index of the chunk's first line in the request, from 0.
    first_line: u64,
    lines: Vec<Result<ImportLine, Unreadable>>,
}

/// A line that cannot be read, and its number if that can be.
struct Unreadable {
    code: &'static str,
    number: Option<Ordinal>,
}

/// The request's body, whose sender may leave a line incomplete only for so long:
/// places at the plane are few.
struct Input {
    body: Body,
    idle: Duration,
    /// When the next line must be complete. Neither bytes of it nor blank lines put
    /// this off, or one byte now and then would hold the place for ever.
    late_at: Option<Instant>,
}

/// What came next of the body.
enum Arrived {
    Frame(Frame<Bytes>),
    End,
    BrokenOff,
    /// No line for too long.
    TooLate,
}

impl Input {
    /// A line was read: the next one has its own time.
    fn line_was_read(&mut self) {
        self.late_at = None;
    }

    async fn next(&mut self) -> Arrived {
        let now = Instant::now();
        let late_at = *self.late_at.get_or_insert(now + self.idle);
        if late_at <= now {
            // Bytes without an end of a line may come faster than they are waited for.
            return Arrived::TooLate;
        }
        match tokio::time::timeout_at(late_at, self.body.frame()).await {
            Ok(Some(Ok(frame))) => Arrived::Frame(frame),
            Ok(Some(Err(_))) => Arrived::BrokenOff,
            Ok(None) => Arrived::End,
            Err(_) => Arrived::TooLate,
        }
    }
}

/// What the answering half is to tell next.
enum Told {
    Chunk { chunk: u64, first_line: u64, lines: u64, fate: Fate },
    End { code: &'static str, detail: &'static str },
}

/// What is known of a chunk when it is handed on.
enum Fate {
    /// Lines that could not be read, by their index in the chunk.
    Unreadable(Vec<(u64, &'static str)>, ChunkInFlight),
    InFlight(ChunkInFlight),
    Failed(CommandError),
}

/// Nobody reads the answers any more, or the import cannot go on.
struct Over;

impl Import {
    async fn run(mut self, mut input: Input) {
        let mut buffer = BytesMut::new();
        loop {
            let frame = match input.next().await {
                Arrived::Frame(frame) => frame,
                Arrived::End => break,
                Arrived::BrokenOff => return self.end("malformed-request", BROKEN_OFF).await,
                Arrived::TooLate => return self.end("request-timeout", PAUSED).await,
            };
            if let Ok(data) = frame.into_data() {
                buffer.extend_from_slice(&data);
            }
            if !self.is_in_office() {
                return self.end("unauthenticated", DEACTIVATED).await;
            }
            match self.take_lines(&mut buffer).await {
                Ok(0) => {}
                Ok(_) => input.line_was_read(),
                Err(Over) => return,
            }
            if buffer.len() > STREAM_LINE_BYTES_MAX {
                return self.end("content-too-large", LINE_TOO_LONG).await;
            }
        }
        let last = buffer.split();
        if !last.trim_ascii().is_empty() {
            self.lines.push(read_line(&self.officer, &last));
        }
        // The last chunk may be short; an error has been told already.
        if self.submit().await.is_ok() {
            self.run.finish();
        }
    }

    /// Whether the token holds that began the import: asked as the body goes on, and
    /// again before each chunk goes to the register.
    fn is_in_office(&self) -> bool {
        let holds = self.officer.is_in_office(&self.directory);
        if !holds {
            tracing::warn!(token_id = %self.officer.token_id(), "an import ends: its token was deactivated");
        }
        holds
    }

    /// Takes whole lines off the buffer; returns how many, blank ones not counted.
    async fn take_lines(&mut self, buffer: &mut BytesMut) -> Result<usize, Over> {
        let mut taken = 0;
        while let Some(end) = memchr::memchr(b'\n', buffer) {
            let line = buffer.split_to(end + 1);
            if end > STREAM_LINE_BYTES_MAX {
                // A reader that is gone misses nothing.
                drop(self.told.send(Told::End { code: "content-too-large", detail: LINE_TOO_LONG }).await);
                return Err(Over);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.lines.push(read_line(&self.officer, line.trim_ascii()));
            taken += 1;
            if self.lines.len() == IMPORT_CHUNK_LINES {
                self.submit().await?;
            }
        }
        Ok(taken)
    }

    /// Sends the collected lines on as one chunk; what becomes of it is told in
    /// its turn.
    async fn submit(&mut self) -> Result<(), Over> {
        if self.lines.is_empty() {
            return Ok(());
        }
        if !self.is_in_office() {
            // A reader that is gone misses nothing.
            drop(self.told.send(Told::End { code: "unauthenticated", detail: DEACTIVATED }).await);
            return Err(Over);
        }
        let lines = std::mem::take(&mut self.lines);
        let count = lines.len() as u64;
        let unreadable: Vec<(u64, &'static str)> = (0..)
            .zip(&lines)
            .filter_map(|(index, line)| line.as_ref().err().map(|unreadable| (index, unreadable.code)))
            .collect();
        let fate = if unreadable.is_empty() {
            self.run.send(lines.into_iter().flatten().collect()).await.map(Fate::InFlight)
        } else {
            let number = |line: &Result<ImportLine, Unreadable>| match line {
                Ok(line) => Some(line.ordinal),
                Err(unreadable) => unreadable.number,
            };
            let refused = self.run.refuse(lines.iter().filter_map(number).collect()).await;
            refused.map(|chunk| Fate::Unreadable(unreadable, chunk))
        };
        let fate = fate.unwrap_or_else(Fate::Failed);
        let told = Told::Chunk { chunk: self.chunk, first_line: self.first_line, lines: count, fate };
        self.chunk += 1;
        self.first_line += count;
        self.told.send(told).await.map_err(|_| Over)
    }

    async fn end(self, code: &'static str, detail: &'static str) {
        // A reader that is gone misses nothing.
        drop(self.told.send(Told::End { code, detail }).await);
    }
}

/// Reads to the end; the answering half hears of a panic, too.
async fn told_to_the_end(told: mpsc::Sender<Told>, reading: impl Future<Output = ()>) {
    if let Err(problem) = caught(reading).await {
        let end = Told::End { code: problem.code().name(), detail: READING_FAILED };
        // A reader that is gone misses nothing.
        drop(told.send(end).await);
    }
}

/// The answering half: one line a chunk, in the order of the chunks.
async fn answer(mut told: mpsc::Receiver<Told>, answers: mpsc::Sender<Bytes>) -> Result<(), Stop> {
    while let Some(told) = told.recv().await {
        let (line, goes_on) = match told {
            Told::Chunk { chunk, first_line, lines, fate } => {
                let head = json!({"chunk": chunk, "lines": lines, "accepted": 0});
                told_of_chunk(head, first_line, fate).await
            }
            Told::End { code, detail } => (json!({"error": code, "detail": detail}), false),
        };
        answers.send(format!("{line}\n").into()).await.map_err(|_| Stop::Gone)?;
        if !goes_on {
            // The reading half ends at its next chunk.
            break;
        }
    }
    Ok(())
}

/// The line, and does the import go on?
async fn told_of_chunk(mut line: Value, first_line: u64, fate: Fate) -> (Value, bool) {
    let errors = |refused: &[(u64, &str)]| -> Value {
        refused.iter().map(|(index, code)| json!({"line": first_line + index, "error": code})).collect()
    };
    let outcome = match fate {
        Fate::Unreadable(refused, chunk) => match chunk.outcome().await {
            Ok(_) => {
                line["errors"] = errors(&refused);
                line["refused"] = refused.len().into();
                return (line, true);
            }
            ended => ended,
        },
        Fate::InFlight(chunk) => chunk.outcome().await,
        Fate::Failed(error) => Err(error),
    };
    match outcome {
        Ok(outcome) => {
            line["accepted"] = outcome.recorded.into();
            line["already_there"] = outcome.already_there.into();
            line["sequence"] = outcome.last.value().into();
            (line, true)
        }
        Err(CommandError::ImportRefused(refusals)) => {
            let refused: Vec<(u64, &str)> =
                refusals.iter().map(|refusal| (refusal.index as u64, refusal.reason.code())).collect();
            line["errors"] = errors(&refused);
            line["refused"] = refused.len().into();
            (line, true)
        }
        Err(error) => {
            let problem = Problem::from(error);
            (json!({"error": problem.code().name(), "detail": problem.detail()}), false)
        }
    }
}

fn read_line(officer: &Officer, line: &[u8]) -> Result<ImportLine, Unreadable> {
    let unreadable = |code, number| Unreadable { code, number };
    is_object(line, "").map_err(|_| unreadable("malformed-request", None))?;
    let line: Line<'_> = serde_json::from_slice(line).map_err(|_| unreadable("malformed-request", None))?;
    let pesel = Pesel::parse(line.pesel.as_bytes());
    let number = pesel.as_ref().ok().map(Pesel::ordinal);
    speaks_for(officer, line.channel, &line.registrant).map_err(|_| unreadable("forbidden", number))?;
    Ok(ImportLine {
        ordinal: pesel.map_err(|_| unreadable("invalid-pesel", None))?.ordinal(),
        kind: line.kind,
        moment: line.moment,
        channel: line.channel,
        registrant: Registrant::new(&line.registrant)
            .map_err(|_| unreadable("invalid-registrant", number))?,
        reserve_again_at: line.reserve_again_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_import_whose_reading_panics_says_so_in_its_last_line() {
        let (told, to_tell) = mpsc::channel(1);
        let (answers, mut lines) = mpsc::channel(1);
        let reading = async { std::panic::panic_any("no message is kept") };
        tokio::join!(told_to_the_end(told, reading), answer(to_tell, answers)).1.expect("a reader");
        let line: Value = serde_json::from_slice(&lines.recv().await.expect("a line")).expect("JSON");
        assert_eq!(line["error"], "internal-error");
        assert!(lines.recv().await.is_none());
    }
}
