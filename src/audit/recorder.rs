//! The worker's side of the trail: stages records, and waits for them to be
//! durable, without a lock or a system call per request.
//!
//! Everything here lives on one thread. Requests stage their records; the first
//! one of a tick wakes the worker's pump, which runs after the requests that
//! were ready already, hands all of them over at once, and later wakes those
//! that the writer has settled.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use rand::rngs::{SmallRng, SysRng};
use rand::{Rng, SeedableRng};

use super::codec::encode_verification;
use super::exchange::{Mailbox, Outcome, Parcel, Settlement};
use super::id::{IdTail, id_tail};
use super::pending::{Pending, Waiting};
use super::receipt::RecordRefused;
use super::record::{Item, Shape, Verification};
use super::segment::RECORD_HEADER_BYTES;
use super::shared::Shared;
use crate::limits::TRAIL_PENDING_RECORDS_MAX;

/// One worker's place in the trail, on its way to the worker's thread.
pub struct Recorder {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
}

impl Recorder {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mailbox = shared.register();
        Self { shared, mailbox }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

/// Records verifications, on one worker's thread. Clones are the same recorder.
#[derive(Clone)]
pub struct LocalRecorder(Rc<Local>);

struct Local {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    staged: RefCell<Staged>,
    waiting: Rc<RefCell<Waiting>>,
    /// The most records that have waited at once of late.
    in_flight: Cell<u32>,
    /// The pump, while it waits.
    pump: Cell<Option<Waker>>,
    random: RefCell<SmallRng>,
}

/// The fewest staged records that are handed over before the tick ends.
///
/// Left to the end of the tick, all connections of a busy worker end up in one
/// group and the worker idles while it is synced; handed over one by one, every
/// few of them pay for a sync. So three quarters of what the worker has had in
/// flight of late are on their way to the disk while the rest is being answered:
/// about as long as a sync takes.
const HAND_OVER_RECORDS_MIN: u32 = 16;

/// Records of the present tick.
#[derive(Default)]
struct Staged {
    bytes: Vec<u8>,
    records: u32,
    since: Option<Instant>,
}

impl fmt::Debug for LocalRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalRecorder")
    }
}

impl LocalRecorder {
    /// Settles down on the worker's thread, which must run [`Self::pump`].
    ///
    /// # Errors
    /// When the system gives no randomness for identifiers.
    pub fn new(recorder: Recorder) -> Result<Self, crate::secret::NoRandomness> {
        let Recorder { shared, mailbox } = recorder;
        // Identifiers must be unlike each other, not unguessable: only the
        // institution that asked can fetch by them.
        let random = SmallRng::try_from_rng(&mut SysRng).map_err(|_| crate::secret::NoRandomness)?;
        Ok(Self(Rc::new(Local {
            shared,
            mailbox,
            staged: RefCell::default(),
            waiting: Rc::default(),
            in_flight: Cell::new(0),
            pump: Cell::new(None),
            random: RefCell::new(random),
        })))
    }

    /// Records the verification of one number.
    ///
    /// # Errors
    /// When the record is not taken: there must be no answer then.
    pub fn record_single(
        &self,
        verification: &Verification<'_>,
        item: Item<&str>,
    ) -> Result<Pending, RecordRefused> {
        self.record(Shape::Single, verification, [item])
    }

    /// Records a batch: all of its numbers in one record.
    ///
    /// # Errors
    /// When the record is not taken: there must be no answer then.
    pub fn record_batch<'i>(
        &self,
        verification: &Verification<'_>,
        items: impl IntoIterator<Item = Item<&'i str>>,
    ) -> Result<Pending, RecordRefused> {
        self.record(Shape::Batch, verification, items)
    }

    /// Records consecutive lines of a stream, the first with the index
    /// `first_line`.
    ///
    /// # Errors
    /// When the record is not taken: there must be no answer then.
    pub fn record_chunk<'i>(
        &self,
        verification: &Verification<'_>,
        first_line: u64,
        items: impl IntoIterator<Item = Item<&'i str>>,
    ) -> Result<Pending, RecordRefused> {
        self.record(Shape::StreamChunk { first_line }, verification, items)
    }

    /// Whether as much waits for the trail as may: a record would be refused.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.0.shared.unavailable_since().is_none() && self.is_full()
    }

    fn is_full(&self) -> bool {
        let local = &*self.0;
        local.waiting.borrow().len() >= TRAIL_PENDING_RECORDS_MAX
            || local.staged.borrow().bytes.len() + local.shared.inbox.pending_bytes()
                >= local.shared.pending_bytes_max
    }

    /// Stages a record: no lock, no system call, and no allocation once the
    /// buffers have grown.
    fn record<'i>(
        &self,
        shape: Shape,
        verification: &Verification<'_>,
        items: impl IntoIterator<Item = Item<&'i str>>,
    ) -> Result<Pending, RecordRefused> {
        let local = &*self.0;
        if let Some(since) = local.shared.unavailable_since() {
            return Err(RecordRefused::Unavailable { since });
        }
        if self.is_full() {
            return Err(RecordRefused::Overloaded);
        }
        let tail = self.tail();
        let mut staged = local.staged.borrow_mut();
        let start = staged.bytes.len();
        staged.bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        let encoded = encode_verification(&mut staged.bytes, &tail, shape, verification, items);
        let length = staged.bytes.len() - start;
        if encoded.is_err() || length > local.shared.record_bytes_max {
            staged.bytes.truncate(start);
            return Err(RecordRefused::TooLarge);
        }
        let body = (length - RECORD_HEADER_BYTES) as u32;
        staged.bytes[start..start + 4].copy_from_slice(&body.to_le_bytes());
        staged.records += 1;
        if staged.since.is_none() {
            staged.since = Some(Instant::now());
            if let Some(pump) = local.pump.take() {
                pump.wake();
            }
        }
        let enough = staged.records >= HAND_OVER_RECORDS_MIN.max(local.in_flight.get() / 4 * 3);
        drop(staged);
        if enough {
            self.hand_over();
        }
        let (answered_at, at) = (verification.answered_at, verification.at());
        let pending = Pending::new(Rc::clone(&local.waiting), tail, answered_at, at);
        let waiting = u32::try_from(local.waiting.borrow().len()).unwrap_or(u32::MAX);
        local.in_flight.set(local.in_flight.get().max(waiting));
        Ok(pending)
    }

    /// Runs for ever, as one local task of the worker: hands staged records over
    /// and wakes the requests whose records are settled. Without it no receipt
    /// is ever made.
    pub async fn pump(&self) {
        let mut taken = Vec::new();
        loop {
            let mut notified = pin!(self.0.mailbox.wake.notified());
            self.settle(&mut taken);
            self.gather(&mut taken).await;
            self.hand_over();
            poll_fn(|context| {
                if self.0.staged.borrow().since.is_some() {
                    return Poll::Ready(());
                }
                self.0.pump.set(Some(context.waker().clone()));
                notified.as_mut().poll(context)
            })
            .await;
        }
    }

    /// Looks at the sockets again for as long as that brings more records: what
    /// has arrived meanwhile goes with the same sync. A worker with nothing more
    /// to do looks once, in a microsecond or so.
    async fn gather(&self, taken: &mut Vec<Settlement>) {
        let staged = || self.0.staged.borrow().records;
        let mut before = 0;
        while staged() > before {
            before = staged();
            tokio::task::yield_now().await;
            self.settle(taken);
        }
    }

    /// Hands everything staged over to the writer: one lock.
    pub(super) fn hand_over(&self) {
        let local = &*self.0;
        let mut staged = local.staged.borrow_mut();
        let Some(since) = staged.since.take() else { return };
        staged.records = 0;
        // Forgets a peak over the next few dozen groups.
        local.in_flight.set(local.in_flight.get() - local.in_flight.get() / 32);
        let bytes = std::mem::take(&mut staged.bytes);
        staged.bytes = local.shared.inbox.put(Parcel { from: Arc::clone(&local.mailbox), bytes, since });
    }

    /// Wakes the requests whose records are settled, in their order. `taken` is
    /// a buffer to be reused.
    pub(super) fn settle(&self, taken: &mut Vec<Settlement>) {
        let local = &*self.0;
        // Asked before the mailbox is emptied: whatever became durable before
        // the end is in the mailbox by then.
        let ended = local.shared.ended().map(|ended| ended.since);
        local.mailbox.take(taken);
        for settlement in taken.drain(..) {
            for _ in 0..settlement.records {
                Waiting::settle_next(&local.waiting, settlement.outcome);
            }
        }
        if let Some(since) = ended {
            *local.staged.borrow_mut() = Staged::default();
            while Waiting::settle_next(&local.waiting, Outcome::Unavailable { since }) {}
        }
    }

    /// Places of waiting records in use.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.0.waiting.borrow().places()
    }

    fn tail(&self) -> IdTail {
        let mut random = self.0.random.borrow_mut();
        id_tail(random.next_u64(), random.next_u64())
    }
}
