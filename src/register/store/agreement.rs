//! Do histories and events tell the same? The chain of hashes stands for the events;
//! answers come from the histories.

use sha2::{Digest, Sha256};

use super::super::event::Event;
use super::super::words::{EventKind, Sequence};
use super::history::HistoryEvent;
use crate::pesel::Ordinal;

/// Sums over both sides, in whatever order they are read: two gigabytes need not be
/// sorted to be compared. Each term is of a cryptographic hash, so no two different
/// sets of events come to the same sum by accident.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    events: u128,
    histories: u128,
}

impl Agreement {
    /// An event of the batches. Renumberings are in no history: they change none.
    pub(super) fn event(&mut self, sequence: Sequence, event: &Event) {
        let Event { ordinal, at, kind, channel, reserve_again_at, .. } = *event;
        if kind != EventKind::Renumbering {
            let told = HistoryEvent { sequence, at, kind, channel, reserve_again_at };
            self.events = self.events.wrapping_add(term(ordinal, &told));
        }
    }

    /// An event of a number's history.
    pub(super) fn told(&mut self, ordinal: Ordinal, event: &HistoryEvent) {
        self.histories = self.histories.wrapping_add(term(ordinal, event));
    }

    /// Each event of either side is on the other.
    pub(super) const fn is_whole(&self) -> bool {
        self.events == self.histories
    }
}

fn term(ordinal: Ordinal, event: &HistoryEvent) -> u128 {
    let HistoryEvent { sequence, at, kind, channel, reserve_again_at } = *event;
    let mut hash = Sha256::new();
    hash.update(ordinal.value().to_le_bytes());
    hash.update(sequence.value().to_le_bytes());
    hash.update(at.seconds().to_le_bytes());
    hash.update([kind.code(), channel.code(), u8::from(reserve_again_at.is_some())]);
    hash.update(reserve_again_at.map_or(0, |end| end.seconds()).to_le_bytes());
    hash.finalize().iter().take(16).fold(0, |term, byte| term << 8 | u128::from(*byte))
}
