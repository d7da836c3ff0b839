//! Filling a new store with first events, in the order of their numbers.

use std::path::Path;

use redb::Database;

use super::super::event::Event;
use super::super::snapshot::{Builder, Snapshot, SnapshotHead};
use super::super::words::Sequence;
use super::Head;
use super::append::Appending;
use super::error::{OpenError, StoreError};
use super::history::Record;
use super::load::{OpenMode, file_opener, initialise};
use crate::clock::Moment;

/// A new store being filled.
pub(in super::super) struct Bulk {
    database: Database,
    head: Head,
    /// Every number is new: an empty snapshot says so.
    base: Snapshot,
}

impl Bulk {
    /// Events that share a commit.
    pub(in super::super) const EVENTS_PER_COMMIT: usize = 500_000;

    pub(in super::super) fn create(
        path: &Path,
        cache_bytes: usize,
        created: Moment,
    ) -> Result<Self, OpenError> {
        if path.exists() {
            return Err(OpenError::NotEmpty);
        }
        let database = file_opener(path.to_owned(), cache_bytes)(OpenMode::CreateIfMissing)?;
        initialise(&database, created)?;
        let head = Head::of_new(created);
        let base = Builder::new(created).finish(SnapshotHead { sequence: head.sequence, as_of: created });
        Ok(Self { database, head, base })
    }

    /// Appends events of numbers that have none.
    pub(in super::super) fn append(&mut self, events: &[Event]) -> Result<(), StoreError> {
        let Some(last) = events.last() else { return Ok(()) };
        let mut txn = self.database.begin_write()?;
        txn.set_quick_repair(true);
        let mut appending = Appending::begin(&txn, self.head, &self.base)?;
        for event in events {
            let sequence = appending.log(event)?;
            let mut record = Record::absent(event.ordinal);
            record.push(sequence, event);
            appending.write_history(&record)?;
        }
        self.head = appending.finish(last.at, None)?.head;
        Ok(txn.commit()?)
    }

    /// Closes the store.
    pub(in super::super) fn finish(self) -> Result<Sequence, StoreError> {
        self.database.close()?;
        Ok(self.head.sequence)
    }
}
