//! The bytes of a record's body.
//!
//! Integers are little-endian. A moment takes five bytes: seconds since
//! 0001-01-01T00:00:00Z. A body begins with its kind:
//!
//! ```text
//! 1 verification  flags 1, id 16, answered_at 5, key id 10, address 4,
//!                 register sequence 8, register moment 5,
//!                 [asked_at 5], institution (length 1, text),
//!                 [reference (length 2, text)], [first line 8], items to the end
//!                 flags: bits 0-1 shape (0 single, 1 batch, 2 stream chunk),
//!                 bit 2 asked_at, bit 3 reference
//!   item          flags 1, then for a verified number: ordinal 4,
//!                 [reserved_at 5], [withdrawn_at 5], [own asked_at 5],
//!                 [own reference (length 2, text)]
//!                 flags: bit 0 reserved, bits 1-4 the optional fields in order;
//!                 or bit 7 and the code of a refusal
//! 2 opened        version (length 1, text), environment 1, moment 5,
//!                 recovered bytes 8
//! 3 closed        moment 5
//! 4 sealed        nothing
//! ```
//!
//! One meaning has one encoding: whatever decodes encodes to the same bytes.

use std::fmt;
use std::net::Ipv4Addr;

use super::id::{IdTail, VerificationId};
use super::record::{Item, Opened, RegisterState, Shape, Verification, VerificationRecord};
use crate::clock::Moment;
use crate::environment::Environment;
use crate::limits::{NAME_BYTES_MAX, REFERENCE_BYTES_MAX};
use crate::secret::KeyId;

mod input;
mod item;

use input::{Input, MOMENT_BYTES, moment_bytes, put_reference};
use item::{Items, owned_item, put_item, take_item};

const KIND_VERIFICATION: u8 = 1;
const KIND_OPENED: u8 = 2;
const KIND_CLOSED: u8 = 3;
const KIND_SEALED: u8 = 4;

const SHAPE_MASK: u8 = 0b11;
const HAS_ASKED_AT: u8 = 1 << 2;
const HAS_REFERENCE: u8 = 1 << 3;

/// Where a verification's body holds the six bytes of its identifier's time.
pub(super) const ID_STAMP_AT: usize = 2;
const ID_TAIL_AT: usize = ID_STAMP_AT + 6;
/// Where it holds the register's sequence.
const REGISTER_SEQUENCE_AT: usize = 2 + 16 + MOMENT_BYTES + 10 + 4;
/// Bytes of a verification's body before its optional fields.
const FIXED_BYTES: usize = REGISTER_SEQUENCE_AT + 8 + MOMENT_BYTES;

const _: () = {
    assert!(NAME_BYTES_MAX <= u8::MAX as usize);
    assert!(REFERENCE_BYTES_MAX <= u16::MAX as usize);
};

/// A name or a reference is longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextTooLong;

/// Writes a verification whose identifier has no time yet.
pub(super) fn encode_verification<'i>(
    out: &mut Vec<u8>,
    tail: &IdTail,
    shape: Shape,
    verification: &Verification<'_>,
    items: impl IntoIterator<Item = Item<&'i str>>,
) -> Result<(), TextTooLong> {
    let (shape_code, first_line) = match shape {
        Shape::Single => (0, None),
        Shape::Batch => (1, None),
        Shape::StreamChunk { first_line } => (2, Some(first_line)),
    };
    let institution = verification.institution.as_bytes();
    if institution.len() > NAME_BYTES_MAX {
        return Err(TextTooLong);
    }
    // The fixed part is laid out on the stack and copied once.
    let mut fixed = [0u8; FIXED_BYTES];
    fixed[0] = KIND_VERIFICATION;
    fixed[1] = shape_code
        | flag(verification.asked_at.is_some(), HAS_ASKED_AT)
        | flag(verification.reference.is_some(), HAS_REFERENCE);
    fixed[ID_TAIL_AT..18].copy_from_slice(tail);
    fixed[18..23].copy_from_slice(&moment_bytes(verification.answered_at));
    fixed[23..33].copy_from_slice(verification.key_id.as_bytes());
    fixed[33..37].copy_from_slice(&verification.address.octets());
    fixed[REGISTER_SEQUENCE_AT..45].copy_from_slice(&verification.register.sequence.to_le_bytes());
    fixed[45..50].copy_from_slice(&moment_bytes(verification.register.as_of));
    out.extend_from_slice(&fixed);
    if let Some(at) = verification.asked_at {
        out.extend_from_slice(&moment_bytes(at));
    }
    out.push(institution.len() as u8);
    out.extend_from_slice(institution);
    if let Some(reference) = verification.reference {
        put_reference(out, reference)?;
    }
    if let Some(line) = first_line {
        out.extend_from_slice(&line.to_le_bytes());
    }
    for item in items {
        put_item(out, item)?;
    }
    Ok(())
}

/// Writes the record that opens a run.
pub(super) fn encode_opened(out: &mut Vec<u8>, opened: &Opened<'_>) {
    let version = opened.version.as_bytes();
    // A version is a few characters; a monstrous one is cut, not refused.
    let cut = version.len().min(usize::from(u8::MAX));
    let version = &version[..opened.version.floor_char_boundary(cut)];
    out.push(KIND_OPENED);
    out.push(version.len() as u8);
    out.extend_from_slice(version);
    out.push(environment_code(opened.environment));
    out.extend_from_slice(&moment_bytes(opened.moment));
    out.extend_from_slice(&opened.recovered_bytes.to_le_bytes());
}

/// Writes the record that closes a run.
pub(super) fn encode_closed(out: &mut Vec<u8>, moment: Moment) {
    out.push(KIND_CLOSED);
    out.extend_from_slice(&moment_bytes(moment));
}

/// Writes the record that ends a segment.
pub(super) fn encode_sealed(out: &mut Vec<u8>) {
    out.push(KIND_SEALED);
}

/// Bytes of the body of a closing record.
pub(super) const CLOSED_BODY_BYTES: usize = 1 + MOMENT_BYTES;
/// Bytes of the body of a sealing record.
pub(super) const SEALED_BODY_BYTES: usize = 1;

/// A record read from its body; nothing is copied.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    Verification(VerificationView<'a>),
    Opened(Opened<'a>),
    Closed(Moment),
    Sealed,
}

/// A verification read from its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct VerificationView<'a> {
    pub(super) id: VerificationId,
    pub(super) shape: Shape,
    pub(super) verification: Verification<'a>,
    items: Items<'a>,
}

impl<'a> VerificationView<'a> {
    /// The asked numbers, in order.
    pub(super) const fn items(&self) -> Items<'a> {
        self.items
    }

    /// A copy that owns what it says.
    pub(super) fn to_record(self) -> VerificationRecord {
        let Verification { answered_at, asked_at, key_id, institution, address, register, reference } =
            self.verification;
        VerificationRecord {
            verification_id: self.id,
            answered_at,
            asked_at,
            shape: self.shape,
            key_id,
            institution: institution.to_owned(),
            address,
            register,
            reference: reference.map(str::to_owned),
            items: self.items().map(owned_item).collect(),
        }
    }
}

/// Why bytes are no body of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// A kind that this version does not know.
    UnknownKind(u8),
    /// It ends too early.
    Short,
    /// It goes on after its end.
    Long,
    /// A field has a value that no writer writes.
    Field(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "a record of unknown kind {kind}"),
            Self::Short => f.write_str("a record that ends too early"),
            Self::Long => f.write_str("a record that goes on after its end"),
            Self::Field(field) => write!(f, "a record with an impossible {field}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads a body.
pub(super) fn decode(body: &[u8]) -> Result<Body<'_>, DecodeError> {
    let mut input = Input(body);
    match input.byte()? {
        KIND_VERIFICATION => decode_verification(input).map(Body::Verification),
        KIND_OPENED => {
            let length = usize::from(input.byte()?);
            let version = input.text(length, "version")?;
            let environment = environment_of(input.byte()?).ok_or(DecodeError::Field("environment"))?;
            let opened =
                Opened { version, environment, moment: input.moment()?, recovered_bytes: input.u64()? };
            input.end(Body::Opened(opened))
        }
        KIND_CLOSED => {
            let moment = input.moment()?;
            input.end(Body::Closed(moment))
        }
        KIND_SEALED => input.end(Body::Sealed),
        kind => Err(DecodeError::UnknownKind(kind)),
    }
}

/// Decodes and encodes again.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn reencoded(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match decode(body).ok()? {
        Body::Opened(opened) => encode_opened(&mut out, &opened),
        Body::Closed(moment) => encode_closed(&mut out, moment),
        Body::Sealed => encode_sealed(&mut out),
        Body::Verification(view) => {
            let id = view.id.as_bytes();
            let tail: IdTail = id.last_chunk().copied()?;
            encode_verification(&mut out, &tail, view.shape, &view.verification, view.items()).ok()?;
            // The writer stamps the identifier's time later.
            out[ID_STAMP_AT..ID_TAIL_AT].copy_from_slice(&id[..6]);
        }
    }
    Some(out)
}

/// Reads the identifier of a verification's body without the rest of it.
pub(super) fn peek_id(body: &[u8]) -> Option<VerificationId> {
    if *body.first()? != KIND_VERIFICATION {
        return None;
    }
    VerificationId::from_bytes(body.get(ID_STAMP_AT..18)?.try_into().ok()?)
}

/// The event of the register that a verification's body names, without reading the rest.
pub(super) fn peek_register_sequence(body: &[u8]) -> Option<u64> {
    if *body.first()? != KIND_VERIFICATION {
        return None;
    }
    let sequence = body.get(REGISTER_SEQUENCE_AT..REGISTER_SEQUENCE_AT + 8)?;
    Some(u64::from_le_bytes(sequence.try_into().ok()?))
}

pub(super) const fn environment_code(environment: Environment) -> u8 {
    match environment {
        Environment::Test => 1,
        Environment::Production => 2,
    }
}

pub(super) const fn environment_of(code: u8) -> Option<Environment> {
    match code {
        1 => Some(Environment::Test),
        2 => Some(Environment::Production),
        _ => None,
    }
}

fn decode_verification(mut input: Input<'_>) -> Result<VerificationView<'_>, DecodeError> {
    let flags = input.byte()?;
    if flags & !(SHAPE_MASK | HAS_ASKED_AT | HAS_REFERENCE) != 0 {
        return Err(DecodeError::Field("flags"));
    }
    let id = VerificationId::from_bytes(input.array()?).ok_or(DecodeError::Field("identifier"))?;
    let answered_at = input.moment()?;
    let key_id = KeyId::parse(&input.array::<10>()?).ok_or(DecodeError::Field("key id"))?;
    let address = Ipv4Addr::from(input.array::<4>()?);
    let register = RegisterState { sequence: input.u64()?, as_of: input.moment()? };
    let asked_at = input.optional(flags & HAS_ASKED_AT != 0, Input::moment)?;
    let institution_bytes = usize::from(input.byte()?);
    if institution_bytes > NAME_BYTES_MAX {
        return Err(DecodeError::Field("institution"));
    }
    let institution = input.text(institution_bytes, "institution")?;
    let reference = input.optional(flags & HAS_REFERENCE != 0, Input::reference)?;
    let shape = match flags & SHAPE_MASK {
        0 => Shape::Single,
        1 => Shape::Batch,
        2 => Shape::StreamChunk { first_line: input.u64()? },
        _ => return Err(DecodeError::Field("shape")),
    };
    let items = Items(input);
    let mut count = 0usize;
    while !input.0.is_empty() {
        take_item(&mut input)?;
        count += 1;
    }
    if shape == Shape::Single && count != 1 {
        return Err(DecodeError::Field("number of items"));
    }
    let verification =
        Verification { answered_at, asked_at, key_id, institution, address, register, reference };
    Ok(VerificationView { id, shape, verification, items })
}

const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}
