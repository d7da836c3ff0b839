//! The bytes of an extent back into a trail, every group judged on its way.

use std::fmt;
use std::path::{Path, PathBuf};

use super::check::{CheckReport, Tally, check_disk};
use super::damage::{Damage, Flaw, ReadError};
use super::disk::{Directory, Disk, DiskFile};
use super::extent::SegmentExtent;
use super::recover::write_zeros;
use super::segment::{
    GROUP_HEADER_BYTES, Group, GroupHeader, HEADER_BYTES, Links, SegmentHeader, segment_name,
};
use super::walk::{Last, last_of};
use crate::environment::Environment;
use crate::limits::SEGMENT_BYTES_MAX;

/// Takes the segments of an extent, in their order and piece by piece; holds no
/// more than a group and a piece in memory.
pub struct TrailImport {
    into: Option<Directory>,
    environment: Environment,
    tally: Tally,
    /// Segments that are complete.
    segments: u64,
    links: Links,
    /// Where the segment before ends.
    previous_end: u64,
    last: Option<Last>,
    current: Option<Current>,
}

/// The segment that is arriving.
struct Current {
    extent: SegmentExtent,
    file: Option<Box<dyn DiskFile>>,
    header: Option<SegmentHeader>,
    /// Bytes that have come.
    come: u64,
    /// Bytes that are judged.
    judged: u64,
    /// What came and is not judged yet.
    rest: Vec<u8>,
}

impl TrailImport {
    /// Judges a trail of this environment and keeps nothing.
    #[must_use]
    pub fn judging(environment: Environment) -> Self {
        Self {
            into: None,
            environment,
            tally: Tally::default(),
            segments: 0,
            links: Links::GENESIS,
            previous_end: 0,
            last: None,
            current: None,
        }
    }

    /// Makes a trail in a new directory.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn into_new(dir: &Path, environment: Environment) -> Result<Self, ReadError> {
        let io = |error| ReadError::Io { file: dir.to_owned(), error };
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(dir)
            .map_err(io)?;
        let into = Some(Directory::make(dir).map_err(io)?);
        Ok(Self { into, ..Self::judging(environment) })
    }

    /// The next segment begins.
    ///
    /// # Errors
    /// When it is not the next one, or the one before is not complete.
    pub fn segment(&mut self, extent: SegmentExtent) -> Result<(), ReadError> {
        self.end_segment(true)?;
        if extent.number != self.segments + 1 {
            return Err(flawed(extent.number, 0, Flaw::MissingSegment));
        }
        let file = match &self.into {
            Some(disk) => Some(disk.create(&segment_name(extent.number)).map_err(|error| ReadError::Io {
                file: disk.path().join(segment_name(extent.number)),
                error,
            })?),
            None => None,
        };
        self.current = Some(Current { extent, file, header: None, come: 0, judged: 0, rest: Vec::new() });
        Ok(())
    }

    /// More bytes of the segment that began last.
    ///
    /// # Errors
    /// With the place that is not what a gateway writes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let Some(mut current) = self.current.take() else {
            return Err(flawed(self.segments + 1, 0, Flaw::MissingSegment));
        };
        if let Some(file) = &current.file {
            file.write_at(bytes, current.come).map_err(|error| self.io(current.extent.number, error))?;
        }
        current.come += bytes.len() as u64;
        current.rest.extend_from_slice(bytes);
        if current.come > current.extent.bytes {
            return Err(flawed(current.extent.number, current.extent.bytes, Flaw::StrayBytes));
        }
        let judged = self.judge(&mut current)?;
        current.rest.drain(..judged);
        current.judged += judged as u64;
        self.current = Some(current);
        Ok(())
    }

    /// Judges the whole; a new trail is then complete and durable, and has been
    /// read again from its first byte to its last.
    ///
    /// # Errors
    /// When something is missing or does not fit, or the disk fails.
    pub fn finish(mut self) -> Result<CheckReport, ReadError> {
        self.end_segment(false)?;
        let report = self.tally.report(self.segments, self.last, None);
        if let Some(disk) = &self.into {
            disk.sync_directory().map_err(|error| ReadError::Io { file: disk.path().to_owned(), error })?;
            let found = check_disk(disk)?;
            if found != report {
                return Err(flawed(self.segments, 0, Flaw::Order));
            }
        }
        Ok(report)
    }

    /// Judges the header and every group that has come whole; how many bytes.
    fn judge(&mut self, current: &mut Current) -> Result<usize, ReadError> {
        let number = current.extent.number;
        let mut at = 0;
        if current.header.is_none() {
            if current.rest.len() < HEADER_BYTES {
                return Ok(0);
            }
            let header = SegmentHeader::parse(&current.rest).map_err(|flaw| flawed(number, 0, flaw))?;
            self.follow(&header, current.extent)?;
            current.header = Some(header);
            at = HEADER_BYTES;
            self.last = Some(Last::Other);
        }
        while let Some(head) = current.rest.get(at..).filter(|rest| rest.len() >= GROUP_HEADER_BYTES) {
            let place = current.judged + at as u64;
            let header = GroupHeader::parse(head).map_err(|flaw| flawed(number, place, flaw))?;
            let Some(bytes) = head.get(..header.bytes as usize) else { break };
            if self.last == Some(Last::Sealed) {
                return Err(flawed(number, place, Flaw::StrayBytes));
            }
            let group = Group::verify(bytes, header, &self.links)
                .map_err(|(within, flaw)| flawed(number, place + within, flaw))?;
            self.links = group.links;
            self.last = Some(last_of(&group));
            self.tally.group(&group);
            at += bytes.len();
        }
        Ok(at)
    }

    /// Judges how a header follows from the segment before.
    fn follow(&self, header: &SegmentHeader, extent: SegmentExtent) -> Result<(), ReadError> {
        let follows = header.number == extent.number
            && header.links == self.links
            && header.previous_end == self.previous_end
            && header.environment == self.environment;
        if !follows {
            return Err(flawed(extent.number, 0, Flaw::SegmentLink));
        }
        let is_sized = header.segment_bytes <= SEGMENT_BYTES_MAX && extent.bytes <= header.segment_bytes;
        if is_sized { Ok(()) } else { Err(flawed(extent.number, 0, Flaw::SegmentLength)) }
    }

    /// The segment must be complete; `goes_on`: another one follows it.
    fn end_segment(&mut self, goes_on: bool) -> Result<(), ReadError> {
        let Some(current) = self.current.take() else {
            return if goes_on || self.segments > 0 {
                Ok(())
            } else {
                Err(flawed(1, 0, Flaw::MissingSegment))
            };
        };
        let number = current.extent.number;
        let Some(header) = current.header.filter(|_| current.judged == current.extent.bytes) else {
            return Err(flawed(number, current.judged, Flaw::GroupLength));
        };
        if goes_on && self.last != Some(Last::Sealed) {
            return Err(flawed(number, current.judged, Flaw::NotSealed));
        }
        if let Some(file) = current.file {
            write_zeros(&*file, current.judged, header.segment_bytes)
                .and_then(|()| file.sync())
                .map_err(|error| self.io(number, error))?;
        }
        self.segments += 1;
        self.previous_end = current.judged;
        Ok(())
    }

    fn io(&self, number: u64, error: std::io::Error) -> ReadError {
        let name = segment_name(number);
        let file = self.into.as_ref().map_or_else(|| PathBuf::from(&name), |disk| disk.path().join(&name));
        ReadError::Io { file, error }
    }
}

impl fmt::Debug for TrailImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrailImport").field("segments", &self.segments).finish_non_exhaustive()
    }
}

fn flawed(number: u64, offset: u64, what: Flaw) -> ReadError {
    ReadError::Damage(Damage { file: PathBuf::from(segment_name(number)), offset, what })
}
