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

use std::path::{Path, PathBuf};

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

use crate::clock::{Clock, Moment};
use crate::datadir::Identity;
use command::Writer;
use current::Publisher;
use store::{Bulk, Loaded, OpenMode, Opener, Store, file_opener};

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

/// Makes an empty register in a new file. Nothing else but a [`bulk_load`] and a
/// [`RegisterImport`] makes one: a start that found none would call every number free.
///
/// # Errors
/// When there is a file already, or the disk fails.
pub fn create(path: &Path, created: Moment) -> Result<(), OpenError> {
    Bulk::create(path, RegisterConfig::CACHE_BYTES_DEFAULT, created)?.finish()?;
    Ok(())
}

/// Opens the register and starts its writer: [`read`], then [`ReadRegister::start`].
///
/// # Errors
/// As both.
pub fn open(config: &RegisterConfig, clock: Clock) -> Result<(Reader, Commander, WriterThread), OpenError> {
    read(config, &clock)?.start(clock)
}

/// Reads the register without starting its writer: nothing falls due, nothing
/// changes.
///
/// # Errors
/// When the file is not there, cannot be read, or its content does not hold together:
/// it says where.
pub fn read(config: &RegisterConfig, clock: &Clock) -> Result<ReadRegister, OpenError> {
    read_with(file_opener(config.path.clone(), config.cache_bytes), OpenMode::Existing, clock)
}

fn read_with(opener: Opener, mode: OpenMode, clock: &Clock) -> Result<ReadRegister, OpenError> {
    Ok(ReadRegister(Store::open(opener, mode, clock.now())?))
}

/// A register as it was read. It can be compared with what else is known before
/// anything is done to it.
#[must_use = "nothing serves it until it is started"]
pub struct ReadRegister(Loaded);

impl ReadRegister {
    /// What it holds.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.0.snapshot
    }

    /// Whether it belongs to this data directory. One that has not been told yet is
    /// told now.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn belongs_to(&self, directory: Identity) -> Result<bool, StoreError> {
        self.0.store.belongs_to(directory)
    }

    /// The same, without what a writer needs.
    #[must_use]
    pub fn into_snapshot(self) -> Snapshot {
        self.0.snapshot
    }

    /// Starts its writer. Returns when the snapshot shows every re-reservation that
    /// fell due while nobody was there to carry it out; those that waited for
    /// an import wait for it to be sent again (see [`ImportRun::finish`]).
    ///
    /// # Errors
    /// When the store cannot be written, or the system refuses a thread.
    pub fn start(self, clock: Clock) -> Result<(Reader, Commander, WriterThread), OpenError> {
        let Loaded { store, head, snapshot, pending, held } = self.0;
        let publisher = Publisher::new(snapshot);
        let reader = Reader::new(publisher.current(), store.handle());
        let (commander, thread) = Writer::start(store, head, publisher, pending, held, clock)?;
        Ok((reader, commander, thread))
    }
}

impl std::fmt::Debug for ReadRegister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ReadRegister").field(&self.0.snapshot).finish()
    }
}

/// Makes what is not there.
#[cfg(test)]
fn open_with(opener: Opener, clock: Clock) -> Result<(Reader, Commander, WriterThread), OpenError> {
    read_with(opener, OpenMode::CreateIfMissing, &clock)?.start(clock)
}

#[cfg(test)]
mod tests;
