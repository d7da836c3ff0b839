//! What a repeated request led to the first time (`Idempotency-Key`).

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use sha2::{Digest, Sha256};

use super::super::words::{Sequence, Stamp};
use super::codec::Fields;
use super::damage;
use super::error::StoreError;
use crate::limits::{IDEMPOTENCY_PURGE_MAX, IDEMPOTENCY_SECONDS};

const IDEMPOTENCY: &str = "idempotency";

pub(super) const IDEMPOTENCY_TABLE: TableDefinition<'static, &[u8; 32], &[u8]> =
    TableDefinition::new(IDEMPOTENCY);
/// The same keys by the moment they were remembered (big-endian), to forget them.
pub(super) const EXPIRY_TABLE: TableDefinition<'static, &[u8; 36], ()> =
    TableDefinition::new("idempotency-expiry");

/// A request that may come twice and must count once, for 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    key: [u8; 32],
    fingerprint: [u8; 32],
}

impl Idempotency {
    /// A request with the caller's key. `scope` is who asks and for what: the
    /// same key of another caller is another key. `request` is what is asked:
    /// the same key with another request is a mistake of the caller.
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
    /// The same request led to this event.
    Event(Sequence),
    /// Another request had the key.
    OtherRequest,
}

/// The two tables within a transaction.
pub(super) struct Memory<'txn> {
    events: Table<'txn, &'static [u8; 32], &'static [u8]>,
    expiry: Table<'txn, &'static [u8; 36], ()>,
}

impl<'txn> Memory<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { events: txn.open_table(IDEMPOTENCY_TABLE)?, expiry: txn.open_table(EXPIRY_TABLE)? })
    }

    pub(super) fn recall(&self, request: &Idempotency, now: Stamp) -> Result<Remembered, StoreError> {
        let Some(value) = self.events.get(&request.key)? else {
            return Ok(Remembered::Nothing);
        };
        let (at, fingerprint, sequence) =
            decode(value.value()).ok_or_else(|| damage(IDEMPOTENCY, None, "a row is not readable"))?;
        Ok(if at.plus_seconds(IDEMPOTENCY_SECONDS) <= now {
            Remembered::Nothing
        } else if fingerprint == request.fingerprint {
            Remembered::Event(sequence)
        } else {
            Remembered::OtherRequest
        })
    }

    pub(super) fn remember(
        &mut self,
        request: &Idempotency,
        sequence: Sequence,
        now: Stamp,
    ) -> Result<(), StoreError> {
        let mut value = Vec::with_capacity(44);
        value.extend_from_slice(&now.seconds().to_le_bytes());
        value.extend_from_slice(&request.fingerprint);
        value.extend_from_slice(&sequence.value().to_le_bytes());
        self.events.insert(&request.key, value.as_slice())?;
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
            let same = self.events.get(&key)?.and_then(|value| decode(value.value())).map(|row| row.0);
            if same == Some(at) {
                self.events.remove(&key)?;
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

fn decode(value: &[u8]) -> Option<(Stamp, [u8; 32], Sequence)> {
    let mut fields = Fields::new(value);
    Some((Stamp::from_seconds(fields.u32()?), fields.array()?, Sequence::new(fields.u64()?)))
}

fn expiry_key(at: Stamp, key: &[u8; 32]) -> [u8; 36] {
    let mut out = [0; 36];
    out[..4].copy_from_slice(&at.seconds().to_be_bytes());
    out[4..].copy_from_slice(key);
    out
}
