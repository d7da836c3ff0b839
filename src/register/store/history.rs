//! Rows of `history` and of its `backlog`: the events of one number, short.
//!
//! CRC32C of ordinal and events (4 bytes, so that a flipped bit is found at
//! every start and at every reading), then for each event: tag (kind, channel,
//! re-reservation?), stamp, sequence, and the re-reservation's stamp if any.

use super::super::entry::{Entry, State};
use super::super::event::Event;
use super::super::words::{Channel, EventKind, Sequence, Stamp};
use super::codec::{Fields, put_varint};
use super::error::Damage;
use super::{HISTORY, damage};
use crate::clock::Moment;
use crate::pesel::Ordinal;

const AGAIN_BIT: u8 = 1 << 4;
const CRC_BYTES: usize = 4;

/// An event as its number's history keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct HistoryEvent {
    pub(in super::super) sequence: Sequence,
    pub(in super::super) at: Stamp,
    pub(in super::super) kind: EventKind,
    pub(in super::super) channel: Channel,
    pub(in super::super) reserve_again_at: Option<Stamp>,
}

/// The history of one number, to be read and continued.
#[derive(Debug, Clone)]
pub(in super::super) struct Record {
    ordinal: Ordinal,
    /// As it was read.
    before: Entry,
    entry: Entry,
    events: Vec<HistoryEvent>,
}

impl Record {
    /// The history of a number without events.
    pub(in super::super) const fn absent(ordinal: Ordinal) -> Self {
        Self { ordinal, before: Entry::ABSENT, entry: Entry::ABSENT, events: Vec::new() }
    }

    /// Reads a row.
    pub(super) fn decode(ordinal: Ordinal, row: &[u8]) -> Result<Self, Damage> {
        let mut events = Vec::new();
        let entry = fold(ordinal, row, |event| events.push(*event))?;
        Ok(Self { ordinal, before: entry, entry, events })
    }

    pub(in super::super) const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    pub(in super::super) const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The entry as it was before this record was continued.
    pub(super) const fn before(&self) -> &Entry {
        &self.before
    }

    pub(in super::super) fn events(&self) -> &[HistoryEvent] {
        &self.events
    }

    /// The temporary withdrawal that lasts: the last event, if it is one.
    pub(in super::super) fn pending_withdrawal(&self) -> Option<Sequence> {
        let last = self.events.last()?;
        (self.entry.re_reservation_at().is_some() && last.reserve_again_at.is_some()).then_some(last.sequence)
    }

    /// Adds an event that has got its sequence.
    pub(in super::super) fn push(&mut self, sequence: Sequence, event: &Event) {
        let Event { at, kind, channel, reserve_again_at, .. } = *event;
        self.entry.apply(kind, at, reserve_again_at);
        self.events.push(HistoryEvent { sequence, at, kind, channel, reserve_again_at });
    }

    /// The state at a moment, looking at events up to a sequence.
    pub(in super::super) fn state_at(&self, at: Moment, up_to: Sequence) -> State {
        let mut entry = Entry::ABSENT;
        for event in &self.events {
            if event.sequence <= up_to && event.at.moment() <= at {
                entry.apply(event.kind, event.at, event.reserve_again_at);
            }
        }
        entry.state()
    }

    /// Writes the row.
    pub(super) fn encode(&self, row: &mut Vec<u8>) {
        row.clear();
        row.extend_from_slice(&[0; CRC_BYTES]);
        for event in &self.events {
            let again = if event.reserve_again_at.is_some() { AGAIN_BIT } else { 0 };
            row.push(event.kind.code() | event.channel.code() << 1 | again);
            row.extend_from_slice(&event.at.seconds().to_le_bytes());
            put_varint(row, event.sequence.value());
            if let Some(again_at) = event.reserve_again_at {
                row.extend_from_slice(&again_at.seconds().to_le_bytes());
            }
        }
        let crc = crc(self.ordinal, &row[CRC_BYTES..]);
        row[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Reads a row event by event, and returns the entry after all of them.
pub(super) fn fold(
    ordinal: Ordinal,
    row: &[u8],
    mut each: impl FnMut(&HistoryEvent),
) -> Result<Entry, Damage> {
    let mut fields = Fields::new(row);
    let stored_crc = fields.u32().ok_or_else(|| damage(HISTORY, None, "a row is too short"))?;
    if stored_crc != crc(ordinal, &row[CRC_BYTES..]) {
        return Err(damage(HISTORY, None, "the checksum of a row does not fit"));
    }
    let mut entry = Entry::ABSENT;
    let mut last = Sequence::ZERO;
    while !fields.is_empty() {
        let event = event(&mut fields).ok_or_else(|| damage(HISTORY, Some(last), "no event follows"))?;
        let stepped_back = entry.last_event_at().is_some_and(|last_at| last_at > event.at);
        if event.sequence <= last || stepped_back {
            return Err(damage(HISTORY, Some(event.sequence), "events of a number are out of order"));
        }
        last = event.sequence;
        entry.apply(event.kind, event.at, event.reserve_again_at);
        each(&event);
    }
    if last == Sequence::ZERO { Err(damage(HISTORY, None, "a row has no event")) } else { Ok(entry) }
}

fn event(fields: &mut Fields<'_>) -> Option<HistoryEvent> {
    let tag = fields.u8()?;
    let at = Stamp::from_seconds(fields.u32()?);
    let sequence = Sequence::new(fields.varint()?);
    let reserve_again_at = if tag & AGAIN_BIT == 0 { None } else { Some(Stamp::from_seconds(fields.u32()?)) };
    let kind = EventKind::from_code(tag & 1)?;
    let channel = Channel::from_code(tag >> 1 & 0b111)?;
    (tag >> 5 == 0).then_some(HistoryEvent { sequence, at, kind, channel, reserve_again_at })
}

/// The ordinal is covered, so that a row cannot stand in for another.
fn crc(ordinal: Ordinal, events: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&ordinal.value().to_le_bytes()), events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::absent(Ordinal::new(123_456).expect("in range"));
        for (sequence, kind, again) in [(3, 0, None), (200, 1, Some(900)), (70_000, 0, None)] {
            let event = Event {
                ordinal: record.ordinal,
                at: Stamp::from_seconds(sequence as u32),
                kind: EventKind::from_code(kind).expect("a kind"),
                channel: Channel::PeselRegister,
                registrant: super::super::super::words::Registrant::new("x").expect("a name"),
                filing: super::super::super::event::Filing::NONE,
                reserve_again_at: again.map(Stamp::from_seconds),
                scheduled_by: None,
                renumbered_to: None,
            };
            record.push(Sequence::new(sequence), &event);
        }
        record
    }

    #[test]
    fn rows_are_read_back() {
        let record = record();
        let mut row = Vec::new();
        record.encode(&mut row);
        let read = Record::decode(record.ordinal, &row).expect("whole");
        assert_eq!(read.events, record.events);
        assert_eq!(read.entry, record.entry);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let record = record();
        let mut row = Vec::new();
        record.encode(&mut row);
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(record.ordinal, &flipped).is_err(), "bit {bit}");
        }
        for length in 0..row.len() {
            assert!(Record::decode(record.ordinal, &row[..length]).is_err(), "cut at {length}");
        }
        let other = Ordinal::new(123_457).expect("in range");
        assert!(Record::decode(other, &row).is_err(), "another number's row");
    }
}
