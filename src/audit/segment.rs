//! The trail's file format, version 1: this page is its specification.
//!
//! The trail is a directory of segments, `00000000000000000001.seg` and on
//! without gaps. A segment has a fixed size, written as zeros and synced before
//! anything is put into it. Integers are little-endian; a CRC is CRC32C.
//!
//! ```text
//! segment   header, then groups one after another, then zeros to the end
//! header    128 bytes
//!     0  magic 8                 8  version u32 = 1      12  environment u32 (1 test, 2 production)
//!    16  segment number u64     24  bytes of the segment u64
//!    32  sequence of the first record u64
//!    40  number of the first group u64
//!    48  stamp u64              56  where the groups of the segment before end u64
//!    64  chain value 32         96  zeros 28            124  CRC of bytes 0..124
//! group     written by one pwrite, then synced
//!     0  magic 8                 8  bytes of the group u32     12  records u32
//!    16  group number u64       24  sequence of the first record u64
//!    32  stamp u64              40  zeros 4             44  CRC of bytes 0..44
//!    48  the records, zeros up to a multiple of 8, then the chain value 32
//! record
//!     0  bytes of the body u32   4  CRC of bytes 0..4 and 8..  8  sequence u64   16  body
//! ```
//!
//! The chain value of a group is SHA-256 of the chain value before it and of all
//! bytes of the group before its chain value; the chain begins with 32 zeros. A
//! header carries the chain value at its segment's start.
//!
//! A stamp is in milliseconds since 1970 and never goes back along the trail: a
//! group's stamp is the time in the identifiers of its verifications, a header's
//! is the latest before its segment.
//!
//! Sequences count records, group numbers count groups, both from 1 and without
//! gaps over the whole trail. A segment that another one follows ends with a
//! sealing record. The last file may be a prepared segment, all zeros.
//!
//! Every byte is covered: whatever no rule above names is zero. The magic of a
//! group cannot occur in a caller's text, because none of its bytes may stand in
//! UTF-8, nor in asked numbers and moments, because it is longer than any run of
//! bytes that these leave to a caller. So nobody can plant a group in a record.

use sha2::{Digest, Sha256};

use super::codec::{self, Body, environment_code, environment_of};
use super::damage::Flaw;
use crate::environment::Environment;
use crate::limits::GROUP_BYTES_MAX;

/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: usize = 128;
/// Bytes of a group's header.
pub(super) const GROUP_HEADER_BYTES: usize = 48;
/// Bytes of a record before its body.
pub(super) const RECORD_HEADER_BYTES: usize = 16;
/// Bytes of a chain value.
pub(super) const CHAIN_BYTES: usize = 32;
/// Groups begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"\xFFpgtrail";
/// See the end of the specification for why it looks like this.
pub(super) const GROUP_MAGIC: [u8; 8] = [0xFF, 0xF9, 0xFE, 0xFA, 0xFD, 0xFB, 0xFC, 0xF8];
const FORMAT_VERSION: u32 = 1;

/// The value the chain begins with.
pub(super) type Chain = [u8; CHAIN_BYTES];

/// The name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:020}.seg")
}

/// The number in the name of a segment's file.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|c| c.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// What the next group must say to follow on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Links {
    /// The next record's sequence.
    pub(super) sequence: u64,
    /// The next group's number.
    pub(super) group: u64,
    /// The latest stamp.
    pub(super) stamp_ms: u64,
    /// The chain value.
    pub(super) chain: Chain,
}

impl Links {
    /// Where a trail begins.
    pub(super) const GENESIS: Self = Self { sequence: 1, group: 1, stamp_ms: 0, chain: [0; CHAIN_BYTES] };
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) environment: Environment,
    pub(super) number: u64,
    pub(super) segment_bytes: u64,
    pub(super) links: Links,
    /// Where the groups of the segment before end; 0 in the first segment.
    pub(super) previous_end: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        put_u32(&mut bytes, 8, FORMAT_VERSION);
        put_u32(&mut bytes, 12, u32::from(environment_code(self.environment)));
        put_u64(&mut bytes, 16, self.number);
        put_u64(&mut bytes, 24, self.segment_bytes);
        put_u64(&mut bytes, 32, self.links.sequence);
        put_u64(&mut bytes, 40, self.links.group);
        put_u64(&mut bytes, 48, self.links.stamp_ms);
        put_u64(&mut bytes, 56, self.previous_end);
        bytes[64..96].copy_from_slice(&self.links.chain);
        let crc = crc32c::crc32c(&bytes[..124]);
        put_u32(&mut bytes, 124, crc);
        bytes
    }

    /// Reads a header; every one of its bytes is judged.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Flaw::SegmentHeader("cut off"))?;
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(Flaw::SegmentHeader("without its magic"));
        }
        if u32_at(bytes, 124) != crc32c::crc32c(&bytes[..124]) {
            return Err(Flaw::SegmentHeader("whose checksum does not fit"));
        }
        if u32_at(bytes, 8) != FORMAT_VERSION {
            return Err(Flaw::SegmentHeader("of another format version"));
        }
        let environment = u8::try_from(u32_at(bytes, 12)).ok().and_then(environment_of);
        let mut chain = [0; CHAIN_BYTES];
        chain.copy_from_slice(&bytes[64..96]);
        let header = Self {
            environment: environment.ok_or(Flaw::SegmentHeader("of an unknown environment"))?,
            number: u64_at(bytes, 16),
            segment_bytes: u64_at(bytes, 24),
            links: Links {
                sequence: u64_at(bytes, 32),
                group: u64_at(bytes, 40),
                stamp_ms: u64_at(bytes, 48),
                chain,
            },
            previous_end: u64_at(bytes, 56),
        };
        // Whatever has no meaning must be zero: then there is one encoding.
        if header.encode() == *bytes { Ok(header) } else { Err(Flaw::SegmentHeader("with stray bytes")) }
    }
}

/// The header of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupHeader {
    /// Bytes of the whole group, chain value included.
    pub(super) bytes: u32,
    pub(super) records: u32,
    pub(super) group: u64,
    pub(super) sequence: u64,
    pub(super) stamp_ms: u64,
}

impl GroupHeader {
    pub(super) fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        bytes[..8].copy_from_slice(&GROUP_MAGIC);
        put_u32(&mut bytes, 8, self.bytes);
        put_u32(&mut bytes, 12, self.records);
        put_u64(&mut bytes, 16, self.group);
        put_u64(&mut bytes, 24, self.sequence);
        put_u64(&mut bytes, 32, self.stamp_ms);
        let crc = crc32c::crc32c(&bytes[..44]);
        put_u32(&mut bytes, 44, crc);
        bytes
    }

    /// Reads a header; every one of its bytes is judged.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let bytes: &[u8; GROUP_HEADER_BYTES] = bytes.first_chunk().ok_or(Flaw::GroupHeader)?;
        if bytes[..8] != GROUP_MAGIC || u32_at(bytes, 44) != crc32c::crc32c(&bytes[..44]) {
            return Err(Flaw::GroupHeader);
        }
        let header = Self {
            bytes: u32_at(bytes, 8),
            records: u32_at(bytes, 12),
            group: u64_at(bytes, 16),
            sequence: u64_at(bytes, 24),
            stamp_ms: u64_at(bytes, 32),
        };
        let length = header.bytes as usize;
        let sound = length > GROUP_HEADER_BYTES + CHAIN_BYTES
            && length <= GROUP_BYTES_MAX
            && length.is_multiple_of(ALIGNMENT)
            && header.records > 0
            && header.encode() == *bytes;
        if sound { Ok(header) } else { Err(Flaw::GroupHeader) }
    }
}

/// A group that is sound in itself and follows on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) header: GroupHeader,
    /// Header to padding, without the chain value.
    hashed: &'a [u8],
    /// What the next group must say.
    pub(super) links: Links,
}

impl<'a> Group<'a> {
    /// Judges every byte of a group: its checksums, its records, its links. The
    /// error says where, counted from the group's start.
    pub(super) fn verify(bytes: &'a [u8], header: GroupHeader, links: &Links) -> Result<Self, (u64, Flaw)> {
        if header.group != links.group || header.sequence != links.sequence {
            return Err((0, Flaw::Order));
        }
        if header.stamp_ms < links.stamp_ms {
            return Err((0, Flaw::Stamp));
        }
        let (hashed, chain) = bytes.split_last_chunk::<CHAIN_BYTES>().ok_or((0, Flaw::GroupHeader))?;
        let mut at = GROUP_HEADER_BYTES;
        for nth in 0..header.records {
            let flaw = |flaw| (at as u64, flaw);
            let record = &hashed[at..];
            let body = record_body(record, header.sequence + u64::from(nth)).map_err(flaw)?;
            let stamp = codec::peek_id(body).map(super::id::VerificationId::stamp_ms);
            codec::decode(body).map_err(|error| flaw(Flaw::Record(error)))?;
            if stamp.is_some_and(|stamp| stamp != header.stamp_ms) {
                return Err(flaw(Flaw::Stamp));
            }
            at += RECORD_HEADER_BYTES + body.len();
        }
        if hashed.len() - at >= ALIGNMENT || !is_zero(&hashed[at..]) {
            return Err((at as u64, Flaw::Padding));
        }
        if chain_value(&links.chain, hashed) != *chain {
            return Err((hashed.len() as u64, Flaw::Chain));
        }
        let links = Links {
            sequence: header.sequence + u64::from(header.records),
            group: header.group + 1,
            stamp_ms: header.stamp_ms,
            chain: *chain,
        };
        Ok(Self { header, hashed, links })
    }

    /// The records, with their sequences.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, Body<'a>)> + use<'a> {
        (self.header.sequence..).zip(self.bodies()).filter_map(|(sequence, body)| {
            // `verify` has read every record once, so nothing is left out here.
            Some((sequence, codec::decode(body).ok()?))
        })
    }

    /// The event of the register that each verification names.
    pub(super) fn register_sequences(&self) -> impl Iterator<Item = u64> + use<'a> {
        self.bodies().filter_map(codec::peek_register_sequence)
    }

    fn bodies(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut at, hashed) = (GROUP_HEADER_BYTES, self.hashed);
        (0..self.header.records).map_while(move |_| {
            let length = u32_at(hashed.get(at..)?, 0) as usize;
            let body = hashed.get(at + RECORD_HEADER_BYTES..at + RECORD_HEADER_BYTES + length)?;
            at += RECORD_HEADER_BYTES + length;
            Some(body)
        })
    }
}

/// The body of the record at the start of `bytes`, if checksum and sequence fit.
pub(super) fn record_body(bytes: &[u8], sequence: u64) -> Result<&[u8], Flaw> {
    let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
    let end = RECORD_HEADER_BYTES.saturating_add(length);
    let record = bytes.get(..end).ok_or(Flaw::RecordLength)?;
    if length == 0 {
        return Err(Flaw::RecordLength);
    }
    if u32_at(record, 4) != record_checksum(record) {
        return Err(Flaw::RecordChecksum);
    }
    if u64_at(record, 8) != sequence {
        return Err(Flaw::Order);
    }
    Ok(&record[RECORD_HEADER_BYTES..])
}

/// The checksum of a whole record: all of it but the checksum itself.
pub(super) fn record_checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..])
}

/// The chain value after a group.
pub(super) fn chain_value(previous: &Chain, hashed: &[u8]) -> Chain {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(hashed);
    hash.finalize().into()
}

/// Bytes of a group whose records take this many.
pub(super) const fn group_bytes(record_bytes: usize) -> usize {
    (GROUP_HEADER_BYTES + record_bytes).next_multiple_of(ALIGNMENT) + CHAIN_BYTES
}

/// Whether all bytes are zero; compared in blocks, which is quick even without
/// optimisation.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|block| *block == ZEROS[..block.len()])
}

/// A block of zeros.
pub(super) static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The integer at an offset that the caller knows to be inside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The integer at an offset that the caller knows to be inside.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
