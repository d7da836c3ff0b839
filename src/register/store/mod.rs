//! The register on disk: one redb file.
//!
//! | table | key | value |
//! |---|---|---|
//! | `batches` | sequence of the last event | the events, chained ([`row`]) |
//! | `history` | ordinal | the number's events, short ([`history`]) |
//! | `backlog` | ordinal | the same, newer: not in its place yet ([`histories`]) |
//! | `renumberings` | ordinal and sequence | nothing: both numbers of a renumbering point to it |
//! | `settings` | name | format, creation, head, directory, which ends wait for an import |
//! | `idempotency`, `idempotency-expiry` | hash of a request's key | what it was answered, for 24 hours |
//! | `feeds`, `feed-answers` | channel and registrant | how far each feed is ([`feeds`]) |
//!
//! `batches` is the truth, `history` with its `backlog` the same by number. Events
//! are only ever added; nothing is deleted (art. 23c(3)).

mod agreement;
mod answer;
mod append;
mod bind;
mod bulk;
mod codec;
mod error;
mod export;
mod feeds;
mod held;
mod histories;
mod history;
mod idempotency;
mod import;
mod load;
mod row;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use agreement::Agreement;
pub(super) use answer::Answer;
pub(super) use append::{Appended, Appending};
pub(super) use bulk::Bulk;
pub use error::{Damage, OpenError, StoreError};
pub use export::RegisterExport;
pub(super) use feeds::{Delivered, FeedAnswer};
pub(super) use held::HeldEnds;
use histories::ReadHistories;
pub(super) use history::Record;
use history::fold;
pub use idempotency::Idempotency;
pub(super) use idempotency::Remembered;
pub use import::{RegisterHeld, RegisterImport};
pub(super) use load::{Loaded, OpenMode, Opener, Reopened, Store, file_opener};
use row::Row;

use super::event::{ChainHash, EventsPage, StoredEvent};
use super::feed::FeedStanding;
use super::words::Sequence;
use crate::clock::Moment;
use crate::pesel::Ordinal;

/// The version of all row formats together.
pub(super) const FORMAT: u32 = 1;

const BATCHES: &str = "batches";
const HISTORY: &str = "history";
const SETTINGS: &str = "settings";

const BATCHES_TABLE: TableDefinition<'static, u64, &[u8]> = TableDefinition::new(BATCHES);
const SETTINGS_TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new(SETTINGS);

/// Both numbers of every renumbering, with its sequence. Apart from `history`,
/// so that it cannot have any influence on an answer.
const RENUMBERINGS_TABLE: TableDefinition<'static, (u32, u64), ()> = TableDefinition::new("renumberings");

const FORMAT_KEY: &str = "format";
const CREATED_KEY: &str = "created";
const HEAD_KEY: &str = "head";
/// Of which directory it is.
const DIRECTORY_KEY: &str = "directory";

/// Where the register stands, written with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) sequence: Sequence,
    pub(super) hash: ChainHash,
    /// The latest moment of any event; of the creation when there is none.
    pub(super) as_of: Moment,
    pub(super) reserved: u64,
    pub(super) entries: u64,
}

impl Head {
    pub(super) fn of_new(created: Moment) -> Self {
        Self { sequence: Sequence::ZERO, hash: ChainHash::genesis(), as_of: created, reserved: 0, entries: 0 }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(68);
        out.extend_from_slice(&self.sequence.value().to_le_bytes());
        out.extend_from_slice(self.hash.as_bytes());
        out.extend_from_slice(&self.as_of.unix_seconds().to_le_bytes());
        out.extend_from_slice(&self.reserved.to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(fields) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut fields = codec::Fields::new(fields);
        let head = Self {
            sequence: Sequence::new(fields.u64()?),
            hash: ChainHash(fields.array()?),
            as_of: Moment::from_unix_seconds(i64::from_le_bytes(fields.array()?)),
            reserved: fields.u64()?,
            entries: fields.u64()?,
        };
        fields.is_empty().then_some(head)
    }
}

const fn damage(table: &'static str, sequence: Option<Sequence>, what: &'static str) -> Damage {
    Damage { table, sequence, what }
}

/// The reading side of the store: cheap to clone, never waits for the writer.
#[derive(Clone)]
pub(super) struct StoreHandle {
    /// `None` while the writer opens the file again after a failure.
    database: Arc<ArcSwapOption<Database>>,
}

/// What [`super::Reader::verify_chain`] went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainReport {
    /// The last event.
    pub last: Sequence,
    /// Its hash, which stands for every event before it as well.
    pub hash: ChainHash,
}

impl StoreHandle {
    /// The events after a sequence, in order, and where the register stands, both of
    /// one commit.
    pub(super) fn events(&self, after: Sequence, limit: usize) -> Result<EventsPage, StoreError> {
        self.read(|txn| {
            let last = read_head(txn)?.sequence;
            let batches = txn.open_table(BATCHES_TABLE)?;
            let mut events = Vec::new();
            if limit == 0 {
                return Ok(EventsPage { events, last });
            }
            for row in batches.range(after.next().value()..)? {
                let (key, value) = row?;
                let row = Row::decode(Sequence::new(key.value()), value.value())?;
                events.extend(row.events.into_iter().filter(|event| event.sequence > after));
                if events.len() >= limit {
                    events.truncate(limit);
                    break;
                }
            }
            Ok(EventsPage { events, last })
        })
    }

    /// Where every feed stands.
    pub(super) fn feeds(&self) -> Result<Vec<FeedStanding>, StoreError> {
        self.read(feeds::standings)
    }

    /// Histories that are not in their places.
    pub(super) fn backlog(&self) -> Result<u64, StoreError> {
        self.read(|txn| ReadHistories::of(txn)?.backlog())
    }

    /// The history of a number; empty when there is none.
    pub(super) fn record(&self, ordinal: Ordinal) -> Result<Record, StoreError> {
        self.read(|txn| ReadHistories::of(txn)?.record(ordinal))
    }

    /// Events by rising sequences.
    pub(super) fn events_by_sequence(&self, sequences: &[Sequence]) -> Result<Vec<StoredEvent>, StoreError> {
        self.read(|txn| events_by_sequence(&txn.open_table(BATCHES_TABLE)?, sequences))
    }

    /// The history of a number with its events in full.
    pub(super) fn events_of(&self, ordinal: Ordinal) -> Result<(Record, Vec<StoredEvent>), StoreError> {
        self.read(|txn| {
            let record = ReadHistories::of(txn)?.record(ordinal)?;
            let batches = txn.open_table(BATCHES_TABLE)?;
            let mut row: Vec<StoredEvent> = Vec::new();
            let own = record.events().iter().map(|short| (short.sequence, Some(short.at)));
            let mut sequences: Vec<_> = own.collect();
            sequences.extend(renumberings_of(txn, ordinal)?.into_iter().map(|sequence| (sequence, None)));
            sequences.sort_unstable();
            let mut events = Vec::with_capacity(sequences.len());
            for (sequence, at) in sequences {
                if row.last().is_none_or(|last| last.sequence < sequence) {
                    row = row_with(&batches, sequence)?;
                }
                let is_it = |found: &&StoredEvent| match at {
                    Some(at) => found.event.ordinal == ordinal && found.event.at == at,
                    None => found.event.ordinal == ordinal || found.event.renumbered_to == Some(ordinal),
                };
                let event = row
                    .binary_search_by_key(&sequence, |event| event.sequence)
                    .ok()
                    .map(|place| &row[place])
                    .filter(is_it)
                    .ok_or_else(|| {
                        damage(HISTORY, Some(sequence), "an event of a number is not in the batches")
                    })?;
                events.push(event.clone());
            }
            Ok((record, events))
        })
    }

    /// Makes every hash again, from the first event to the last, and holds the
    /// histories against the events.
    pub(super) fn verify_chain(&self) -> Result<ChainReport, StoreError> {
        self.read(|txn| {
            let head = read_head(txn)?;
            let mut at = ChainReport { last: Sequence::ZERO, hash: ChainHash::genesis() };
            let mut agreement = Agreement::default();
            for row in txn.open_table(BATCHES_TABLE)?.iter()? {
                let (key, value) = row?;
                let key = Sequence::new(key.value());
                let row = Row::decode(key, value.value())?;
                let follows = row.before == at.hash
                    && row.events.first().is_some_and(|first| first.sequence == at.last.next());
                if !follows {
                    return Err(damage(BATCHES, Some(key), "the row does not follow the one before").into());
                }
                at = ChainReport { last: key, hash: row.last };
                row.events.iter().for_each(|event| agreement.event(event.sequence, &event.event));
            }
            if (at.last, at.hash) != (head.sequence, head.hash) {
                return Err(damage(SETTINGS, Some(head.sequence), "the head is not the last event").into());
            }
            for row in ReadHistories::of(txn)?.rows()? {
                let (key, value) = row?;
                let ordinal =
                    Ordinal::new(key).ok_or_else(|| damage(HISTORY, None, "a row has no number's key"))?;
                fold(ordinal, value.value(), |event| agreement.told(ordinal, event))?;
            }
            if !agreement.is_whole() {
                return Err(damage(HISTORY, None, "the histories do not tell the events").into());
            }
            Ok(at)
        })
    }

    fn read<T>(&self, run: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // The whole Arc, not a guard: the disk may take its time.
        let database = self.database.load_full().ok_or(StoreError::Closed)?;
        run(&database.begin_read()?)
    }
}

/// The renumberings that a number is the old or the new number of.
fn renumberings_of(txn: &ReadTransaction, ordinal: Ordinal) -> Result<Vec<Sequence>, StoreError> {
    match txn.open_table(RENUMBERINGS_TABLE) {
        Ok(table) => sequences_of(&table, ordinal),
        // No event was written since the table exists.
        Err(TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn sequences_of(
    table: &impl ReadableTable<(u32, u64), ()>,
    ordinal: Ordinal,
) -> Result<Vec<Sequence>, StoreError> {
    let rows = table.range((ordinal.value(), 0)..=(ordinal.value(), u64::MAX))?;
    rows.map(|row| Ok(Sequence::new(row?.0.value().1))).collect()
}

/// The events of the row that holds this sequence; empty when there is none.
fn row_with(
    batches: &impl ReadableTable<u64, &'static [u8]>,
    sequence: Sequence,
) -> Result<Vec<StoredEvent>, StoreError> {
    match batches.range(sequence.value()..)?.next() {
        Some(row) => {
            let (key, value) = row?;
            Ok(Row::decode(Sequence::new(key.value()), value.value())?.events)
        }
        None => Ok(Vec::new()),
    }
}

/// Events by rising sequences: each row is read once.
fn events_by_sequence(
    batches: &impl ReadableTable<u64, &'static [u8]>,
    sequences: &[Sequence],
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut row: Vec<StoredEvent> = Vec::new();
    let mut events = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        if row.last().is_none_or(|last| last.sequence < *sequence) {
            row = row_with(batches, *sequence)?;
        }
        let place = row
            .binary_search_by_key(sequence, |event| event.sequence)
            .map_err(|_| damage(BATCHES, Some(*sequence), "an event of a number is not there"))?;
        events.push(row[place].clone());
    }
    Ok(events)
}

fn read_head(txn: &ReadTransaction) -> Result<Head, StoreError> {
    let settings = txn.open_table(SETTINGS_TABLE)?;
    let head = settings.get(HEAD_KEY)?.and_then(|value| Head::decode(value.value()));
    Ok(head.ok_or_else(|| damage(SETTINGS, None, "the head is missing or not readable"))?)
}
