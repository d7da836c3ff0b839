//! The state of one number and how events change it.

use super::words::{EventKind, Stamp};
use crate::clock::Moment;

/// The state of a number at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The register has never heard of it, which means: not reserved
    /// (art. 23d(2): a number enters with its first reservation).
    Absent,
    /// Reserved.
    Reserved {
        /// The first moment of the present reservation.
        reserved_at: Moment,
    },
    /// Not reserved any more.
    Withdrawn {
        /// The first moment of the last reservation.
        reserved_at: Moment,
        /// The moment of its withdrawal.
        withdrawn_at: Moment,
    },
}

impl State {
    /// Is it reserved?
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        matches!(self, Self::Reserved { .. })
    }
}

/// What the snapshot says of a number at a given moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// It knows.
    Known(State),
    /// The moment lies before the entry's present or last reservation, and there
    /// was another one before: ask [`super::Reader::state_from_history`].
    History,
}

/// An entry of the register, as far as the law and the snapshot look at it.
///
/// It can be made only by applying events to [`Entry::ABSENT`], so its moments
/// are never out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    phase: Phase,
    /// Moment of the last event, one without effect on the state included.
    last_event_at: Option<Stamp>,
    /// When a temporary withdrawal ends (art. 23d(3)), while it lasts.
    re_reservation_at: Option<Stamp>,
    /// Was it reserved and withdrawn before the present or last reservation?
    has_earlier: bool,
}

/// [`State`] in stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Absent,
    Reserved { reserved_at: Stamp },
    Withdrawn { reserved_at: Stamp, withdrawn_at: Stamp },
}

impl Entry {
    /// A number without any event.
    pub const ABSENT: Self =
        Self { phase: Phase::Absent, last_event_at: None, re_reservation_at: None, has_earlier: false };

    /// The state after all events.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.phase {
            Phase::Absent => State::Absent,
            Phase::Reserved { reserved_at } => State::Reserved { reserved_at: reserved_at.moment() },
            Phase::Withdrawn { reserved_at, withdrawn_at } => {
                State::Withdrawn { reserved_at: reserved_at.moment(), withdrawn_at: withdrawn_at.moment() }
            }
        }
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) const fn last_event_at(&self) -> Option<Stamp> {
        self.last_event_at
    }

    /// When the present temporary withdrawal ends; what a schedule of
    /// re-reservations goes by.
    pub(super) const fn re_reservation_at(&self) -> Option<Stamp> {
        self.re_reservation_at
    }

    pub(super) const fn has_earlier(&self) -> bool {
        self.has_earlier
    }

    /// The stamp of an event decided now: a clock that steps back never
    /// reorders the history of an entry.
    pub(super) fn stamp_of_next(&self, now: Stamp) -> Stamp {
        self.last_event_at.map_or(now, |last| last.max(now))
    }

    /// The entry after one more event.
    pub(super) fn apply(&mut self, kind: EventKind, at: Stamp, reserve_again_at: Option<Stamp>) {
        // Art. 23d(6): neither number takes anything over from the other.
        if kind == EventKind::Renumbering {
            return;
        }
        self.last_event_at = Some(at);
        match (kind, self.phase) {
            // Ex officio on a reserved number: state and first moment stay.
            (EventKind::Reservation, Phase::Reserved { .. }) => {}
            (EventKind::Reservation, Phase::Absent) => self.phase = Phase::Reserved { reserved_at: at },
            (EventKind::Reservation, Phase::Withdrawn { .. }) => {
                self.phase = Phase::Reserved { reserved_at: at };
                self.has_earlier = true;
            }
            (EventKind::Withdrawal, Phase::Reserved { reserved_at }) => {
                self.phase = Phase::Withdrawn { reserved_at, withdrawn_at: at };
            }
            // A temporary withdrawal made a lasting one: only the schedule goes.
            (EventKind::Withdrawal, Phase::Withdrawn { .. } | Phase::Absent)
            | (EventKind::Renumbering, _) => {}
        }
        self.re_reservation_at = match kind {
            EventKind::Reservation | EventKind::Renumbering => None,
            EventKind::Withdrawal => reserve_again_at,
        };
    }
}
