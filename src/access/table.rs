//! A map by id that is cheap to publish anew: shards behind `Arc`, of which a
//! change copies one.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::secret::KeyId;

/// With 10 000 records a shard holds 40, with 100 000 it holds 400: copying one
/// takes microseconds.
const SHARDS: usize = 256;

type Shard<V> = HashMap<KeyId, Arc<V>, BuildHasherDefault<IdHasher>>;

/// Records by id. Cloning shares every shard; an insertion copies the shard it
/// falls into, if anybody else still holds it.
#[derive(Debug)]
pub(crate) struct Table<V> {
    shards: Box<[Arc<Shard<V>>]>,
    len: usize,
}

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone(), len: self.len }
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::new(Shard::default())).collect(), len: 0 }
    }
}

impl<V> Table<V> {
    pub(crate) fn get(&self, id: &KeyId) -> Option<&Arc<V>> {
        self.shards[shard_of(id)].get(id)
    }

    /// Puts a record in, in place of one with the same id.
    pub(crate) fn put(&mut self, id: KeyId, record: Arc<V>) {
        if Arc::make_mut(&mut self.shards[shard_of(&id)]).insert(id, record).is_none() {
            self.len += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<V>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Mixes the ten characters of an id. No key is needed here as against chosen
/// keys of a map: the ids in a table are drawn by us, at random; a caller chooses
/// only which one to look for.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

/// 2^64 divided by the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(MIX);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    // A fixed-size array announces its length; it is the same for every id.
    fn write_usize(&mut self, _len: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

fn shard_of(id: &KeyId) -> usize {
    let mut hasher = IdHasher::default();
    hasher.write(id.as_bytes());
    // The map inside uses the lowest and the highest bits.
    (hasher.finish() >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> KeyId {
        let letters = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut text = *b"aaaaaaaaaa";
        for (at, letter) in text.iter_mut().enumerate().take(7) {
            *letter = letters[(n >> (5 * at) & 31) as usize];
        }
        KeyId::parse(&text).expect("base32")
    }

    #[test]
    fn a_copy_does_not_see_later_changes_and_shares_the_rest() {
        let mut table = Table::default();
        for n in 0..5_000u32 {
            table.put(id(n), Arc::new(n));
        }
        let before = table.clone();
        table.put(id(7), Arc::new(70));
        table.put(id(9_999), Arc::new(9_999));
        assert_eq!((before.len(), table.len()), (5_000, 5_001));
        assert_eq!(before.get(&id(7)).map(|v| **v), Some(7));
        assert_eq!(table.get(&id(7)).map(|v| **v), Some(70));
        assert!(before.get(&id(9_999)).is_none());
        let shared = before.shards.iter().zip(&table.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= SHARDS - 2);
        assert_eq!(before.iter().count(), 5_000);
        for n in 0..5_000u32 {
            assert_eq!(before.get(&id(n)).map(|v| **v), Some(n));
        }
    }

    #[test]
    fn ids_spread_over_the_shards() {
        let mut table = Table::default();
        for n in 0..25_600u32 {
            table.put(id(n), Arc::new(()));
        }
        let fullest = table.shards.iter().map(|shard| shard.len()).max();
        assert!(fullest < Some(250), "{fullest:?} of 100 on average");
    }
}
