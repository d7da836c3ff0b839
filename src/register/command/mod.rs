//! Asking for changes: commands go into one bounded queue, one thread decides
//! them, and the answer comes when the change is durable and visible.

mod batch;
mod import;
mod measure;
mod writer;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub use import::{ImportLine, ImportOutcome, LineReason, LineRefusal};
use measure::Measures;
pub(super) use writer::Writer;
pub use writer::WriterThread;

use super::event::StoredEvent;
use super::law::{Command, Refusal};
use super::store::Idempotency;
use crate::clock::{Clock, Moment};
use crate::limits::{IMPORT_CHUNK_LINES, IMPORT_CHUNKS_PENDING_MAX, REGISTER_COMMANDS_PENDING_MAX};

/// A command on its way to the writer.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What is asked for.
    pub command: Command,
    /// Set when the caller may send it twice and wants it to count once.
    pub idempotency: Option<Idempotency>,
}

/// What a submission led to.
#[derive(Debug, Clone)]
pub struct Outcome {
    event: StoredEvent,
    replayed: bool,
}

impl Outcome {
    /// The event, durable and visible to every reader.
    #[must_use]
    pub const fn event(&self) -> &StoredEvent {
        &self.event
    }

    /// Is it the event of an earlier submission with the same idempotency key?
    #[must_use]
    pub const fn replayed(&self) -> bool {
        self.replayed
    }
}

/// Why a change did not happen, or is not known to have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The law forbids it; the caller is at fault.
    Refused(Refusal),
    /// The idempotency key was used for another request; the caller is at fault.
    IdempotencyConflict,
    /// Lines of a chunk were refused, and with them the chunk; the caller is at
    /// fault. In the order of the lines.
    ImportRefused(Vec<LineRefusal>),
    /// A chunk has more than [`IMPORT_CHUNK_LINES`] lines; the caller is at fault.
    ChunkTooLarge,
    /// Too many commands wait. Nothing was done; try again.
    Overloaded,
    /// The store failed, or the writer has stopped. The change may have become
    /// durable in the last instant: ask again with the same idempotency key.
    Unavailable {
        /// Since when.
        since: Moment,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => fmt::Display::fmt(refusal, f),
            Self::IdempotencyConflict => f.write_str("the idempotency key was used for another request"),
            Self::ImportRefused(lines) => write!(f, "{} lines of the chunk are refused", lines.len()),
            Self::ChunkTooLarge => write!(f, "a chunk has at most {IMPORT_CHUNK_LINES} lines"),
            Self::Overloaded => f.write_str("too many register commands wait"),
            Self::Unavailable { since } => write!(f, "the register cannot be written since {since}"),
        }
    }
}

impl std::error::Error for CommandError {}

/// Can the register be written?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Yes, as far as anybody knows.
    Ok,
    /// No: commands are refused, reading from memory goes on.
    Failed {
        /// Since when.
        since: Moment,
        /// What the store said.
        reason: String,
    },
}

/// Takes commands to the one writer. Cheap to clone.
#[derive(Clone)]
pub struct Commander {
    queue: mpsc::Sender<Message>,
    import_slots: Arc<Semaphore>,
    health: Arc<ArcSwap<Health>>,
    measures: Arc<Measures>,
    clock: Clock,
}

/// What the writer is told.
enum Message {
    Submit(Submission, oneshot::Sender<Result<Outcome, CommandError>>),
    Import(Chunk, oneshot::Sender<Result<ImportOutcome, CommandError>>),
}

/// A chunk of an import, and its place among those on their way.
struct Chunk {
    lines: Vec<ImportLine>,
    _slot: OwnedSemaphorePermit,
}

impl Commander {
    /// A commander, and what its writer needs of it.
    fn new(clock: Clock) -> (Self, mpsc::Receiver<Message>) {
        let (queue, receiver) = mpsc::channel(REGISTER_COMMANDS_PENDING_MAX);
        let commander = Self {
            queue,
            import_slots: Arc::new(Semaphore::new(IMPORT_CHUNKS_PENDING_MAX)),
            health: Arc::new(ArcSwap::from_pointee(Health::Ok)),
            measures: Arc::new(Measures::new()),
            clock,
        };
        (commander, receiver)
    }

    /// Submits a command. The answer comes when the change is durable and the
    /// next snapshot shows it. A command that is in the queue is carried out even
    /// if nobody waits for its answer any more.
    ///
    /// # Errors
    /// See [`CommandError`]; a full queue refuses at once.
    pub async fn submit(&self, submission: Submission) -> Result<Outcome, CommandError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.queue.try_send(Message::Submit(submission, reply));
        match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(self.unavailable())),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.measures.overloaded();
                Err(CommandError::Overloaded)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(self.unavailable()),
        }
    }

    /// Imports a chunk of events: all of its lines or none. Lines that are
    /// recorded already count as done, so an import that broke off can be sent
    /// again from its beginning. Waits while too many chunks are on their way;
    /// several in flight share a transaction and are quicker than one by one.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn import_chunk(&self, lines: Vec<ImportLine>) -> Result<ImportOutcome, CommandError> {
        if lines.len() > IMPORT_CHUNK_LINES {
            return Err(CommandError::ChunkTooLarge);
        }
        let slot = Arc::clone(&self.import_slots).acquire_owned().await;
        let slot = slot.map_err(|_| self.unavailable())?;
        let (reply, answer) = oneshot::channel();
        let sent = self.queue.send(Message::Import(Chunk { lines, _slot: slot }, reply)).await;
        sent.map_err(|_| self.unavailable())?;
        answer.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    /// Can the register be written?
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        if self.queue.is_closed()
            && let Health::Ok = **self.health.load()
        {
            let stopped = Health::Failed { since: self.clock.now(), reason: "the writer has stopped".into() };
            return Arc::new(stopped);
        }
        self.health.load_full()
    }

    fn unavailable(&self) -> CommandError {
        CommandError::Unavailable {
            since: match **self.health.load() {
                Health::Failed { since, .. } => since,
                Health::Ok => self.clock.now(),
            },
        }
    }
}

impl fmt::Debug for Commander {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commander").field("health", &**self.health.load()).finish_non_exhaustive()
    }
}
