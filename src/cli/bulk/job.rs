//! The work itself: numbers out and answers in at the same time, over as many
//! streams and attempts as it takes.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::resume::{Files, Saver};
use super::stop::Stop;
use super::tally::Tally;
use super::window::{Batches, Next, Window, is_true};
use super::{Start, Terms};
use crate::cli::client::{Client, Connection, Upload};
use crate::cli::error::CliError;
use crate::cli::lines::Lines;
use crate::cli::progress::Progress;
use crate::limits;

/// Pauses between attempts grow to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// For a connection to become free after a stream's end.
const REUSE_WAIT: Duration = Duration::from_secs(1);

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

/// How a stream ended well.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It has as many lines as a stream may.
    Full,
    /// Every row of the file is answered.
    Finished,
}

impl Job {
    pub(super) fn new(
        client: Client,
        terms: Terms,
        batches: Batches,
        start: Start,
        interrupted: watch::Receiver<bool>,
        progress: Progress,
    ) -> Self {
        let mut tick = tokio::time::interval(terms.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let window = Window::new(terms, batches, start.sink, start.tally, start.input_bytes);
        let (files, saver) = (start.files, start.saver);
        Self { client, connection: None, terms, window, interrupted, tick, progress, files, saver }
    }

    /// Works until every row is answered, or nothing helps.
    pub(super) async fn run(&mut self) -> Result<(), Stop> {
        let (mut failures, mut rows) = (0, self.window.tally().rows());
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
            if self.window.tally().rows() > rows {
                (failures, rows) = (0, self.window.tally().rows());
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
        (self.window.tally(), self.progress.elapsed())
    }

    /// Leaves everything in order: the result under its name, or the state for
    /// the next run.
    pub(super) fn close(mut self, is_finished: bool) -> Result<(), CliError> {
        self.progress.clear();
        self.window.flush().map_err(CliError::file(Path::new("output")))?;
        if let Some(saver) = self.saver {
            let state = CliError::file(Path::new("the state of the output"));
            saver.finish(self.window.mark(), self.window.tally()).map_err(state)?;
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
        window.hear();
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
                        window.hear();
                        lines.feed(&frame, |line| window.take(line))?;
                    }
                    None if upload.lines().is_none() && window.is_answered() && !lines.is_cut() => {
                        return Ok(if window.is_finished() { Ended::Finished } else { Ended::Full });
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
