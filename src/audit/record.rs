//! What a record of the trail says.

use std::fmt;
use std::net::Ipv4Addr;

use super::id::VerificationId;
use crate::clock::Moment;
use crate::environment::Environment;
use crate::pesel::{Ordinal, PeselError};
use crate::secret::KeyId;

/// A verification as the pipeline hands it over: everything but the asked
/// numbers, which follow it one by one, and the identifier, which the trail
/// gives.
///
/// Its `Debug` is short on purpose: a caller's reference is its own text and
/// may hold anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verification<'a> {
    /// When the answer was made.
    pub answered_at: Moment,
    /// The moment asked about; `None` when the question was about now, that is
    /// about `answered_at`.
    pub asked_at: Option<Moment>,
    /// The key that asked.
    pub key_id: KeyId,
    /// The institution behind the key, at most
    /// [`NAME_BYTES_MAX`](crate::limits::NAME_BYTES_MAX) bytes.
    pub institution: &'a str,
    /// The address that asked.
    pub address: Ipv4Addr,
    /// The state of the register that the answer was made from.
    pub register: RegisterState,
    /// The caller's own text, at most
    /// [`REFERENCE_BYTES_MAX`](crate::limits::REFERENCE_BYTES_MAX) bytes.
    pub reference: Option<&'a str>,
}

impl Verification<'_> {
    /// The moment that the answer is about.
    #[must_use]
    pub fn at(&self) -> Moment {
        self.asked_at.unwrap_or(self.answered_at)
    }
}

impl fmt::Debug for Verification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verification(by {}, answered {})", self.key_id, self.answered_at)
    }
}

/// Which state of the register an answer was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterState {
    /// The last register event taken into account.
    pub sequence: u64,
    /// The moment of that state.
    pub as_of: Moment,
}

/// How the numbers were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One number.
    Single,
    /// A JSON batch.
    Batch,
    /// Consecutive lines of an NDJSON stream, answered from one state.
    StreamChunk {
        /// The index of the chunk's first line in the stream.
        first_line: u64,
    },
}

impl Shape {
    /// The index of the first number: what `index` of the answers starts from.
    #[must_use]
    pub const fn first_index(self) -> u64 {
        match self {
            Self::Single | Self::Batch => 0,
            Self::StreamChunk { first_line } => first_line,
        }
    }
}

/// One asked number; `T` is the text of a reference, borrowed or owned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Item<T> {
    /// A number that was looked up.
    Verified {
        /// The number.
        ordinal: Ordinal,
        /// What the institution was told about it.
        told: Told,
        /// A moment of the line's own, instead of the record's.
        asked_at: Option<Moment>,
        /// A reference of the line's own, instead of the record's.
        reference: Option<T>,
    },
    /// A number, or a line, that was not looked up; nothing of its text is kept.
    Refused(Refusal),
}

impl<T> Item<T> {
    /// A number asked at the record's moment, without a reference of its own.
    #[must_use]
    pub const fn verified(ordinal: Ordinal, told: Told) -> Self {
        Self::Verified { ordinal, told, asked_at: None, reference: None }
    }
}

impl<T> fmt::Debug for Item<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified { .. } => f.write_str("Verified(redacted)"),
            Self::Refused(refusal) => write!(f, "Refused({refusal:?})"),
        }
    }
}

/// What an institution was told about a number (art. 23m): never more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Whether it is reserved at the asked moment.
    pub reserved: bool,
    /// When it was reserved, where the answer says so.
    pub reserved_at: Option<Moment>,
    /// When the reservation was withdrawn, where the answer says so.
    pub withdrawn_at: Option<Moment>,
}

/// Why an item was not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The text is no PESEL.
    InvalidPesel(PeselError),
    /// The line cannot be read.
    MalformedLine,
    /// The moment asked about lies ahead.
    FutureMoment,
    /// The register did not know then what to answer about the number.
    RegisterUnavailable,
}

/// A verification read back from the trail: the evidence.
#[derive(Clone, PartialEq, Eq)]
pub struct VerificationRecord {
    /// Its identifier.
    pub verification_id: VerificationId,
    /// When the answer was made.
    pub answered_at: Moment,
    /// The moment asked about; `None` when the question was about now.
    pub asked_at: Option<Moment>,
    /// How the numbers were asked.
    pub shape: Shape,
    /// The key that asked.
    pub key_id: KeyId,
    /// The institution behind the key, as it was called then.
    pub institution: String,
    /// The address that asked.
    pub address: Ipv4Addr,
    /// The state of the register that the answer was made from.
    pub register: RegisterState,
    /// The caller's own text.
    pub reference: Option<String>,
    /// The asked numbers, in the order of the question.
    pub items: Vec<Item<String>>,
}

impl VerificationRecord {
    /// The moment that the answer is about.
    #[must_use]
    pub fn at(&self) -> Moment {
        self.asked_at.unwrap_or(self.answered_at)
    }

    /// The record without identifier, shape and items.
    #[must_use]
    pub fn verification(&self) -> Verification<'_> {
        Verification {
            answered_at: self.answered_at,
            asked_at: self.asked_at,
            key_id: self.key_id,
            institution: &self.institution,
            address: self.address,
            register: self.register,
            reference: self.reference.as_deref(),
        }
    }
}

impl fmt::Debug for VerificationRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationRecord({}, {} items)", self.verification_id, self.items.len())
    }
}

/// The first record of every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened<'a> {
    /// The program's version.
    pub(super) version: &'a str,
    /// What the trail is for; also in every segment's header.
    pub(super) environment: Environment,
    /// When the run began.
    pub(super) moment: Moment,
    /// Bytes of a torn tail that this start set aside.
    pub(super) recovered_bytes: u64,
}
