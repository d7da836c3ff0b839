//! What a start does before it writes: finds the end of the trail, and once it is known
//! that the trail is to be written, sets a torn tail aside and clears away what an
//! earlier run prepared.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::damage::{ReadError, TornTail};
use super::disk::{Disk, DiskFile};
use super::segment::{ZEROS, segment_name};
use super::spare::{UNFINISHED_NAME, remove_if_there};
use super::walk::{Torn, Walked, io_error, walk};
use crate::clock::Moment;

/// Torn tails kept of one place; a start that tears again and again must not
/// fill the disk.
const TORN_FILES_MAX: u32 = 100;

/// What a start finds; it has touched nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Records on the trail before this run.
    pub records: u64,
    /// The latest stamp on it; `None` when nothing was ever written.
    pub last_stamp: Option<Moment>,
    /// The highest event of the register that an answer names; of the newest part of
    /// the trail, that which was verified in full. Answers name events of a register
    /// that only grows, so the highest stands there.
    pub register_sequence_max: u64,
    /// Whether the run before closed the trail; true for a new one.
    pub closed_cleanly: bool,
    /// What follows the last sound group.
    pub torn: Option<TornTail>,
}

/// What a start found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// What it found.
    pub found: Found,
    /// The file where the bytes of a torn tail are kept; none when its segment was only
    /// shorter than it should be.
    pub kept: Option<PathBuf>,
}

/// Walks the trail.
pub(super) fn look(disk: &dyn Disk, full_bytes: u64) -> Result<(Walked, Found), ReadError> {
    let mut register_sequence_max = 0;
    let walked = walk(disk, full_bytes, &mut |group| {
        register_sequence_max = group.register_sequences().fold(register_sequence_max, u64::max);
        ControlFlow::Continue(())
    })?;
    let closed = walked.end.is_none_or(|end| end.last == super::walk::Last::Closed);
    let found = Found {
        records: walked.end.map_or(0, |end| end.links.sequence - 1),
        last_stamp: walked.end.map(|end| moment_of_stamp(end.links.stamp_ms)),
        register_sequence_max,
        closed_cleanly: closed && walked.torn.is_none(),
        torn: walked.torn.as_ref().map(|torn| torn.public(disk)),
    };
    Ok((walked, found))
}

/// Makes the end of the trail writable: the file where the bytes of a torn tail are kept.
pub(super) fn mend(disk: &dyn Disk, walked: &Walked) -> Result<Option<PathBuf>, ReadError> {
    let directory = |error| ReadError::Io { file: disk.path().to_owned(), error };
    remove_if_there(disk, UNFINISHED_NAME).map_err(directory)?;
    if let Some(number) = walked.spare {
        disk.remove(&segment_name(number)).map_err(|error| io_error(disk, number, error))?;
    }
    let kept = match &walked.torn {
        Some(torn) => cut(disk, torn, walked).map_err(|error| io_error(disk, torn.number, error))?,
        None => None,
    };
    disk.sync_directory().map_err(directory)?;
    Ok(kept.map(|name| disk.path().join(name)))
}

/// The whole second of a stamp in milliseconds.
pub(super) fn moment_of_stamp(stamp_ms: u64) -> Moment {
    Moment::from_unix_seconds(i64::try_from(stamp_ms / 1000).unwrap_or(i64::MAX))
}

impl Torn {
    /// What is told of it.
    pub(super) fn public(&self, disk: &dyn Disk) -> TornTail {
        TornTail {
            file: disk.path().join(segment_name(self.number)),
            offset: self.offset,
            bytes: self.content_end - self.offset,
        }
    }
}

/// Copies a torn tail to a file of its own, then takes it out of the trail.
fn cut(disk: &dyn Disk, torn: &Torn, walked: &Walked) -> io::Result<Option<String>> {
    let name = segment_name(torn.number);
    let file = disk.open(&name, true)?;
    let kept = if torn.content_end > torn.offset { Some(set_aside(disk, &*file, torn)?) } else { None };
    if torn.offset == 0 {
        // The segment had not begun: it is made anew.
        drop(file);
        disk.remove(&name)?;
        return Ok(kept);
    }
    let segment_bytes = walked.end.map_or(torn.file_bytes, |end| end.header.segment_bytes);
    write_zeros(&*file, torn.offset, torn.content_end)?;
    // What the file lacks at its end is allocated now, as a preparer would.
    write_zeros(&*file, torn.file_bytes, segment_bytes)?;
    file.sync()?;
    Ok(kept)
}

fn set_aside(disk: &dyn Disk, from: &dyn DiskFile, torn: &Torn) -> io::Result<String> {
    let (name, to) = torn_file(disk, torn)?;
    let mut block = vec![0; ZEROS.len()];
    let mut at = torn.offset;
    while at < torn.content_end {
        let wanted = block.len().min((torn.content_end - at) as usize);
        let got = from.read_at(&mut block[..wanted], at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(&block[..got], at - torn.offset)?;
        at += got as u64;
    }
    to.sync()?;
    disk.sync_directory()?;
    Ok(name)
}

/// A new file for a torn tail: a start that was cut off itself may have left
/// one already.
fn torn_file(disk: &dyn Disk, torn: &Torn) -> io::Result<(String, Box<dyn DiskFile>)> {
    let stem = format!("torn-{}-{}", torn.number, torn.offset);
    for nth in 0..TORN_FILES_MAX {
        let name = if nth == 0 { format!("{stem}.bin") } else { format!("{stem}-{nth}.bin") };
        match disk.create(&name) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{TORN_FILES_MAX} torn tails of this place are kept already")))
}

pub(super) fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let bytes = ZEROS.len().min((to - at) as usize);
        file.write_at(&ZEROS[..bytes], at)?;
        at += bytes as u64;
    }
    Ok(())
}
