//! Credentials: API keys of the verification plane, tokens of the admin plane.
//!
//! The text is `<prefix>_<test|prod>_<id>_<secret><checksum>`: the prefix tells
//! the plane (`pg` a key, `pga` an admin token), the id (public, ten characters)
//! finds the record, the secret carries 256 bits, the checksum (CRC32C of all
//! before it) tells a typing error from a wrong key without asking anybody.
//! Id, secret and checksum are base32 in lower case.
//!
//! A secret as text, a secret presented by a caller and a secret as stored are
//! three types; the stored one is a SHA-256 of the whole text. A password hash
//! would be wrong here: 256 random bits need no stretching.

use std::fmt;

use data_encoding::{Encoding, Specification};
use rand::TryRng;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::environment::Environment;

/// Characters of an id: 50 bits.
const ID_CHARS: usize = 10;
/// Characters of a secret: 256 bits in base32.
const SECRET_CHARS: usize = 52;
/// Characters of the checksum: 32 bits in base32.
const CHECKSUM_CHARS: usize = 7;

static BASE32_LOWER: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    #[expect(clippy::expect_used, reason = "a constant alphabet, covered by every test here")]
    spec.encoding().expect("32 distinct symbols")
});

/// Which plane a credential opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// The verification plane: an API key, prefix `pg`.
    Verification,
    /// The admin plane: an admin token, prefix `pga`.
    Admin,
}

impl Plane {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Verification => "pg",
            Self::Admin => "pga",
        }
    }
}

const fn environment_word(environment: Environment) -> &'static str {
    match environment {
        Environment::Test => "test",
        Environment::Production => "prod",
    }
}

/// A key identifier (identyfikator klucza): public, names a key or a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID_CHARS]);

impl KeyId {
    /// Reads an id; `None` unless it is ten base32 characters in lower case.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let id: [u8; ID_CHARS] = text.try_into().ok()?;
        id.iter().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7')).then_some(Self(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII passes `parse`, so this never falls back.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as bytes, for records.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; ID_CHARS] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.as_str())
    }
}

impl serde::Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A credential in plain text, as issued: shown once, wiped when dropped.
pub struct PlainCredential {
    id: KeyId,
    text: Zeroizing<String>,
}

impl PlainCredential {
    /// Makes a new credential from the system's randomness.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(plane: Plane, environment: Environment) -> Result<Self, NoRandomness> {
        let mut id = [0u8; 7];
        let mut secret = Zeroizing::new([0u8; 32]);
        rand::rngs::SysRng
            .try_fill_bytes(&mut id)
            .and_then(|()| rand::rngs::SysRng.try_fill_bytes(secret.as_mut()))
            .map_err(|_| NoRandomness)?;
        let mut text = Zeroizing::new(String::with_capacity(96));
        text.push_str(plane.prefix());
        text.push('_');
        text.push_str(environment_word(environment));
        text.push('_');
        // 56 bits make 12 characters; the first ten carry 50 of them.
        text.push_str(&BASE32_LOWER.encode(&id)[..ID_CHARS]);
        text.push('_');
        BASE32_LOWER.encode_append(secret.as_ref(), &mut text);
        let checksum = checksum(text.as_bytes());
        text.push_str(std::str::from_utf8(&checksum).unwrap_or_default());
        let id = Presented::parse(plane, text.as_bytes()).map_err(|_| NoRandomness)?.id();
        Ok(Self { id, text })
    }

    /// The public identifier.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// What the directory stores of it.
    #[must_use]
    pub fn hash(&self) -> CredentialHash {
        CredentialHash::of(self.text.as_bytes())
    }

    /// The text itself, to be shown this once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for PlainCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlainCredential({}, redacted)", self.id)
    }
}

/// The system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gave no randomness")
    }
}

impl std::error::Error for NoRandomness {}

/// The stored form of a credential: SHA-256 of its whole text.
#[derive(Clone, Copy)]
pub struct CredentialHash([u8; 32]);

impl CredentialHash {
    /// A hash that no text has in practice: what an unknown id is compared with,
    /// so that it costs the same as a known one.
    pub const DUMMY: Self = Self([0x5A; 32]);

    fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Restores a stored hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash, to be stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time, in four words.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let (own, others) = (self.0.as_chunks::<8>().0, other.0.as_chunks::<8>().0);
        let differing = own
            .iter()
            .zip(others)
            .fold(0, |bits, (a, b)| bits | (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)));
        differing.ct_eq(&0).into()
    }
}

impl fmt::Debug for CredentialHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialHash(redacted)")
    }
}

/// A well-formed credential as a caller presents it: typed without error, of
/// the right plane; nothing is said yet of whether anybody issued it.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    environment: Environment,
    id: KeyId,
    text: &'a [u8],
}

/// The text is no credential of this plane: wrong prefix, shape or checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Presented<'a> {
    /// Reads a credential of this plane.
    ///
    /// # Errors
    /// [`Malformed`] when prefix, shape or checksum are wrong.
    pub fn parse(plane: Plane, text: &'a [u8]) -> Result<Self, Malformed> {
        let rest = text
            .strip_prefix(plane.prefix().as_bytes())
            .and_then(|rest| rest.strip_prefix(b"_"))
            .ok_or(Malformed)?;
        let (environment, rest) = match rest {
            [b't', b'e', b's', b't', b'_', rest @ ..] => (Environment::Test, rest),
            [b'p', b'r', b'o', b'd', b'_', rest @ ..] => (Environment::Production, rest),
            _ => return Err(Malformed),
        };
        if rest.len() != ID_CHARS + 1 + SECRET_CHARS + CHECKSUM_CHARS || rest[ID_CHARS] != b'_' {
            return Err(Malformed);
        }
        let id = KeyId::parse(&rest[..ID_CHARS]).ok_or(Malformed)?;
        let (body, presented_checksum) = text.split_at(text.len() - CHECKSUM_CHARS);
        // The checksum is public knowledge of a typing error: no secret, no
        // constant time.
        if checksum(body) != presented_checksum {
            return Err(Malformed);
        }
        Ok(Self { environment, id, text })
    }

    /// The environment the text names.
    #[must_use]
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// The id the text names.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// All before the secret, `<prefix>_<test|prod>_<id>`: names the credential
    /// and opens nothing.
    #[must_use]
    pub fn public_text(&self) -> &'a str {
        let public = &self.text[..self.text.len() - (1 + SECRET_CHARS + CHECKSUM_CHARS)];
        // Only ASCII passes `parse`, so this never falls back.
        std::str::from_utf8(public).unwrap_or_default()
    }

    /// Hashes the whole text.
    #[must_use]
    pub fn hash(&self) -> CredentialHash {
        CredentialHash::of(self.text)
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({}, redacted)", self.id)
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut text = [0u8; CHECKSUM_CHARS];
    BASE32_LOWER.encode_mut(&crc32c::crc32c(body).to_be_bytes(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PlainCredential {
        PlainCredential::generate(Plane::Verification, Environment::Test).expect("randomness")
    }

    #[test]
    fn a_hash_matches_itself_and_no_other() {
        let hash = CredentialHash::from_bytes(std::array::from_fn(|place| place as u8 * 7));
        assert!(hash.matches(&hash));
        for bit in 0..256 {
            let mut other = *hash.as_bytes();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!hash.matches(&CredentialHash::from_bytes(other)), "bit {bit}");
        }
    }

    #[test]
    fn an_issued_key_is_read_back() {
        let plain = key();
        let presented =
            Presented::parse(Plane::Verification, plain.reveal().as_bytes()).expect("well-formed");
        assert_eq!(presented.id(), plain.id());
        assert_eq!(presented.environment(), Environment::Test);
        assert_eq!(presented.public_text(), format!("pg_test_{}", plain.id()));
        assert!(presented.hash().matches(&plain.hash()));
        assert!(!key().hash().matches(&plain.hash()));
    }

    #[test]
    fn a_single_wrong_character_is_a_typing_error() {
        let plain = key();
        for at in 0..plain.reveal().len() {
            for wrong in [b'a', b'7', b'_', b'A', b' ', 0xFF] {
                let mut text = plain.reveal().as_bytes().to_vec();
                if text[at] == wrong {
                    continue;
                }
                text[at] = wrong;
                assert!(Presented::parse(Plane::Verification, &text).is_err(), "position {at}");
            }
        }
        assert!(Presented::parse(Plane::Verification, &plain.reveal().as_bytes()[1..]).is_err());
        assert!(Presented::parse(Plane::Verification, b"").is_err());
    }

    #[test]
    fn a_key_is_no_token_and_a_token_no_key() {
        let token = PlainCredential::generate(Plane::Admin, Environment::Test).expect("randomness");
        assert!(Presented::parse(Plane::Verification, token.reveal().as_bytes()).is_err());
        assert!(Presented::parse(Plane::Admin, key().reveal().as_bytes()).is_err());
    }

    #[test]
    fn debug_shows_the_id_only() {
        let plain = key();
        let presented =
            Presented::parse(Plane::Verification, plain.reveal().as_bytes()).expect("well-formed");
        let shown = format!("{plain:?} {presented:?} {:?}", plain.hash());
        let secret = &plain.reveal()[19..];
        assert!(!shown.contains(&secret[..8]), "a secret is shown");
    }
}
