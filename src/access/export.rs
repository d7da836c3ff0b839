//! The store's rows as portable chunks, all of one moment, for a backup; and
//! back into a new store, every record judged on its way as at a start.

use std::path::Path;
use std::sync::Arc;

use redb::{Key, ReadTransaction, ReadableTable as _, TableHandle as _, Value, WriteTransaction};

use super::limiter::KeyLimiter;
use super::store::{
    FORMAT, KEYS, OpenError, REMEMBERED, REMEMBERED_AT, SETTINGS, Store, StoreError, TOKENS, USAGE, failed,
    same_id,
};
use super::stored::{self, Unreadable};
use super::time::{LimiterTime, Ticks};
use crate::clock::{Clock, Moment};
use crate::environment::Environment;
use crate::rows::{NotRows, Order, Row, RowTooLong, Rows, Stopped, each_chunk};

/// Rows, in bytes, that share a transaction while a store is filled.
const BYTES_PER_COMMIT: usize = 64 * 1024 * 1024;

/// The tables by their codes in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Table {
    Settings = 1,
    Keys = 2,
    Tokens = 3,
    Usage = 4,
    Remembered = 5,
    RememberedAt = 6,
}

impl Table {
    const ALL: [Self; 6] =
        [Self::Settings, Self::Keys, Self::Tokens, Self::Usage, Self::Remembered, Self::RememberedAt];

    fn name(self) -> &'static str {
        match self {
            Self::Settings => SETTINGS.name(),
            Self::Keys => KEYS.name(),
            Self::Tokens => TOKENS.name(),
            Self::Usage => USAGE.name(),
            Self::Remembered => REMEMBERED.name(),
            Self::RememberedAt => REMEMBERED_AT.name(),
        }
    }
}

/// Everything in the store as of one commit; no secret is in it, only hashes.
pub struct AccessExport(ReadTransaction);

impl AccessExport {
    pub(super) const fn of(txn: ReadTransaction) -> Self {
        Self(txn)
    }

    /// Gives all rows to `sink`, chunk by chunk, until it fails. Reads the disk.
    ///
    /// # Errors
    /// The store's, or the sink's.
    pub fn each_chunk<E>(
        &self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Stopped<StoreError, E>> {
        self.has_known_tables().map_err(Stopped::Store)?;
        for (table, definition) in
            [(Table::Settings, SETTINGS), (Table::Keys, KEYS), (Table::Tokens, TOKENS), (Table::Usage, USAGE)]
        {
            self.table(table, definition, |k: &str, v: &str, out| out.set(k.as_bytes(), v.as_bytes()), sink)?;
        }
        self.table(
            Table::Remembered,
            REMEMBERED,
            |k: &[u8; 32], v: &str, out| out.set(k, v.as_bytes()),
            sink,
        )?;
        self.table(
            Table::RememberedAt,
            REMEMBERED_AT,
            |(at, digest): (i64, &[u8; 32]), (), out| {
                let mut key = [0; 40];
                key[..8].copy_from_slice(&rising(at));
                key[8..].copy_from_slice(digest);
                out.set(&key, &[]);
            },
            sink,
        )
    }

    /// A table that is not known here would be missing from every backup.
    fn has_known_tables(&self) -> Result<(), StoreError> {
        let is_known = |name: &str| Table::ALL.iter().any(|table| table.name() == name);
        if self.0.list_tables().map_err(failed)?.any(|table| !is_known(table.name()))
            || self.0.list_multimap_tables().map_err(failed)?.next().is_some()
        {
            return Err(corrupted("a table that backups do not know"));
        }
        Ok(())
    }

    fn table<K: Key + 'static, V: Value + 'static, E>(
        &self,
        table: Table,
        definition: redb::TableDefinition<'static, K, V>,
        write: impl for<'r> Fn(K::SelfType<'r>, V::SelfType<'r>, &mut Row),
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), Stopped<StoreError, E>> {
        let rows = self.0.open_table(definition).map_err(|error| Stopped::Store(failed(error)))?;
        let mut rows = rows.iter().map_err(|error| Stopped::Store(failed(error)))?;
        let next = |row: &mut Row| {
            let Some(found) = rows.next() else { return Ok(false) };
            let (key, value) = found.map_err(failed)?;
            write(key.value(), value.value(), row);
            Ok(true)
        };
        each_chunk(table as u8, next, |RowTooLong| corrupted("a row is longer than any can be"), sink)
    }
}

impl std::fmt::Debug for AccessExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessExport")
    }
}

/// Eight bytes that rise as the seconds do, those before 1970 too.
fn rising(seconds: i64) -> [u8; 8] {
    (seconds as u64 ^ 1 << 63).to_be_bytes()
}

fn seconds_of(rising: [u8; 8]) -> i64 {
    (u64::from_be_bytes(rising) ^ 1 << 63) as i64
}

fn corrupted(what: &str) -> StoreError {
    failed(redb::Error::Corrupted(what.to_owned()))
}

/// What an export was found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessHeld {
    /// The environment that it belongs to.
    pub environment: Environment,
    /// API keys, deactivated ones included.
    pub keys: u64,
    /// Admin tokens, deactivated ones included.
    pub tokens: u64,
}

/// Takes the chunks of an export, in their order.
pub struct AccessImport {
    environment: Environment,
    order: Order,
    has_settings: [bool; 2],
    keys: u64,
    tokens: u64,
    limiter: Arc<KeyLimiter>,
    into: Option<Target>,
}

struct Target {
    path: std::path::PathBuf,
    store: Store,
    txn: Option<WriteTransaction>,
    /// Bytes of rows in the transaction.
    bytes: usize,
}

impl AccessImport {
    /// Judges the rows, which must be of this environment, and keeps none.
    #[must_use]
    pub fn judging(environment: Environment) -> Self {
        // The records are read as at a start, which gives each key a budget.
        let time = Arc::new(LimiterTime::new(Clock::system(), Ticks::system()));
        Self {
            environment,
            order: Order::default(),
            has_settings: [false; 2],
            keys: 0,
            tokens: 0,
            limiter: Arc::new(KeyLimiter::new(time, None)),
            into: None,
        }
    }

    /// Makes a new store of the rows.
    ///
    /// # Errors
    /// When there is one already, or the disk fails.
    pub fn into_new(path: &Path, environment: Environment) -> Result<Self, OpenError> {
        if path.exists() {
            return Err(OpenError::Io(std::io::ErrorKind::AlreadyExists.into()));
        }
        let store = Store::create(path, environment)?;
        let into = Some(Target { path: path.to_owned(), store, txn: None, bytes: 0 });
        Ok(Self { into, ..Self::judging(environment) })
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// When it is not what an export gives next, or the disk fails.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), OpenError> {
        let mut rows = Rows::of(chunk).map_err(|NotRows(what)| wrong("backup", b"", what))?;
        let table = Table::ALL.into_iter().find(|table| *table as u8 == rows.table);
        let table = table.ok_or_else(|| wrong("backup", b"", "rows of an unknown table"))?;
        let mut taken = Vec::new();
        for row in rows.by_ref() {
            let (key, value) = row.map_err(|NotRows(what)| wrong(table.name(), b"", what))?;
            self.order.follow(table as u8, key).map_err(|NotRows(what)| wrong(table.name(), b"", what))?;
            self.judge(table, key, value)?;
            taken.push((key, value));
        }
        match &mut self.into {
            Some(target) => target.put(table, &taken, chunk.len()).map_err(OpenError::Store),
            None => Ok(()),
        }
    }

    /// Judges the whole; a new store is then complete and durable, and has been
    /// read again.
    ///
    /// # Errors
    /// When something is missing or does not fit, or the disk fails.
    pub fn finish(self) -> Result<AccessHeld, OpenError> {
        if self.has_settings != [true; 2] {
            return Err(wrong(SETTINGS.name(), b"", "a setting is missing"));
        }
        if let Some(target) = self.into {
            let path = target.close().map_err(OpenError::Store)?;
            let limiter = self.limiter;
            let loaded = Store::open(&path, self.environment)?.load(|_, _| Arc::clone(&limiter))?;
            if (loaded.key_count() as u64, loaded.token_count() as u64) != (self.keys, self.tokens) {
                return Err(wrong("backup", b"", "the new store is not what was put into it"));
            }
        }
        Ok(AccessHeld { environment: self.environment, keys: self.keys, tokens: self.tokens })
    }

    fn judge(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), OpenError> {
        let read = |bytes| std::str::from_utf8(bytes).map_err(|_| wrong(table.name(), b"", "no text"));
        let damaged = |why: Unreadable| wrong(table.name(), key, &why);
        match table {
            Table::Settings => self.setting(read(key)?, read(value)?)?,
            Table::Keys => {
                let limiter = Arc::clone(&self.limiter);
                let record =
                    stored::read_key(read(value)?, self.environment, |_| limiter).map_err(damaged)?;
                same_id(read(key)?, record.id()).map_err(damaged)?;
                self.keys += 1;
            }
            Table::Tokens => {
                let record = stored::read_token(read(value)?, self.environment).map_err(damaged)?;
                same_id(read(key)?, record.id()).map_err(damaged)?;
                self.tokens += 1;
            }
            Table::Usage => {
                stored::read_id(read(key)?).map_err(damaged)?;
                stored::read_usage(read(value)?).map_err(damaged)?;
            }
            Table::Remembered => {
                stored::read_remembered(read(value)?).map_err(|why| wrong(table.name(), b"", &why))?;
            }
            Table::RememberedAt => {
                let at: [u8; 8] = key.first_chunk().copied().unwrap_or_default();
                let moment = Moment::from_unix_seconds(seconds_of(at));
                if key.len() != 40 || moment.unix_seconds() != seconds_of(at) {
                    return Err(wrong(table.name(), b"", "no key of this table"));
                }
            }
        }
        Ok(())
    }

    fn setting(&mut self, name: &str, value: &str) -> Result<(), OpenError> {
        match name {
            "format" if value != FORMAT => return Err(OpenError::UnknownFormat(value.to_owned())),
            "environment" if value != self.environment.name() => {
                return Err(OpenError::OtherEnvironment(value.to_owned()));
            }
            "format" => self.has_settings[0] = true,
            "environment" => self.has_settings[1] = true,
            _ => {}
        }
        Ok(())
    }
}

impl std::fmt::Debug for AccessImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessImport")
    }
}

/// Damage of a record; `key` is an identifier, or nothing.
fn wrong(table: &'static str, key: &[u8], why: &str) -> OpenError {
    let record = String::from_utf8_lossy(key).into_owned();
    OpenError::Damaged { table, record, why: why.to_owned() }
}

impl Target {
    fn put(&mut self, table: Table, rows: &[(&[u8], &[u8])], bytes: usize) -> Result<(), StoreError> {
        let txn = match self.txn.take() {
            Some(txn) => txn,
            None => self.store.begin()?,
        };
        put_rows(&txn, table, rows)?;
        self.bytes += bytes;
        if self.bytes >= BYTES_PER_COMMIT {
            txn.commit().map_err(failed)?;
            self.bytes = 0;
        } else {
            self.txn = Some(txn);
        }
        Ok(())
    }

    fn close(self) -> Result<std::path::PathBuf, StoreError> {
        if let Some(txn) = self.txn {
            txn.commit().map_err(failed)?;
        }
        self.store.close()?;
        Ok(self.path)
    }
}

fn put_rows(txn: &WriteTransaction, table: Table, rows: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| corrupted("no text"));
    let texts = |definition| {
        let mut table = txn.open_table(definition).map_err(failed)?;
        for (key, value) in rows {
            table.insert(text(key)?, text(value)?).map_err(failed)?;
        }
        Ok(())
    };
    match table {
        Table::Settings => texts(SETTINGS),
        Table::Keys => texts(KEYS),
        Table::Tokens => texts(TOKENS),
        Table::Usage => texts(USAGE),
        Table::Remembered => {
            let mut table = txn.open_table(REMEMBERED).map_err(failed)?;
            for (key, value) in rows {
                let key: &[u8; 32] = (*key).try_into().map_err(|_| corrupted("no digest"))?;
                table.insert(key, text(value)?).map_err(failed)?;
            }
            Ok(())
        }
        Table::RememberedAt => {
            let mut table = txn.open_table(REMEMBERED_AT).map_err(failed)?;
            for (key, _) in rows {
                let (at, digest) = key.split_first_chunk().ok_or_else(|| corrupted("no moment"))?;
                let digest: &[u8; 32] = digest.try_into().map_err(|_| corrupted("no digest"))?;
                table.insert((seconds_of(*at), digest), ()).map_err(failed)?;
            }
            Ok(())
        }
    }
}
