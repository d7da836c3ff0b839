//! The answer, as a pure function of a permission, a question and a state of
//! the register: no runtime, no clock, no I/O.

use crate::clock::Moment;
use crate::environment::Environment;
use crate::gate::Permit;
use crate::limits::OVERDUE_FRESH_SECONDS;
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

    /// The moment of the last change that the answer tells; it lies ahead of the
    /// clock when that was set back after the change.
    #[must_use]
    pub const fn last_change(&self) -> Option<Moment> {
        match self.withdrawn_at {
            Some(moment) => Some(moment),
            None => self.reserved_at,
        }
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
    /// Nobody knows.
    Unknown(Unknown),
}

/// Why a question has no answer. It is a refusal, never "not reserved".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The number's temporary withdrawal has ended, and the register has not recorded
    /// that yet: it is reserved again, or something else was recorded that this
    /// state of the register does not know. No answer.
    Overdue {
        /// When the withdrawal ended, or the register got to know of it if that was
        /// later: from then on nobody could be answered. Not after now.
        since: Moment,
    },
    /// Nobody has ever been reserved in this register of real people: it is not loaded
    /// yet, and "not reserved" of everybody would be the most dangerous of answers.
    NotLoaded {
        /// When it was made.
        since: Moment,
    },
    /// The entry's last change lies ahead of the clock, so nobody knows when it
    /// happened, nor what was so at a moment before: no answer.
    AheadOfNow,
}

impl Unknown {
    /// Is it about to be known? What the register's writer records within a fraction of
    /// a second is waited for; an end that waits for its import, or for a disk, is not.
    #[must_use]
    pub fn is_passing(self, now: Moment) -> bool {
        match self {
            Self::Overdue { since } => {
                now.unix_seconds().saturating_sub(since.unix_seconds()) <= OVERDUE_FRESH_SECONDS
            }
            Self::NotLoaded { .. } | Self::AheadOfNow => false,
        }
    }
}

/// Answers from memory. `now` was read from the clock when `snapshot` was at hand
/// already, so that the one cannot be ahead of the other by the order in which
/// they were looked at.
///
/// A question about now gets the state after all events, even if the clock was
/// set back since: a change is in force from its event on. It is then answered as
/// of [`answered_at`], the moment that an event of that number would get now.
#[must_use]
pub fn answer(permit: &Permit, query: &Query, snapshot: &Snapshot, now: Moment) -> Outcome {
    if snapshot.holds_nobody() && permit.key().environment() == Environment::Production {
        return Outcome::Unknown(Unknown::NotLoaded { since: snapshot.as_of() });
    }
    let state = snapshot.state(query.ordinal);
    let moment = match query.when {
        When::Now => now,
        When::At(at) => at,
    };
    if matches!(state, State::Withdrawn { .. })
        && let Some(since) = snapshot.overdue(query.ordinal, moment)
    {
        return Outcome::Unknown(Unknown::Overdue { since: since.min(now) });
    }
    let answer = Answer::of(state);
    match query.when {
        When::Now => Outcome::Answered(answer),
        When::At(_) if answer.last_change() > Some(now) => Outcome::Unknown(Unknown::AheadOfNow),
        When::At(at) => match snapshot.state_at(query.ordinal, at) {
            AsOf::Known(state) => Outcome::Answered(Answer::of(state)),
            AsOf::History => Outcome::NeedsHistory,
        },
    }
}

/// The moment of an answer to these questions: by the clock, or that of the last
/// change they tell about now, when the clock was set back before it.
#[must_use]
pub fn answered_at<'a>(now: Moment, answers: impl IntoIterator<Item = (&'a Query, &'a Answer)>) -> Moment {
    let about_now = answers.into_iter().filter(|(query, _)| query.when == When::Now);
    about_now.filter_map(|(_, answer)| answer.last_change()).fold(now, Moment::max)
}

/// Answers with the state that the entry's history gave for the asked moment.
#[must_use]
pub const fn answer_from_history(_permit: &Permit, state: State) -> Answer {
    Answer::of(state)
}

#[cfg(test)]
mod tests;
