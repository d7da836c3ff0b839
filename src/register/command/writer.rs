//! The single writer: its thread, its queue, and what it does when the disk fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::super::current::Publisher;
use super::super::snapshot::SnapshotHead;
use super::super::store::{Damage, Head, OpenError, Store, StoreError};
use super::super::words::Stamp;
use super::batch::{self, Verdict};
use super::measure::{Counted, Measures};
use super::{CommandError, Commander, Health, Message};
use crate::clock::{Clock, Moment};
use crate::limits::REGISTER_COMMANDS_PER_COMMIT_MAX;

/// The first pause before a failed store is opened again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The register's writer thread. Dropping this asks it to stop; commands that
/// wait are carried out first.
#[must_use = "the writer stops when this is dropped"]
pub struct WriterThread {
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

impl WriterThread {
    /// Stops the writer after the commands that wait, and waits for its end.
    /// Blocks: not to be called on a runtime's thread.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if self.thread.join().is_err() {
            tracing::error!("the register's writer ended in a panic");
        }
    }
}

impl std::fmt::Debug for WriterThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterThread").field("finished", &self.thread.is_finished()).finish()
    }
}

/// The writer's own state.
pub(in super::super) struct Writer {
    store: Store,
    head: Head,
    publisher: Publisher,
    clock: Clock,
    queue: mpsc::Receiver<Message>,
    health: Arc<ArcSwap<Health>>,
    measures: Arc<Measures>,
    failure: Option<Failure>,
}

/// The store failed and is to be opened again.
struct Failure {
    since: Moment,
    retry_at: Instant,
    pause: Duration,
}

/// What woke the writer.
enum Wake {
    Messages,
    RetryDue,
    /// The queue is closed and empty.
    End,
}

impl Writer {
    /// Starts the writer's thread.
    pub(in super::super) fn start(
        store: Store,
        head: Head,
        publisher: Publisher,
        clock: Clock,
    ) -> Result<(Commander, WriterThread), OpenError> {
        // A runtime for waiting on queue, stop and retry together.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(OpenError::Thread)?;
        let (commander, queue) = Commander::new(clock.clone());
        let (stop, stopped) = oneshot::channel();
        let writer = Self {
            store,
            head,
            publisher,
            clock,
            queue,
            health: Arc::clone(&commander.health),
            measures: Arc::clone(&commander.measures),
            failure: None,
        };
        let thread = std::thread::Builder::new()
            .name("register-writer".into())
            .spawn(move || writer.run(&runtime, stopped))
            .map_err(OpenError::Thread)?;
        Ok((commander, WriterThread { stop: Some(stop), thread }))
    }

    fn run(mut self, runtime: &tokio::runtime::Runtime, stopped: oneshot::Receiver<()>) {
        self.measures.writable(true);
        self.measures.published(&self.publisher.last());
        let mut stopped = Some(stopped);
        loop {
            let mut messages = Vec::new();
            match runtime.block_on(self.wake(&mut messages, &mut stopped)) {
                Wake::Messages => self.answer(messages),
                Wake::RetryDue => self.retry(),
                Wake::End => break,
            }
        }
        self.measures.writable(false);
    }

    async fn wake(
        &mut self,
        messages: &mut Vec<Message>,
        stopped: &mut Option<oneshot::Receiver<()>>,
    ) -> Wake {
        let retry_at = self.failure.as_ref().map(|failure| failure.retry_at);
        loop {
            tokio::select! {
                biased;
                () = async { match stopped { Some(stop) => drop(stop.await), None => std::future::pending().await } } => {
                    // Whether told or dropped: no new commands, the waiting ones are done.
                    *stopped = None;
                    self.queue.close();
                }
                count = self.queue.recv_many(messages, REGISTER_COMMANDS_PER_COMMIT_MAX) => {
                    return if count == 0 { Wake::End } else { Wake::Messages };
                }
                () = async { match retry_at { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {
                    return Wake::RetryDue;
                }
            }
        }
    }

    /// Carries out a batch: decide and append, publish, reply.
    fn answer(&mut self, messages: Vec<Message>) {
        self.measures.queue_depth(self.queue.len());
        if self.failure.as_ref().is_some_and(|failure| failure.retry_at <= Instant::now()) {
            self.retry();
        }
        let verdicts = match &self.failure {
            Some(failure) => Err(failure.since),
            None => self.carry_out(&messages).map_err(|error| self.fail(&error)),
        };
        match verdicts {
            Ok(verdicts) => {
                for (message, verdict) in messages.into_iter().zip(verdicts) {
                    self.reply(message, verdict);
                }
            }
            Err(since) => {
                for message in messages {
                    let unavailable = CommandError::Unavailable { since };
                    let verdict = match &message {
                        Message::Submit(..) => Verdict::Submitted(Err(unavailable)),
                        Message::Import(..) => Verdict::Imported(Err(unavailable)),
                    };
                    self.reply(message, verdict);
                }
            }
        }
    }

    fn carry_out(&mut self, messages: &[Message]) -> Result<Vec<Verdict>, StoreError> {
        let now = Stamp::try_from(self.clock.now()).map_err(|_| Damage {
            table: "clock",
            sequence: None,
            what: "the clock shows a moment that no event can have",
        })?;
        let base = self.publisher.last();
        let begun = Instant::now();
        // A panic of redb on a file altered behind its back is a failed commit,
        // not the end of the writer.
        let run = AssertUnwindSafe(|| batch::run(&self.store, self.head, &base, messages, now));
        let (verdicts, appended) = catch_unwind(run).unwrap_or_else(|_| {
            Err(Damage { table: "file", sequence: None, what: "redb cannot make sense of the file" }.into())
        })?;
        if let Some(appended) = appended {
            self.measures.commit(begun.elapsed(), messages.len());
            self.head = appended.head;
            let head = SnapshotHead { sequence: self.head.sequence, as_of: self.head.as_of };
            self.publish(base.apply(appended.changes, head));
        }
        Ok(verdicts)
    }

    fn publish(&mut self, next: super::super::snapshot::Snapshot) {
        self.measures.published(&next);
        self.publisher.publish(next);
    }

    fn reply(&self, message: Message, verdict: Verdict) {
        // Who asked may be gone; the change stands all the same.
        match (message, verdict) {
            (Message::Submit(_, reply), Verdict::Submitted(result)) => {
                self.measures.count(match &result {
                    Ok(outcome) if outcome.replayed => Counted::Replayed,
                    Ok(_) => Counted::Recorded,
                    Err(error) => Counted::of(error),
                });
                drop(reply.send(result));
            }
            (Message::Import(_, reply), Verdict::Imported(result)) => {
                self.measures.count(result.as_ref().map_or_else(Counted::of, |_| Counted::Recorded));
                self.measures.imported(result.as_ref().map_or(0, |outcome| outcome.recorded));
                drop(reply.send(result));
            }
            // `batch::run` answers each message in kind.
            _ => tracing::error!("a register command got another's verdict"),
        }
    }

    fn fail(&mut self, error: &StoreError) -> Moment {
        tracing::error!(%error, "the register cannot be written");
        let since = self.clock.now();
        self.failure = Some(Failure { since, retry_at: Instant::now() + RETRY_FIRST, pause: RETRY_FIRST });
        self.health.store(Arc::new(Health::Failed { since, reason: error.to_string() }));
        self.measures.writable(false);
        since
    }

    /// Opens a failed store again, and shows readers what turned out to be durable.
    fn retry(&mut self) {
        let Some(failure) = &mut self.failure else { return };
        match self.store.reopen(self.head.sequence) {
            Ok((head, changes)) => {
                self.failure = None;
                if head.sequence > self.head.sequence {
                    let base = self.publisher.last();
                    let as_of = SnapshotHead { sequence: head.sequence, as_of: head.as_of };
                    self.publish(base.apply(changes, as_of));
                }
                self.head = head;
                self.health.store(Arc::new(Health::Ok));
                self.measures.writable(true);
                tracing::info!(sequence = %head.sequence, "the register can be written again");
            }
            Err(error) => {
                failure.pause = (failure.pause * 2).min(RETRY_MAX);
                failure.retry_at = Instant::now() + failure.pause;
                let reason = error.to_string();
                self.health.store(Arc::new(Health::Failed { since: failure.since, reason }));
            }
        }
    }
}
