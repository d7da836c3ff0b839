//! Opening the file: making it, checking it, building the snapshot from it, and
//! opening it again after a failure.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::super::entry::Entry;
use super::super::schedule::Due;
use super::super::snapshot::{Builder, Changed, Snapshot, SnapshotHead};
use super::super::words::{EventKind, Sequence};
use super::error::{OpenError, StoreError};
use super::histories::{ReadHistories, WriteHistories};
use super::history::fold;
use super::idempotency::{EXPIRY_TABLE, IDEMPOTENCY_TABLE};
use super::row::Row;
use super::{
    BATCHES, BATCHES_TABLE, CREATED_KEY, FORMAT, FORMAT_KEY, HEAD_KEY, HISTORY, Head, HeldEnds, SETTINGS,
    SETTINGS_TABLE, StoreHandle, damage, read_head,
};
use crate::clock::Moment;
use crate::datadir::sync_name;
use crate::pesel::Ordinal;
use crate::store_panic::{self, NO_SENSE};

/// May the file be made?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum OpenMode {
    /// Whoever makes a new store.
    CreateIfMissing,
    /// A start, and after a failure: a missing or empty file is a lost register, and
    /// a new one in its place would call every number free.
    Existing,
}

/// Opens the database; a test gives one whose disk fails.
pub(in super::super) type Opener = Box<dyn Fn(OpenMode) -> Result<Database, StoreError> + Send>;

/// Opens the database in a file, made with mode 0600.
pub(in super::super) fn file_opener(path: PathBuf, cache_bytes: usize) -> Opener {
    Box::new(move |mode| {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        if mode == OpenMode::CreateIfMissing && !path.exists() {
            OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
            // The file's name must be as durable as what will be in it.
            sync_name(&path)?;
        }
        let opened = match mode {
            OpenMode::CreateIfMissing => builder.create(&path),
            OpenMode::Existing => builder.open(&path),
        };
        Ok(opened?)
    })
}

/// A store as opened, and what a start builds from it.
pub(in super::super) struct Loaded {
    pub(in super::super) store: Store,
    pub(in super::super) head: Head,
    pub(in super::super) snapshot: Snapshot,
    /// Temporary withdrawals that last.
    pub(in super::super) pending: Vec<Due>,
    /// Those of them whose ends waited for imports.
    pub(in super::super) held: HeldEnds,
}

/// What a store that was opened again holds.
pub(in super::super) struct Reopened {
    pub(in super::super) head: Head,
    /// Entries changed by events that turned out to be durable although their
    /// commit failed.
    pub(in super::super) changes: Vec<Changed>,
    /// As in [`Loaded`].
    pub(in super::super) held: HeldEnds,
}

/// The writing side of the store. There is one.
pub(in super::super) struct Store {
    opener: Opener,
    handle: StoreHandle,
    /// A failed database that a reader still holds; the file is locked until it
    /// lets go.
    failed: Option<Arc<Database>>,
}

impl Store {
    /// Opens the store and builds the snapshot; a new one is of `now`.
    pub(in super::super) fn open(opener: Opener, mode: OpenMode, now: Moment) -> Result<Loaded, OpenError> {
        let (database, head, held, (snapshot, pending)) = guarded(|| {
            let database = opener(mode)?;
            if database.begin_read()?.list_tables()?.next().is_none() {
                match mode {
                    OpenMode::CreateIfMissing => initialise(&database, now)?,
                    OpenMode::Existing => return Err(damage("file", None, "it holds no register").into()),
                }
            }
            let txn = database.begin_read()?;
            let head = check(&txn)?;
            let held = HeldEnds::read(&txn)?;
            let built = build_snapshot(&txn, &head, now)?;
            drop(txn);
            Ok((database, head, held, built))
        })?;
        let database = Arc::new(ArcSwapOption::from_pointee(database));
        let store = Self { opener, handle: StoreHandle { database }, failed: None };
        Ok(Loaded { store, head, snapshot, pending, held })
    }

    /// The reading side.
    pub(in super::super) fn handle(&self) -> StoreHandle {
        self.handle.clone()
    }

    /// Begins a transaction whose commit is durable, and cheap to recover from.
    pub(in super::super) fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let database = self.handle.database.load_full().ok_or(StoreError::Closed)?;
        let mut txn = database.begin_write()?;
        txn.set_quick_repair(true);
        Ok(txn)
    }

    /// Puts the first `max` histories of the backlog in their places, durably, and
    /// tells how many are left.
    pub(in super::super) fn settle_histories(&self, max: usize) -> Result<u64, StoreError> {
        if self.handle.backlog()? == 0 {
            return Ok(0);
        }
        let txn = self.begin()?;
        let left = {
            let mut histories = WriteHistories::open(&txn)?;
            histories.settle(max)?;
            histories.backlog()?
        };
        txn.commit()?;
        Ok(left)
    }

    /// Closes the file after a failure, opens it again and commits something that changes
    /// nothing. Returns where it stands, and what changed after `since`.
    pub(in super::super) fn reopen(&mut self, since: Sequence) -> Result<Reopened, StoreError> {
        if let Some(database) = self.handle.database.swap(None).or_else(|| self.failed.take()) {
            match Arc::try_unwrap(database) {
                // Its own error is known already.
                Ok(database) => drop(guarded(|| Ok(database.close()?))),
                Err(held) => {
                    self.failed = Some(held);
                    return Err(StoreError::Closed);
                }
            }
        }
        let reopened = guarded(|| {
            let database = (self.opener)(OpenMode::Existing)?;
            let txn = database.begin_read()?;
            let head = check(&txn)?;
            let (changes, held) = (changes_since(&txn, since)?, HeldEnds::read(&txn)?);
            drop(txn);
            Ok((database, Reopened { head, changes, held }))
        });
        let of_store = |error| match error {
            OpenError::Store(error) => error,
            _ => damage(SETTINGS, None, "the format has changed").into(),
        };
        let (database, reopened) = reopened.map_err(of_store)?;
        if reopened.head.sequence < since {
            return Err(damage(BATCHES, Some(since), "events that were durable are gone").into());
        }
        let database = guarded(move || {
            try_a_commit(&database)?;
            Ok(database)
        });
        self.handle.database.store(Some(Arc::new(database.map_err(of_store)?)));
        Ok(reopened)
    }
}

/// Commits what is there already: a full disk lets a store be opened and read.
fn try_a_commit(database: &Database) -> Result<(), StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    txn.open_table(SETTINGS_TABLE)?.insert(FORMAT_KEY, FORMAT.to_le_bytes().as_slice())?;
    Ok(txn.commit()?)
}

/// A panic of redb is a damaged file, not the end of the process.
fn guarded<T>(run: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    store_panic::caught(run, || damage("file", None, NO_SENSE).into())
}

pub(super) fn initialise(database: &Database, now: Moment) -> Result<(), StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    {
        txn.open_table(BATCHES_TABLE)?;
        WriteHistories::open(&txn)?;
        txn.open_table(IDEMPOTENCY_TABLE)?;
        txn.open_table(EXPIRY_TABLE)?;
        let mut settings = txn.open_table(SETTINGS_TABLE)?;
        settings.insert(FORMAT_KEY, FORMAT.to_le_bytes().as_slice())?;
        settings.insert(CREATED_KEY, now.unix_seconds().to_le_bytes().as_slice())?;
        settings.insert(HEAD_KEY, Head::of_new(now).encode().as_slice())?;
    }
    Ok(txn.commit()?)
}

/// The format is known, and the head is the last row's last event.
fn check(txn: &ReadTransaction) -> Result<Head, OpenError> {
    {
        let settings = txn.open_table(SETTINGS_TABLE)?;
        let format = settings.get(FORMAT_KEY)?;
        let format = format.and_then(|value| value.value().try_into().ok().map(u32::from_le_bytes));
        match format {
            Some(FORMAT) => {}
            Some(found) => return Err(OpenError::UnknownFormat { found }),
            None => return Err(damage(SETTINGS, None, "the format is missing").into()),
        }
    }
    let head = read_head(txn)?;
    let batches = txn.open_table(BATCHES_TABLE)?;
    let agrees = match batches.last()? {
        None => head.sequence == Sequence::ZERO,
        Some((key, value)) => {
            let key = Sequence::new(key.value());
            let row = Row::decode(key, value.value())?;
            let at = row.events.last().map(|last| last.event.at.moment());
            (key, row.last) == (head.sequence, head.hash) && at <= Some(head.as_of)
        }
    };
    if agrees {
        Ok(head)
    } else {
        Err(damage(BATCHES, Some(head.sequence), "the last row and the head do not agree").into())
    }
}

fn build_snapshot(
    txn: &ReadTransaction,
    head: &Head,
    now: Moment,
) -> Result<(Snapshot, Vec<Due>), OpenError> {
    let mut builder = Builder::new(now);
    let mut pending = Vec::new();
    let histories = ReadHistories::of(txn)?;
    for row in histories.rows()? {
        let (key, value) = row?;
        let ordinal = Ordinal::new(key).ok_or_else(|| damage(HISTORY, None, "a row has no number's key"))?;
        let mut last = Sequence::ZERO;
        let entry = fold(ordinal, value.value(), |event| last = event.sequence)?;
        if last > head.sequence {
            return Err(damage(HISTORY, Some(last), "an event lies beyond the head").into());
        }
        pending.extend(entry.re_reservation_at().map(|at| Due { at, ordinal }));
        builder.push(ordinal, &entry).map_err(|_| damage(HISTORY, Some(last), "rows are out of order"))?;
    }
    let snapshot = builder.finish(SnapshotHead { sequence: head.sequence, as_of: head.as_of });
    if (snapshot.reserved_count(), snapshot.entry_count()) == (head.reserved, head.entries) {
        Ok((snapshot, pending))
    } else {
        Err(damage(HISTORY, Some(head.sequence), "the entries are not as many as were written").into())
    }
}

fn changes_since(txn: &ReadTransaction, since: Sequence) -> Result<Vec<Changed>, StoreError> {
    let histories = ReadHistories::of(txn)?;
    let mut changes: Vec<(Ordinal, Entry)> = Vec::new();
    for row in txn.open_table(BATCHES_TABLE)?.range(since.next().value()..)? {
        let (key, value) = row?;
        let row = Row::decode(Sequence::new(key.value()), value.value())?;
        let later = row.events.iter().filter(|event| event.sequence > since);
        for event in later.filter(|event| event.event.kind != EventKind::Renumbering) {
            let record = histories.record(event.event.ordinal)?;
            changes.push((event.event.ordinal, *record.entry()));
        }
    }
    Ok(changes)
}
