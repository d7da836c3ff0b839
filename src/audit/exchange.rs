//! What the verification workers and the writer hand to each other.
//!
//! Worker to writer: parcels of staged records, through one inbox. Writer to
//! worker: settlements, through one mailbox a worker, which wakes it once a
//! group.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::clock::Moment;

/// Emptied buffers kept for the next parcels.
const BUFFERS_KEPT: usize = 64;
/// A buffer larger than this is given back to the system instead.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// Takes a lock whether or not a holder panicked: what these locks guard is
/// replaced or pushed to as a whole, never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Consecutive records of one worker, framed but for sequence, checksum and the
/// time in their identifiers.
pub(super) struct Parcel {
    pub(super) from: Arc<Mailbox>,
    pub(super) bytes: Vec<u8>,
    /// When the first of them was staged.
    pub(super) since: Instant,
}

/// What became of the next `records` records of a worker, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settlement {
    pub(super) records: u32,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// On record; the stamp completes their identifiers.
    Durable { stamp_ms: u64 },
    /// Not on record, and never to be: there was no room.
    Unavailable { since: Moment },
}

/// Where a worker finds what became of its records.
#[derive(Default)]
pub(super) struct Mailbox {
    settled: Mutex<Vec<Settlement>>,
    /// Wakes the worker's pump.
    pub(super) wake: Notify,
}

impl Mailbox {
    pub(super) fn settle(&self, settlement: Settlement) {
        lock(&self.settled).push(settlement);
        self.wake.notify_one();
    }

    /// Moves everything settled so far into `taken`, which must be empty.
    pub(super) fn take(&self, taken: &mut Vec<Settlement>) {
        std::mem::swap(&mut *lock(&self.settled), taken);
    }
}

/// Where the writer finds what there is to do.
pub(super) struct Inbox {
    inner: Mutex<Inner>,
    work: Condvar,
    /// Bytes handed over and not settled yet.
    pending_bytes: AtomicUsize,
}

struct Inner {
    parcels: Vec<Parcel>,
    buffers: Vec<Vec<u8>>,
    /// Whether the writer sleeps: only then is there anybody to wake.
    asleep: bool,
    end: End,
}

/// Whether, and how, the writer is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    NotYet,
    /// After everything handed over is written, with a closing record.
    Close,
    /// At once and without a closing record.
    Abandon,
}

impl Inbox {
    pub(super) fn new() -> Self {
        let inner = Inner { parcels: Vec::new(), buffers: Vec::new(), asleep: false, end: End::NotYet };
        Self { inner: Mutex::new(inner), work: Condvar::new(), pending_bytes: AtomicUsize::new(0) }
    }

    /// Hands a parcel over and returns an empty buffer for the next. One lock;
    /// the writer is woken only if it sleeps.
    pub(super) fn put(&self, parcel: Parcel) -> Vec<u8> {
        self.pending_bytes.fetch_add(parcel.bytes.len(), Ordering::Relaxed);
        let mut inner = lock(&self.inner);
        inner.parcels.push(parcel);
        let buffer = inner.buffers.pop().unwrap_or_default();
        let wake = std::mem::take(&mut inner.asleep);
        drop(inner);
        if wake {
            self.work.notify_one();
        }
        buffer
    }

    /// Sleeps until there is something to do, then moves all parcels into
    /// `parcels`, which must be empty.
    pub(super) fn take(&self, parcels: &mut Vec<Parcel>) -> End {
        let mut inner = lock(&self.inner);
        while inner.parcels.is_empty() && inner.end == End::NotYet {
            inner.asleep = true;
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.asleep = false;
        std::mem::swap(&mut inner.parcels, parcels);
        inner.end
    }

    /// The same without sleeping.
    pub(super) fn take_now(&self, parcels: &mut Vec<Parcel>) -> End {
        let mut inner = lock(&self.inner);
        std::mem::swap(&mut inner.parcels, parcels);
        inner.end
    }

    /// Takes buffers back whose records are all settled.
    pub(super) fn recycle(&self, spent: &mut Vec<Vec<u8>>) {
        if spent.is_empty() {
            return;
        }
        let bytes = spent.iter().map(Vec::len).sum();
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let mut inner = lock(&self.inner);
        for mut buffer in spent.drain(..) {
            if inner.buffers.len() < BUFFERS_KEPT && buffer.capacity() <= BUFFER_BYTES_KEPT {
                buffer.clear();
                inner.buffers.push(buffer);
            }
        }
    }

    /// Tells the writer to end.
    pub(super) fn end(&self, end: End) {
        lock(&self.inner).end = end;
        self.work.notify_all();
    }

    /// Bytes handed over and not settled yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }
}
