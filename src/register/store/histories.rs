//! Histories by number, and those that were continued in haste.
//!
//! A history's row lies among those of its neighbours, so ten thousand numbers
//! that are to be reserved again in one second lie on as many pages of the file.
//! To write them all takes longer than that second. Their rows go into the
//! `backlog` instead, where they lie side by side, and into their places in
//! `history` later, a few at a time.
//!
//! A row of the backlog is the number's whole history and stands before that of
//! `history`. Both tables are private here, so nobody can read the one without
//! the other; a transaction sees both as of one moment.

use redb::{
    AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, TableError, TableHandle, WriteTransaction,
};

use super::error::StoreError;
use super::history::Record;
use super::{HISTORY, damage};
use crate::pesel::Ordinal;

const HISTORY_TABLE: TableDefinition<'static, u32, &[u8]> = TableDefinition::new(HISTORY);
const BACKLOG_TABLE: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("backlog");

/// The names of the tables.
pub(super) fn names() -> [&'static str; 2] {
    [HISTORY_TABLE.name(), BACKLOG_TABLE.name()]
}

/// The histories of all numbers, of one transaction.
pub(super) struct Histories<T> {
    rows: T,
    /// `None` when there is nothing in it that could be read.
    backlog: Option<T>,
}

pub(super) type ReadHistories = Histories<ReadOnlyTable<u32, &'static [u8]>>;
pub(super) type WriteHistories<'txn> = Histories<Table<'txn, u32, &'static [u8]>>;

/// A number's key and its row, or why it cannot be read.
type RowRead<'a> = Result<(u32, AccessGuard<'a, &'static [u8]>), StoreError>;

impl<T: ReadableTable<u32, &'static [u8]>> Histories<T> {
    /// The history of a number; empty when there is none.
    pub(super) fn record(&self, ordinal: Ordinal) -> Result<Record, StoreError> {
        let row = match self.behind(ordinal.value())? {
            None => self.rows.get(ordinal.value())?,
            behind => behind,
        };
        Ok(match row {
            Some(row) => Record::decode(ordinal, row.value())?,
            None => Record::absent(ordinal),
        })
    }

    /// All rows in the order of their numbers.
    pub(super) fn rows(&self) -> Result<impl Iterator<Item = RowRead<'_>>, StoreError> {
        let in_place = self.rows.iter()?;
        // Side by side, not one look-up for each of millions of rows.
        let mut backlog = self.backlog.as_ref().map(|backlog| backlog.iter()).transpose()?;
        let mut next_behind = move || backlog.as_mut().and_then(Iterator::next).transpose();
        let mut behind = next_behind()?;
        Ok(in_place.map(move |row| {
            let (key, row) = row?;
            let key = key.value();
            match behind.take() {
                Some((place, newer)) if place.value() == key => {
                    behind = next_behind()?;
                    Ok((key, newer))
                }
                Some((place, _)) if place.value() < key => {
                    Err(damage(HISTORY, None, "a history of the backlog has no place").into())
                }
                later => {
                    behind = later;
                    Ok((key, row))
                }
            }
        }))
    }

    /// Histories that are not in their places.
    pub(super) fn backlog(&self) -> Result<u64, StoreError> {
        Ok(self.backlog.as_ref().map_or(Ok(0), ReadableTableMetadata::len)?)
    }

    fn behind(&self, key: u32) -> Result<Option<AccessGuard<'_, &'static [u8]>>, StoreError> {
        match &self.backlog {
            Some(backlog) if !backlog.is_empty()? => Ok(backlog.get(key)?),
            _ => Ok(None),
        }
    }
}

impl ReadHistories {
    /// As the transaction sees them.
    pub(super) fn of(txn: &ReadTransaction) -> Result<Self, StoreError> {
        let backlog = match txn.open_table(BACKLOG_TABLE) {
            // Said once, so that nobody asks for each of millions of rows.
            Ok(backlog) if backlog.is_empty()? => None,
            Ok(backlog) => Some(backlog),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { rows: txn.open_table(HISTORY_TABLE)?, backlog })
    }
}

impl<'txn> WriteHistories<'txn> {
    /// To be written in the transaction; the tables are made if they are missing.
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { rows: txn.open_table(HISTORY_TABLE)?, backlog: Some(txn.open_table(BACKLOG_TABLE)?) })
    }

    /// Writes a history in its place.
    pub(super) fn put(&mut self, key: u32, row: &[u8]) -> Result<(), StoreError> {
        self.rows.insert(key, row)?;
        if let Some(backlog) = &mut self.backlog
            && !backlog.is_empty()?
        {
            backlog.remove(key)?;
        }
        Ok(())
    }

    /// Writes a history that has a place already, not there but with others of
    /// this moment.
    pub(super) fn put_in_haste(&mut self, key: u32, row: &[u8]) -> Result<(), StoreError> {
        match &mut self.backlog {
            Some(backlog) => drop(backlog.insert(key, row)?),
            None => return self.put(key, row),
        }
        Ok(())
    }

    /// Puts the first `max` of the backlog in their places.
    pub(super) fn settle(&mut self, max: usize) -> Result<(), StoreError> {
        let Some(backlog) = &mut self.backlog else { return Ok(()) };
        for _ in 0..max {
            let Some((key, row)) = backlog.pop_first()? else { break };
            self.rows.insert(key.value(), row.value())?;
        }
        Ok(())
    }
}
