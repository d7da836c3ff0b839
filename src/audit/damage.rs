//! What can be wrong with a trail that is read, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use super::codec::DecodeError;

/// Why a trail, or a part of it, cannot be read. The disk is at fault, or
/// whoever changed the files; never the caller.
#[derive(Debug)]
pub enum ReadError {
    /// The bytes are not what the gateway wrote.
    Damage(Damage),
    /// The file system refused.
    Io {
        /// The file, or the directory, that it was about.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(damage) => damage.fmt(f),
            Self::Io { file, error } => write!(f, "{}: {error}", file.display()),
        }
    }
}

impl std::error::Error for ReadError {}

/// A place where the trail is not what the gateway wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Bytes from the file's start.
    pub offset: u64,
    /// What is wrong there.
    pub what: Flaw,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the audit trail is damaged: {} at byte {}: {}",
            self.file.display(),
            self.offset,
            self.what
        )
    }
}

/// What follows the last sound group of the last segment: a group whose write
/// was cut off, so never answered, or damage that cannot be told from it. The
/// gateway sets it aside when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub file: PathBuf,
    /// Where the last sound group ends.
    pub offset: u64,
    /// From there through the last byte that is not zero; 0 when the file is
    /// only shorter than it was.
    pub bytes: u64,
}

/// What is wrong at a place of the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A segment header, and how it is wrong.
    SegmentHeader(&'static str),
    /// A segment header that does not follow from the segment before.
    SegmentLink,
    /// A segment's file has another size than its header says.
    SegmentLength,
    /// A segment is missing before this one.
    MissingSegment,
    /// The segment has no sealing record though another one follows.
    NotSealed,
    /// No header of a group, or one whose checksum does not fit.
    GroupHeader,
    /// The group goes beyond the segment.
    GroupLength,
    /// A group or a record out of sequence.
    Order,
    /// A stamp that went back, or an identifier with another stamp.
    Stamp,
    /// A record goes beyond its group.
    RecordLength,
    /// A record whose checksum does not fit.
    RecordChecksum,
    /// A record that cannot be read.
    Record(DecodeError),
    /// Padding that is not zero or too long.
    Padding,
    /// The chain value does not follow.
    Chain,
    /// Bytes after the last group.
    StrayBytes,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SegmentHeader(how) => return write!(f, "a segment header {how}"),
            Self::Record(error) => return error.fmt(f),
            Self::SegmentLink => "a segment header that does not follow from the segment before",
            Self::SegmentLength => "a file that is not as long as its header says",
            Self::MissingSegment => "a segment is missing before this one",
            Self::NotSealed => {
                "a segment that does not end with a sealing record, though another one follows"
            }
            Self::GroupHeader => "no sound header of a group",
            Self::GroupLength => "a group that goes beyond its segment",
            Self::Order => "a group or record out of sequence",
            Self::Stamp => "a stamp that does not fit",
            Self::RecordLength => "a record that goes beyond its group",
            Self::RecordChecksum => "a record whose checksum does not fit",
            Self::Padding => "padding that is not zero",
            Self::Chain => "a group whose chain value does not follow",
            Self::StrayBytes => "bytes after the last group",
        })
    }
}
