//! The store's rows as portable chunks, all of one moment, for a backup.
//!
//! Tables come in the order of [`Table`]; keys are big-endian, so that their
//! bytes rise as they do.

use redb::{Key, ReadOnlyTable, ReadTransaction, TableError, TableHandle, Value};

use super::super::words::Sequence;
use super::error::StoreError;
use super::feeds::{ANSWERS_TABLE, FEEDS_TABLE};
use super::histories::{self, ReadHistories};
use super::idempotency::{EXPIRY_TABLE, IDEMPOTENCY_TABLE};
use super::{BATCHES_TABLE, Head, RENUMBERINGS_TABLE, SETTINGS_TABLE, StoreHandle, damage, read_head};
use crate::clock::Moment;
use crate::rows::{Row, RowTooLong, Stopped, each_chunk};

/// The tables by their codes in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    Settings = 1,
    Batches = 2,
    History = 3,
    Renumberings = 4,
    Idempotency = 5,
    Expiry = 6,
    Feeds = 7,
    FeedAnswers = 8,
}

impl Table {
    pub(super) const ALL: [Self; 8] = [
        Self::Settings,
        Self::Batches,
        Self::History,
        Self::Renumberings,
        Self::Idempotency,
        Self::Expiry,
        Self::Feeds,
        Self::FeedAnswers,
    ];

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == code)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Settings => SETTINGS_TABLE.name(),
            Self::Batches => BATCHES_TABLE.name(),
            Self::History => super::HISTORY,
            Self::Renumberings => RENUMBERINGS_TABLE.name(),
            Self::Idempotency => IDEMPOTENCY_TABLE.name(),
            Self::Expiry => EXPIRY_TABLE.name(),
            Self::Feeds => FEEDS_TABLE.name(),
            Self::FeedAnswers => ANSWERS_TABLE.name(),
        }
    }
}

/// Everything in the register as of one commit; the writer goes on beside it.
///
/// It holds the store's transaction and nothing else: should the writer have to
/// close the file after a failure, reading ends with an error.
pub struct RegisterExport {
    txn: ReadTransaction,
    head: Head,
}

impl StoreHandle {
    /// Everything as of the last commit.
    pub(in super::super) fn export(&self) -> Result<RegisterExport, StoreError> {
        let database = self.database.load_full().ok_or(StoreError::Closed)?;
        let txn = redb::ReadableDatabase::begin_read(&*database)?;
        // A table that is not known here would be missing from every backup.
        let is_known = |name: &str| {
            Table::ALL.iter().any(|table| table.name() == name) || histories::names().contains(&name)
        };
        if txn.list_tables()?.any(|table| !is_known(table.name()))
            || txn.list_multimap_tables()?.next().is_some()
        {
            return Err(damage("file", None, "a table that backups do not know").into());
        }
        let head = read_head(&txn)?;
        Ok(RegisterExport { txn, head })
    }
}

impl RegisterExport {
    /// The last event in it.
    #[must_use]
    pub const fn sequence(&self) -> Sequence {
        self.head.sequence
    }

    /// Its moment.
    #[must_use]
    pub const fn as_of(&self) -> Moment {
        self.head.as_of
    }

    /// Reserved numbers in it.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        self.head.reserved
    }

    /// Numbers that ever had an event.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.head.entries
    }

    /// Gives all rows to `sink`, chunk by chunk, until it fails. Reads the disk.
    ///
    /// # Errors
    /// The store's, or the sink's.
    pub fn each_chunk<E>(
        &self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Stopped<StoreError, E>> {
        let be = |row: &mut Row, key: &[u8], value: &[u8]| row.set(key, value);
        self.table(Table::Settings, SETTINGS_TABLE, |k: &str, v: &[u8], row| be(row, k.as_bytes(), v), sink)?;
        self.table(
            Table::Batches,
            BATCHES_TABLE,
            |k: u64, v: &[u8], row| be(row, &k.to_be_bytes(), v),
            sink,
        )?;
        self.histories(sink)?;
        self.table(
            Table::Renumberings,
            RENUMBERINGS_TABLE,
            |(number, sequence): (u32, u64), (), row| {
                let mut key = [0; 12];
                key[..4].copy_from_slice(&number.to_be_bytes());
                key[4..].copy_from_slice(&sequence.to_be_bytes());
                be(row, &key, &[]);
            },
            sink,
        )?;
        self.table(Table::Idempotency, IDEMPOTENCY_TABLE, |k: &[u8; 32], v: &[u8], row| be(row, k, v), sink)?;
        self.table(Table::Expiry, EXPIRY_TABLE, |k: &[u8; 36], (), row| be(row, k, &[]), sink)?;
        self.table(Table::Feeds, FEEDS_TABLE, |k: &[u8], v: &[u8], row| be(row, k, v), sink)?;
        self.table(Table::FeedAnswers, ANSWERS_TABLE, |k: &[u8], v: &[u8], row| be(row, k, v), sink)
    }

    /// The histories as they stand, those in the backlog in their places.
    fn histories<E>(
        &self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Stopped<StoreError, E>> {
        let histories = ReadHistories::of(&self.txn).map_err(Stopped::Store)?;
        let mut rows = histories.rows().map_err(Stopped::Store)?;
        let next = |row: &mut Row| {
            let Some(found) = rows.next() else { return Ok(false) };
            let (key, value) = found?;
            row.set(&key.to_be_bytes(), value.value());
            Ok(true)
        };
        each_chunk(Table::History as u8, next, |RowTooLong| too_long(Table::History), sink)
    }

    fn table<K: Key + 'static, V: Value + 'static, E>(
        &self,
        table: Table,
        definition: redb::TableDefinition<'static, K, V>,
        write: impl for<'r> Fn(K::SelfType<'r>, V::SelfType<'r>, &mut Row),
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Stopped<StoreError, E>> {
        match self.txn.open_table(definition) {
            Ok(rows) => each_row(table, &rows, write, sink),
            // Tables are made when they get their first row.
            Err(TableError::TableDoesNotExist(_)) => Ok(()),
            Err(error) => Err(Stopped::Store(error.into())),
        }
    }
}

impl std::fmt::Debug for RegisterExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisterExport").field("head", &self.head).finish()
    }
}

fn each_row<K: Key + 'static, V: Value + 'static, E>(
    table: Table,
    rows: &ReadOnlyTable<K, V>,
    write: impl for<'r> Fn(K::SelfType<'r>, V::SelfType<'r>, &mut Row),
    sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stopped<StoreError, E>> {
    use redb::ReadableTable as _;
    let mut rows = rows.iter().map_err(|error| Stopped::Store(error.into()))?;
    let next = |row: &mut Row| {
        let Some(found) = rows.next() else { return Ok(false) };
        let (key, value) = found?;
        write(key.value(), value.value(), row);
        Ok(true)
    };
    each_chunk(table as u8, next, |RowTooLong| too_long(table), sink)
}

fn too_long(table: Table) -> StoreError {
    damage(table.name(), None, "a row is longer than any can be").into()
}
