//! The handle by which everybody else knows the trail, and its threads.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::damage::ReadError;
use super::exchange::{End, lock};
use super::extent::TrailExtent;
use super::find::find;
use super::id::VerificationId;
use super::receipt::AuditUnavailable;
use super::record::VerificationRecord;
use super::recorder::Recorder;
use super::shared::{Durability, Shared, TrailFailure};
use super::spare::SpareSlot;
use crate::clock::Moment;
use crate::environment::Environment;

/// How the trail is kept.
#[derive(Debug, Clone)]
pub struct TrailConfig {
    /// The directory of the segments; made (mode 0700) if it is not there. The
    /// caller holds the lock of the data directory.
    pub dir: PathBuf,
    /// When an answer may leave.
    pub durability: Durability,
    /// Bytes of a new segment.
    pub segment_bytes: u64,
    /// Bytes of records that may wait for the writer.
    pub pending_bytes_max: usize,
    /// The newest part of the trail that is verified in full at the start;
    /// [`check`](super::check()) verifies what is older.
    pub start_check_bytes: u64,
}

/// Why the trail cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// It is damaged, or cannot be read.
    Read(ReadError),
    /// It belongs to another environment: the operator is at fault.
    WrongEnvironment {
        /// What the trail was made for.
        trail: Environment,
    },
    /// The first record of the run cannot be written; why.
    Write(String),
    /// There is no room for the first record of the run; why.
    NoRoom(String),
    /// The system refused a thread or the directory.
    Io(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::WrongEnvironment { trail } => {
                write!(f, "the audit trail belongs to the {trail} environment")
            }
            Self::Write(reason) => write!(f, "the audit trail cannot be written: {reason}"),
            Self::NoRoom(reason) => write!(f, "the audit trail has no room: {reason}"),
            Self::Io(path, error) => write!(f, "audit trail {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// The trail, as everybody but its threads knows it. Clones are the same trail.
#[derive(Clone)]
pub struct Trail(pub(super) Arc<Shared>);

/// Whether the trail can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrailHealth {
    /// It can.
    Writable,
    /// No further segment can be prepared; answers go on only while the one in
    /// use has room. Recovers by itself.
    NoSpace {
        /// Since when.
        since: Moment,
        /// What the system said.
        reason: String,
    },
    /// A write or a sync failed, or the trail is closed: nothing is answered any
    /// more in this run.
    Failed {
        /// Since when.
        since: Moment,
        /// What failed.
        reason: String,
    },
}

/// How far the trail has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailStatus {
    /// When an answer may leave.
    pub durability: Durability,
    /// Records on the trail, of every run and kind.
    pub records: u64,
    /// When the newest of this run was written.
    pub last_durable: Option<Moment>,
    /// Bytes of records that wait for the writer.
    pub pending_bytes: usize,
    /// The number of the segment in use.
    pub segment: u64,
    /// Whether the next segment is ready.
    pub spare_ready: bool,
}

impl Trail {
    #[cfg(test)]
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// A place in the trail for one more worker.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.0))
    }

    /// Whether the trail can be written; not `Writable` means not ready.
    #[must_use]
    pub fn health(&self) -> TrailHealth {
        if let Some(ended) = self.0.ended() {
            let reason =
                ended.failure.as_ref().map_or("the audit trail is closed", TrailFailure::reason).to_owned();
            return TrailHealth::Failed { since: ended.since, reason };
        }
        match self.0.slot.lacking() {
            Some((since, reason)) => TrailHealth::NoSpace { since, reason },
            None => TrailHealth::Writable,
        }
    }

    /// How far the trail has come.
    #[must_use]
    pub fn status(&self) -> TrailStatus {
        let progress = lock(&self.0.progress);
        TrailStatus {
            durability: self.0.durability,
            records: progress.records,
            last_durable: progress.last_durable,
            pending_bytes: self.0.inbox.pending_bytes(),
            segment: progress.spans.last().map_or(0, |span| span.number),
            spare_ready: self.0.slot.is_ready(),
        }
    }

    /// Finds a verification that is durable. Reads from the disk: to be called
    /// where blocking is allowed.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged where it was read.
    pub fn find(&self, id: VerificationId) -> Result<Option<VerificationRecord>, ReadError> {
        find(&self.0, id)
    }

    /// What is on the trail up to here: everything that was answered before.
    #[must_use]
    pub fn extent(&self) -> TrailExtent {
        TrailExtent::of(&self.0)
    }

    /// Resolves, with the reason, when the trail has failed for good; never when
    /// it is closed in order. The process should end then, with a status that
    /// says so.
    pub fn failed(&self) -> impl Future<Output = TrailFailure> + Send + use<> {
        let mut failure = self.0.failure();
        async move {
            loop {
                if let Some(failure) = failure.borrow_and_update().clone() {
                    return failure;
                }
                if failure.changed().await.is_err() {
                    // The trail is gone without a failure.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trail")
    }
}

/// The trail's threads; whoever holds it closes the trail.
///
/// Dropped without [`TrailThread::close`], it ends them at once and without a
/// closing record, as a kill would.
#[must_use = "dropping it ends the trail"]
pub struct TrailThread {
    pub(super) shared: Arc<Shared>,
    pub(super) writing: Option<JoinHandle<()>>,
    pub(super) preparing: Option<JoinHandle<()>>,
}

impl TrailThread {
    /// Writes everything handed over, then the closing record, and ends the
    /// threads. Blocks. The workers should be at rest by then: what they stage
    /// afterwards is refused.
    ///
    /// # Errors
    /// When the trail has failed, then or before.
    pub fn close(mut self) -> Result<(), AuditUnavailable> {
        self.join(End::Close);
        match self.shared.ended() {
            Some(ended) if ended.failure.is_some() => Err(AuditUnavailable { since: ended.since }),
            _ => Ok(()),
        }
    }

    fn join(&mut self, end: End) {
        self.shared.inbox.end(end);
        // A thread that panicked has ended the trail as failed.
        let _ended = self.writing.take().map(JoinHandle::join);
        self.shared.slot.stop();
        let _ended = self.preparing.take().map(JoinHandle::join);
    }
}

impl Drop for TrailThread {
    fn drop(&mut self) {
        if self.preparing.is_some() {
            self.join(End::Abandon);
        }
    }
}

impl fmt::Debug for TrailThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrailThread")
    }
}

/// However the writer ends, the preparer ends with it.
pub(super) struct Stopping(pub(super) Arc<SpareSlot>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}
