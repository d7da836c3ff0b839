//! The rows in flight: asked in their order, answered in their order, written as
//! soon as they are answered, asked again when a stream breaks.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::Terms;
use super::answer::{self, Line, Outcome};
use super::input::Batch;
use super::output::{Sink, Target};
use super::resume::{Mark, Saver};
use super::stop::Stop;
use super::tally::Tally;
use crate::cli::error::CliError;
use crate::cli::progress::Progress;

/// Batches as the file's thread makes them.
pub(super) type Batches = mpsc::Receiver<Result<Batch, CliError>>;

/// The rows between the file and its result.
pub(super) struct Window {
    batches: Batches,
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
    /// The last state that was offered to be saved.
    offered: Option<Mark>,
    /// Bytes of the input behind the last row done.
    input_bytes: u64,
}

/// The next thing to do for the sending side.
pub(super) enum Next {
    Lines(Bytes),
    /// This stream gets no more.
    Finish,
}

impl Window {
    pub(super) fn new(
        terms: Terms,
        batches: Batches,
        sink: Sink<Target>,
        tally: Tally,
        input_bytes: u64,
    ) -> Self {
        Self {
            batches,
            is_read: false,
            is_waiting: false,
            pending: VecDeque::with_capacity(terms.window_batches),
            sent: 0,
            done: 0,
            index: 0,
            asked: 0,
            heard: Instant::now(),
            sink,
            tally,
            offered: None,
            input_bytes,
        }
    }

    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }

    /// The gateway was heard.
    pub(super) fn hear(&mut self) {
        self.heard = Instant::now();
    }

    /// Hands everything done so far to the output.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    /// Whether every row of the file is done.
    pub(super) fn is_finished(&self) -> bool {
        self.is_read && self.pending.is_empty()
    }

    /// Forgets what the last stream was sent: the rest is asked again.
    pub(super) fn restart(&mut self) {
        (self.sent, self.index, self.asked) = (0, 0, 0);
    }

    /// Whether any row is left to ask; rows that are not asked go out meanwhile.
    pub(super) async fn has_question(&mut self, interrupted: &watch::Receiver<bool>) -> Result<bool, Stop> {
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
    pub(super) async fn next(&mut self, terms: &Terms) -> Result<Next, Stop> {
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
    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), Stop> {
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
    pub(super) fn is_answered(&self) -> bool {
        self.sent == 0
    }

    pub(super) const fn mark(&self) -> Mark {
        Mark { input_bytes: self.input_bytes, output_bytes: self.sink.written() }
    }

    /// Every tick: the bar and the state. What is recorded as done is in the
    /// output first.
    pub(super) fn look_after(&mut self, progress: &mut Progress, saver: Option<&Saver>) -> Result<(), Stop> {
        progress.show(self.input_bytes, self.tally.rows());
        self.sink.flush()?;
        let mark = self.mark();
        if let Some(saver) = saver
            && self.offered != Some(mark)
        {
            self.offered = Some(mark);
            if saver.offer(mark, self.tally) {
                return Ok(());
            }
            return Err(Stop::Output(io::Error::other("the state cannot be saved")));
        }
        Ok(())
    }

    /// Whether the gateway owes an answer, or the end of one, for too long.
    pub(super) fn is_forsaken(&self, terms: &Terms, is_sent: bool) -> bool {
        (self.sent > 0 || is_sent) && self.heard.elapsed() > terms.silence_max
    }

    /// Whether the file gives no rows for so long that a stream should not wait.
    pub(super) fn is_idle(&self, terms: &Terms) -> bool {
        self.is_waiting && self.heard.elapsed() > terms.idle_max
    }
}

/// Waits until it is true; for ever when nobody can make it so.
pub(super) async fn is_true(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|flag| *flag).await.is_err() {
        std::future::pending::<()>().await;
    }
}
