//! Asking for changes: commands go into one bounded queue, one thread decides
//! them, and the answer comes when the change is durable and visible.

mod batch;
mod import;
mod measure;
mod prepare;
mod run;
mod thread;
mod writer;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use import::{ImportLine, ImportOutcome, LineReason, LineRefusal};
use measure::Measures;
use run::Chunk;
pub use run::{ChunkInFlight, ImportRun};
pub use thread::WriterThread;
pub(super) use writer::Writer;

use super::event::StoredEvent;
use super::feed::{Delivery, Feed, FeedSequence};
use super::law::{Command, Refusal, Renumbering};
use super::store::Idempotency;
use crate::clock::{Clock, ClockBehind, Moment};
use crate::limits::{
    IMPORT_CHUNK_LINES, IMPORT_CHUNKS_PENDING_MAX, IMPORT_GROWTH_PERCENT_MAX, IMPORT_SHRINK_PERCENT_MAX,
    REGISTER_COMMANDS_PENDING_MAX,
};

/// A command on its way to the writer.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What is asked for.
    pub command: Command,
    /// Set when the caller may send it twice and wants it to count once.
    pub idempotency: Option<Idempotency>,
    /// Set when it is a message of the feed of its channel and registrant.
    pub delivery: Option<Delivery>,
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

    /// Is it the event of an earlier submission, with the same idempotency key or
    /// at the same place of a feed?
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
    /// Messages before this one of its feed are missing; nothing was done. The
    /// sender is at fault, or the way between.
    FeedGap {
        /// The first that is missing.
        expected: FeedSequence,
    },
    /// Another message of the feed had this place; the sender is at fault.
    FeedConflict,
    /// The feed took a message at this place so long ago that its answer is not
    /// remembered, nor whether it was this message; nothing was done.
    FeedForgotten {
        /// The next message that would be taken.
        expected: FeedSequence,
    },
    /// Lines of a chunk were refused, and with them the chunk; the caller is at
    /// fault. In the order of the lines.
    ImportRefused(Vec<LineRefusal>),
    /// A chunk has more than [`IMPORT_CHUNK_LINES`] lines; the caller is at fault.
    ChunkTooLarge,
    /// The import would change the set by more than one import may; this chunk
    /// and what follows it are not recorded. The caller is at fault.
    MassChange {
        /// Numbers that were reserved when the import began.
        reserved_before: u64,
        /// How many of them the import would have taken away.
        removed: u64,
        /// How many others it would have added.
        added: u64,
    },
    /// A chunk of the same import before this one was lost, so this one was not
    /// looked at.
    ImportEnded,
    /// Too many commands wait. Nothing was done; try again.
    Overloaded,
    /// The clock lies behind what is on record, so nobody knows what moment a change
    /// would have. Nothing was done.
    ClockBehind(ClockBehind),
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
            Self::FeedGap { expected } => {
                write!(f, "messages of the feed are missing; the next one is {expected}")
            }
            Self::FeedConflict => f.write_str("another message of the feed had this place"),
            Self::FeedForgotten { expected } => write!(
                f,
                "the feed took a message at this place so long ago that its answer is forgotten; the next one \
                 is {expected}"
            ),
            Self::ImportRefused(lines) => write!(f, "{} lines of the chunk are refused", lines.len()),
            Self::ChunkTooLarge => write!(f, "a chunk has at most {IMPORT_CHUNK_LINES} lines"),
            Self::MassChange { reserved_before, removed, added } => write!(
                f,
                "of {reserved_before} reserved numbers the import would take away {removed}, and add {added}; one \
                 import may take away {IMPORT_SHRINK_PERCENT_MAX} % and add {IMPORT_GROWTH_PERCENT_MAX} % unless \
                 a mass change is allowed"
            ),
            Self::ImportEnded => f.write_str("an earlier chunk of the import was not recorded"),
            Self::Overloaded => f.write_str("too many register commands wait"),
            Self::ClockBehind(behind) => fmt::Display::fmt(behind, f),
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
    Renumber(
        Renumbering,
        Option<Idempotency>,
        Option<Delivery>,
        oneshot::Sender<Result<Outcome, CommandError>>,
    ),
    PassOver(Feed, Delivery, oneshot::Sender<Result<(), CommandError>>),
    Import(Chunk, oneshot::Sender<Result<ImportOutcome, CommandError>>),
}

impl Message {
    const fn is_import(&self) -> bool {
        matches!(self, Self::Import(..))
    }

    fn chunk(&self) -> Option<&Chunk> {
        match self {
            Self::Import(chunk, _) => Some(chunk),
            Self::Submit(..) | Self::Renumber(..) | Self::PassOver(..) => None,
        }
    }

    /// Its place in a feed, if it has one.
    fn place(&self) -> Option<(Feed, Delivery)> {
        match self {
            Self::Submit(submission, _) => Some((Feed::of(&submission.command), submission.delivery?)),
            Self::Renumber(renumbering, _, delivery, _) => {
                Some((Feed::of_renumbering(renumbering), (*delivery)?))
            }
            Self::PassOver(feed, delivery, _) => Some((feed.clone(), *delivery)),
            Self::Import(..) => None,
        }
    }
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
        self.enqueue(Message::Submit(submission, reply))?;
        answer.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    fn enqueue(&self, message: Message) -> Result<(), CommandError> {
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.measures.overloaded();
                CommandError::Overloaded
            }
            mpsc::error::TrySendError::Closed(_) => self.unavailable(),
        })
    }

    /// Records that a person's number changed. The same change told again is the
    /// same event. The answer comes when it is durable.
    ///
    /// # Errors
    /// See [`CommandError`]; a full queue refuses at once.
    pub async fn renumber(
        &self,
        renumbering: Renumbering,
        idempotency: Option<Idempotency>,
        delivery: Option<Delivery>,
    ) -> Result<Outcome, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Message::Renumber(renumbering, idempotency, delivery, reply))?;
        answer.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    /// Takes a message of a feed that is no command and never will be, so that it
    /// does not stand in the way of those behind it. `Ok` for the same message
    /// delivered again, too.
    ///
    /// # Errors
    /// See [`CommandError`]; a full queue refuses at once.
    pub async fn pass_over(&self, feed: Feed, delivery: Delivery) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Message::PassOver(feed, delivery, reply))?;
        answer.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    /// Begins an import; see [`ImportRun`].
    #[must_use]
    pub fn import_run(&self, mass_change_allowed: bool) -> ImportRun {
        ImportRun::new(self.clone(), mass_change_allowed)
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
