//! Keys, tokens, usage and idempotency keys on disk (`access.redb`).

use std::collections::HashMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction,
};

use super::directory::Directory;
use super::export::AccessExport;
use super::idempotency::{IdempotencyKey, Remembered};
use super::key::KeyRecord;
use super::limiter::{DayUsage, KeyLimiter};
use super::stored::{self, Unreadable};
use super::token::TokenRecord;
use crate::clock::Moment;
use crate::datadir::sync_name;
use crate::environment::Environment;
use crate::limits::IDEMPOTENCY_SECONDS;
use crate::secret::KeyId;
use crate::store_panic::{self, NO_SENSE};

/// What this release writes and the only thing it reads.
pub(super) const FORMAT: &str = "1";
/// The file is small and read once; redb's own default is 1 GiB.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Idempotency keys that one commit forgets: more than it can add.
const FORGOTTEN_PER_COMMIT: usize = 2 * crate::limits::ACCESS_COMMANDS_PER_COMMIT_MAX;

pub(super) const SETTINGS: TableDefinition<'_, &str, &str> = TableDefinition::new("settings");
pub(super) const KEYS: TableDefinition<'_, &str, &str> = TableDefinition::new("keys");
pub(super) const TOKENS: TableDefinition<'_, &str, &str> = TableDefinition::new("tokens");
pub(super) const USAGE: TableDefinition<'_, &str, &str> = TableDefinition::new("usage");
pub(super) const REMEMBERED: TableDefinition<'_, &[u8; 32], &str> = TableDefinition::new("idempotency");
/// The same by the second they were made in, for forgetting.
pub(super) const REMEMBERED_AT: TableDefinition<'_, (i64, &[u8; 32]), ()> =
    TableDefinition::new("idempotency_by_time");

/// Why the store of access can't be opened; none of them is a caller's fault.
#[derive(Debug)]
pub enum OpenError {
    /// The file system refused.
    Io(io::Error),
    /// The database refused.
    Store(StoreError),
    /// Written in a format that this release does not know.
    UnknownFormat(String),
    /// Written by an instance of the other environment.
    OtherEnvironment(String),
    /// A record can't be read, or breaks a rule.
    Damaged {
        /// The table it is in.
        table: &'static str,
        /// Its key there.
        record: String,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "access store: {error}"),
            Self::Store(error) => write!(f, "access store: {error}"),
            Self::UnknownFormat(found) => {
                write!(f, "access store: format {found} is unknown, this release knows format {FORMAT}")
            }
            Self::OtherEnvironment(found) => write!(f, "access store: it belongs to the environment {found}"),
            Self::Damaged { table, record, why } => {
                write!(f, "access store: table {table}, record {record}: {why}")
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// The database failed.
#[derive(Debug)]
pub struct StoreError(Box<redb::Error>);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StoreError {}

pub(super) fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError(Box::new(error.into()))
}

fn not_opened(error: impl Into<redb::Error>) -> OpenError {
    OpenError::Store(failed(error))
}

/// One thing to put on record.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Key(Arc<KeyRecord>),
    Token(Arc<TokenRecord>),
    Remembered(IdempotencyKey, Remembered),
}

/// The open database.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
    environment: Environment,
}

impl Store {
    /// Makes a new file (mode 0600).
    pub(super) fn create(path: &Path, environment: Environment) -> Result<Self, OpenError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let backend = FileBackend::new(file.map_err(OpenError::Io)?).map_err(not_opened)?;
        let store = Self::over(backend, environment)?;
        // The file's name must outlive a power loss as well as its content.
        sync_name(path).map_err(OpenError::Io)?;
        Ok(store)
    }

    /// Opens the file. An empty one is a lost one, and none is made in its place.
    pub(super) fn open(path: &Path, environment: Environment) -> Result<Self, OpenError> {
        Self::over(file_at(path)?, environment)
    }

    /// The environment that the store in this file is marked with.
    pub(super) fn environment_of(path: &Path) -> Result<Environment, OpenError> {
        let database = database_over(file_at(path)?)?;
        let reading = database.begin_read().map_err(not_opened)?;
        let settings = reading.open_table(SETTINGS).map_err(not_opened)?;
        let found = settings.get("environment").map_err(not_opened)?.map(|found| found.value().to_owned());
        let known = [Environment::Test, Environment::Production];
        known.into_iter().find(|known| found.as_deref() == Some(known.name())).ok_or_else(|| {
            let why = "it names no environment".to_owned();
            OpenError::Damaged { table: "settings", record: "environment".to_owned(), why }
        })
    }

    /// Opens the database over any storage.
    pub(super) fn over(backend: impl StorageBackend, environment: Environment) -> Result<Self, OpenError> {
        let store = Self { database: database_over(backend)?, environment };
        store.settle()?;
        Ok(store)
    }

    /// Reads everything; `limiter` gives each key its budget.
    pub(super) fn load(
        &self,
        mut limiter: impl FnMut(KeyId, Option<DayUsage>) -> Arc<KeyLimiter>,
    ) -> Result<Directory, OpenError> {
        let reading = self.database.begin_read().map_err(not_opened)?;
        let mut usages = HashMap::new();
        let table = reading.open_table(USAGE).map_err(not_opened)?;
        each(&table, "usage", |id, text| {
            usages.insert(stored::read_id(id)?, stored::read_usage(text)?);
            Ok(())
        })?;
        let mut directory = Directory::default();
        let table = reading.open_table(KEYS).map_err(not_opened)?;
        each(&table, "keys", |id, text| {
            let record =
                stored::read_key(text, self.environment, |id| limiter(id, usages.get(&id).copied()))?;
            same_id(id, record.id())?;
            directory.put_key(Arc::new(record));
            Ok(())
        })?;
        let table = reading.open_table(TOKENS).map_err(not_opened)?;
        each(&table, "tokens", |id, text| {
            let record = stored::read_token(text, self.environment)?;
            same_id(id, record.id())?;
            directory.put_token(Arc::new(record));
            Ok(())
        })?;
        Ok(directory)
    }

    /// What an idempotency key led to, if it is on record.
    pub(super) fn remembered(&self, key: &IdempotencyKey) -> Result<Option<Remembered>, StoreError> {
        let reading = self.database.begin_read().map_err(failed)?;
        let table = reading.open_table(REMEMBERED).map_err(failed)?;
        let found = table.get(key.digest()).map_err(failed)?;
        found.map(|text| stored::read_remembered(text.value()).map_err(unreadable)).transpose()
    }

    /// Puts the entries on record, all or none; durable when it returns.
    pub(super) fn append(&self, entries: &[Entry], now: Moment) -> Result<(), StoreError> {
        self.commit(|writing| {
            let mut keys = writing.open_table(KEYS).map_err(failed)?;
            let mut tokens = writing.open_table(TOKENS).map_err(failed)?;
            for entry in entries {
                match entry {
                    Entry::Key(record) => {
                        let text = stored::write_key(record).map_err(unreadable)?;
                        keys.insert(record.id().as_str(), text.as_str()).map_err(failed)?;
                    }
                    Entry::Token(record) => {
                        let text = stored::write_token(record).map_err(unreadable)?;
                        tokens.insert(record.id().as_str(), text.as_str()).map_err(failed)?;
                    }
                    Entry::Remembered(key, remembered) => remember(writing, key, remembered)?,
                }
            }
            forget(writing, now)
        })
    }

    /// Puts the day's usage of these keys on record.
    pub(super) fn save_usage(&self, usages: &[(KeyId, DayUsage)]) -> Result<(), StoreError> {
        self.commit(|writing| {
            let mut table = writing.open_table(USAGE).map_err(failed)?;
            for (id, usage) in usages {
                let text = stored::write_usage(*usage).map_err(unreadable)?;
                table.insert(id.as_str(), text.as_str()).map_err(failed)?;
            }
            Ok(())
        })
    }

    /// Commits what is there already: a full disk lets a store be opened and read.
    pub(super) fn try_a_commit(&self) -> Result<(), StoreError> {
        self.commit(|writing| {
            let mut settings = writing.open_table(SETTINGS).map_err(failed)?;
            settings.insert("format", FORMAT).map_err(failed)?;
            Ok(())
        })
    }

    /// Everything as of the last commit.
    pub(super) fn export(&self) -> Result<AccessExport, StoreError> {
        Ok(AccessExport::of(self.database.begin_read().map_err(failed)?))
    }

    /// A transaction for whoever fills a new store.
    pub(super) fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut writing = self.database.begin_write().map_err(failed)?;
        writing.set_quick_repair(true);
        Ok(writing)
    }

    pub(super) fn close(self) -> Result<(), StoreError> {
        self.database.close().map_err(failed)
    }

    /// Judges the settings of an old file before anything is written to it;
    /// writes those of a new one, and makes every table.
    fn settle(&self) -> Result<(), OpenError> {
        let mut writing = self.database.begin_write().map_err(not_opened)?;
        writing.set_quick_repair(true);
        {
            let mut settings = writing.open_table(SETTINGS).map_err(not_opened)?;
            for (name, ours) in [("format", FORMAT), ("environment", self.environment.name())] {
                let found = settings.get(name).map_err(not_opened)?.map(|found| found.value().to_owned());
                match found {
                    None => drop(settings.insert(name, ours).map_err(not_opened)?),
                    Some(found) if found == ours => {}
                    Some(found) if name == "format" => return Err(OpenError::UnknownFormat(found)),
                    Some(found) => return Err(OpenError::OtherEnvironment(found)),
                }
            }
            writing.open_table(KEYS).map_err(not_opened)?;
            writing.open_table(TOKENS).map_err(not_opened)?;
            writing.open_table(USAGE).map_err(not_opened)?;
            writing.open_table(REMEMBERED).map_err(not_opened)?;
            writing.open_table(REMEMBERED_AT).map_err(not_opened)?;
        }
        writing.commit().map_err(not_opened)
    }

    fn commit(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let writing = self.begin()?;
        write(&writing)?;
        writing.commit().map_err(failed)
    }
}

fn file_at(path: &Path) -> Result<FileBackend, OpenError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(OpenError::Io)?;
    if file.metadata().map_err(OpenError::Io)?.len() == 0 {
        return Err(OpenError::Io(io::Error::new(io::ErrorKind::InvalidData, "the file is empty")));
    }
    FileBackend::new(file).map_err(not_opened)
}

fn database_over(backend: impl StorageBackend) -> Result<Database, OpenError> {
    Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend).map_err(not_opened)
}

fn remember(
    writing: &WriteTransaction,
    key: &IdempotencyKey,
    remembered: &Remembered,
) -> Result<(), StoreError> {
    let text = stored::write_remembered(remembered).map_err(unreadable)?;
    let mut by_key = writing.open_table(REMEMBERED).map_err(failed)?;
    by_key.insert(key.digest(), text.as_str()).map_err(failed)?;
    let mut by_time = writing.open_table(REMEMBERED_AT).map_err(failed)?;
    by_time.insert((remembered.at.unix_seconds(), key.digest()), ()).map_err(failed)?;
    Ok(())
}

/// Forgets the oldest idempotency keys that are past their time.
fn forget(writing: &WriteTransaction, now: Moment) -> Result<(), StoreError> {
    let mut by_time = writing.open_table(REMEMBERED_AT).map_err(failed)?;
    let mut by_key = writing.open_table(REMEMBERED).map_err(failed)?;
    for _ in 0..FORGOTTEN_PER_COMMIT {
        let Some((at, digest)) = by_time.first().map_err(failed)?.map(|(oldest, _)| {
            let (at, digest) = oldest.value();
            (at, *digest)
        }) else {
            return Ok(());
        };
        if now.unix_seconds() - at < i64::from(IDEMPOTENCY_SECONDS) {
            return Ok(());
        }
        by_time.remove((at, &digest)).map_err(failed)?;
        // A key used again after its time stands under its later second, too.
        let stale = match by_key.get(&digest).map_err(failed)? {
            Some(text) => stored::read_remembered(text.value()).map_err(unreadable)?.at.unix_seconds() == at,
            None => false,
        };
        if stale {
            by_key.remove(&digest).map_err(failed)?;
        }
    }
    Ok(())
}

/// A record of ours that our own code can't read or write: the store is damaged.
fn unreadable(why: Unreadable) -> StoreError {
    StoreError(Box::new(redb::Error::Corrupted(why)))
}

/// A panic of redb is the store's failure, not the end of the writer.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    store_panic::caught(run, || unreadable(NO_SENSE.to_owned()))
}

/// The same where a store is opened.
pub(super) fn guarded_opening<T>(run: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    store_panic::caught(run, || OpenError::Store(unreadable(NO_SENSE.to_owned())))
}

pub(super) fn same_id(key: &str, id: KeyId) -> Result<(), Unreadable> {
    if key == id.as_str() { Ok(()) } else { Err(format!("it holds the record of {id}")) }
}

fn each(
    table: &impl ReadableTable<&'static str, &'static str>,
    name: &'static str,
    mut read: impl FnMut(&str, &str) -> Result<(), Unreadable>,
) -> Result<(), OpenError> {
    for row in table.iter().map_err(not_opened)? {
        let (key, value) = row.map_err(not_opened)?;
        read(key.value(), value.value()).map_err(|why| OpenError::Damaged {
            table: name,
            record: key.value().to_owned(),
            why,
        })?;
    }
    Ok(())
}
