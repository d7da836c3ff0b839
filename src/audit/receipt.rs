//! Proof that an answer is on record.

use std::fmt;

use super::id::VerificationId;
use crate::clock::Moment;

/// Proof that a verification is on record, durably: the one thing a response to
/// a verification can be rendered from. Only the trail makes it, in
/// [`Pending`](super::Pending), after the writer has settled the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    verification_id: VerificationId,
    answered_at: Moment,
    at: Moment,
}

impl Receipt {
    pub(super) const fn new(verification_id: VerificationId, answered_at: Moment, at: Moment) -> Self {
        Self { verification_id, answered_at, at }
    }

    /// The identifier under which the record can be found.
    #[must_use]
    pub const fn verification_id(&self) -> VerificationId {
        self.verification_id
    }

    /// When the answer was made, as recorded.
    #[must_use]
    pub const fn answered_at(&self) -> Moment {
        self.answered_at
    }

    /// The moment that the answer is about, as recorded.
    #[must_use]
    pub const fn at(&self) -> Moment {
        self.at
    }
}

/// The record could not be written: there is no answer. The disk is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditUnavailable {
    /// Since when the trail cannot be written.
    pub since: Moment,
}

impl fmt::Display for AuditUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the audit trail cannot be written since {}", self.since)
    }
}

impl std::error::Error for AuditUnavailable {}

/// Why a record was not even taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRefused {
    /// More waits to be written than may: the disk, or the machine, is behind.
    Overloaded,
    /// The trail cannot be written.
    Unavailable {
        /// Since when.
        since: Moment,
    },
    /// A text or the whole record is longer than the limits allow: the caller
    /// of the trail is at fault, which should have refused the question.
    TooLarge,
}

impl fmt::Display for RecordRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => f.write_str("too many records wait to be written"),
            Self::Unavailable { since } => AuditUnavailable { since: *since }.fmt(f),
            Self::TooLarge => f.write_str("the record is larger than the trail takes"),
        }
    }
}

impl std::error::Error for RecordRefused {}
