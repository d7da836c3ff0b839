//! Reading the register: from memory for the present, from the store for the past.

use std::sync::Arc;

use arc_swap::Guard;

use super::current::Current;
use super::entry::State;
use super::event::{EventsPage, StoredEvent};
use super::feed::FeedStanding;
use super::snapshot::Snapshot;
use super::store::{ChainReport, RegisterExport, StoreError, StoreHandle};
use super::words::Sequence;
use crate::clock::Moment;
use crate::limits::EVENTS_PAGE_MAX;
use crate::pesel::Ordinal;

/// Reads the register. Cheap to clone; waits neither for the writer nor for
/// other readers.
#[derive(Clone)]
pub struct Reader {
    current: Current,
    store: StoreHandle,
}

/// The entry of a number and its whole history.
#[derive(Debug, Clone)]
pub struct EntryHistory {
    state: State,
    re_reservation_at: Option<Moment>,
    events: Vec<StoredEvent>,
}

impl EntryHistory {
    /// The state after all events.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When the present temporary withdrawal ends.
    #[must_use]
    pub const fn re_reservation_at(&self) -> Option<Moment> {
        self.re_reservation_at
    }

    /// All events, in order; none for a number the register has never heard of.
    #[must_use]
    pub fn events(&self) -> &[StoredEvent] {
        &self.events
    }
}

impl Reader {
    pub(super) const fn new(current: Current, store: StoreHandle) -> Self {
        Self { current, store }
    }

    #[cfg(test)]
    pub(super) fn backlog(&self) -> u64 {
        self.store.backlog().expect("readable")
    }

    /// The present snapshot. Load it once for everything that belongs together,
    /// and do not hold it over an `.await`.
    #[must_use]
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The present snapshot, to be held for longer.
    #[must_use]
    pub fn snapshot_owned(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The state of a number at a moment, by its events up to a sequence: what
    /// [`Snapshot::state_at`] leaves to history. Reads the disk.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub fn state_from_history(
        &self,
        ordinal: Ordinal,
        at: Moment,
        up_to: Sequence,
    ) -> Result<State, StoreError> {
        Ok(self.store.record(ordinal)?.state_at(at, up_to))
    }

    /// The events after a sequence, in order, no more than `limit` and
    /// [`EVENTS_PAGE_MAX`], and the register's last one. Reads the disk.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub fn events(&self, after: Sequence, limit: usize) -> Result<EventsPage, StoreError> {
        self.store.events(after, limit.min(EVENTS_PAGE_MAX))
    }

    /// The entry of a number with its whole history. Reads the disk.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub fn entry(&self, ordinal: Ordinal) -> Result<EntryHistory, StoreError> {
        let (record, events) = self.store.events_of(ordinal)?;
        let entry = record.entry();
        let re_reservation_at = entry.re_reservation_at().map(super::words::Stamp::moment);
        Ok(EntryHistory { state: entry.state(), re_reservation_at, events })
    }

    /// Where every feed stands, by channel and registrant. Reads the disk.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub fn feeds(&self) -> Result<Vec<FeedStanding>, StoreError> {
        self.store.feeds()
    }

    /// Everything in the register as of the last commit, to be read at leisure
    /// while the writer goes on. Reads the disk.
    ///
    /// # Errors
    /// When the store cannot answer, or has a table that an export would leave out.
    pub fn export(&self) -> Result<RegisterExport, StoreError> {
        self.store.export()
    }

    /// Makes the hash of every event again and compares. Reads all events: some
    /// seconds for millions.
    ///
    /// # Errors
    /// The first row that does not fit, or when the store cannot answer.
    pub fn verify_chain(&self) -> Result<ChainReport, StoreError> {
        self.store.verify_chain()
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("snapshot", &**self.current.load()).finish()
    }
}
