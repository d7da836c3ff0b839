//! `POST /admin/v1/import`: a history as NDJSON, in chunks that are recorded
//! whole or not at all; one answer line a chunk, while the request still arrives.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::register::speaks_for;
use super::{Caller, Handles};
use crate::access::Role;
use crate::clock::Moment;
use crate::gate::Officer;
use crate::http::message::{MediaType, media_type};
use crate::http::problem::{Code, Problem};
use crate::http::reply::ReplyBody;
use crate::http::verify::ask::is_object;
use crate::limits::{IMPORT_CHUNK_LINES, STREAM_LINE_BYTES_MAX};
use crate::pesel::Pesel;
use crate::register::{Channel, CommandError, Commander, EventKind, ImportLine, Registrant};

/// Answer lines that may wait for a slow reader.
const ANSWERS_AHEAD: usize = 4;
const LINE_TOO_LONG: &str = "a line is too long; the import ends before its chunk";
/// Refused lines that one chunk's answer names.
const ERRORS_SHOWN_MAX: usize = 100;

pub(super) async fn import(
    State(handles): State<Handles>,
    caller: Caller,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let officer = caller.needs(&[Role::Operator, Role::Source])?;
    if media_type(request.headers())? != MediaType::Ndjson {
        return Err(Problem::new(Code::UnsupportedMediaType, "send content-type: application/x-ndjson"));
    }
    let (answers, receiver) = mpsc::channel(ANSWERS_AHEAD);
    let import = Import {
        commander: handles.commander.clone(),
        officer,
        answers,
        chunk: 0,
        first_line: 0,
        lines: Vec::new(),
    };
    tokio::spawn(import.run(request.into_body()));
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
}

struct Import {
    commander: Commander,
    officer: Officer,
    answers: mpsc::Sender<Bytes>,
    chunk: u64,
    /// Index of the chunk's first line in the request, from 0.
    first_line: u64,
    lines: Vec<Result<ImportLine, &'static str>>,
}

/// Nobody reads the answers any more, or the import cannot go on.
struct Over;

impl Import {
    async fn run(mut self, mut body: Body) {
        let mut buffer = BytesMut::new();
        loop {
            let frame = match body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    return self
                        .end("malformed-request", "the import broke off; unfinished chunks were not recorded")
                        .await;
                }
                None => break,
            };
            if let Ok(data) = frame.into_data() {
                buffer.extend_from_slice(&data);
            }
            if self.take_lines(&mut buffer).await.is_err() {
                return;
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
        drop(self.submit().await);
    }

    async fn take_lines(&mut self, buffer: &mut BytesMut) -> Result<(), Over> {
        while let Some(end) = memchr::memchr(b'\n', buffer) {
            let line = buffer.split_to(end + 1);
            if end > STREAM_LINE_BYTES_MAX {
                self.end_line("content-too-large", LINE_TOO_LONG).await;
                return Err(Over);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.lines.push(read_line(&self.officer, line.trim_ascii()));
            if self.lines.len() == IMPORT_CHUNK_LINES {
                self.submit().await?;
            }
        }
        Ok(())
    }

    /// Sends the collected lines on as one chunk and tells what became of it.
    async fn submit(&mut self) -> Result<(), Over> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        let count = lines.len() as u64;
        let unreadable: Vec<(u64, &str)> = (0..)
            .zip(&lines)
            .filter_map(|(index, line)| line.as_ref().err().map(|code| (index, *code)))
            .collect();
        let mut answer = json!({"chunk": self.chunk, "lines": count, "accepted": 0});
        let outcome = if unreadable.is_empty() {
            let lines = lines.into_iter().flatten().collect();
            self.commander.import_chunk(lines).await
        } else {
            answer["errors"] = self.errors(&unreadable);
            answer["refused"] = unreadable.len().into();
            return self.tell(answer, count).await;
        };
        match outcome {
            Ok(outcome) => {
                answer["accepted"] = outcome.recorded.into();
                answer["already_there"] = outcome.already_there.into();
                answer["sequence"] = outcome.last.value().into();
            }
            Err(CommandError::ImportRefused(refusals)) => {
                let refused: Vec<(u64, &str)> =
                    refusals.iter().map(|refusal| (refusal.index as u64, refusal.reason.code())).collect();
                answer["errors"] = self.errors(&refused);
                answer["refused"] = refused.len().into();
            }
            Err(error) => {
                let problem = Problem::from(error);
                self.end_line(problem.code().name(), problem.detail()).await;
                return Err(Over);
            }
        }
        self.tell(answer, count).await
    }

    fn errors(&self, refused: &[(u64, &str)]) -> Value {
        refused
            .iter()
            .take(ERRORS_SHOWN_MAX)
            .map(|(index, code)| json!({"line": self.first_line + index, "error": code}))
            .collect()
    }

    async fn tell(&mut self, answer: Value, lines: u64) -> Result<(), Over> {
        self.chunk += 1;
        self.first_line += lines;
        self.answers.send(format!("{answer}\n").into()).await.map_err(|_| Over)
    }

    async fn end(self, code: &str, detail: &str) {
        self.end_line(code, detail).await;
    }

    async fn end_line(&self, code: &str, detail: &str) {
        let line = json!({"error": code, "detail": detail});
        // A reader that is gone misses nothing.
        drop(self.answers.send(format!("{line}\n").into()).await);
    }
}

fn read_line(officer: &Officer, line: &[u8]) -> Result<ImportLine, &'static str> {
    is_object(line, "").map_err(|_| "malformed-request")?;
    let line: Line<'_> = serde_json::from_slice(line).map_err(|_| "malformed-request")?;
    speaks_for(officer, line.channel, &line.registrant).map_err(|_| "forbidden")?;
    let pesel = Pesel::parse(line.pesel.as_bytes()).map_err(|_| "invalid-pesel")?;
    Ok(ImportLine {
        ordinal: pesel.ordinal(),
        kind: line.kind,
        moment: line.moment,
        channel: line.channel,
        registrant: Registrant::new(&line.registrant).map_err(|_| "invalid-registrant")?,
    })
}
