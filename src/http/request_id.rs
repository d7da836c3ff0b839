//! The request identifier: the client's, if it sent a well-formed one, else ours.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::limits::REQUEST_ID_CHARS_MAX;

/// The header that carries it both ways.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An identifier that is safe to echo and to log.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Takes the client's identifier if it is 1 to 64 letters, digits, `.`, `_`
    /// or `-`, without eleven digits in a row (somebody's PESEL must not be
    /// carried about as a name for a request); otherwise makes one.
    pub(crate) fn of(headers: &HeaderMap, fresh: impl FnOnce() -> u64) -> Self {
        match headers.get(X_REQUEST_ID) {
            Some(value) if is_well_formed(value.as_bytes()) => Self(value.clone()),
            _ => Self::from_number(fresh()),
        }
    }

    /// An identifier of our own making: 16 hexadecimal digits, the ninth of them
    /// a letter, so that it never has eleven decimal digits in a row either.
    pub(crate) fn from_number(number: u64) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 16];
        for (slot, digit) in text.iter_mut().enumerate() {
            *digit = HEX[(number >> (60 - slot * 4)) as usize & 15];
        }
        text[8] = b"abcdef"[(number >> 28 & 15) as usize % 6];
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0")))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_well_formed(text: &[u8]) -> bool {
    let mut digits = 0;
    let mut well_formed = (1..=REQUEST_ID_CHARS_MAX).contains(&text.len());
    for byte in text {
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        well_formed &= digits < 11 && (byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    }
    well_formed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_identifiers_are_taken_over() {
        for good in ["a", "req-1.2_3", "0123456789", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"] {
            assert!(is_well_formed(good.as_bytes()), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "a b", "a\"b", "ż", "44851401353", "x44851401353y", long.as_str()] {
            assert!(!is_well_formed(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn ours_is_hexadecimal_and_nobodys_number() {
        assert_eq!(RequestId::from_number(0x0123_4567_89ab_cdef).as_str(), "01234567c9abcdef");
        for number in [0, u64::MAX, 0x4485_1401_3530_0000, 0x0004_4851_4013_5300] {
            assert!(is_well_formed(RequestId::from_number(number).as_str().as_bytes()));
        }
    }
}
