//! Fields that occur all over a record: read and written here.

use std::fmt;

use super::{DecodeError, TextTooLong};
use crate::clock::Moment;
use crate::limits::REFERENCE_BYTES_MAX;

/// 0001-01-01T00:00:00Z, the earliest moment there is.
const MOMENT_ORIGIN: i64 = -62_135_596_800;
pub(super) const MOMENT_BYTES: usize = 5;

/// The rest of a body.
#[derive(Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn moment(&mut self) -> Result<Moment, DecodeError> {
        let [a, b, c, d, e] = self.array::<MOMENT_BYTES>()?;
        let seconds = i64::from_le_bytes([a, b, c, d, e, 0, 0, 0]) + MOMENT_ORIGIN;
        let moment = Moment::from_unix_seconds(seconds);
        if moment.unix_seconds() == seconds { Ok(moment) } else { Err(DecodeError::Field("moment")) }
    }

    pub(super) fn text(&mut self, bytes: usize, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.take(bytes)?).map_err(|_| DecodeError::Field(field))
    }

    pub(super) fn reference(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = usize::from(u16::from_le_bytes(self.array()?));
        if bytes > REFERENCE_BYTES_MAX {
            return Err(DecodeError::Field("reference"));
        }
        self.text(bytes, "reference")
    }

    pub(super) fn optional<T>(
        &mut self,
        present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if present { read(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn end<T>(self, value: T) -> Result<T, DecodeError> {
        if self.0.is_empty() { Ok(value) } else { Err(DecodeError::Long) }
    }
}

/// The bytes of a moment.
pub(super) fn moment_bytes(moment: Moment) -> [u8; MOMENT_BYTES] {
    // A moment lies in the years 0001-9999, so the difference has 39 bits.
    let bytes = ((moment.unix_seconds() - MOMENT_ORIGIN) as u64).to_le_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]]
}

/// Writes a reference with its length.
pub(super) fn put_reference(out: &mut Vec<u8>, reference: &str) -> Result<(), TextTooLong> {
    if reference.len() > REFERENCE_BYTES_MAX {
        return Err(TextTooLong);
    }
    out.extend_from_slice(&(reference.len() as u16).to_le_bytes());
    out.extend_from_slice(reference.as_bytes());
    Ok(())
}
