//! The credential that proved itself on a connection, so that a keep-alive
//! connection is not hashed for every request.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::access::KeptKey;
use crate::secret::CredentialHash;

/// Eight-byte words that hold the text of a credential (78 bytes).
const WORDS: usize = 10;

/// One connection's memory of the last credential that proved itself on it: who
/// it is, not what it may. Permission is asked of the directory on every request,
/// which says at once whether the key that is kept here is still what it holds.
/// The text is wiped when it is replaced or the connection ends.
#[derive(Default)]
pub struct IdentityCache {
    proved: Option<Proved>,
}

struct Proved {
    text: Text,
    hash: CredentialHash,
    key: KeptKey,
}

/// A text in words, so that comparing it in constant time takes ten steps.
struct Text {
    words: Zeroizing<[u64; WORDS]>,
    bytes: usize,
}

impl Text {
    fn of(text: &[u8]) -> Option<Self> {
        if text.len() > WORDS * 8 {
            return None;
        }
        let mut words = Zeroizing::new([0u64; WORDS]);
        let (whole, rest) = text.as_chunks::<8>();
        for (word, chunk) in words.iter_mut().zip(whole) {
            *word = u64::from_le_bytes(*chunk);
        }
        if let Some(last) = words.get_mut(whole.len()) {
            *last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Some(Self { words, bytes: text.len() })
    }

    fn equals(&self, other: &Self) -> bool {
        let differing = self.words.iter().zip(other.words.iter()).fold(0, |bits, (a, b)| bits | (a ^ b));
        bool::from(differing.ct_eq(&0)) & (self.bytes == other.bytes)
    }
}

impl IdentityCache {
    /// The key and hash that this text proved before on this connection.
    pub(super) fn recall(&mut self, text: &[u8]) -> Option<(&mut KeptKey, &CredentialHash)> {
        let proved = self.proved.as_mut()?;
        proved.text.equals(&Text::of(text)?).then_some((&mut proved.key, &proved.hash))
    }

    /// Whether any credential has proved itself on this connection.
    #[must_use]
    pub const fn has_proved(&self) -> bool {
        self.proved.is_some()
    }

    pub(super) fn remember(&mut self, text: &[u8], hash: CredentialHash, key: KeptKey) {
        self.proved = Text::of(text).map(|text| Proved { text, hash, key });
    }

    pub(super) fn forget(&mut self) {
        self.proved = None;
    }
}

impl fmt::Debug for IdentityCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityCache({:?}, redacted)", self.proved.as_ref().map(|proved| proved.key.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::testing::test_world;

    #[test]
    fn only_the_very_text_is_recalled() {
        let world = test_world();
        let (record, _) = world.issue(world.new_key(&["127.0.0.1"]));
        let directory = world.reader.load();
        let key = || directory.keep(directory.slot(&record.id()).expect("issued"));
        let text = [b'k'; 78];
        let mut cache = IdentityCache::default();
        assert!(cache.recall(&text).is_none());
        cache.remember(&text, CredentialHash::DUMMY, key());
        assert_eq!(cache.recall(&text).map(|(key, _)| key.id()), Some(record.id()));
        for at in 0..text.len() {
            let mut other = text;
            other[at] ^= 1;
            assert!(cache.recall(&other).is_none(), "position {at}");
        }
        for other in [&text[..77], b"", &[b'k'; 79], &[b'k'; 200], &[&text[..], &[0]].concat()] {
            assert!(cache.recall(other).is_none());
        }
        assert!(!format!("{cache:?}").contains("kkk"));
        cache.remember(&[b'k'; 200], CredentialHash::DUMMY, key());
        assert!(cache.recall(&[b'k'; 200]).is_none(), "nothing longer than a credential is kept");
    }
}
