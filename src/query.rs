//! The answer, as a pure function of a permission, a question and a state of
//! the register: no runtime, no clock, no I/O.

use crate::clock::Moment;
use crate::gate::Permit;
use crate::pesel::Ordinal;
use crate::register::{AsOf, Snapshot, State};

/// The moment a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The moment of the answer.
    Now,
    /// A past moment [art. 23j, art. 23m(3)].
    At(Moment),
}

/// One question about one number.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    ordinal: Ordinal,
    when: When,
}

/// The asked moment lies in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FutureMoment;

impl Query {
    /// A question about `at`, or about now when there is none.
    ///
    /// # Errors
    /// [`FutureMoment`] when `at` lies after `now`.
    pub fn new(ordinal: Ordinal, at: Option<Moment>, now: Moment) -> Result<Self, FutureMoment> {
        match at {
            Some(at) if at > now => Err(FutureMoment),
            Some(at) => Ok(Self { ordinal, when: When::At(at) }),
            None => Ok(Self { ordinal, when: When::Now }),
        }
    }

    /// The number asked about.
    #[must_use]
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// The moment asked about.
    #[must_use]
    pub const fn when(&self) -> When {
        self.when
    }
}

/// What an institution gets to know [art. 23m]: never the registrant, the
/// channel or the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    reserved_at: Option<Moment>,
    withdrawn_at: Option<Moment>,
}

impl Answer {
    const fn of(state: State) -> Self {
        match state {
            State::Absent => Self { reserved_at: None, withdrawn_at: None },
            State::Reserved { reserved_at } => Self { reserved_at: Some(reserved_at), withdrawn_at: None },
            State::Withdrawn { reserved_at, withdrawn_at } => {
                Self { reserved_at: Some(reserved_at), withdrawn_at: Some(withdrawn_at) }
            }
        }
    }

    /// Is the number reserved at the asked moment?
    #[must_use]
    pub const fn reserved(&self) -> bool {
        self.reserved_at.is_some() && self.withdrawn_at.is_none()
    }

    /// Since when, or for a withdrawn number, since when it had been.
    #[must_use]
    pub const fn reserved_at(&self) -> Option<Moment> {
        self.reserved_at
    }

    /// When the reservation was withdrawn.
    #[must_use]
    pub const fn withdrawn_at(&self) -> Option<Moment> {
        self.withdrawn_at
    }
}

/// A state in the words of an answer, for whoever may see the whole entry.
#[must_use]
pub const fn entry_fields(state: State) -> Answer {
    Answer::of(state)
}

/// What memory can say: the answer, or that the entry's history must be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Answered(Answer),
    /// The asked moment lies before the entry's last change.
    NeedsHistory,
}

/// Answers from memory.
#[must_use]
pub fn answer(_permit: &Permit, query: &Query, snapshot: &Snapshot) -> Outcome {
    match query.when {
        When::Now => Outcome::Answered(Answer::of(snapshot.state(query.ordinal))),
        When::At(at) => match snapshot.state_at(query.ordinal, at) {
            AsOf::Known(state) => Outcome::Answered(Answer::of(state)),
            AsOf::History => Outcome::NeedsHistory,
        },
    }
}

/// Answers with the state that the entry's history gave for the asked moment.
#[must_use]
pub const fn answer_from_history(_permit: &Permit, state: State) -> Answer {
    Answer::of(state)
}
