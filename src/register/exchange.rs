//! The reserved numbers as a file for exchange: the portable roaring bytes of
//! their ordinals, framed.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `PESELSET` |
//! | 4 | version of the frame, 1 |
//! | 8 | sequence of the last event |
//! | 8 | its moment, seconds since 1970 |
//! | 8 | count of the reserved numbers |
//! | 8 | length of the roaring bytes |
//! | 32 | SHA-256 of all before and of the roaring bytes |
//! | | the roaring bytes |
//!
//! Integers are little-endian. The ordinal of a number is its day of birth,
//! counted from 1800-01-01, times 10 000, plus its four serial digits.

use std::fmt;
use std::io;

use roaring::RoaringBitmap;
use sha2::{Digest, Sha256};

use super::snapshot::Snapshot;
use super::words::Sequence;
use crate::clock::Moment;
use crate::pesel::ORDINALS;

const MAGIC: [u8; 8] = *b"PESELSET";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 44;
const SUM_BYTES: usize = 32;

/// What a file for exchange holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangedSet {
    /// The last event that it takes into account.
    pub sequence: Sequence,
    /// The moment of that event.
    pub as_of: Moment,
    /// The ordinals of the reserved numbers.
    pub ordinals: RoaringBitmap,
}

/// The bytes are no file for exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeError {
    /// It does not begin with the magic word.
    NotASet,
    /// Another version of the frame.
    UnknownVersion {
        /// The version found.
        found: u32,
    },
    /// It is shorter or longer than it says.
    Length,
    /// The checksum does not fit.
    Checksum,
    /// The content contradicts the frame, or is no roaring set of ordinals.
    Content,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASet => f.write_str("not a set of reserved numbers"),
            Self::UnknownVersion { found } => write!(f, "version {found} of the frame, {VERSION} is known"),
            Self::Length => f.write_str("shorter or longer than it says"),
            Self::Checksum => f.write_str("the checksum does not fit"),
            Self::Content => f.write_str("the content is not the set that the frame promises"),
        }
    }
}

impl std::error::Error for ExchangeError {}

impl ExchangedSet {
    /// The set of a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { sequence: snapshot.sequence(), as_of: snapshot.as_of(), ordinals: snapshot.to_roaring() }
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut set = Vec::with_capacity(self.ordinals.serialized_size());
        // A vector takes everything.
        drop(self.ordinals.serialize_into(&mut set));
        let mut file = Vec::with_capacity(HEAD_BYTES + SUM_BYTES + set.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&self.sequence.value().to_le_bytes());
        file.extend_from_slice(&self.as_of.unix_seconds().to_le_bytes());
        file.extend_from_slice(&self.ordinals.len().to_le_bytes());
        file.extend_from_slice(&(set.len() as u64).to_le_bytes());
        let sum = sum(&file, &set);
        file.extend_from_slice(&sum);
        file.extend_from_slice(&set);
        file
    }

    /// Reads a file, and believes nothing of it that does not fit.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub fn from_bytes(file: &[u8]) -> Result<Self, ExchangeError> {
        if !file.starts_with(&MAGIC) {
            return Err(ExchangeError::NotASet);
        }
        let (head, rest) = file.split_at_checked(HEAD_BYTES).ok_or(ExchangeError::Length)?;
        let (found_sum, set) = rest.split_at_checked(SUM_BYTES).ok_or(ExchangeError::Length)?;
        let number = |from: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[from..from + 8]);
            u64::from_le_bytes(bytes)
        };
        let version = number(8) as u32;
        if version != VERSION {
            return Err(ExchangeError::UnknownVersion { found: version });
        }
        if number(36) != set.len() as u64 {
            return Err(ExchangeError::Length);
        }
        if sum(head, set) != found_sum {
            return Err(ExchangeError::Checksum);
        }
        let ordinals = RoaringBitmap::deserialize_from(set).map_err(|_| ExchangeError::Content)?;
        // One set has one file: nothing is passed over, nothing follows.
        let mut rest = Same(set);
        if ordinals.serialize_into(&mut rest).is_err() || !rest.0.is_empty() {
            return Err(ExchangeError::Content);
        }
        if ordinals.len() != number(28) || ordinals.max().is_some_and(|max| max >= ORDINALS) {
            return Err(ExchangeError::Content);
        }
        let as_of = Moment::from_unix_seconds(number(20).cast_signed());
        if as_of.unix_seconds() != number(20).cast_signed() {
            return Err(ExchangeError::Content);
        }
        Ok(Self { sequence: Sequence::new(number(12)), as_of, ordinals })
    }
}

/// Takes just the bytes that it holds.
struct Same<'a>(&'a [u8]);

impl io::Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sum(head: &[u8], set: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(head).chain_update(set).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ordinals: impl IntoIterator<Item = u32>) -> ExchangedSet {
        let as_of = Moment::from_unix_seconds(1_795_000_000);
        ExchangedSet { sequence: Sequence::new(77), as_of, ordinals: ordinals.into_iter().collect() }
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    /// Bytes made by pyroaring (CRoaring) of the same sets.
    #[test]
    fn another_languages_library_writes_the_same_bytes() {
        let few = set([0, 1, 65_535, 65_536, 1_826_209_999]).to_bytes();
        assert_eq!(
            hex(&few[HEAD_BYTES + SUM_BYTES..]),
            "3a300000030000000000020001000000d96c000020000000260000002800000000000100ffff0000cfc0"
        );
        let ordinals =
            (3 << 16..(3 << 16) + 10_000).step_by(2).chain((7 << 16..(7 << 16) + 60_000).step_by(7));
        let many = set(ordinals.chain([5, 1_826_209_999])).to_bytes();
        assert_eq!(
            hex(&Sha256::digest(&many[HEAD_BYTES + SUM_BYTES..])),
            "5d3bd8c2028fcac7ad244bbbd8134e8be58efa489b84e206e6f863917a03c4a5"
        );
    }

    /// Runs, which our own writer does not use.
    #[test]
    fn another_languages_runs_are_read() {
        let bytes = data_encoding::HEXLOWER
            .decode(b"3b300100030000630001000900010064006300010000000900")
            .expect("hex");
        let read = RoaringBitmap::deserialize_from(&bytes[..]).expect("a set");
        assert!(read.iter().eq((100..200).chain(65_536..65_546)));
        let again = ExchangedSet { ordinals: read, ..set([]) }.to_bytes();
        assert_eq!(again[HEAD_BYTES + SUM_BYTES..], bytes);
        assert!(ExchangedSet::from_bytes(&again).is_ok());
    }

    /// What the library passes over: offsets of its own making, bytes behind the set.
    #[test]
    fn a_set_has_one_file() {
        let file = set([0, 9, 70_000]).to_bytes();
        let (head, content) = (&file[..HEAD_BYTES], &file[HEAD_BYTES + SUM_BYTES..]);
        let framed = |content: &[u8]| {
            let mut head = head.to_vec();
            head[36..].copy_from_slice(&(content.len() as u64).to_le_bytes());
            [&head, &sum(&head, content)[..], content].concat()
        };
        assert_eq!(framed(content), file);
        let mut offset = content.to_vec();
        offset[16] ^= 1;
        for other in [offset, [content, &[0]].concat()] {
            assert!(RoaringBitmap::deserialize_from(&other[..]).is_ok());
            assert_eq!(ExchangedSet::from_bytes(&framed(&other)), Err(ExchangeError::Content));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let whole = set([0, 9, 70_000, 1_826_209_999]);
        let file = whole.to_bytes();
        assert_eq!(ExchangedSet::from_bytes(&file), Ok(whole));
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ExchangedSet::from_bytes(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..file.len() {
            assert!(ExchangedSet::from_bytes(&file[..length]).is_err(), "cut at {length}");
        }
        assert_eq!(ExchangedSet::from_bytes(&set([ORDINALS]).to_bytes()), Err(ExchangeError::Content));
    }
}
