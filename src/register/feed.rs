//! Feeds: what one registrant tells through one channel, in order and at least
//! once. A message that comes again changes nothing; a message that came too
//! early is told what is missing.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::law::{Command, Renumbering};
use super::words::{Channel, Registrant, Stamp};
use crate::clock::Moment;

/// Whose messages have one order: a channel and its registrant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Feed {
    /// The way the messages come in.
    pub channel: Channel,
    /// Who sends them.
    pub registrant: Registrant,
}

impl Feed {
    pub(super) fn of(command: &Command) -> Self {
        Self { channel: command.channel, registrant: command.registrant.clone() }
    }

    pub(super) fn of_renumbering(renumbering: &Renumbering) -> Self {
        Self { channel: renumbering.channel, registrant: renumbering.registrant.clone() }
    }
}

/// The place of a message in its feed, from 1 up without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeedSequence(NonZeroU64);

impl FeedSequence {
    /// Of the first message.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The sequence with this value; `None` for 0.
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        match NonZeroU64::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The value.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0.get()
    }

    /// The next one; stays at the last that there is.
    pub(super) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for FeedSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A message of a feed as it was delivered: its place, and what tells one
/// request from another. The feed is that of the command that comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub(super) sequence: FeedSequence,
    pub(super) fingerprint: [u8; 32],
}

impl Delivery {
    /// A message with this place. `request` is what is asked, the kind of call
    /// included: another request at a place that is taken is the sender's mistake.
    #[must_use]
    pub fn new(sequence: FeedSequence, request: &[u8]) -> Self {
        Self { sequence, fingerprint: Sha256::digest(request).into() }
    }
}

/// Where a feed stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedStanding {
    pub(super) feed: Feed,
    pub(super) last: FeedSequence,
    pub(super) taken_at: Stamp,
}

impl FeedStanding {
    /// Which feed.
    #[must_use]
    pub const fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The last message that was taken.
    #[must_use]
    pub const fn last(&self) -> FeedSequence {
        self.last
    }

    /// When it was taken.
    #[must_use]
    pub const fn taken_at(&self) -> Moment {
        self.taken_at.moment()
    }
}

/// Where a message stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the next one.
    Next,
    /// It was taken before.
    Again,
    /// Others are missing before it.
    Gap {
        /// The first of them.
        expected: FeedSequence,
    },
}

/// Judges a message by the last one that its feed has taken; `None` before the
/// first. A feed begins with 1.
pub(super) fn place(last: Option<FeedSequence>, sequence: FeedSequence) -> Place {
    let expected = last.map_or(FeedSequence::FIRST, FeedSequence::next);
    if last.is_some_and(|last| sequence <= last) {
        Place::Again
    } else if sequence == expected {
        Place::Next
    } else {
        Place::Gap { expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: u64) -> FeedSequence {
        FeedSequence::new(value).expect("positive")
    }

    #[test]
    fn a_feed_begins_with_one_and_has_no_gaps() {
        assert_eq!(place(None, at(1)), Place::Next);
        assert_eq!(place(None, at(2)), Place::Gap { expected: at(1) });
        assert_eq!(place(Some(at(7)), at(7)), Place::Again);
        assert_eq!(place(Some(at(7)), at(1)), Place::Again);
        assert_eq!(place(Some(at(7)), at(8)), Place::Next);
        assert_eq!(place(Some(at(7)), at(9)), Place::Gap { expected: at(8) });
        assert_eq!(place(Some(at(u64::MAX)), at(u64::MAX)), Place::Again);
    }

    #[test]
    fn zero_and_what_is_no_number_are_no_sequence() {
        assert_eq!(FeedSequence::new(0), None);
        assert_eq!(serde_json::from_str::<FeedSequence>("18446744073709551615").ok(), Some(at(u64::MAX)));
        for wrong in ["0", "-1", "1.0", "\"1\"", "18446744073709551616"] {
            assert!(serde_json::from_str::<FeedSequence>(wrong).is_err(), "{wrong}");
        }
    }
}
