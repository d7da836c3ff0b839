//! Walks a trail from its first segment to its end and judges every byte on the
//! way: the start, the check and the dump all see the trail through this.

use std::io;
use std::ops::ControlFlow;

use super::codec::Body;
use super::damage::{Damage, Flaw, ReadError};
use super::disk::Disk;
use super::segment::{
    ALIGNMENT, CHAIN_BYTES, GROUP_HEADER_BYTES, Group, GroupHeader, HEADER_BYTES, Links, SegmentHeader,
    is_zero, segment_name, segment_number,
};
use super::window::Window;

/// The newest segments that are always walked in full: the one in use, one torn
/// before its first group, a prepared one.
const FULL_SEGMENTS_MIN: usize = 3;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// The segments that have begun, oldest first.
    pub(super) spans: Vec<Span>,
    /// Where the trail ends; `None` when nothing was ever written.
    pub(super) end: Option<End>,
    /// What follows the end.
    pub(super) torn: Option<Torn>,
    /// The number of a prepared segment.
    pub(super) spare: Option<u64>,
}

/// A segment that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) number: u64,
    /// The latest stamp before the segment.
    pub(super) stamp_ms: u64,
}

/// The end of what is sound.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) header: SegmentHeader,
    /// Where the last group ends.
    pub(super) offset: u64,
    pub(super) links: Links,
    pub(super) last: Last,
}

/// The last record, as far as it matters to what may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Sealed,
    Closed,
    Other,
}

/// A segment whose content goes on, or whose file ends, where it should not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Torn {
    pub(super) number: u64,
    /// Where the sound part ends; 0 when not even the header is sound.
    pub(super) offset: u64,
    /// After the last byte that is not zero; at least `offset`.
    pub(super) content_end: u64,
    /// The file's length.
    pub(super) file_bytes: u64,
}

/// Walks the trail. The newest `full_bytes` are read in full and each of their
/// groups shown to `visit` (which may end the walk early); of older segments
/// only the headers and the links between them are judged.
pub(super) fn walk(
    disk: &dyn Disk,
    full_bytes: u64,
    visit: &mut dyn FnMut(&Group<'_>) -> ControlFlow<()>,
) -> Result<Walked, ReadError> {
    let mut numbers = numbers(disk)?;
    // Looked at before the walk: should a live writer begin it meanwhile, the
    // walk still ends where the segment before it ended.
    let spare = prepared(disk, &numbers)?;
    if spare.is_some() {
        numbers.pop();
    }
    let full_from = full_from(disk, &numbers, full_bytes)?;
    let walked = Walked { spare, ..Walked::default() };
    let mut walk = Walk { disk, visit, walked, unclean: None, previous: None };
    for (index, number) in numbers.iter().enumerate() {
        if walk.segment(*number, index >= full_from)?.is_break() {
            break;
        }
    }
    Ok(walk.walked)
}

/// The numbers of the segments, without gaps from 1.
fn numbers(disk: &dyn Disk) -> Result<Vec<u64>, ReadError> {
    let names = match disk.names() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|error| ReadError::Io { file: disk.path().to_owned(), error })?,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    for (number, expected) in numbers.iter().zip(1..) {
        if *number != expected {
            return Err(damage(disk, *number, 0, Flaw::MissingSegment));
        }
    }
    Ok(numbers)
}

/// The last file's number, if nothing was ever written into it.
fn prepared(disk: &dyn Disk, numbers: &[u64]) -> Result<Option<u64>, ReadError> {
    let Some(number) = numbers.last().copied() else { return Ok(None) };
    let mut window = open(disk, number)?;
    let content_end = window.content_end(0).map_err(|error| io_error(disk, number, error))?;
    Ok((content_end == 0 && window.length() >= HEADER_BYTES as u64).then_some(number))
}

/// The index of the first segment to be walked in full.
fn full_from(disk: &dyn Disk, numbers: &[u64], full_bytes: u64) -> Result<usize, ReadError> {
    let mut from = numbers.len().saturating_sub(FULL_SEGMENTS_MIN);
    if full_bytes == u64::MAX {
        return Ok(0);
    }
    let mut bytes = 0u64;
    for (index, number) in numbers.iter().enumerate().rev() {
        let length = open(disk, *number)?.length();
        bytes = bytes.saturating_add(length);
        if bytes > full_bytes {
            return Ok(from);
        }
        from = from.min(index);
    }
    Ok(from)
}

struct Walk<'d, 'v> {
    disk: &'d dyn Disk,
    visit: &'v mut dyn FnMut(&Group<'_>) -> ControlFlow<()>,
    walked: Walked,
    /// Where the segment walked last is not clean: fatal, should another follow.
    unclean: Option<(u64, u64, Flaw)>,
    /// The segment before, when only its header was judged.
    previous: Option<SegmentHeader>,
}

impl Walk<'_, '_> {
    fn segment(&mut self, number: u64, full: bool) -> Result<ControlFlow<()>, ReadError> {
        let mut window = open(self.disk, number)?;
        let io = |error| io_error(self.disk, number, error);
        let header = SegmentHeader::parse(window.at(0, HEADER_BYTES).map_err(io)?);
        if let Some((number, offset, flaw)) = self.unclean {
            return Err(damage(self.disk, number, offset, flaw));
        }
        match header {
            Ok(header) => {
                self.link(number, &header)?;
                if window.length() > header.segment_bytes {
                    return Err(damage(self.disk, number, header.segment_bytes, Flaw::SegmentLength));
                }
                self.walked.spans.push(Span { number, stamp_ms: header.links.stamp_ms });
                if full {
                    return self.groups(&header, &mut window);
                }
                if window.length() != header.segment_bytes {
                    return Err(damage(self.disk, number, window.length(), Flaw::SegmentLength));
                }
                self.previous = Some(header);
                Ok(ControlFlow::Continue(()))
            }
            Err(flaw) => self.headless(number, &mut window, flaw),
        }
    }

    /// A segment without a sound header: torn when it was about to begin, and
    /// damage otherwise.
    fn headless(
        &mut self,
        number: u64,
        window: &mut Window,
        flaw: Flaw,
    ) -> Result<ControlFlow<()>, ReadError> {
        let io = |error| io_error(self.disk, number, error);
        // A header is written only after the segment before is sealed, and a
        // group only after the header is durable.
        let could_begin = self.walked.end.is_none_or(|end| end.last == Last::Sealed);
        let content_end = window.content_end(0).map_err(io)?;
        let zeroed = content_end == 0 && window.length() >= HEADER_BYTES as u64;
        if !could_begin || zeroed || later_group(window, 0).map_err(io)?.is_some() {
            return Err(damage(self.disk, number, 0, flaw));
        }
        self.walked.torn = Some(Torn { number, offset: 0, content_end, file_bytes: window.length() });
        self.unclean = Some((number, 0, flaw));
        Ok(ControlFlow::Continue(()))
    }

    /// Judges how a header follows from the segment before.
    fn link(&self, number: u64, header: &SegmentHeader) -> Result<(), ReadError> {
        let broken = || damage(self.disk, number, 0, Flaw::SegmentLink);
        let (expected, previous_end) = match (self.previous, self.walked.end) {
            // Of the segment before only the header is known: its last chain
            // value must be where this header says, the rest must not go back.
            (Some(previous), _) => {
                let chain_at = header.previous_end.checked_sub(CHAIN_BYTES as u64).ok_or_else(broken)?;
                let mut window = open(self.disk, previous.number)?;
                let chain = window
                    .at(chain_at, CHAIN_BYTES)
                    .map_err(|error| io_error(self.disk, previous.number, error))?;
                let forwards = header.links.sequence > previous.links.sequence
                    && header.links.group > previous.links.group
                    && header.links.stamp_ms >= previous.links.stamp_ms
                    && header.environment == previous.environment;
                if !forwards || chain != header.links.chain {
                    return Err(broken());
                }
                (header.links, header.previous_end)
            }
            (None, None) => (Links::GENESIS, 0),
            (None, Some(end)) => {
                if end.last != Last::Sealed {
                    return Err(damage(self.disk, end.header.number, end.offset, Flaw::NotSealed));
                }
                if end.header.environment != header.environment {
                    return Err(broken());
                }
                (end.links, end.offset)
            }
        };
        let follows =
            header.number == number && header.links == expected && header.previous_end == previous_end;
        if follows { Ok(()) } else { Err(broken()) }
    }

    /// The groups of one segment.
    fn groups(&mut self, header: &SegmentHeader, window: &mut Window) -> Result<ControlFlow<()>, ReadError> {
        let io = |error| io_error(self.disk, header.number, error);
        self.previous = None;
        let mut end =
            End { header: *header, offset: HEADER_BYTES as u64, links: header.links, last: Last::Other };
        // Where reading went wrong once: a live writer may have been in the
        // middle of the group, so the second reading counts.
        let mut doubted = None;
        loop {
            let flaw = match next_group(window, &end).map_err(io)? {
                Next::Group(group) => {
                    end.offset += u64::from(group.header.bytes);
                    end.links = group.links;
                    end.last = last_of(&group);
                    self.walked.end = Some(end);
                    if (self.visit)(&group).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    continue;
                }
                Next::End => None,
                Next::Flaw(within, flaw) => Some((end.offset + within, flaw)),
            };
            self.walked.end = Some(end);
            let Some((offset, flaw)) = unclean(window, &end, flaw).map_err(io)? else { break };
            if doubted != Some(end.offset) {
                doubted = Some(end.offset);
                window.forget();
                continue;
            }
            // A group that is followed by another was durable once.
            if later_group(window, end.offset + ALIGNMENT as u64).map_err(io)?.is_some() {
                return Err(damage(self.disk, header.number, offset, flaw));
            }
            let content_end = window.content_end(end.offset).map_err(io)?;
            self.walked.torn = Some(Torn {
                number: header.number,
                offset: end.offset,
                content_end,
                file_bytes: window.length(),
            });
            self.unclean = Some((header.number, offset, flaw));
            break;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What stands after the last sound group.
enum Next<'w> {
    Group(Group<'w>),
    /// Zeros, or a sealing record came before.
    End,
    /// Something else, at this many bytes from there.
    Flaw(u64, Flaw),
}

/// Whether anything but zeros up to the segment's size follows its last group.
fn unclean(window: &mut Window, end: &End, flaw: Option<(u64, Flaw)>) -> io::Result<Option<(u64, Flaw)>> {
    if flaw.is_some() {
        return Ok(flaw);
    }
    if window.content_end(end.offset)? > end.offset {
        return Ok(Some((end.offset, Flaw::StrayBytes)));
    }
    let short = window.length() < end.header.segment_bytes;
    Ok(short.then(|| (window.length(), Flaw::SegmentLength)))
}

/// Reads and judges the group after `end`.
fn next_group<'w>(window: &'w mut Window, end: &End) -> io::Result<Next<'w>> {
    let head = window.at(end.offset, GROUP_HEADER_BYTES)?;
    if end.last == Last::Sealed || is_zero(head) {
        return Ok(Next::End);
    }
    let header = match GroupHeader::parse(head) {
        Ok(header) => header,
        Err(flaw) => return Ok(Next::Flaw(0, flaw)),
    };
    let length = header.bytes as usize;
    let bytes = window.at(end.offset, length)?;
    if bytes.len() < length || end.offset + length as u64 > end.header.segment_bytes {
        return Ok(Next::Flaw(0, Flaw::GroupLength));
    }
    Ok(match Group::verify(bytes, header, &end.links) {
        Ok(group) => Next::Group(group),
        Err((within, flaw)) => Next::Flaw(within, flaw),
    })
}

/// The first place from an offset on where a sound header of a group stands.
fn later_group(window: &mut Window, from: u64) -> io::Result<Option<u64>> {
    let mut at = from;
    while let Some(found) = window.find_magic(at)? {
        let aligned = found.is_multiple_of(ALIGNMENT as u64);
        if aligned && GroupHeader::parse(window.at(found, GROUP_HEADER_BYTES)?).is_ok() {
            return Ok(Some(found));
        }
        at = found + 1;
    }
    Ok(None)
}

pub(super) fn last_of(group: &Group<'_>) -> Last {
    group.records().fold(Last::Other, |_, (_, body)| match body {
        Body::Sealed => Last::Sealed,
        Body::Closed(_) => Last::Closed,
        Body::Opened(_) | Body::Verification(_) => Last::Other,
    })
}

/// A segment's file, to be read.
pub(super) fn open(disk: &dyn Disk, number: u64) -> Result<Window, ReadError> {
    disk.open(&segment_name(number), false)
        .and_then(Window::new)
        .map_err(|error| io_error(disk, number, error))
}

/// An error of the file system about a segment.
pub(super) fn io_error(disk: &dyn Disk, number: u64, error: io::Error) -> ReadError {
    ReadError::Io { file: disk.path().join(segment_name(number)), error }
}

/// Damage in a segment.
pub(super) fn damage(disk: &dyn Disk, number: u64, offset: u64, what: Flaw) -> ReadError {
    ReadError::Damage(Damage { file: disk.path().join(segment_name(number)), offset, what })
}
