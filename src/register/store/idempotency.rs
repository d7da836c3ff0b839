//! What a repeated request was answered the first time (`Idempotency-Key`).
//!
//! | table | key | value |
//! |---|---|---|
//! | `idempotency` | hash of scope and key | when, fingerprint, answer ([`answer`](super::answer)), sealed |
//! | `idempotency-expiry` | when, big-endian, and the same hash | nothing |
//!
//! Rows of before refusals were remembered have a bare sequence in the place of the
//! answer and no seal: their length tells them.

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use sha2::{Digest, Sha256};

use super::super::words::{Sequence, Stamp};
use super::answer::{Answer, seal, unsealed};
use super::codec::Fields;
use super::damage;
use super::error::{Damage, StoreError};
use crate::limits::{IDEMPOTENCY_PURGE_MAX, IDEMPOTENCY_SECONDS};

const IDEMPOTENCY: &str = "idempotency";

pub(super) const IDEMPOTENCY_TABLE: TableDefinition<'static, &[u8; 32], &[u8]> =
    TableDefinition::new(IDEMPOTENCY);
/// The same keys by the moment they were remembered (big-endian), to forget them.
pub(super) const EXPIRY_TABLE: TableDefinition<'static, &[u8; 36], ()> =
    TableDefinition::new("idempotency-expiry");

/// Bytes of a row that names an event and nothing else. No other row is so long.
const BARE_SEQUENCE_BYTES: usize = 4 + 32 + 8;

/// A request that may come twice and must count once, for 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    key: [u8; 32],
    fingerprint: [u8; 32],
}

impl Idempotency {
    /// A request with the caller's key. `scope` is who asks: the same key of
    /// another caller is another key. `request` is what is asked, its kind as
    /// well: the same key with another request is a mistake of the caller.
    #[must_use]
    pub fn new(scope: &str, key: &str, request: &[u8]) -> Self {
        let scoped = Sha256::new()
            .chain_update((scope.len() as u64).to_le_bytes())
            .chain_update(scope)
            .chain_update(key)
            .finalize();
        Self { key: scoped.into(), fingerprint: Sha256::digest(request).into() }
    }
}

/// What the store remembers of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Remembered {
    /// Nothing: it is new, or it has been 24 hours.
    Nothing,
    /// The same request was answered with this.
    Again(Answer),
    /// Another request had the key.
    OtherRequest,
}

/// The two tables within a transaction.
pub(super) struct Memory<'txn> {
    answers: Table<'txn, &'static [u8; 32], &'static [u8]>,
    expiry: Table<'txn, &'static [u8; 36], ()>,
}

impl<'txn> Memory<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { answers: txn.open_table(IDEMPOTENCY_TABLE)?, expiry: txn.open_table(EXPIRY_TABLE)? })
    }

    pub(super) fn recall(&self, request: &Idempotency, now: Stamp) -> Result<Remembered, StoreError> {
        let Some(value) = self.answers.get(&request.key)? else {
            return Ok(Remembered::Nothing);
        };
        let (at, fingerprint, answer) = decode(&request.key, value.value())?;
        Ok(if at.plus_seconds(IDEMPOTENCY_SECONDS) <= now {
            Remembered::Nothing
        } else if fingerprint == request.fingerprint {
            Remembered::Again(answer)
        } else {
            Remembered::OtherRequest
        })
    }

    pub(super) fn remember(
        &mut self,
        request: &Idempotency,
        answer: Answer,
        now: Stamp,
    ) -> Result<(), StoreError> {
        let value = encode(request, answer, now);
        self.answers.insert(&request.key, value.as_slice())?;
        self.expiry.insert(&expiry_key(now, &request.key), ())?;
        Ok(())
    }

    /// Forgets what is older than 24 hours, a bounded number at a time.
    pub(super) fn forget(&mut self, now: Stamp) -> Result<(), StoreError> {
        for _ in 0..IDEMPOTENCY_PURGE_MAX {
            let Some(expired) = self.oldest()?.filter(|(at, _)| at.plus_seconds(IDEMPOTENCY_SECONDS) <= now)
            else {
                break;
            };
            let (at, key) = expired;
            self.expiry.remove(&expiry_key(at, &key))?;
            // The key may have been used again since.
            let same = self.answers.get(&key)?.and_then(|value| decode(&key, value.value()).ok());
            if same.is_some_and(|(remembered_at, ..)| remembered_at == at) {
                self.answers.remove(&key)?;
            }
        }
        Ok(())
    }

    fn oldest(&self) -> Result<Option<(Stamp, [u8; 32])>, StoreError> {
        let Some((row, _)) = self.expiry.first()? else { return Ok(None) };
        let mut fields = Fields::new(row.value());
        let at = fields.array().map(u32::from_be_bytes).map(Stamp::from_seconds);
        Ok(at.zip(fields.array()))
    }
}

/// Is this a row? The event that it names, if it names one.
pub(super) fn judge(key: &[u8; 32], value: &[u8]) -> Result<Sequence, Damage> {
    decode(key, value).map(|(_, _, answer)| answer.named())
}

fn encode(request: &Idempotency, answer: Answer, now: Stamp) -> Vec<u8> {
    let mut value = Vec::with_capacity(52);
    value.extend_from_slice(&now.seconds().to_le_bytes());
    value.extend_from_slice(&request.fingerprint);
    answer.put(&mut value);
    seal(&request.key, &mut value);
    value
}

fn decode(key: &[u8; 32], value: &[u8]) -> Result<(Stamp, [u8; 32], Answer), Damage> {
    let read = || {
        let is_bare = value.len() == BARE_SEQUENCE_BYTES;
        let mut fields = Fields::new(if is_bare { value } else { unsealed(key, value)? });
        let at = Stamp::from_seconds(fields.u32()?);
        let fingerprint = fields.array()?;
        let answer = if is_bare {
            Answer::Event(Sequence::new(fields.u64()?))
        } else {
            Answer::read(fields.u8()?, &mut fields)?
        };
        fields.is_empty().then_some((at, fingerprint, answer))
    };
    read().ok_or_else(|| damage(IDEMPOTENCY, None, "a row is not readable"))
}

fn expiry_key(at: Stamp, key: &[u8; 32]) -> [u8; 36] {
    let mut out = [0; 36];
    out[..4].copy_from_slice(&at.seconds().to_be_bytes());
    out[4..].copy_from_slice(key);
    out
}

#[cfg(test)]
mod tests {
    use super::super::answer;
    use super::*;

    const AT: Stamp = Stamp::from_seconds(1_795_000_000);

    #[test]
    fn answers_are_read_back_and_every_flipped_bit_and_cut_is_found() {
        let request = Idempotency::new("token", "key", b"request");
        let other = Idempotency::new("token", "another", b"request");
        for answer in answer::examples() {
            let value = encode(&request, answer, AT);
            assert_eq!(decode(&request.key, &value), Ok((AT, request.fingerprint, answer)));
            assert_eq!(judge(&request.key, &value), Ok(answer.named()));
            assert_ne!(value.len(), BARE_SEQUENCE_BYTES, "taken for a row of before");
            assert!(judge(&other.key, &value).is_err(), "another request's row");
            for bit in 0..value.len() * 8 {
                let mut flipped = value.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(judge(&request.key, &flipped).is_err(), "bit {bit}");
            }
            // A cut to the length of a row of before is the one that nothing tells.
            for length in (0..value.len()).filter(|length| *length != BARE_SEQUENCE_BYTES) {
                assert!(judge(&request.key, &value[..length]).is_err(), "cut at {length}");
            }
        }
    }

    #[test]
    fn a_row_of_before_refusals_were_remembered_is_read() {
        let request = Idempotency::new("token", "key", b"request");
        let sequence = Sequence::new(0x0102_0304_0506_0708);
        let stamp = AT.seconds().to_le_bytes();
        let row = [&stamp[..], &request.fingerprint, &[8, 7, 6, 5, 4, 3, 2, 1]].concat();
        let expected = (AT, request.fingerprint, Answer::Event(sequence));
        assert_eq!(decode(&request.key, &row), Ok(expected));
        assert_eq!(judge(&request.key, &row), Ok(sequence));
    }
}
