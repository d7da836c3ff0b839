//! `POST /v1/verify/batch` as NDJSON: answers flow while the request still
//! arrives, in order, with back-pressure.
//!
//! Lines are answered in chunks: whatever has arrived, up to a bound, is one
//! record and one state of the register. While a chunk is put on record the
//! next one collects, so the chunks grow with the load by themselves.

mod input;
mod line;

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;

use super::render::{self, LineRefusal};
use super::{Asked, admit, history, identify, now, unrecorded};
use crate::audit::{Receipt, Verification};
use crate::gate::{Pace, Permit};
use crate::http::flow::{Stop, flow};
use crate::http::plane::{Connection, StreamPlace, Verdict};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{Reply, ReplyBody};
use crate::limits::{STREAM_LINES_MAX, STREAMS_PER_CONNECTION_MAX};
use crate::query::{Answer, Query};
use input::Input;
use line::{Line, read_lines};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use line::read_for_fuzzing;

/// Answer chunks that may wait for a slow reader.
const ANSWERS_AHEAD: usize = 2;
/// Longest wait for the per-second limit before the permission is asked again.
const PACE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Begins a stream: refused like any request before the first line, by a last
/// line without `index` after it.
pub(super) fn verify(connection: Rc<Connection>, request: &mut Asked) -> Result<Reply, Problem> {
    if connection.worker.is_draining() {
        // Its first chunk could not be answered any more.
        return Err(Problem::draining());
    }
    // Each chunk asks for its own permit; this one says whether to begin.
    drop(admit(&connection, request.headers())?);
    let place = StreamPlace::take(&connection.control).ok_or_else(|| {
        let most = format!("at most {STREAMS_PER_CONNECTION_MAX} streams at once on a connection");
        Problem::new(Code::Overloaded, most).retry_after(Duration::from_secs(1))
    })?;
    let headers = std::mem::take(request.headers_mut());
    let body = request.body_mut().take().ok_or_else(Problem::internal)?;
    let (answers, receiver) = mpsc::channel(ANSWERS_AHEAD);
    let input = Input::new(body, connection.worker.settings.stream_idle_timeout);
    let stream = Stream { connection, place, headers, answers, next_index: 0 };
    tokio::task::spawn_local(stream.run(input));
    let mut reply = Reply::new(ReplyBody::stream(receiver));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(reply)
}

struct Stream {
    connection: Rc<Connection>,
    place: StreamPlace,
    /// Permission is asked again for every chunk, from the same head.
    headers: http::HeaderMap,
    answers: mpsc::Sender<Bytes>,
    next_index: u64,
}

impl Stream {
    /// Answers to the end, whichever that is.
    async fn run(self, input: Input) {
        let (connection, answers) = (Rc::clone(&self.connection), self.answers.clone());
        flow(self.answer_all(input), answers, |code| connection.worker.tally.refused(code)).await;
    }

    async fn answer_all(mut self, mut input: Input) -> Result<(), Stop> {
        let worker = Rc::clone(&self.connection.worker);
        while let Some(lines) = input.lines(worker.drains()).await? {
            self.answer(&mut input, lines).await?;
        }
        self.connection.control.body_read_to_its_end();
        Ok(())
    }

    /// Answers a chunk: permit, look-up, record, answer lines.
    async fn answer(&mut self, input: &mut Input, lines: Bytes) -> Result<(), Stop> {
        let worker = Rc::clone(&self.connection.worker);
        let mut asked = read_lines(&lines, now(&worker)?);
        while !asked.is_empty() {
            if worker.is_draining() {
                return Err(Problem::draining().into());
            }
            let room = STREAM_LINES_MAX.saturating_sub(self.next_index);
            if room == 0 {
                let most = format!("at most {STREAM_LINES_MAX} lines in a stream");
                return Err(Problem::new(Code::ContentTooLarge, most).into());
            }
            let wanted = asked.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let mut permit = self.permit(input, wanted).await?;
            let rest = asked.split_off(usize::try_from(permit.numbers()).unwrap_or(wanted).min(wanted));
            let out = {
                let (pending, answered) = self.record(&permit, &asked).await?;
                let spent = permit.spend();
                let receipt = input.read_on_while(pending).await.map_err(|lost| {
                    permit.give_back(spent);
                    Problem::audit_unavailable(lost.since)
                })?;
                self.render(&receipt, &asked, &answered)
            };
            self.next_index += asked.len() as u64;
            input.read_on_while(self.answers.send(out)).await.map_err(|_| Stop::Gone)?;
            input.was_answered();
            asked = rest;
        }
        Ok(())
    }

    /// A permit for some of the `wanted` lines; waits for the limit per second
    /// rather than failing the stream.
    async fn permit(&self, input: &mut Input, wanted: usize) -> Result<Permit, Stop> {
        let gate = &self.connection.worker.handles.gate;
        let wanted = u32::try_from(wanted).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        loop {
            let identity = identify(&self.connection, &self.headers)?;
            let asked = gate.admit_paced(&self.connection.peer, identity, wanted, PACE_WAIT_MAX);
            match asked.map_err(Problem::from)? {
                Pace::Charged(permit) => return Ok(permit),
                Pace::Wait(pause) => {
                    input.read_on_while(self.wait(pause.min(PACE_WAIT_MAX))).await?;
                }
            }
        }
    }

    /// Waits for the rate, as long as somebody waits for the answers.
    async fn wait(&self, pause: Duration) -> Result<(), Stop> {
        let _paused = self.place.pause();
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.answers.closed() => Err(Stop::Gone),
            () = self.connection.worker.drains() => Err(Problem::draining().into()),
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
                Ok(_) => {
                    let answer = next.next().ok_or_else(Problem::internal)?;
                    Ok(answer.map_err(LineRefusal::Unknown))
                }
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
                    render::stream_line(&mut out, receipt, index, (pesel, line.at), answer, head.take());
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
