//! The identifier of a verification: a UUID of version 7 (RFC 9562).

use std::fmt;

/// Names one recorded question and answer; the institution keeps it as evidence.
///
/// Its 48 bits of time are the stamp of the group that the record was written
/// with: in the order of the trail they never go back, whatever the wall clock
/// does, so that a look-up by id finds the segment and the group by time. The
/// other 74 bits are random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerificationId([u8; 16]);

/// The text is no identifier that this gateway can have given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID of version 7")
    }
}

impl std::error::Error for NotAnId {}

/// The random part of an identifier, as staged before its time is known.
pub(super) type IdTail = [u8; 10];

/// The largest time an identifier can carry: 48 bits of milliseconds.
pub(super) const STAMP_MS_MAX: u64 = (1 << 48) - 1;

impl VerificationId {
    /// Reads an identifier from its hyphenated text, either case.
    ///
    /// # Errors
    /// [`NotAnId`] for anything but a UUID of version 7 in that form.
    pub fn parse(text: &str) -> Result<Self, NotAnId> {
        // The library also reads braced, simple and URN forms; one form is enough.
        if text.len() != uuid::fmt::Hyphenated::LENGTH {
            return Err(NotAnId);
        }
        let uuid = uuid::Uuid::try_parse(text).map_err(|_| NotAnId)?;
        Self::from_bytes(uuid.into_bytes()).ok_or(NotAnId)
    }

    /// The identifier with these bytes; `None` unless version and variant fit.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        if bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10 { Some(Self(bytes)) } else { None }
    }

    /// The identifier as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The hyphenated text in lower case.
    #[must_use]
    pub fn text(&self) -> [u8; 36] {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        uuid::Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut text);
        text
    }

    /// Milliseconds since 1970 of the group that holds the record.
    pub(super) fn stamp_ms(self) -> u64 {
        self.0[..6].iter().fold(0, |stamp, byte| stamp << 8 | u64::from(*byte))
    }

    /// Puts an identifier together.
    pub(super) fn from_parts(stamp_ms: u64, tail: &IdTail) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&stamp_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(tail);
        Self(bytes)
    }
}

/// Sets version and variant in 80 random bits.
pub(super) fn id_tail(random: u64, more: u64) -> IdTail {
    let mut tail = [0; 10];
    tail[..8].copy_from_slice(&random.to_be_bytes());
    tail[8..].copy_from_slice(&more.to_be_bytes()[..2]);
    tail[0] = 0x70 | tail[0] & 0x0F;
    tail[2] = 0x80 | tail[2] & 0x3F;
    tail
}

impl fmt::Display for VerificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for VerificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationId({self})")
    }
}

impl serde::Serialize for VerificationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_text_are_read_back() {
        for stamp in [0, 1, 1_795_000_000_123, STAMP_MS_MAX] {
            let id = VerificationId::from_parts(stamp, &id_tail(u64::MAX, 0x1234 << 48));
            assert_eq!(id.stamp_ms(), stamp);
            assert_eq!(VerificationId::from_bytes(*id.as_bytes()), Some(id));
            assert_eq!(VerificationId::parse(&id.to_string()), Ok(id));
            assert_eq!(VerificationId::parse(&id.to_string().to_uppercase()), Ok(id));
        }
    }

    #[test]
    fn other_forms_and_versions_are_refused() {
        let texts = [
            "",
            "00000000-0000-0000-0000-000000000000",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
            "0199d4d7f0007abc8123456789abcdef",
            "{0199d4d7-f000-7abc-8123-456789abcdef}",
            "0199d4d7-f000-7abc-c123-456789abcdef",
        ];
        for text in texts {
            assert_eq!(VerificationId::parse(text), Err(NotAnId), "{text}");
        }
        assert!(VerificationId::parse("0199d4d7-f000-7abc-8123-456789abcdef").is_ok());
    }
}
