//! A file read through a window that moves forwards: few system calls, bounded
//! memory.

use std::io;

use super::disk::DiskFile;
use super::segment::{GROUP_MAGIC, ZEROS, is_zero};

/// Bytes read at once, unless more are asked for.
const READ_BYTES: usize = 256 * 1024;

/// A part of a file in memory.
pub(super) struct Window {
    file: Box<dyn DiskFile>,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Box<dyn DiskFile>) -> io::Result<Self> {
        let length = file.length()?;
        Ok(Self { file, length, start: 0, bytes: Vec::new() })
    }

    /// The file's length when it was opened.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Forgets what was read, so that a writer's progress is seen.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
    }

    /// Up to `wanted` bytes from an offset on; fewer only at the end of the file.
    pub(super) fn at(&mut self, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let end = offset.saturating_add(wanted as u64).min(self.length);
        if offset >= end {
            return Ok(&[]);
        }
        let wanted = (end - offset) as usize;
        let held = self.start..self.start + self.bytes.len() as u64;
        if !held.contains(&offset) || end > held.end {
            let read = wanted.max(READ_BYTES.min((self.length - offset) as usize));
            self.bytes.resize(read, 0);
            let got = self.file.read_at(&mut self.bytes, offset);
            // After an error nothing is held.
            self.bytes.truncate(*got.as_ref().unwrap_or(&0));
            self.start = offset;
            got?;
        }
        let from = (offset - self.start) as usize;
        let held = &self.bytes[from.min(self.bytes.len())..];
        Ok(&held[..wanted.min(held.len())])
    }

    /// The offset after the last byte that is not zero, from an offset on; the
    /// offset itself when all are zero.
    pub(super) fn content_end(&mut self, from: u64) -> io::Result<u64> {
        let (mut at, mut end) = (from, from);
        loop {
            let block = self.at(at, ZEROS.len())?;
            if block.is_empty() {
                return Ok(end);
            }
            if !is_zero(block) {
                end = at + block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            }
            at += block.len() as u64;
        }
    }

    /// The first place from an offset on where a group's magic stands.
    pub(super) fn find_magic(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        loop {
            let block = self.at(at, ZEROS.len())?;
            if block.len() < GROUP_MAGIC.len() {
                return Ok(None);
            }
            if let Some(found) = memchr::memmem::find(block, &GROUP_MAGIC) {
                return Ok(Some(at + found as u64));
            }
            // The next block overlaps, for a magic that lies across both.
            at += (block.len() - (GROUP_MAGIC.len() - 1)) as u64;
        }
    }
}
