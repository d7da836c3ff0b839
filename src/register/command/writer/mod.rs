//! The single writer: its queue, the clock, its commits.

mod failure;
mod gaps;
mod group;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use failure::Failure;
use gaps::Gaps;

use super::super::current::Publisher;
use super::super::schedule::{Due, Schedule};
use super::super::snapshot::{Changed, Snapshot, SnapshotHead};
use super::super::store::{Damage, Head, HeldEnds, OpenError, Store, StoreError};
use super::super::words::Stamp;
use super::batch::{self, Standing, Verdict};
use super::measure::{Counted, Measures};
use super::prepare::Prepared;
use super::run::{Chunk, Ledger};
use super::thread::WriterThread;
use super::{CommandError, Commander, Health, Message};
use crate::clock::Clock;
use crate::limits::{
    HISTORIES_SETTLED_PER_COMMIT, IMPORT_CHUNKS_PER_COMMIT_MAX, REGISTER_COMMANDS_PER_COMMIT_MAX,
    SCHEDULED_PER_COMMIT_MAX,
};
use crate::store_panic::{self, NO_SENSE};

/// The writer's own state.
pub(in super::super) struct Writer {
    store: Store,
    head: Head,
    publisher: Publisher,
    /// Follows what is published.
    schedule: Schedule<Ledger>,
    /// Follows it too.
    prepared: Prepared,
    /// What a start would find held; as the last commit says.
    stored_held: HeldEnds,
    clock: Clock,
    queue: mpsc::Receiver<Message>,
    health: Arc<ArcSwap<Health>>,
    measures: Arc<Measures>,
    gaps: Gaps,
    failure: Option<Failure>,
    /// Chunks of imports that the next commit may take.
    chunks_per_commit: usize,
    /// When to put histories of the backlog in their places; `None` when it is empty.
    settle_at: Option<Instant>,
}

/// The pause between two commits that settle histories. They share the disk with
/// the audit trail, whose answers are waited for.
const SETTLE_TICK: Duration = Duration::from_millis(25);

/// What woke the writer.
enum Wake {
    Messages,
    RetryDue,
    /// It is time to look at the schedule.
    Clock,
    /// The queue is closed and empty.
    End,
}

impl Writer {
    /// Starts the writer's thread, when what fell due before has taken effect.
    pub(in super::super) fn start(
        store: Store,
        head: Head,
        publisher: Publisher,
        pending: Vec<Due>,
        held: HeldEnds,
        clock: Clock,
    ) -> Result<(Commander, WriterThread), OpenError> {
        // A runtime for waiting on queue, stop and retry together.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(OpenError::Thread)?;
        let (commander, queue) = Commander::new(clock.clone());
        let (stop, stopped) = oneshot::channel();
        let mut writer = Self {
            store,
            head,
            publisher,
            schedule: Schedule::of(pending),
            prepared: Prepared::default(),
            stored_held: held,
            clock,
            queue,
            health: Arc::clone(&commander.health),
            measures: Arc::clone(&commander.measures),
            gaps: Gaps::default(),
            failure: None,
            chunks_per_commit: IMPORT_CHUNKS_PER_COMMIT_MAX,
            settle_at: Some(Instant::now()),
        };
        // Whoever sent the imports will send them again, now that somebody listens.
        writer.schedule.hold_interrupted(writer.stored_held.numbers(), Instant::now());
        writer.carry_out(&[])?;
        let thread = std::thread::Builder::new()
            .name("register-writer".into())
            .spawn(move || writer.run(&runtime, stopped))
            .map_err(OpenError::Thread)?;
        Ok((commander, WriterThread::new(stop, thread)))
    }

    fn run(mut self, runtime: &tokio::runtime::Runtime, stopped: oneshot::Receiver<()>) {
        self.measures.writable(true);
        self.measures.published(&self.publisher.last());
        self.measures.scheduled_pending(self.schedule.len());
        let mut stopped = Some(stopped);
        loop {
            let mut messages = Vec::new();
            match runtime.block_on(self.wake(&mut messages, &mut stopped)) {
                Wake::Messages => self.answer(messages),
                Wake::RetryDue => self.retry(),
                Wake::Clock => self.answer(Vec::new()),
                Wake::End => break,
            }
            self.trust();
            self.settle_histories();
            self.prepare();
        }
        self.measures.writable(false);
    }

    async fn wake(
        &mut self,
        messages: &mut Vec<Message>,
        stopped: &mut Option<oneshot::Receiver<()>>,
    ) -> Wake {
        let retry_at = self.failure.as_ref().and_then(Failure::retry_at);
        let trusted_at = self.failure.as_ref().and_then(Failure::trusted_at);
        // While the store is down the retry comes first, and then the schedule.
        let look_at = match retry_at {
            Some(_) => None,
            None => {
                let wait = self.schedule.wait(self.clock.unix_millis(), Instant::now());
                let scheduled = wait.map(|wait| Instant::now() + wait);
                [scheduled, self.settle_at, trusted_at].into_iter().flatten().min()
            }
        };
        let has_schedule = look_at.is_some();
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
                () = async { match look_at { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {
                    return Wake::Clock;
                }
                () = self.clock.moved(), if has_schedule => return Wake::Clock,
            }
        }
    }

    /// Carries out a batch: decide and append, publish, reply.
    fn answer_together(&mut self, messages: Vec<Message>) {
        if self.failure.as_ref().and_then(Failure::retry_at).is_some_and(|at| at <= Instant::now()) {
            self.retry();
        }
        let unavailable = |since| CommandError::Unavailable { since };
        let down_since = self.failure.as_ref().and_then(Failure::down_since);
        let verdicts = match (down_since, self.clock.judged()) {
            (Some(since), _) => Err(unavailable(since)),
            // What is due even by such a clock is due.
            (None, Err(behind)) if !messages.is_empty() => Err(CommandError::ClockBehind(behind)),
            (None, _) => self.carry_out(&messages).map_err(|error| unavailable(self.fail(&error))),
        };
        match verdicts {
            Ok(verdicts) => {
                for (message, verdict) in messages.into_iter().zip(verdicts) {
                    self.reply(message, verdict);
                }
            }
            Err(error) => {
                for message in messages {
                    let error = error.clone();
                    let verdict = match &message {
                        Message::Submit(..) | Message::Renumber(..) => Verdict::Submitted(Err(error)),
                        Message::PassOver(..) => Verdict::PassedOver(Err(error)),
                        Message::Import(chunk, _) => {
                            chunk.ledger.end();
                            Verdict::Imported(Err(error))
                        }
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
        self.schedule.release(Instant::now());
        // More than one commit takes: the commands wait for the last of them.
        loop {
            let due = self.schedule.due(now, SCHEDULED_PER_COMMIT_MAX);
            // Chunks of an import take longer than what is due may wait.
            let has_import = messages.iter().any(Message::is_import);
            if due.is_empty() || (due.len() < SCHEDULED_PER_COMMIT_MAX && !has_import) {
                return self.commit(&due, messages, now);
            }
            self.commit(&due, &[], now)?;
        }
    }

    fn commit(&mut self, due: &[Due], messages: &[Message], now: Stamp) -> Result<Vec<Verdict>, StoreError> {
        let chunks = || messages.iter().filter_map(Message::chunk);
        let held = self.held_with(chunks());
        if due.is_empty() && messages.is_empty() && held.is_none() {
            return Ok(Vec::new());
        }
        let base = self.publisher.last();
        let begun = Instant::now();
        let held_now = held.as_ref();
        let standing =
            Standing { head: self.head, base: &base, prepared: &self.prepared, held: held_now, now };
        let (verdicts, appended) = guarded(|| batch::run(&self.store, standing, due, messages))?;
        self.schedule.settle(due);
        if let Some(appended) = appended {
            self.measures.commit(begun.elapsed(), messages.len());
            self.measures.histories_backlog(appended.backlog);
            if appended.backlog > 0 && self.settle_at.is_none() {
                self.settle_at = Some(Instant::now() + SETTLE_TICK);
            }
            self.stored_held = held.unwrap_or_else(|| std::mem::take(&mut self.stored_held));
            // Commands and the clock share no commit with imports.
            match chunks().next() {
                Some(_) => self.schedule.follow_imports(&appended.changes),
                None => self.schedule.follow(&appended.changes),
            }
            self.show(&base, appended.head, appended.changes);
            self.recovered();
        }
        for chunk in chunks() {
            self.schedule.told(&chunk.ledger, chunk.withdrawals());
        }
        if let Some(first) = due.first() {
            let late = self.clock.unix_millis() - i64::from(first.at.seconds()) * 1_000;
            self.measures.scheduled(due.len(), late);
        }
        Ok(verdicts)
    }

    /// What a start is to find held behind a commit with these chunks, when that is
    /// another than now: what they tell, too, although the clock or they themselves
    /// may have more to tell of it.
    fn held_with<'a>(&self, chunks: impl Iterator<Item = &'a Chunk>) -> Option<HeldEnds> {
        let mut held = Cow::Borrowed(self.schedule.held());
        let mut told = chunks.flat_map(Chunk::withdrawals).map(|due| due.ordinal.value()).peekable();
        if told.peek().is_some() {
            held.to_mut().extend(told);
        }
        (!self.stored_held.is(&held)).then(|| held.into())
    }

    /// Puts some histories of the backlog in their places, when it is time.
    fn settle_histories(&mut self) {
        if self.is_down() || self.settle_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        match guarded(|| self.store.settle_histories(HISTORIES_SETTLED_PER_COMMIT)) {
            Ok(left) => {
                self.measures.histories_backlog(left);
                self.settle_at = (left > 0).then(|| Instant::now() + SETTLE_TICK);
            }
            Err(error) => drop(self.fail(&error)),
        }
    }

    /// Makes some of what is due soon ready, when it is time.
    fn prepare(&mut self) {
        let Ok(now) = Stamp::try_from(self.clock.now()) else { return };
        if self.is_down() {
            return;
        }
        let store = self.store.handle();
        if let Err(error) = guarded(|| self.prepared.turn(&self.schedule, &store, now)) {
            // What cannot be read now is read again in its second.
            tracing::warn!(%error, "re-reservations cannot be made ready");
            self.prepared.give_up();
        }
    }

    /// Shows readers what is durable.
    fn show(&mut self, base: &Snapshot, head: Head, changes: Vec<Changed>) {
        self.prepared.follow(&changes);
        self.head = head;
        self.clock.has_recorded(head.as_of);
        let next = SnapshotHead { sequence: head.sequence, as_of: head.as_of };
        let next = base.apply(changes, self.clock.now(), next);
        self.measures.published(&next);
        self.measures.scheduled_pending(self.schedule.len());
        self.publisher.publish(next);
    }

    fn reply(&mut self, message: Message, verdict: Verdict) {
        self.gaps.follow(&message, &verdict, &self.measures);
        // Who asked may be gone; the change stands all the same.
        match (message, verdict) {
            (Message::Submit(_, reply) | Message::Renumber(_, _, _, reply), Verdict::Submitted(result)) => {
                self.measures.count(match &result {
                    Ok(outcome) if outcome.replayed => Counted::Replayed,
                    Ok(_) => Counted::Recorded,
                    Err(error) => Counted::of(error),
                });
                drop(reply.send(result));
            }
            (Message::PassOver(_, _, reply), Verdict::PassedOver(result)) => {
                self.measures.count(result.as_ref().map_or_else(Counted::of, |()| Counted::Refused));
                drop(reply.send(result));
            }
            (Message::Import(chunk, reply), Verdict::Imported(result)) => {
                self.measures.count(match &result {
                    // Refused before it came here: it is told for the numbers in it alone.
                    Ok(_) if chunk.is_refused() => Counted::Refused,
                    Ok(outcome) if outcome.recorded == 0 => Counted::Replayed,
                    Ok(_) => Counted::Recorded,
                    Err(error) => Counted::of(error),
                });
                self.measures.imported(result.as_ref().map_or(0, |outcome| outcome.recorded));
                drop(reply.send(result));
            }
            // `batch::run` answers each message in kind.
            _ => tracing::error!("a register command got another's verdict"),
        }
    }
}

/// A panic of redb is a failed commit, not the end of the writer.
fn guarded<T>(run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    store_panic::caught(run, || Damage { table: "file", sequence: None, what: NO_SENSE }.into())
}
