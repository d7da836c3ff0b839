//! Rows of `batches`: events in sequence, chained by their hashes.
//!
//! Key: the sequence of the last event. Value: hash before the first event (32
//! bytes), hash of the last (32), count (u32), registrants (count u16, each with
//! its length u8), then for each event ordinal, stamp, tag (kind, channel,
//! filing?, re-reservation?, scheduled?), registrant's index, and what the tag announces.
//! The hashes between are made again from the events.

use std::collections::HashMap;

use super::super::event::{ChainHash, Event, Filing, StoredEvent};
use super::super::words::{Channel, EventKind, Registrant, Sequence, Stamp};
use super::codec::{Fields, put_varint};
use super::error::Damage;
use super::{BATCHES, damage};
use crate::limits::IMPORT_CHUNK_LINES;
use crate::pesel::Ordinal;

/// Events of one row, at the most: reading one event reads its row.
pub(super) const ROW_EVENTS_MAX: usize = IMPORT_CHUNK_LINES;

const FILING_BIT: u8 = 1 << 4;
const AGAIN_BIT: u8 = 1 << 5;
const SCHEDULED_BIT: u8 = 1 << 6;
/// The second bit of the kind.
const KIND_BIT: u8 = 1 << 7;

/// Collects the events of one row.
pub(super) struct RowBuilder {
    before: ChainHash,
    last: ChainHash,
    sequence: Sequence,
    count: u32,
    registrants: Vec<Registrant>,
    indexes: HashMap<Registrant, u16>,
    events: Vec<u8>,
    scratch: Vec<u8>,
}

impl RowBuilder {
    /// A row that follows this event.
    pub(super) fn after(sequence: Sequence, hash: ChainHash) -> Self {
        Self {
            before: hash,
            last: hash,
            sequence,
            count: 0,
            registrants: Vec::new(),
            indexes: HashMap::new(),
            events: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The last event's place.
    pub(super) const fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The last event's hash.
    pub(super) const fn hash(&self) -> ChainHash {
        self.last
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) const fn is_full(&self) -> bool {
        self.count as usize >= ROW_EVENTS_MAX
    }

    /// Adds an event; it gets the next sequence, which is returned, and its hash.
    pub(super) fn push(&mut self, event: &Event) -> Sequence {
        self.sequence = self.sequence.next();
        self.last = self.last.follow(self.sequence, event, &mut self.scratch);
        self.count += 1;
        let filing = event.filing.code();
        let filing_bit = if filing == 0 { 0 } else { FILING_BIT };
        let again_bit = if event.reserve_again_at.is_some() { AGAIN_BIT } else { 0 };
        let scheduled_bit = if event.scheduled_by.is_some() { SCHEDULED_BIT } else { 0 };
        let index = self.registrant_index(&event.registrant);
        let out = &mut self.events;
        out.extend_from_slice(&event.ordinal.value().to_le_bytes());
        out.extend_from_slice(&event.at.seconds().to_le_bytes());
        let kind = event.kind.code();
        let kind_bits = kind & 1 | if kind & 2 == 0 { 0 } else { KIND_BIT };
        out.push(kind_bits | event.channel.code() << 1 | filing_bit | again_bit | scheduled_bit);
        put_varint(out, u64::from(index));
        if filing != 0 {
            out.extend_from_slice(&filing.to_le_bytes());
        }
        if let Some(again_at) = event.reserve_again_at {
            out.extend_from_slice(&again_at.seconds().to_le_bytes());
        }
        if let Some(withdrawal) = event.scheduled_by {
            put_varint(out, withdrawal.value());
        }
        // Announced by the kind.
        if let Some(new) = event.renumbered_to {
            out.extend_from_slice(&new.value().to_le_bytes());
        }
        self.sequence
    }

    /// The value of the row.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(128 + self.events.len());
        row.extend_from_slice(self.before.as_bytes());
        row.extend_from_slice(self.last.as_bytes());
        row.extend_from_slice(&self.count.to_le_bytes());
        row.extend_from_slice(&(self.registrants.len() as u16).to_le_bytes());
        for registrant in &self.registrants {
            // NAME_BYTES_MAX fits a byte.
            row.push(registrant.as_str().len() as u8);
            row.extend_from_slice(registrant.as_str().as_bytes());
        }
        row.extend_from_slice(&self.events);
        row
    }

    /// Begins the next row.
    pub(super) fn restart(&mut self) {
        self.before = self.last;
        self.count = 0;
        self.registrants.clear();
        self.indexes.clear();
        self.events.clear();
    }

    fn registrant_index(&mut self, registrant: &Registrant) -> u16 {
        if let Some(index) = self.indexes.get(registrant) {
            return *index;
        }
        // A row has fewer events than an index can count.
        let index = self.registrants.len() as u16;
        self.registrants.push(registrant.clone());
        self.indexes.insert(registrant.clone(), index);
        index
    }
}

/// A row as read, its chain checked from its first hash to its last.
pub(super) struct Row {
    pub(super) before: ChainHash,
    pub(super) last: ChainHash,
    pub(super) events: Vec<StoredEvent>,
}

impl Row {
    /// Reads the row with this key.
    pub(super) fn decode(key: Sequence, bytes: &[u8]) -> Result<Self, Damage> {
        let damaged = |what| damage(BATCHES, Some(key), what);
        let mut fields = Fields::new(bytes);
        let (before, last, count, registrants) =
            head(&mut fields).ok_or_else(|| damaged("the head of the row is not readable"))?;
        let first = key.value().checked_sub(u64::from(count)).filter(|_| count > 0);
        let mut sequence = Sequence::new(first.ok_or_else(|| damaged("the row counts wrong"))?);
        let mut hash = before;
        let mut scratch = Vec::new();
        let mut events = Vec::with_capacity((count as usize).min(ROW_EVENTS_MAX));
        for _ in 0..count {
            sequence = sequence.next();
            let event = event(&mut fields, &registrants).ok_or_else(|| damaged("no event follows"))?;
            hash = hash.follow(sequence, &event, &mut scratch);
            events.push(StoredEvent { sequence, hash, event });
        }
        if !fields.is_empty() {
            return Err(damaged("the row has more than its events"));
        }
        if hash != last {
            return Err(damaged("the chain of hashes is broken"));
        }
        Ok(Self { before, last, events })
    }
}

fn head(fields: &mut Fields<'_>) -> Option<(ChainHash, ChainHash, u32, Vec<Registrant>)> {
    let before = ChainHash(fields.array()?);
    let last = ChainHash(fields.array()?);
    let count = fields.u32()?;
    let registrants = (0..fields.u16()?).map(|_| {
        let length = usize::from(fields.u8()?);
        Registrant::stored(std::str::from_utf8(fields.bytes(length)?).ok()?).ok()
    });
    Some((before, last, count, registrants.collect::<Option<_>>()?))
}

fn event(fields: &mut Fields<'_>, registrants: &[Registrant]) -> Option<Event> {
    let ordinal = Ordinal::new(fields.u32()?)?;
    let at = Stamp::from_seconds(fields.u32()?);
    let tag = fields.u8()?;
    let registrant = registrants.get(usize::try_from(fields.varint()?).ok()?)?.clone();
    let filing = if tag & FILING_BIT == 0 { Filing::NONE } else { Filing::from_code(fields.u16()?)? };
    let reserve_again_at = if tag & AGAIN_BIT == 0 { None } else { Some(Stamp::from_seconds(fields.u32()?)) };
    let scheduled_by = if tag & SCHEDULED_BIT == 0 { None } else { Some(Sequence::new(fields.varint()?)) };
    let kind = EventKind::from_code(tag & 1 | if tag & KIND_BIT == 0 { 0 } else { 2 })?;
    let renumbered_to = match kind {
        EventKind::Renumbering => Some(Ordinal::new(fields.u32()?)?),
        EventKind::Reservation | EventKind::Withdrawal => None,
    };
    let channel = Channel::from_code(tag >> 1 & 0b111)?;
    Some(Event {
        ordinal,
        at,
        kind,
        channel,
        registrant,
        filing,
        reserve_again_at,
        scheduled_by,
        renumbered_to,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::words::{Applicant, DocumentSeen, Obstacle};
    use super::*;

    fn events() -> Vec<Event> {
        (0..40u32)
            .map(|n| Event {
                ordinal: Ordinal::new(n * 1_000_003).expect("in range"),
                at: Stamp::from_seconds(n * 77),
                kind: EventKind::ALL[n as usize % 3],
                channel: Channel::ALL[n as usize % 7],
                // Such as were taken once, too.
                registrant: Registrant::stored(&format!("Gmina {}{}", n % 5, &" "[n as usize % 2..]))
                    .expect("a name"),
                filing: Filing {
                    applicant: Applicant::ALL.get(n as usize % 5).copied(),
                    obstacle: Obstacle::ALL.get(n as usize % 4).copied(),
                    document_seen: DocumentSeen::ALL.get(n as usize % 6).copied(),
                    majority_by_marriage: n % 3 == 0,
                },
                reserve_again_at: (n % 4 == 1).then(|| Stamp::from_seconds(n * 78)),
                scheduled_by: (n % 4 == 2).then(|| Sequence::new(u64::from(n) * 1_000)),
                renumbered_to: if n % 3 == 2 { Ordinal::new(n) } else { None },
            })
            .collect()
    }

    fn row() -> (Sequence, Vec<u8>) {
        let mut builder = RowBuilder::after(Sequence::new(10), ChainHash::genesis());
        for event in &events() {
            builder.push(event);
        }
        (builder.sequence(), builder.encode())
    }

    #[test]
    fn rows_are_read_back_with_the_hashes_they_were_written_with() {
        let mut builder = RowBuilder::after(Sequence::new(10), ChainHash::genesis());
        let expected: Vec<_> = events()
            .into_iter()
            .map(|event| {
                let sequence = builder.push(&event);
                StoredEvent { sequence, hash: builder.hash(), event }
            })
            .collect();
        let row = Row::decode(builder.sequence(), &builder.encode()).expect("whole");
        assert_eq!(row.events, expected);
        assert_eq!(row.before, ChainHash::genesis());
        assert_eq!(row.last, builder.hash());
        assert_eq!(expected[0].sequence(), Sequence::new(11));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (key, row) = row();
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Row::decode(key, &flipped).is_err(), "bit {bit}");
        }
        for length in 0..row.len() {
            assert!(Row::decode(key, &row[..length]).is_err(), "cut at {length}");
        }
        assert!(Row::decode(key.next(), &row).is_err(), "another row's key");
    }
}
