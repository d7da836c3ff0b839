//! Idempotency keys: a request sent twice issues one key.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::clock::Moment;
use crate::limits::{IDEMPOTENCY_KEY_CHARS_MAX, IDEMPOTENCY_SECONDS};
use crate::secret::KeyId;

/// A caller's `Idempotency-Key`, as a digest of who sent it and what it says:
/// two callers may choose the same text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey([u8; 32]);

/// An idempotency key is 1 to [`IDEMPOTENCY_KEY_CHARS_MAX`] printable ASCII
/// characters, spaces within it included; the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadIdempotencyKey;

impl fmt::Display for BadIdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`idempotency-key` has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters")
    }
}

impl std::error::Error for BadIdempotencyKey {}

impl IdempotencyKey {
    /// Reads the header's value, as sent by the holder of this token.
    ///
    /// # Errors
    /// [`BadIdempotencyKey`] for an empty, long or unprintable text.
    pub fn parse(caller: KeyId, text: &[u8]) -> Result<Self, BadIdempotencyKey> {
        let text = Self::judged(text)?;
        // An id has a fixed length: no two pairs run together to one text.
        let digest = Sha256::new().chain_update(caller.as_bytes()).chain_update(text).finalize();
        Ok(Self(digest.into()))
    }

    /// The rule for the text of one, whatever it is a key for.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn judged(text: &[u8]) -> Result<&str, BadIdempotencyKey> {
        let is_good = (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len())
            && text.iter().all(|c| *c == b' ' || c.is_ascii_graphic());
        // ASCII is UTF-8.
        std::str::from_utf8(text).ok().filter(|_| is_good).ok_or(BadIdempotencyKey)
    }

    pub(super) const fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({})", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

/// What a request asked for, so that the same idempotency key with another
/// request is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) [u8; 32]);

impl Fingerprint {
    /// Of a request's kind and of its content in a form that serialises the same
    /// way each time.
    pub(super) fn of(kind: &str, content: &impl serde::Serialize) -> Self {
        // Serialising plain words and numbers into memory has no way to fail; if
        // it ever did, the request would only be taken for another one.
        let text = serde_json::to_vec(&(kind, content)).unwrap_or_default();
        Self(Sha256::digest(text).into())
    }
}

/// What an idempotency key led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) request: Fingerprint,
    pub(super) id: KeyId,
    pub(super) at: Moment,
}

impl Remembered {
    /// Forgotten after 24 hours.
    pub(super) const fn holds(&self, now: Moment) -> bool {
        now.unix_seconds() - self.at.unix_seconds() < IDEMPOTENCY_SECONDS as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_do_not_share_idempotency_keys() {
        let (first, second) = (KeyId::parse(b"aaaaaaaaaa"), KeyId::parse(b"aaaaaaaaab"));
        let (first, second) = (first.expect("id"), second.expect("id"));
        let key = |caller, text: &[u8]| IdempotencyKey::parse(caller, text);
        assert_eq!(key(first, b"x"), key(first, b"x"));
        assert_ne!(key(first, b"x"), key(second, b"x"));
        assert_ne!(key(first, b"x"), key(first, b"y"));
        assert_ne!(key(first, b"a key"), key(first, b"akey"));
        for good in [&b"a key ~!"[..], &[b'a'; IDEMPOTENCY_KEY_CHARS_MAX]] {
            assert!(key(first, good).is_ok());
        }
        for bad in [&b""[..], b"a\n", &[0x80], &[b'a'; IDEMPOTENCY_KEY_CHARS_MAX + 1]] {
            assert_eq!(key(first, bad), Err(BadIdempotencyKey));
        }
    }
}
