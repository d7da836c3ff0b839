//! The work itself: numbers out and answers in at the same time, over as many
//! streams and attempts as it takes.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::answer::{self, Line, Outcome};
use super::input::Batch;
use super::output::{Sink, Target};
use super::resume::{Files, Mark, Saver};
use super::tally::Tally;
use super::{Start, Terms};
use crate::cli::client::{Client, ClientError, Connection, Upload};
use crate::cli::error::CliError;
use crate::cli::lines::{LineTooLong, Lines};
use crate::cli::progress::Progress;
use crate::limits;

/// Pauses between attempts grow to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// For a connection to become free after a stream's end.
const REUSE_WAIT: Duration = Duration::from_secs(1);
/// Codes of a stream's end that no waiting cures.
const LASTING_ENDS: [&str; 5] =
    ["quota-exceeded", "unauthenticated", "address-not-allowed", "malformed-request", "content-too-large"];

/// Why a stream, and perhaps the work, stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Client(ClientError),
    /// The gateway ended the stream and said why.
    Ended {
        code: String,
        detail: String,
        retry_after: Option<Duration>,
    },
    /// The gateway ended the stream and did not say why.
    Cut,
    Silence,
    /// An answer that belongs to no row asked, or to another one.
    Mismatch(&'static str),
    Input(CliError),
    Output(io::Error),
    Interrupted,
}

impl Stop {
    fn is_passing(&self) -> bool {
        match self {
            Self::Client(error) => error.is_passing(),
            Self::Ended { code, .. } => !LASTING_ENDS.contains(&code.as_str()),
            Self::Cut | Self::Silence => true,
            Self::Mismatch(_) | Self::Input(_) | Self::Output(_) | Self::Interrupted => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Client(error) => error.retry_after(),
            Self::Ended { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Ended { code, detail, .. } => write!(f, "{code}: {detail}"),
            Self::Cut => f.write_str("the gateway ended the stream before its last answer"),
            Self::Silence => f.write_str("the gateway fell silent"),
            Self::Mismatch(what) => write!(f, "the gateway's answer is not as agreed: {what}"),
            Self::Input(error) => error.fmt(f),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<LineTooLong> for Stop {
    fn from(_: LineTooLong) -> Self {
        Self::Mismatch("a line is too long")
    }
}

pub(super) struct Job {
    client: Client,
    connection: Option<Connection>,
    terms: Terms,
    window: Window,
    interrupted: watch::Receiver<bool>,
    tick: Interval,
    progress: Progress,
    files: Option<(Files, File)>,
    saver: Option<Saver>,
}

/// The rows between the file and its result.
struct Window {
    batches: mpsc::Receiver<Result<Batch, CliError>>,
    /// The file has no more.
    is_read: bool,
    /// The file is waited for.
    is_waiting: bool,
    /// Oldest first.
    pending: VecDeque<Batch>,
    /// How many of `pending` are in the present stream.
    sent: usize,
    /// How many rows of the oldest are done.
    done: usize,
    /// The index that the next answer of the present stream has.
    index: u64,
    /// Lines asked in the present stream.
    asked: u64,
    /// When the gateway was last heard.
    heard: Instant,
    sink: Sink<Target>,
    tally: Tally,
    /// Bytes of the input behind the last row done.
    input_bytes: u64,
}

/// How a stream ended well.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It has as many lines as a stream may.
    Full,
    /// Every row of the file is answered.
    Finished,
}

/// The next thing to do for the sending side.
enum Next {
    Lines(Bytes),
    /// This stream gets no more.
    Finish,
}

impl Job {
    pub(super) fn new(
        client: Client,
        terms: Terms,
        batches: mpsc::Receiver<Result<Batch, CliError>>,
        start: Start,
        interrupted: watch::Receiver<bool>,
        progress: Progress,
    ) -> Self {
        let mut tick = tokio::time::interval(terms.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let window = Window {
            batches,
            is_read: false,
            is_waiting: false,
            pending: VecDeque::with_capacity(terms.window_batches),
            sent: 0,
            done: 0,
            index: 0,
            asked: 0,
            heard: Instant::now(),
            sink: start.sink,
            tally: start.tally,
            input_bytes: start.input_bytes,
        };
        let (files, saver) = (start.files, start.saver);
        Self { client, connection: None, terms, window, interrupted, tick, progress, files, saver }
    }

    /// Works until every row is answered, or nothing helps.
    pub(super) async fn run(&mut self) -> Result<(), Stop> {
        let (mut failures, mut rows) = (0, self.window.tally.rows());
        loop {
            let stop = match self.stream().await {
                Ok(Ended::Finished) => return Ok(()),
                Ok(Ended::Full) => {
                    failures = 0;
                    continue;
                }
                Err(stop) => stop,
            };
            self.connection = None;
            if self.window.tally.rows() > rows {
                (failures, rows) = (0, self.window.tally.rows());
            }
            failures += 1;
            if !stop.is_passing() || failures >= self.terms.attempts_max {
                return Err(stop);
            }
            let doubled = self.terms.pause.saturating_mul(1 << (failures - 1).min(16));
            let pause = stop.retry_after().unwrap_or_default().max(doubled).min(PAUSE_MAX);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = is_true(&mut self.interrupted) => return Err(Stop::Interrupted),
            }
        }
    }

    /// What is done so far.
    pub(super) fn summary(&self) -> (Tally, Duration) {
        (self.window.tally, self.progress.elapsed())
    }

    /// Leaves everything in order: the result under its name, or the state for
    /// the next run.
    pub(super) fn close(mut self, is_finished: bool) -> Result<(), CliError> {
        self.progress.clear();
        self.window.sink.flush().map_err(CliError::file(Path::new("output")))?;
        if let Some(saver) = self.saver {
            let state = CliError::file(Path::new("the state of the output"));
            saver.finish(self.window.mark(), self.window.tally).map_err(state)?;
        }
        match self.files {
            Some((files, part)) if is_finished => files.complete(&part),
            _ => Ok(()),
        }
    }

    /// One stream: as many rows as fit, until it is full or the file ends.
    async fn stream(&mut self) -> Result<Ended, Stop> {
        self.window.restart();
        // Nothing left to ask (an empty file, or rows that are not asked): no
        // stream, no connection.
        if !self.window.has_question(&self.interrupted).await? {
            return Ok(Ended::Finished);
        }
        let mut connection = self.connect().await?;
        let uploading = self.client.upload(&mut connection, "/v1/verify/batch");
        let mut upload = tokio::select! {
            upload = uploading => upload?,
            () = is_true(&mut self.interrupted) => return Err(Stop::Interrupted),
        };
        let ended = self.exchange(&mut upload).await?;
        let is_reusable = tokio::time::timeout(REUSE_WAIT, connection.is_reusable()).await;
        if ended == Ended::Full && is_reusable == Ok(true) {
            self.connection = Some(connection);
        }
        Ok(ended)
    }

    async fn connect(&mut self) -> Result<Connection, Stop> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        tokio::select! {
            connection = self.client.connect() => Ok(connection?),
            () = is_true(&mut self.interrupted) => Err(Stop::Interrupted),
        }
    }

    async fn exchange(&mut self, upload: &mut Upload) -> Result<Ended, Stop> {
        let Self { terms, window, interrupted, tick, progress, saver, .. } = self;
        let mut lines = Lines::new(4 * limits::STREAM_LINE_BYTES_MAX);
        window.heard = Instant::now();
        loop {
            let (body, mut answer) = upload.split();
            let sending = async {
                let Some(body) = body else { return std::future::pending().await };
                // A closed body means that the gateway has said its last word.
                let Ok(permit) = body.reserve().await else { return std::future::pending().await };
                let next = window.next(terms).await?;
                let is_finished = matches!(next, Next::Finish);
                if let Next::Lines(bytes) = next {
                    permit.send(bytes);
                }
                Ok::<_, Stop>(is_finished)
            };
            tokio::select! {
                is_finished = sending => if is_finished? {
                    upload.finish();
                },
                frame = answer.next() => match frame? {
                    Some(frame) => {
                        window.heard = Instant::now();
                        lines.feed(&frame, |line| window.take(line))?;
                    }
                    None if upload.lines().is_none() && window.is_answered() && !lines.is_cut() => {
                        let is_finished = window.is_read && window.pending.is_empty();
                        return Ok(if is_finished { Ended::Finished } else { Ended::Full });
                    }
                    None => return Err(Stop::Cut),
                },
                _ = tick.tick() => {
                    window.look_after(progress, saver.as_ref())?;
                    if window.is_forsaken(terms, upload.lines().is_none()) {
                        return Err(Stop::Silence);
                    }
                    if window.is_idle(terms) {
                        // The gateway does not keep silent streams; the next row
                        // opens a new one.
                        upload.finish();
                    }
                }
                () = is_true(interrupted) => return Err(Stop::Interrupted),
            }
        }
    }
}

impl Window {
    /// Forgets what the last stream was sent: the rest is asked again.
    fn restart(&mut self) {
        (self.sent, self.index, self.asked) = (0, 0, 0);
    }

    /// Whether any row is left to ask; rows that are not asked go out meanwhile.
    async fn has_question(&mut self, interrupted: &watch::Receiver<bool>) -> Result<bool, Stop> {
        let mut interrupted = interrupted.clone();
        loop {
            self.pass()?;
            if !self.pending.is_empty() {
                return Ok(true);
            }
            if self.is_read {
                return Ok(false);
            }
            tokio::select! {
                read = self.read() => read?,
                () = is_true(&mut interrupted) => return Err(Stop::Interrupted),
            }
        }
    }

    /// The next batch of the file goes into the window, or its end is noted.
    async fn read(&mut self) -> Result<(), Stop> {
        self.is_waiting = true;
        let batch = self.batches.recv().await;
        self.is_waiting = false;
        match batch {
            Some(batch) => self.pending.push_back(batch.map_err(Stop::Input)?),
            None => self.is_read = true,
        }
        Ok(())
    }

    /// The next lines for the stream; waits while the window is full. May be
    /// dropped while it waits, without a loss.
    async fn next(&mut self, terms: &Terms) -> Result<Next, Stop> {
        loop {
            while let Some(batch) = self.pending.get(self.sent) {
                let from = if self.sent == 0 { self.done } else { 0 };
                let asked = batch.asked_from(from);
                if self.asked + asked > terms.stream_lines_max {
                    return Ok(Next::Finish);
                }
                self.sent += 1;
                self.asked += asked;
                if asked > 0 {
                    return Ok(Next::Lines(batch.questions_from(from)));
                }
            }
            if self.is_read {
                return Ok(Next::Finish);
            }
            if self.pending.len() >= terms.window_batches {
                return std::future::pending().await;
            }
            self.read().await?;
            self.pass()?;
        }
    }

    /// Takes one line of the answer.
    fn take(&mut self, line: &[u8]) -> Result<(), Stop> {
        let (index, outcome) = match answer::read(line).map_err(|_| Stop::Mismatch("a line is no answer"))? {
            Line::Row { index, outcome } => (index, outcome),
            Line::End { code, detail, retry_after_s } => {
                return Err(Stop::Ended {
                    code,
                    detail,
                    retry_after: retry_after_s.map(Duration::from_secs),
                });
            }
        };
        if index != self.index {
            return Err(Stop::Mismatch("an answer is out of order"));
        }
        let batch = self.pending.front().filter(|_| self.sent > 0);
        let question = batch.and_then(|batch| batch.question(self.done));
        let (Some(batch), Some(question)) = (batch, question) else {
            return Err(Stop::Mismatch("an answer without a question"));
        };
        if let Outcome::Verified(verdict) = &outcome
            && question.get(1..12) != Some(&*verdict.pesel)
        {
            return Err(Stop::Mismatch("an answer is about another number"));
        }
        self.sink.row(batch, self.done, index, &outcome)?;
        self.tally.count(&outcome);
        self.index += 1;
        self.step();
        self.pass()
    }

    /// Lets rows through that are not asked, up to the next one that is.
    fn pass(&mut self) -> Result<(), Stop> {
        while let Some(batch) = self.pending.front()
            && batch.question(self.done).is_none()
        {
            self.sink.unasked(batch, self.done)?;
            self.tally.count_unasked();
            self.step();
        }
        Ok(())
    }

    /// The oldest row is done.
    fn step(&mut self) {
        let Some(batch) = self.pending.front() else { return };
        self.input_bytes = batch.input_behind(self.done);
        self.done += 1;
        if self.done == batch.rows() {
            self.pending.pop_front();
            self.sent = self.sent.saturating_sub(1);
            self.done = 0;
        }
    }

    /// Whether everything that this stream was asked is answered.
    fn is_answered(&self) -> bool {
        self.sent == 0
    }

    const fn mark(&self) -> Mark {
        Mark { input_bytes: self.input_bytes, output_bytes: self.sink.written() }
    }

    /// Twice a second: the bar and the state.
    fn look_after(&mut self, progress: &mut Progress, saver: Option<&Saver>) -> Result<(), Stop> {
        progress.show(self.input_bytes, self.tally.rows());
        self.sink.flush()?;
        if let Some(saver) = saver
            && !saver.offer(self.mark(), self.tally)
        {
            return Err(Stop::Output(io::Error::other("the state cannot be saved")));
        }
        Ok(())
    }

    /// Whether the gateway owes an answer, or the end of one, for too long.
    fn is_forsaken(&self, terms: &Terms, is_sent: bool) -> bool {
        (self.sent > 0 || is_sent) && self.heard.elapsed() > terms.silence_max
    }

    /// Whether the file gives no rows for so long that a stream should not wait.
    fn is_idle(&self, terms: &Terms) -> bool {
        self.is_waiting && self.heard.elapsed() > terms.idle_max
    }
}

/// Waits until it is true; for ever when nobody can make it so.
async fn is_true(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|flag| *flag).await.is_err() {
        std::future::pending::<()>().await;
    }
}
