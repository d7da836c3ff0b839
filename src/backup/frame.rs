//! The archive's format, version 1: this page is its specification.
//!
//! ```text
//! archive   head, frames, and nothing after the last
//! head      magic 8, version u32 = 1, CRC of bytes 0..12 u32
//! frame     kind u32, bytes of the content u32, CRC u32, content
//! ```
//!
//! Integers are little-endian; a CRC is CRC32C. A frame's covers its number
//! (u64, from 0, not written), its kind, its length and its content, so that none
//! can be left out or moved unseen. Kinds, in the order in which they come:
//!
//! | kind | content |
//! |---|---|
//! | 1 manifest, once | JSON: what it is a backup of |
//! | 2 register rows | a chunk as in `rows.rs` |
//! | 3 access rows | a chunk as in `rows.rs` |
//! | 4 segment | number u64, bytes u64; the trail's next segment follows |
//! | 5 trail bytes | the segment's next bytes |
//! | 6 end, once | number of frames before it u64, SHA-256 of all bytes before it |

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::error::BackupError;
use crate::limits::BACKUP_FRAME_BYTES_MAX;

const MAGIC: [u8; 8] = *b"\xFFpgbckup";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 16;
const FRAME_HEAD_BYTES: usize = 12;
pub(super) const END_BYTES: usize = 40;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(super) enum Kind {
    Manifest = 1,
    Register = 2,
    Access = 3,
    Segment = 4,
    Trail = 5,
    End = 6,
}

impl Kind {
    fn from_code(code: u32) -> Option<Self> {
        [Self::Manifest, Self::Register, Self::Access, Self::Segment, Self::Trail, Self::End]
            .into_iter()
            .find(|kind| *kind as u32 == code)
    }
}

/// Makes the bytes of an archive.
pub(super) struct FrameWriter {
    digest: Sha256,
    frames: u64,
    bytes: u64,
}

impl FrameWriter {
    /// The writer, and the archive's head.
    pub(super) fn begin() -> (Self, Vec<u8>) {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
        let digest = Sha256::new_with_prefix(&head);
        (Self { digest, frames: 0, bytes: HEAD_BYTES as u64 }, head)
    }

    /// The bytes of the next frame; the content is no longer than a frame may be.
    pub(super) fn frame(&mut self, kind: Kind, content: &[u8]) -> Vec<u8> {
        debug_assert!(content.len() <= BACKUP_FRAME_BYTES_MAX);
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + content.len());
        frame.extend_from_slice(&(kind as u32).to_le_bytes());
        frame.extend_from_slice(&(content.len() as u32).to_le_bytes());
        let crc = checksum(self.frames, &frame, content);
        frame.extend_from_slice(&crc.to_le_bytes());
        frame.extend_from_slice(content);
        self.digest.update(&frame);
        self.frames += 1;
        self.bytes += frame.len() as u64;
        frame
    }

    /// The bytes of the last frame, and how many the archive has.
    pub(super) fn end(mut self) -> (Vec<u8>, u64) {
        let mut content = [0; END_BYTES];
        content[..8].copy_from_slice(&self.frames.to_le_bytes());
        content[8..].copy_from_slice(&self.digest.clone().finalize());
        let frame = self.frame(Kind::End, &content);
        (frame, self.bytes)
    }
}

fn checksum(number: u64, kind_and_length: &[u8], content: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, kind_and_length), content)
}

/// Reads the frames of an archive and judges each.
pub(super) struct FrameReader<R> {
    input: R,
    digest: Sha256,
    frames: u64,
    /// Bytes that are judged.
    pub(super) at: u64,
    content: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// Reads the head.
    pub(super) fn begin(mut input: R) -> Result<Self, BackupError> {
        let mut head = [0; HEAD_BYTES];
        let got = read_up_to(&mut input, &mut head)?;
        if !MAGIC.starts_with(&head[..got.min(MAGIC.len())]) {
            return Err(BackupError::NotABackup);
        }
        if got < HEAD_BYTES {
            return Err(BackupError::EndsEarly { at: got as u64, missing: "everything" });
        }
        let (covered, crc) = head.split_at(HEAD_BYTES - 4);
        if crc32c::crc32c(covered).to_le_bytes() != crc {
            return Err(BackupError::Damaged { at: 0, what: "the checksum of the head does not fit" });
        }
        if covered[8..] != VERSION.to_le_bytes() {
            return Err(BackupError::UnknownVersion);
        }
        let digest = Sha256::new_with_prefix(head);
        Ok(Self { input, digest, frames: 0, at: HEAD_BYTES as u64, content: Vec::new() })
    }

    /// The next frame. After the end frame the input has been read to its end.
    /// `missing` is what an archive that ends here lacks.
    pub(super) fn next(&mut self, missing: &'static str) -> Result<(Kind, &[u8]), BackupError> {
        let damaged = |at, what| BackupError::Damaged { at, what };
        let mut head = [0; FRAME_HEAD_BYTES];
        let got = read_up_to(&mut self.input, &mut head)?;
        if got < head.len() {
            return Err(BackupError::EndsEarly { at: self.at + got as u64, missing });
        }
        let [kind, length, crc] = [0, 4, 8].map(|at| le_u32(&head[at..]));
        let length = length as usize;
        if length > BACKUP_FRAME_BYTES_MAX {
            return Err(damaged(self.at, "a frame is longer than any can be"));
        }
        self.content.resize(length, 0);
        let got = read_up_to(&mut self.input, &mut self.content)?;
        if got < length {
            let at = self.at + (FRAME_HEAD_BYTES + got) as u64;
            return Err(BackupError::EndsEarly { at, missing });
        }
        if crc != checksum(self.frames, &head[..8], &self.content) {
            return Err(damaged(self.at, "the checksum of a frame does not fit"));
        }
        let kind = Kind::from_code(kind).ok_or_else(|| damaged(self.at, "a frame of an unknown kind"))?;
        if kind == Kind::End {
            self.end()?;
        } else {
            self.digest.update(head);
            self.digest.update(&self.content);
        }
        self.frames += 1;
        self.at += (FRAME_HEAD_BYTES + length) as u64;
        Ok((kind, &self.content))
    }

    fn end(&mut self) -> Result<(), BackupError> {
        let digest = self.digest.clone().finalize();
        let (frames, found) = self.content.split_first_chunk().unwrap_or((&[0; 8], &[]));
        if u64::from_le_bytes(*frames) != self.frames || found != digest.as_slice() {
            return Err(BackupError::Damaged { at: self.at, what: "the SHA-256 of the whole does not fit" });
        }
        let mut more = [0];
        if read_up_to(&mut self.input, &mut more)? > 0 {
            return Err(BackupError::Damaged { at: self.at, what: "something follows the end" });
        }
        Ok(())
    }
}

/// Reads until the buffer is full or the input ends; how many bytes.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match input.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(bytes) => done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
