//! A map by id that is cheap to publish anew: shards behind `Arc`, of which a
//! change copies one.

use std::sync::Arc;

use crate::secret::KeyId;

/// With 10 000 records a shard holds 40, with 100 000 it holds 400: copying one
/// takes microseconds.
const SHARDS: usize = 256;

/// Values by id, cheap to clone each. Cloning shares every shard; an insertion
/// copies the shard it falls into, if anybody else still holds it. Nothing is
/// ever removed: a record that is deactivated stays.
///
/// A shard is an array of places, of which at most four fifths are taken; an id
/// stands at its own place or the next free one. A look-up among many keys costs
/// what it fetches from memory, and this fetches one line; a standard map in an
/// `Arc` fetches three, each found by the one before.
#[derive(Debug)]
pub(crate) struct Table<V> {
    shards: Box<[Shard<V>]>,
    len: usize,
}

#[derive(Debug)]
struct Shard<V> {
    /// As many as a power of two, or none.
    places: Arc<[Place<V>]>,
    taken: usize,
}

type Place<V> = Option<(KeyId, V)>;

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        let share = |shard: &Shard<V>| Shard { places: Arc::clone(&shard.places), taken: shard.taken };
        Self { shards: self.shards.iter().map(share).collect(), len: self.len }
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        let empty = || Shard { places: Arc::from([]), taken: 0 };
        Self { shards: (0..SHARDS).map(|_| empty()).collect(), len: 0 }
    }
}

impl<V: Clone> Table<V> {
    pub(crate) fn get(&self, id: &KeyId) -> Option<&V> {
        let hash = mix(id);
        let places = &self.shards[shard_of(hash)].places;
        let mut at = hash as usize;
        // An array of places is never full, but an empty one has none at all.
        for _ in 0..places.len() {
            match &places[at & (places.len() - 1)] {
                Some((found, value)) if found == id => return Some(value),
                Some(_) => at = at.wrapping_add(1),
                None => return None,
            }
        }
        None
    }

    /// Puts a value in, in place of one with the same id.
    pub(crate) fn put(&mut self, id: KeyId, value: V) {
        let hash = mix(&id);
        let shard = &mut self.shards[shard_of(hash)];
        if (shard.taken + 1) * 5 > shard.places.len() * 4 {
            shard.grow();
        }
        if settle(Arc::make_mut(&mut shard.places), hash, id, value) {
            shard.taken += 1;
            self.len += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.places.iter().flatten()).map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<V: Clone> Shard<V> {
    fn grow(&mut self) {
        let mut places = vec![None; (self.places.len() * 2).max(4)];
        for (id, value) in self.places.iter().flatten() {
            settle(&mut places, mix(id), *id, value.clone());
        }
        self.places = places.into();
    }
}

/// Puts a value into places that are not all taken; whether its id is new there.
fn settle<V>(places: &mut [Place<V>], hash: u64, id: KeyId, value: V) -> bool {
    let mask = places.len() - 1;
    let mut at = hash as usize & mask;
    while places[at].as_ref().is_some_and(|(found, _)| *found != id) {
        at = (at + 1) & mask;
    }
    places[at].replace((id, value)).is_none()
}

/// Mixes the ten characters of an id. No key is needed here as against chosen
/// keys of a map: the ids in a table are drawn by us, at random; a caller chooses
/// only which one to look for.
fn mix(id: &KeyId) -> u64 {
    /// 2^64 divided by the golden ratio.
    const MIX: u64 = 0x9E37_79B9_7F4A_7C15;
    let [a, b, c, d, e, f, g, h, i, j] = *id.as_bytes();
    let fold = |word: u64| {
        let product = u128::from(word) * u128::from(MIX);
        (product as u64) ^ (product >> 64) as u64
    };
    fold(fold(u64::from_le_bytes([a, b, c, d, e, f, g, h])) ^ u64::from_le_bytes([i, j, 0, 0, 0, 0, 0, 0]))
}

/// By the highest bits; the places inside go by the lowest.
fn shard_of(hash: u64) -> usize {
    (hash >> 56) as usize % SHARDS
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
            table.put(id(n), n);
        }
        let before = table.clone();
        table.put(id(7), 70);
        table.put(id(9_999), 9_999);
        assert_eq!((before.len(), table.len()), (5_000, 5_001));
        assert_eq!(before.get(&id(7)).copied(), Some(7));
        assert_eq!(table.get(&id(7)).copied(), Some(70));
        assert!(before.get(&id(9_999)).is_none());
        let shared = before
            .shards
            .iter()
            .zip(&table.shards)
            .filter(|(a, b)| Arc::ptr_eq(&a.places, &b.places))
            .count();
        assert!(shared >= SHARDS - 2);
        assert_eq!(before.iter().count(), 5_000);
        for n in 0..5_000u32 {
            assert_eq!(before.get(&id(n)).copied(), Some(n));
        }
    }

    #[test]
    fn ids_spread_over_the_shards() {
        let mut table = Table::default();
        for n in 0..25_600u32 {
            table.put(id(n), ());
        }
        let fullest = table.shards.iter().map(|shard| shard.taken).max();
        assert!(fullest < Some(250), "{fullest:?} of 100 on average");
    }
}
