//! Appending events within one transaction: all of them or none.

use std::collections::HashMap;

use redb::{Table, WriteTransaction};

use super::super::entry::State;
use super::super::event::{Event, StoredEvent};
use super::super::feed::{Delivery, Feed};
use super::super::snapshot::{Changed, Snapshot};
use super::super::words::{Sequence, Stamp};
use super::answer::Answer;
use super::error::StoreError;
use super::feeds::{Delivered, FeedAnswer, Feeds};
use super::histories::WriteHistories;
use super::history::Record;
use super::idempotency::{Idempotency, Memory, Remembered};
use super::row::RowBuilder;
use super::{
    BATCHES, BATCHES_TABLE, HEAD_KEY, Head, HeldEnds, RENUMBERINGS_TABLE, SETTINGS_TABLE, damage,
    events_by_sequence, row_with, sequences_of,
};
use crate::limits::{HISTORIES_BACKLOG_MAX, HISTORIES_IN_HASTE_MIN};
use crate::pesel::Ordinal;

/// What is being appended. It sees its own changes, nobody else does.
pub(in super::super) struct Appending<'txn, 'base> {
    txn: &'txn WriteTransaction,
    batches: Table<'txn, u64, &'static [u8]>,
    histories: WriteHistories<'txn>,
    /// Are histories written beside one another now and put in their places later?
    in_haste: bool,
    renumberings: Table<'txn, (u32, u64), ()>,
    memory: Memory<'txn>,
    feeds: Feeds<'txn>,
    /// Has a feed gone on, or was a request remembered? Both may be without any event.
    beside_events: bool,
    head: Head,
    row: RowBuilder,
    /// The snapshot as of the last commit: who is absent there has no history
    /// to be read.
    base: &'base Snapshot,
    /// Histories continued here. They are written at the end, in the order of
    /// their numbers: so each page of the table is touched once in a commit,
    /// however strewn an import is.
    records: HashMap<Ordinal, Record>,
    /// Reserved numbers, the records' changes included.
    reserved: u64,
    buffer: Vec<u8>,
}

/// What was appended.
pub(in super::super) struct Appended {
    pub(in super::super) head: Head,
    pub(in super::super) changes: Vec<Changed>,
    /// Histories that are not in their places yet.
    pub(in super::super) backlog: u64,
}

impl<'txn, 'base> Appending<'txn, 'base> {
    pub(in super::super) fn begin(
        txn: &'txn WriteTransaction,
        head: Head,
        base: &'base Snapshot,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            txn,
            batches: txn.open_table(BATCHES_TABLE)?,
            histories: WriteHistories::open(txn)?,
            in_haste: false,
            renumberings: txn.open_table(RENUMBERINGS_TABLE)?,
            memory: Memory::open(txn)?,
            feeds: Feeds::open(txn)?,
            beside_events: false,
            head,
            row: RowBuilder::after(head.sequence, head.hash),
            base,
            records: HashMap::new(),
            reserved: head.reserved,
            buffer: Vec::new(),
        })
    }

    /// The history of a number, this transaction's events included.
    pub(in super::super) fn record(&self, ordinal: Ordinal) -> Result<Record, StoreError> {
        if let Some(record) = self.records.get(&ordinal) {
            return Ok(record.clone());
        }
        match self.base.state(ordinal) {
            State::Absent => Ok(Record::absent(ordinal)),
            State::Reserved { .. } | State::Withdrawn { .. } => self.histories.record(ordinal),
        }
    }

    /// Writes an event into the order of all events. Its number's history is
    /// another step, so that an import may write that in the order of numbers.
    pub(in super::super) fn log(&mut self, event: &Event) -> Result<Sequence, StoreError> {
        let sequence = self.row.push(event);
        // An initial load brings each number's history in order, not all of them
        // together: the register is as of the latest moment it has seen.
        let at = event.at.moment();
        self.head.as_of = if sequence == Sequence::ZERO.next() { at } else { self.head.as_of.max(at) };
        if self.row.is_full() {
            self.close_row()?;
        }
        Ok(sequence)
    }

    /// The last event so far.
    pub(in super::super) const fn sequence(&self) -> Sequence {
        self.row.sequence()
    }

    /// Numbers that are reserved, this transaction's changes included.
    pub(in super::super) const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Keeps the history of a number after its record was continued.
    pub(in super::super) fn put(&mut self, record: Record) {
        let known = self.records.get(&record.ordinal());
        let before = known.map_or(record.before(), Record::entry).state();
        self.reserved += u64::from(record.entry().state().is_reserved());
        self.reserved -= u64::from(before.is_reserved());
        self.records.insert(record.ordinal(), record);
    }

    /// Logs an event and writes its number's history.
    pub(in super::super) fn append(
        &mut self,
        mut record: Record,
        event: Event,
    ) -> Result<StoredEvent, StoreError> {
        let sequence = self.log(&event)?;
        record.push(sequence, &event);
        self.put(record);
        Ok(StoredEvent { sequence, hash: self.row.hash(), event })
    }

    /// Logs a renumbering for both numbers; what is reserved stays as it is.
    pub(in super::super) fn append_renumbering(&mut self, event: Event) -> Result<StoredEvent, StoreError> {
        let sequence = self.log(&event)?;
        for number in std::iter::once(event.ordinal).chain(event.renumbered_to) {
            self.renumberings.insert((number.value(), sequence.value()), ())?;
        }
        Ok(StoredEvent { sequence, hash: self.row.hash(), event })
    }

    /// The renumberings that a number is part of, in order.
    pub(in super::super) fn renumberings(&self, ordinal: Ordinal) -> Result<Vec<Sequence>, StoreError> {
        sequences_of(&self.renumberings, ordinal)
    }

    pub(in super::super) fn recall(
        &self,
        request: &Idempotency,
        now: Stamp,
    ) -> Result<Remembered, StoreError> {
        self.memory.recall(request, now)
    }

    pub(in super::super) fn remember(
        &mut self,
        request: &Idempotency,
        answer: Answer,
        now: Stamp,
    ) -> Result<(), StoreError> {
        self.beside_events = true;
        self.memory.remember(request, answer, now)
    }

    /// What is known about a message of a feed.
    pub(in super::super) fn deliver(
        &self,
        feed: &Feed,
        delivery: &Delivery,
    ) -> Result<Delivered, StoreError> {
        self.feeds.deliver(feed, delivery)
    }

    /// Takes the next message of a feed.
    pub(in super::super) fn take(
        &mut self,
        feed: &Feed,
        delivery: &Delivery,
        answer: FeedAnswer,
        now: Stamp,
    ) -> Result<(), StoreError> {
        self.beside_events = true;
        self.feeds.take(feed, delivery, answer, now)
    }

    /// An event of an earlier commit.
    pub(in super::super) fn event(&self, sequence: Sequence) -> Result<StoredEvent, StoreError> {
        let row = row_with(&self.batches, sequence)?;
        let found = row.into_iter().find(|event| event.sequence == sequence);
        Ok(found.ok_or_else(|| damage(BATCHES, Some(sequence), "a remembered event is not there"))?)
    }

    /// Lets [`Self::events_of`] find what was appended before as well.
    pub(in super::super) fn settle(&mut self) -> Result<(), StoreError> {
        self.close_row()
    }

    /// Events of earlier commits, by rising sequences: each row is read once.
    pub(in super::super) fn events_of(&self, sequences: &[Sequence]) -> Result<Vec<StoredEvent>, StoreError> {
        events_by_sequence(&self.batches, sequences)
    }

    /// So many histories are about to be continued by the clock: they go into the
    /// backlog, if they are many and it has room for them.
    pub(in super::super) fn expect_due(&mut self, count: usize) -> Result<(), StoreError> {
        let room = HISTORIES_BACKLOG_MAX.saturating_sub(self.histories.backlog()?);
        self.in_haste = count >= HISTORIES_IN_HASTE_MIN && count as u64 <= room;
        Ok(())
    }

    /// Is there nothing to commit?
    pub(in super::super) fn is_empty(&self) -> bool {
        self.row.sequence() == self.head.sequence && !self.beside_events
    }

    /// Writes what is left to write; the commit is the caller's.
    /// `held` is what a start is to find held, when that has changed.
    pub(in super::super) fn finish(
        mut self,
        now: Stamp,
        held: Option<&HeldEnds>,
    ) -> Result<Appended, StoreError> {
        self.close_row()?;
        self.memory.forget(now)?;
        self.head.sequence = self.row.sequence();
        self.head.hash = self.row.hash();
        let changes = self.write_histories()?;
        let mut settings = self.txn.open_table(SETTINGS_TABLE)?;
        settings.insert(HEAD_KEY, self.head.encode().as_slice())?;
        if let Some(held) = held {
            held.store(&mut settings)?;
        }
        Ok(Appended { head: self.head, changes, backlog: self.histories.backlog()? })
    }

    fn write_histories(&mut self) -> Result<Vec<Changed>, StoreError> {
        let mut records: Vec<Record> = std::mem::take(&mut self.records).into_values().collect();
        records.sort_unstable_by_key(Record::ordinal);
        for record in &records {
            self.write_history(record)?;
        }
        Ok(records.iter().map(|record| (record.ordinal(), *record.entry())).collect())
    }

    /// Writes a history at once: for numbers that come in order and never again.
    pub(super) fn write_history(&mut self, record: &Record) -> Result<(), StoreError> {
        let (before, after) = (record.before().state(), record.entry().state());
        self.head.entries += u64::from(before == State::Absent);
        self.head.reserved += u64::from(after.is_reserved());
        self.head.reserved -= u64::from(before.is_reserved());
        record.encode(&mut self.buffer);
        let key = record.ordinal().value();
        if self.in_haste && before != State::Absent {
            self.histories.put_in_haste(key, &self.buffer)
        } else {
            self.histories.put(key, &self.buffer)
        }
    }

    fn close_row(&mut self) -> Result<(), StoreError> {
        if !self.row.is_empty() {
            self.batches.insert(self.row.sequence().value(), self.row.encode().as_slice())?;
            self.row.restart();
        }
        Ok(())
    }
}
