//! Portable chunks back into a store, every row judged on its way: by the same
//! code that judges it at a start.

use std::path::{Path, PathBuf};

use redb::{Database, WriteTransaction};

use super::super::event::ChainHash;
use super::super::words::Sequence;
use super::agreement::Agreement;
use super::error::{OpenError, StoreError};
use super::export::Table;
use super::feeds::{self, ANSWERS_TABLE, FEEDS_TABLE};
use super::histories::WriteHistories;
use super::history::fold;
use super::idempotency::{self, EXPIRY_TABLE, IDEMPOTENCY_TABLE};
use super::load::{OpenMode, Store, file_opener};
use super::row::Row;
use super::{
    BATCHES_TABLE, FORMAT, FORMAT_KEY, HEAD_KEY, Head, HeldEnds, RENUMBERINGS_TABLE, SETTINGS_TABLE, damage,
};
use crate::clock::Moment;
use crate::pesel::Ordinal;
use crate::rows::{NotRows, Order, Rows};

/// Rows, in bytes, that share a transaction while a store is filled.
const BYTES_PER_COMMIT: usize = 64 * 1024 * 1024;
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// What an export was found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterHeld {
    /// The last event.
    pub sequence: Sequence,
    /// Its moment; of the creation when there is none.
    pub as_of: Moment,
    /// The last event's hash, which stands for every event before it as well.
    pub hash: ChainHash,
    /// Reserved numbers.
    pub reserved: u64,
    /// Numbers that ever had an event.
    pub entries: u64,
}

/// Takes the chunks of an export, in their order.
pub struct RegisterImport {
    scan: Scan,
    into: Option<Target>,
}

struct Target {
    path: PathBuf,
    database: Database,
    txn: Option<WriteTransaction>,
    /// Bytes of rows in the transaction.
    bytes: usize,
}

impl RegisterImport {
    /// Judges the rows and keeps none.
    #[must_use]
    pub fn judging() -> Self {
        Self { scan: Scan::default(), into: None }
    }

    /// Makes a new store of the rows.
    ///
    /// # Errors
    /// When there is one already, or the disk fails.
    pub fn into_new(path: &Path) -> Result<Self, OpenError> {
        if path.exists() {
            return Err(OpenError::NotEmpty);
        }
        let database = file_opener(path.to_owned(), CACHE_BYTES)(OpenMode::CreateIfMissing)?;
        let into = Target { path: path.to_owned(), database, txn: None, bytes: 0 };
        Ok(Self { scan: Scan::default(), into: Some(into) })
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// When it is not what an export gives next, or the disk fails.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), OpenError> {
        let mut rows = Rows::of(chunk).map_err(wrong)?;
        let table = Table::from_code(rows.table).ok_or_else(|| wrong(NotRows("rows of an unknown table")))?;
        let mut taken = Vec::new();
        for row in rows.by_ref() {
            let (key, value) = row.map_err(wrong)?;
            self.scan.row(table, key, value)?;
            taken.push((key, value));
        }
        match &mut self.into {
            Some(target) => Ok(target.put(table, &taken, chunk.len())?),
            None => Ok(()),
        }
    }

    /// Judges the whole; a new store is then complete and durable, and has been
    /// read again from its first event to its last.
    ///
    /// # Errors
    /// When something is missing or does not fit, or the disk fails.
    pub fn finish(self) -> Result<RegisterHeld, OpenError> {
        let held = self.scan.finish()?;
        if let Some(target) = self.into {
            let path = target.close()?;
            let loaded = Store::open(file_opener(path, CACHE_BYTES), OpenMode::Existing, held.as_of)?;
            let chain = loaded.store.handle().verify_chain()?;
            let snapshot = (loaded.snapshot.reserved_count(), loaded.snapshot.entry_count());
            if (chain.last, chain.hash, snapshot) != (held.sequence, held.hash, (held.reserved, held.entries))
            {
                return Err(damage("file", None, "the new store is not what was put into it").into());
            }
        }
        Ok(held)
    }
}

impl std::fmt::Debug for RegisterImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegisterImport")
    }
}

fn wrong(NotRows(what): NotRows) -> OpenError {
    damage("backup", None, what).into()
}

impl Target {
    fn put(&mut self, table: Table, rows: &[(&[u8], &[u8])], bytes: usize) -> Result<(), StoreError> {
        let txn = match self.txn.take() {
            Some(txn) => txn,
            None => {
                let mut txn = self.database.begin_write()?;
                txn.set_quick_repair(true);
                txn
            }
        };
        put_rows(&txn, table, rows)?;
        self.bytes += bytes;
        if self.bytes >= BYTES_PER_COMMIT {
            txn.commit()?;
            self.bytes = 0;
        } else {
            self.txn = Some(txn);
        }
        Ok(())
    }

    fn close(self) -> Result<PathBuf, StoreError> {
        let mut txn = match self.txn {
            Some(txn) => txn,
            None => self.database.begin_write()?,
        };
        txn.set_quick_repair(true);
        // The writer expects the tables that a new store has.
        txn.open_table(BATCHES_TABLE)?;
        WriteHistories::open(&txn)?;
        txn.open_table(IDEMPOTENCY_TABLE)?;
        txn.open_table(EXPIRY_TABLE)?;
        txn.commit()?;
        self.database.close()?;
        Ok(self.path)
    }
}

fn put_rows(txn: &WriteTransaction, table: Table, rows: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
    let unreadable = || damage(BACKUP, None, KEY);
    match table {
        Table::Settings => {
            let mut table = txn.open_table(SETTINGS_TABLE)?;
            for (key, value) in rows {
                table.insert(std::str::from_utf8(key).map_err(|_| unreadable())?, value)?;
            }
        }
        Table::Batches => {
            let mut table = txn.open_table(BATCHES_TABLE)?;
            for (key, value) in rows {
                table.insert(u64::from_be_bytes(fixed(key)?), value)?;
            }
        }
        Table::History => {
            let mut histories = WriteHistories::open(txn)?;
            for (key, value) in rows {
                histories.put(u32::from_be_bytes(fixed(key)?), value)?;
            }
        }
        Table::Renumberings => {
            let mut table = txn.open_table(RENUMBERINGS_TABLE)?;
            for (key, _) in rows {
                table.insert(renumbering(key)?, ())?;
            }
        }
        Table::Idempotency => {
            let mut table = txn.open_table(IDEMPOTENCY_TABLE)?;
            for (key, value) in rows {
                table.insert(&fixed::<32>(key)?, value)?;
            }
        }
        Table::Expiry => {
            let mut table = txn.open_table(EXPIRY_TABLE)?;
            for (key, _) in rows {
                table.insert(&fixed::<36>(key)?, ())?;
            }
        }
        Table::Feeds | Table::FeedAnswers => {
            let definition = if table == Table::Feeds { FEEDS_TABLE } else { ANSWERS_TABLE };
            let mut table = txn.open_table(definition)?;
            for (key, value) in rows {
                table.insert(*key, *value)?;
            }
        }
    }
    Ok(())
}

const BACKUP: &str = "backup";
const KEY: &str = "a row has no key of its table";

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], StoreError> {
    Ok(bytes.try_into().map_err(|_| damage(BACKUP, None, KEY))?)
}

fn renumbering(key: &[u8]) -> Result<(u32, u64), StoreError> {
    let key = fixed::<12>(key)?;
    let (number, sequence) = key.split_at(4);
    Ok((u32::from_be_bytes(fixed(number)?), u64::from_be_bytes(fixed(sequence)?)))
}

/// Judges rows as they come: what a start and `verify_chain` would find.
struct Scan {
    order: Order,
    has_format: bool,
    head: Option<Head>,
    last: Sequence,
    hash: ChainHash,
    as_of: Option<Moment>,
    reserved: u64,
    entries: u64,
    /// The highest sequence that anything but the events names.
    named: Sequence,
    agreement: Agreement,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            order: Order::default(),
            has_format: false,
            head: None,
            last: Sequence::ZERO,
            hash: ChainHash::genesis(),
            as_of: None,
            reserved: 0,
            entries: 0,
            named: Sequence::ZERO,
            agreement: Agreement::default(),
        }
    }
}

impl Scan {
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), OpenError> {
        self.order.follow(table as u8, key).map_err(wrong)?;
        match table {
            Table::Settings => self.setting(key, value)?,
            Table::Batches => self.batch(Sequence::new(u64::from_be_bytes(fixed(key)?)), value)?,
            Table::History => self.history(u32::from_be_bytes(fixed(key)?), value)?,
            Table::Renumberings => self.name(Sequence::new(renumbering(key)?.1)),
            Table::Idempotency => {
                self.name(idempotency::judge(&fixed(key)?, value).map_err(StoreError::from)?);
            }
            Table::Expiry => drop(fixed::<36>(key)?),
            Table::Feeds => feeds::judge_standing(key, value).map_err(StoreError::from)?,
            Table::FeedAnswers => {
                self.name(feeds::judge_answer(key, value).map_err(StoreError::from)?);
            }
        }
        Ok(())
    }

    fn setting(&mut self, key: &[u8], value: &[u8]) -> Result<(), OpenError> {
        if key == FORMAT_KEY.as_bytes() {
            match u32::from_le_bytes(fixed(value)?) {
                FORMAT => self.has_format = true,
                found => return Err(OpenError::UnknownFormat { found }),
            }
        } else if key == HEAD_KEY.as_bytes() {
            self.head = Head::decode(value);
        } else {
            HeldEnds::judge(key, value)?;
        }
        Ok(())
    }

    fn batch(&mut self, key: Sequence, value: &[u8]) -> Result<(), StoreError> {
        let row = Row::decode(key, value)?;
        let first = row.events.first().map(|first| first.sequence);
        if row.before != self.hash || first != Some(self.last.next()) {
            return Err(damage(super::BATCHES, Some(key), "the row does not follow the one before").into());
        }
        (self.last, self.hash) = (key, row.last);
        row.events.iter().for_each(|event| self.agreement.event(event.sequence, &event.event));
        self.as_of =
            row.events.iter().map(|event| Some(event.event.at.moment())).fold(self.as_of, Option::max);
        Ok(())
    }

    fn history(&mut self, key: u32, value: &[u8]) -> Result<(), StoreError> {
        let ordinal =
            Ordinal::new(key).ok_or_else(|| damage(super::HISTORY, None, "a row has no number's key"))?;
        let mut last = Sequence::ZERO;
        let entry = fold(ordinal, value, |event| {
            last = event.sequence;
            self.agreement.told(ordinal, event);
        })?;
        self.name(last);
        self.entries += 1;
        self.reserved += u64::from(entry.state().is_reserved());
        Ok(())
    }

    fn name(&mut self, sequence: Sequence) {
        self.named = self.named.max(sequence);
    }

    fn finish(self) -> Result<RegisterHeld, OpenError> {
        let wrong = |what| OpenError::from(damage(BACKUP, None, what));
        let head = self.head.ok_or_else(|| wrong("the head is missing or not readable"))?;
        if !self.has_format {
            return Err(wrong("the format is missing"));
        }
        if (head.sequence, head.hash) != (self.last, self.hash)
            || self.as_of.is_some_and(|as_of| as_of != head.as_of)
        {
            return Err(wrong("the last row and the head do not agree"));
        }
        if (head.reserved, head.entries) != (self.reserved, self.entries) {
            return Err(wrong("the entries are not as many as were written"));
        }
        if !self.agreement.is_whole() {
            return Err(wrong("the histories do not tell the events"));
        }
        if self.named > head.sequence {
            return Err(wrong("an event lies beyond the head"));
        }
        Ok(RegisterHeld {
            sequence: head.sequence,
            as_of: head.as_of,
            hash: head.hash,
            reserved: head.reserved,
            entries: head.entries,
        })
    }
}
