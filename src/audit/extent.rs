//! The trail's bytes up to a durable place, while the writer goes on behind it.

use std::fmt;
use std::sync::Arc;

use super::damage::{Flaw, ReadError};
use super::disk::Disk;
use super::exchange::lock;
use super::segment::{HEADER_BYTES, SegmentHeader};
use super::shared::Shared;
use super::walk::{damage, io_error, open};

/// The trail from its first segment to a durable place. What lies before it is
/// never written again, so it can be read at leisure.
pub struct TrailExtent {
    disk: Arc<dyn Disk>,
    records: u64,
    numbers: Vec<u64>,
    /// Where it ends in the last segment.
    end_offset: u64,
}

/// A segment of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentExtent {
    /// Its number.
    pub number: u64,
    /// Bytes from its start to the end of its last group. Whatever follows them in
    /// the file is zero.
    pub bytes: u64,
}

impl TrailExtent {
    pub(super) fn of(shared: &Shared) -> Self {
        let progress = lock(&shared.progress);
        Self {
            disk: Arc::clone(&shared.disk),
            records: progress.records,
            numbers: progress.spans.iter().map(|span| span.number).collect(),
            end_offset: progress.end_offset,
        }
    }

    /// Records in it, of every kind.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Its segments, oldest first. Reads the header of each: a segment says where
    /// the one before it ends.
    ///
    /// # Errors
    /// When a file cannot be read, or its header is damaged.
    pub fn segments(&self) -> Result<Vec<SegmentExtent>, ReadError> {
        let nexts = self.numbers.iter().skip(1).map(|next| Some(*next)).chain([None]);
        let pairs = self.numbers.iter().zip(nexts);
        pairs
            .map(|(number, next)| {
                let bytes = match next {
                    Some(next) => self.previous_end(next)?,
                    None => self.end_offset,
                };
                Ok(SegmentExtent { number: *number, bytes })
            })
            .collect()
    }

    fn previous_end(&self, number: u64) -> Result<u64, ReadError> {
        let mut window = open(&*self.disk, number)?;
        let head = window.at(0, HEADER_BYTES).map_err(|error| io_error(&*self.disk, number, error))?;
        let header = SegmentHeader::parse(head).map_err(|flaw| damage(&*self.disk, number, 0, flaw))?;
        Ok(header.previous_end)
    }

    /// Gives a segment's bytes to `sink` in pieces of at most so many bytes, until
    /// it says `false`; returns whether it took all.
    ///
    /// # Errors
    /// When the file cannot be read, or is shorter than it was.
    pub fn each_piece(
        &self,
        segment: SegmentExtent,
        piece_bytes: usize,
        sink: &mut impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, ReadError> {
        let number = segment.number;
        let io = |error| io_error(&*self.disk, number, error);
        let file = self.disk.open(&super::segment::segment_name(number), false).map_err(io)?;
        let mut piece = vec![0; piece_bytes];
        let mut at = 0;
        while at < segment.bytes {
            let wanted = piece.len().min(usize::try_from(segment.bytes - at).unwrap_or(usize::MAX));
            let got = file.read_at(&mut piece[..wanted], at).map_err(io)?;
            if got < wanted {
                return Err(damage(&*self.disk, number, at + got as u64, Flaw::SegmentLength));
            }
            if !sink(&piece[..wanted]) {
                return Ok(false);
            }
            at += wanted as u64;
        }
        Ok(true)
    }
}

impl fmt::Debug for TrailExtent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrailExtent")
            .field("records", &self.records)
            .field("segments", &self.numbers.len())
            .field("end_offset", &self.end_offset)
            .finish_non_exhaustive()
    }
}
