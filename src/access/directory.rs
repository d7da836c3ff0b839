//! The directory: every key and token as of one moment, behind one swap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use super::key::KeyRecord;
use super::limiter::KeyLimiter;
use super::table::Table;
use super::time::LimiterTime;
use super::token::TokenRecord;
use crate::environment::Environment;
use crate::secret::KeyId;

/// Who holds what, as of one moment; never changes.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    keys: Table<KeySlot>,
    tokens: Table<Arc<TokenRecord>>,
    edition: Edition,
}

/// Which state of the directory this is: every change makes another, and no two
/// that were changed apart are the same, published or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edition(u64);

impl Edition {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Edition {
    fn default() -> Self {
        Self::new()
    }
}

/// A key in the table. The budget stands beside the record, which has it too, so
/// that both are fetched from memory at once and not one after the other.
#[derive(Debug, Clone)]
pub(crate) struct KeySlot {
    record: Arc<KeyRecord>,
    limiter: Arc<KeyLimiter>,
}

impl KeySlot {
    pub(crate) const fn record(&self) -> &Arc<KeyRecord> {
        &self.record
    }

    /// Has all that a decision reads of the key fetched from memory at once, where it
    /// is in no cache. Read as the decision goes, each line would be waited for by
    /// itself: counting a reference and charging the budget are locked, and nothing
    /// behind a locked access begins before it ends.
    pub(crate) fn fetch(&self) {
        std::hint::black_box(self.record.touch() ^ self.limiter.touch());
    }
}

/// A key as a connection keeps it: found without a look-up for as long as nothing
/// in the directory has changed.
#[derive(Debug)]
pub(crate) struct KeptKey {
    slot: KeySlot,
    edition: Edition,
}

impl KeptKey {
    pub(crate) fn id(&self) -> KeyId {
        self.slot.record.id()
    }
}

impl Directory {
    /// The key of this id, deactivated ones included.
    #[must_use]
    pub fn key(&self, id: &KeyId) -> Option<&Arc<KeyRecord>> {
        self.keys.get(id).map(KeySlot::record)
    }

    pub(crate) fn slot(&self, id: &KeyId) -> Option<&KeySlot> {
        self.keys.get(id)
    }

    /// The key for a connection to keep.
    pub(crate) fn keep(&self, slot: &KeySlot) -> KeptKey {
        KeptKey { slot: slot.clone(), edition: self.edition }
    }

    /// What the directory holds of a kept key now: what was kept, if the directory
    /// is as it was then; else it is looked up and kept anew.
    pub(crate) fn recall<'a>(&self, kept: &'a mut KeptKey) -> Option<&'a KeySlot> {
        if kept.edition != self.edition {
            *kept = self.keep(self.slot(&kept.id())?);
        }
        Some(&kept.slot)
    }

    pub(crate) const fn edition(&self) -> Edition {
        self.edition
    }

    /// The token of this id, deactivated ones included.
    #[must_use]
    pub fn token(&self, id: &KeyId) -> Option<&Arc<TokenRecord>> {
        self.tokens.get(id)
    }

    /// All keys, oldest first; for listings, it sorts them.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Arc<KeyRecord>> {
        let mut keys: Vec<_> = self.unsorted_keys().collect();
        keys.sort_unstable_by_key(|key| (key.created_at(), key.id()));
        keys.into_iter()
    }

    /// All tokens, oldest first.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &Arc<TokenRecord>> {
        let mut tokens: Vec<_> = self.unsorted_tokens().collect();
        tokens.sort_unstable_by_key(|token| (token.created_at(), token.id()));
        tokens.into_iter()
    }

    pub(super) fn unsorted_keys(&self) -> impl Iterator<Item = &Arc<KeyRecord>> {
        self.keys.iter().map(KeySlot::record)
    }

    pub(super) fn unsorted_tokens(&self) -> impl Iterator<Item = &Arc<TokenRecord>> {
        self.tokens.iter()
    }

    pub(super) fn put_key(&mut self, record: Arc<KeyRecord>) {
        let limiter = Arc::clone(&record.limiter);
        self.keys.put(record.id(), KeySlot { record, limiter });
        self.edition = Edition::new();
    }

    pub(super) fn put_token(&mut self, record: Arc<TokenRecord>) {
        self.tokens.put(record.id(), record);
        self.edition = Edition::new();
    }

    /// Keys on record, deactivated ones included.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Tokens on record, deactivated ones included.
    #[must_use]
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// The keys whose limits refused something since the process started, with
    /// how often: a metric with as many labels as keys were refused.
    pub fn refusals(&self) -> impl Iterator<Item = (KeyId, u64)> {
        self.unsorted_keys().map(|key| (key.id(), key.refused())).filter(|&(_, refused)| refused > 0)
    }
}

/// Reads the directory; the only thing of access that the verification plane
/// holds. Cloning it is cheap.
#[derive(Clone)]
pub struct DirectoryReader {
    pub(super) current: Arc<ArcSwap<Directory>>,
    pub(super) environment: Environment,
    pub(super) time: Arc<LimiterTime>,
}

impl DirectoryReader {
    /// The directory as of now. Load once for a request and don't hold the guard
    /// over `.await`.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Directory>> {
        self.current.load()
    }

    /// The environment whose keys these are.
    #[must_use]
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// Monotonic nanoseconds since the gateway started.
    pub(crate) fn nanos(&self) -> u64 {
        self.time.ticks.nanos()
    }
}

impl std::fmt::Debug for DirectoryReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let directory = self.load();
        f.debug_struct("DirectoryReader")
            .field("environment", &self.environment)
            .field("keys", &directory.key_count())
            .field("tokens", &directory.token_count())
            .finish()
    }
}
