//! Events: what happened to one number, once and for ever.

use std::fmt;

use sha2::{Digest, Sha256};

use super::words::{Applicant, Channel, DocumentSeen, EventKind, Obstacle, Registrant, Sequence, Stamp};
use crate::clock::Moment;
use crate::pesel::Ordinal;

/// One change of the register, as the law allowed it or as it was imported.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    pub(super) ordinal: Ordinal,
    pub(super) at: Stamp,
    pub(super) kind: EventKind,
    pub(super) channel: Channel,
    pub(super) registrant: Registrant,
    pub(super) filing: Filing,
    /// Only with a withdrawal.
    pub(super) reserve_again_at: Option<Stamp>,
    /// Only with a reservation that the clock carried out: the temporary
    /// withdrawal that it ends. What makes it count once.
    pub(super) scheduled_by: Option<Sequence>,
    /// Only with a renumbering: the number that the person has from then on.
    pub(super) renumbered_to: Option<Ordinal>,
}

/// What an office writes down about a filing, beside the change itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filing {
    /// In whose name; none for a change ex officio or an imported one.
    pub applicant: Option<Applicant>,
    /// Why a proxy came; only with a proxy.
    pub obstacle: Option<Obstacle>,
    /// Which document was seen; only at a gmina.
    pub document_seen: Option<DocumentSeen>,
    /// The official stated that a person of 16 or 17 is of age by marriage.
    pub majority_by_marriage: bool,
}

impl Event {
    /// The number.
    #[must_use]
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// When it happened.
    #[must_use]
    pub const fn moment(&self) -> Moment {
        self.at.moment()
    }

    /// What happened.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        self.kind
    }

    /// The way it came in.
    #[must_use]
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// Who registered it.
    #[must_use]
    pub const fn registrant(&self) -> &Registrant {
        &self.registrant
    }

    /// What the office wrote down.
    #[must_use]
    pub const fn filing(&self) -> &Filing {
        &self.filing
    }

    /// When a temporary withdrawal is to end.
    #[must_use]
    pub fn reserve_again_at(&self) -> Option<Moment> {
        self.reserve_again_at.map(Stamp::moment)
    }

    /// The temporary withdrawal whose end this reservation is, carried out by
    /// the clock (art. 23d(3)); none for a change that somebody made.
    #[must_use]
    pub const fn scheduled_by(&self) -> Option<Sequence> {
        self.scheduled_by
    }

    /// The number that the person has instead; only of a renumbering
    /// (art. 23d(6)).
    #[must_use]
    pub const fn renumbered_to(&self) -> Option<Ordinal> {
        self.renumbered_to
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("ordinal", &self.ordinal)
            .field("at", &self.at)
            .field("kind", &self.kind)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// An event with its place in the register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub(super) sequence: Sequence,
    pub(super) hash: ChainHash,
    pub(super) event: Event,
}

impl StoredEvent {
    /// Its place in the order.
    #[must_use]
    pub const fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// SHA-256 of the previous event's hash and this event.
    #[must_use]
    pub const fn hash(&self) -> ChainHash {
        self.hash
    }

    /// The event's identifier: made of its hash, so it names the content as well
    /// as the place.
    #[must_use]
    pub fn id(&self) -> EventId {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.hash.0[..16]);
        EventId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// What happened.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.event
    }
}

/// Names an event for the outside: a UUID of version 8 (RFC 9562, 5.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(uuid::Uuid);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl serde::Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Some events in order, and where the register stood when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsPage {
    pub(super) events: Vec<StoredEvent>,
    pub(super) last: Sequence,
}

impl EventsPage {
    /// The events.
    #[must_use]
    pub fn events(&self) -> &[StoredEvent] {
        &self.events
    }

    /// The events, to be kept.
    #[must_use]
    pub fn into_events(self) -> Vec<StoredEvent> {
        self.events
    }

    /// The register's last event, of the same commit as the events: a page that is
    /// not full ends with it.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        self.last
    }
}

/// The hash of an event and of all events before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainHash(pub(super) [u8; 32]);

impl ChainHash {
    /// What the first event is chained to: SHA-256 of
    /// `peselgate register chain 1`.
    #[must_use]
    pub fn genesis() -> Self {
        Self(Sha256::digest(b"peselgate register chain 1").into())
    }

    /// The hash, 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of `event` at `sequence`, following an event with this hash.
    /// `scratch` is working memory, kept by the caller because millions of
    /// events go through here.
    pub(super) fn follow(self, sequence: Sequence, event: &Event, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        scratch.extend_from_slice(&self.0);
        encode_canonical(sequence, event, scratch);
        Self(Sha256::digest(&scratch).into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes that are hashed: every field at a fixed width, the one text with its
/// length before it, and behind it what few events have, so that two events never
/// share their bytes.
fn encode_canonical(sequence: Sequence, event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(&sequence.value().to_le_bytes());
    out.extend_from_slice(&event.ordinal.value().to_le_bytes());
    out.extend_from_slice(&event.at.seconds().to_le_bytes());
    out.push(event.kind.code());
    out.push(event.channel.code());
    out.extend_from_slice(&event.filing.code().to_le_bytes());
    out.push(u8::from(event.reserve_again_at.is_some()));
    out.extend_from_slice(&event.reserve_again_at.map_or(0, Stamp::seconds).to_le_bytes());
    let registrant = event.registrant.as_str().as_bytes();
    out.extend_from_slice(&(registrant.len() as u16).to_le_bytes());
    out.extend_from_slice(registrant);
    if let Some(withdrawal) = event.scheduled_by {
        out.extend_from_slice(&withdrawal.value().to_le_bytes());
    }
    if let Some(new) = event.renumbered_to {
        out.extend_from_slice(&new.value().to_le_bytes());
    }
}

impl Filing {
    /// Nothing was written down.
    pub(super) const NONE: Self =
        Self { applicant: None, obstacle: None, document_seen: None, majority_by_marriage: false };

    /// Two bytes: applicant (bits 0-2), obstacle (3-4), document (5-7), majority (8).
    pub(super) fn code(&self) -> u16 {
        u16::from(self.applicant.map_or(0, Applicant::code))
            | u16::from(self.obstacle.map_or(0, Obstacle::code)) << 3
            | u16::from(self.document_seen.map_or(0, DocumentSeen::code)) << 5
            | u16::from(self.majority_by_marriage) << 8
    }

    /// The filing with this code; `None` when there is none.
    pub(super) fn from_code(code: u16) -> Option<Self> {
        let optional = |bits: u16, mask: u16| ((code >> bits) & mask) as u8;
        let filing = Self {
            applicant: Applicant::from_code(optional(0, 0b111)),
            obstacle: Obstacle::from_code(optional(3, 0b11)),
            document_seen: DocumentSeen::from_code(optional(5, 0b111)),
            majority_by_marriage: optional(8, 1) == 1,
        };
        (filing.code() == code).then_some(filing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filings_survive_their_code() {
        let mut seen = 0;
        for code in 0..=u16::MAX {
            if let Some(filing) = Filing::from_code(code) {
                assert_eq!(filing.code(), code);
                seen += 1;
            }
        }
        // Five applicants, four obstacles, six documents, two majorities, each
        // with its "none".
        assert_eq!(seen, 5 * 4 * 6 * 2);
    }

    #[test]
    fn every_field_changes_the_hash() {
        let event = Event {
            ordinal: Ordinal::new(7).expect("in range"),
            at: Stamp::from_seconds(1_000),
            kind: EventKind::Withdrawal,
            channel: Channel::Gmina,
            registrant: Registrant::new("Gmina A").expect("a name"),
            filing: Filing::NONE,
            reserve_again_at: None,
            scheduled_by: None,
            renumbered_to: None,
        };
        let mut others = vec![event.clone(); 10];
        others[1].ordinal = Ordinal::new(8).expect("in range");
        others[2].at = Stamp::from_seconds(1_001);
        others[3].kind = EventKind::Reservation;
        others[4].channel = Channel::EService;
        others[5].registrant = Registrant::new("Gmina B").expect("a name");
        others[6].filing.majority_by_marriage = true;
        others[7].reserve_again_at = Some(Stamp::from_seconds(0));
        others[8].scheduled_by = Some(Sequence::ZERO);
        others[9].renumbered_to = Ordinal::new(0);
        let mut scratch = Vec::new();
        let mut hashes: Vec<_> = others
            .iter()
            .map(|other| ChainHash::genesis().follow(Sequence::new(1), other, &mut scratch).0)
            .collect();
        hashes.push(ChainHash::genesis().follow(Sequence::new(2), &event, &mut scratch).0);
        hashes.push(ChainHash(hashes[0]).follow(Sequence::new(1), &event, &mut scratch).0);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 12);
    }
}
