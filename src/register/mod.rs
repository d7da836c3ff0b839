//! The register of reserved PESEL numbers: the law, the set in memory, the
//! store, and the single writer.
//!
//! A change goes [`law`] (decide, pure) -> `store` (append, durable) ->
//! [`snapshot`] (apply, pure) -> `current` (publish, one atomic swap), and its
//! answer leaves after the publish: the next verification sees it. A [`Reader`]
//! loads one [`Snapshot`] and answers everything that belongs together from it;
//! it waits for nobody. A [`Commander`] takes commands to the writer, of which
//! there is one.
//!
//! In reading order: `words` (the vocabulary), `event` and `entry` (what
//! happened, and the state that follows), [`law`], `feed`, [`snapshot`], `current`,
//! `schedule`, `store`, `reader`, `command`, [`bulk`],
//! `exchange`.
//!
//! A [`RegisterExport`] gives every row as of one commit, a [`RegisterImport`]
//! makes a store of them: a backup and its way back.
//!
//! The room knows neither HTTP nor who asks. What follows by itself at a set
//! second (art. 23d(3)) goes the same way as a command: the writer keeps the
//! schedule, waits for its next moment beside its queue, and decides what is due
//! in the transaction of the commands that come with it, before them.

mod words;

mod event;

mod entry;

pub mod law;

mod feed;

pub mod snapshot;

mod current;

mod schedule;

mod store;

mod reader;

mod command;

pub mod bulk;

mod exchange;

use std::path::PathBuf;

pub use bulk::bulk_load;
pub use command::{
    ChunkInFlight, CommandError, Commander, Health, ImportLine, ImportOutcome, ImportRun, LineReason,
    LineRefusal, Outcome, Submission, WriterThread,
};
pub use entry::{AsOf, Entry, State};
pub use event::{ChainHash, Event, EventId, EventsPage, Filing, StoredEvent};
pub use exchange::{ExchangeError, ExchangedSet};
pub use feed::{Delivery, Feed, FeedSequence, FeedStanding};
pub use law::{Change, Command, Refusal, Renumbering};
pub use reader::{EntryHistory, Reader};
pub use snapshot::Snapshot;
pub use store::{
    ChainReport, Damage, Idempotency, OpenError, RegisterExport, RegisterHeld, RegisterImport, StoreError,
};
pub use words::{
    Applicant, Channel, DocumentSeen, EventKind, NotARegistrant, Obstacle, OutsideOfStamps, Registrant,
    Sequence, Stamp,
};

use crate::clock::Clock;
use command::Writer;
use current::Publisher;
use store::{Loaded, Opener, Store, file_opener};

/// Where the register lies and how much of it redb may keep in memory.
#[derive(Debug, Clone)]
pub struct RegisterConfig {
    /// The file.
    pub path: PathBuf,
    /// Bytes of redb's cache. It counts as resident memory and serves only the
    /// writer and questions about the past: keep it small.
    pub cache_bytes: usize,
}

impl RegisterConfig {
    /// The cache where nothing else is said: 32 MiB.
    pub const CACHE_BYTES_DEFAULT: usize = 32 * 1024 * 1024;
}

/// Opens the register, making it if it is not there, and starts its writer.
/// Returns when the snapshot is built and shows every re-reservation that fell due
/// while nobody was there to carry it out; those that waited for an import wait for it
/// to be sent again (see [`ImportRun::finish`]).
///
/// # Errors
/// When the file cannot be read or its content does not hold together: it says
/// where.
pub fn open(config: &RegisterConfig, clock: Clock) -> Result<(Reader, Commander, WriterThread), OpenError> {
    open_with(file_opener(config.path.clone(), config.cache_bytes), clock)
}

/// Reads the register without starting its writer: nothing falls due, nothing
/// changes.
///
/// # Errors
/// As [`open`].
pub fn load(config: &RegisterConfig, clock: &Clock) -> Result<Snapshot, OpenError> {
    Ok(Store::open(file_opener(config.path.clone(), config.cache_bytes), clock.now())?.snapshot)
}

fn open_with(opener: Opener, clock: Clock) -> Result<(Reader, Commander, WriterThread), OpenError> {
    let Loaded { store, head, snapshot, pending, held } = Store::open(opener, clock.now())?;
    let publisher = Publisher::new(snapshot);
    let reader = Reader::new(publisher.current(), store.handle());
    let (commander, thread) = Writer::start(store, head, publisher, pending, held, clock)?;
    Ok((reader, commander, thread))
}

#[cfg(test)]
mod tests;
