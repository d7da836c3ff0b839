//! What the handle, the workers and the trail's threads share.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use tokio::sync::watch;

use super::disk::Disk;
use super::exchange::{Inbox, Mailbox, lock};
use super::spare::SpareSlot;
use super::walk::Span;
use super::writer::WriteFailure;
use crate::clock::{Clock, Moment};

/// When an answer may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After fdatasync: no answered verification is lost when the power goes.
    Flush,
    /// After the write: none is lost when the process dies. A power cut may cost
    /// the newest records, and may leave damage that a start refuses, because
    /// nothing orders what the system had not written back.
    Write,
}

/// Why a trail takes no record any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailFailure {
    reason: String,
    is_of_disk: bool,
}

impl TrailFailure {
    /// A write or a sync failed: nobody knows what the disk holds.
    pub(super) fn of_disk(failure: &WriteFailure) -> Self {
        Self { reason: failure.to_string(), is_of_disk: true }
    }

    /// The writer ended by itself.
    pub(super) const fn of_program(reason: String) -> Self {
        Self { reason, is_of_disk: false }
    }

    /// In words.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Is the disk at fault? A start on it would fail again, or be trusted too soon.
    #[must_use]
    pub const fn is_of_disk(&self) -> bool {
        self.is_of_disk
    }
}

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Clock,
    pub(super) durability: Durability,
    pub(super) inbox: Inbox,
    pub(super) slot: Arc<SpareSlot>,
    /// Bytes that may wait for the writer.
    pub(super) pending_bytes_max: usize,
    /// Bytes that one record may have, framed.
    pub(super) record_bytes_max: usize,
    /// Set once, when the last record of this run is written.
    ended: OnceLock<Ended>,
    /// Tells the application of a failure.
    failure: watch::Sender<Option<TrailFailure>>,
    /// Everybody who may wait for the writer.
    workers: Mutex<Vec<Weak<Mailbox>>>,
    pub(super) progress: Mutex<Progress>,
}

/// How far the trail has come.
#[derive(Debug)]
pub(super) struct Progress {
    /// Records on the trail, of every run.
    pub(super) records: u64,
    pub(super) last_durable: Option<Moment>,
    /// The segments, oldest first.
    pub(super) spans: Vec<Span>,
    /// Where the durable part of the newest ends.
    pub(super) end_offset: u64,
}

/// The end of a run.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) since: Moment,
    /// Why, unless the trail was closed.
    pub(super) failure: Option<TrailFailure>,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        clock: Clock,
        durability: Durability,
        slot: Arc<SpareSlot>,
        pending_bytes_max: usize,
        record_bytes_max: usize,
        progress: Progress,
    ) -> Self {
        Self {
            disk,
            clock,
            durability,
            inbox: Inbox::new(),
            slot,
            pending_bytes_max,
            record_bytes_max,
            ended: OnceLock::new(),
            failure: watch::Sender::new(None),
            workers: Mutex::default(),
            progress: Mutex::new(progress),
        }
    }

    /// A mailbox for one more worker.
    pub(super) fn register(&self) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        let mut workers = lock(&self.workers);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(&mailbox));
        mailbox
    }

    /// Set when no record will be written any more.
    pub(super) fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// Since when records cannot be taken.
    pub(super) fn unavailable_since(&self) -> Option<Moment> {
        match self.ended.get() {
            Some(ended) => Some(ended.since),
            None => self.slot.no_room_since(),
        }
    }

    /// No record will be written any more; everybody who waits is told. The
    /// first call counts.
    pub(super) fn end(&self, failure: Option<TrailFailure>) {
        let ended = Ended { since: self.clock.now(), failure };
        if self.ended.set(ended).is_err() {
            return;
        }
        if let Some(failure) = self.ended.get().and_then(|ended| ended.failure.clone()) {
            tracing::error!(
                reason = failure.reason(),
                "the audit trail has failed: nothing is answered any more"
            );
            self.failure.send_replace(Some(failure));
        }
        for worker in lock(&self.workers).iter().filter_map(Weak::upgrade) {
            worker.wake.notify_one();
        }
    }

    /// Sees the failure.
    pub(super) fn failure(&self) -> watch::Receiver<Option<TrailFailure>> {
        self.failure.subscribe()
    }
}
