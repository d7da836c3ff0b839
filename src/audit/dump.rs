//! Writes every verification of a trail as NDJSON.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::path::Path;

use super::codec::{Body, VerificationView};
use super::damage::{ReadError, TornTail};
use super::disk::{Directory, Disk};
use super::id::VerificationId;
use super::record::Item;
use super::walk::walk;
use crate::clock::Moment;
use crate::pesel::Ordinal;
use crate::secret::KeyId;

/// Which verifications to write; the default is all of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct DumpFilter {
    /// Answered at this moment or later.
    pub from: Option<Moment>,
    /// Answered before this moment.
    pub to: Option<Moment>,
    /// Asked by this key.
    pub key_id: Option<KeyId>,
    /// About this number.
    pub ordinal: Option<Ordinal>,
}

/// What a dump has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// Lines, one for each verified number.
    pub lines: u64,
    /// Where the dump ended early: a group that a live gateway was writing, or
    /// a torn tail.
    pub torn: Option<TornTail>,
}

/// Why a dump stopped.
#[derive(Debug)]
pub enum DumpError {
    /// The trail cannot be read.
    Read(ReadError),
    /// The output cannot be written.
    Output(io::Error),
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
        }
    }
}

impl std::error::Error for DumpError {}

/// Writes one JSON object for each verified number of the trail in `dir`, in the
/// order of the trail; refused items are left out. Takes no lock; memory does
/// not grow with the trail. A live gateway may go on writing.
///
/// # Errors
/// When the trail is damaged (what comes before is written), or the output fails.
pub fn dump(dir: &Path, output: impl Write, filter: &DumpFilter) -> Result<Dumped, DumpError> {
    dump_disk(&Directory::at(dir), output, filter)
}

pub(super) fn dump_disk(
    disk: &dyn Disk,
    output: impl Write,
    filter: &DumpFilter,
) -> Result<Dumped, DumpError> {
    let mut output = BufWriter::with_capacity(256 * 1024, output);
    let mut lines = 0;
    let mut failed = None;
    let walked = walk(disk, u64::MAX, &mut |group| {
        for (_, body) in group.records() {
            let Body::Verification(view) = body else { continue };
            match write_verification(&mut output, &view, filter) {
                Ok(written) => lines += written,
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    });
    let flushed = output.flush();
    match failed {
        Some(error) => return Err(DumpError::Output(error)),
        None => flushed.map_err(DumpError::Output)?,
    }
    let walked = walked.map_err(DumpError::Read)?;
    Ok(Dumped { lines, torn: walked.torn.map(|torn| torn.public(disk)) })
}

/// One verified number; the names are the contract's.
#[derive(serde::Serialize)]
struct Line<'a> {
    verification_id: VerificationId,
    index: u64,
    answered_at: Moment,
    at: Moment,
    key_id: KeyId,
    institution: &'a str,
    address: Ipv4Addr,
    pesel: &'a str,
    reserved: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn_at: Option<Moment>,
    register_sequence: u64,
    reference: Option<&'a str>,
}

fn write_verification(
    output: &mut impl Write,
    view: &VerificationView<'_>,
    filter: &DumpFilter,
) -> io::Result<u64> {
    let said = &view.verification;
    let wanted = filter.from.is_none_or(|from| said.answered_at >= from)
        && filter.to.is_none_or(|to| said.answered_at < to)
        && filter.key_id.is_none_or(|key_id| said.key_id == key_id);
    if !wanted {
        return Ok(0);
    }
    let mut lines = 0;
    for (index, item) in (view.shape.first_index()..).zip(view.items()) {
        let Item::Verified { ordinal, told, asked_at, reference } = item else { continue };
        if filter.ordinal.is_some_and(|wanted| wanted != ordinal) {
            continue;
        }
        let pesel = ordinal.pesel();
        let line = Line {
            verification_id: view.id,
            index,
            answered_at: said.answered_at,
            at: asked_at.unwrap_or(said.at()),
            key_id: said.key_id,
            institution: said.institution,
            address: said.address,
            pesel: pesel.digits(),
            reserved: told.reserved,
            reserved_at: told.reserved_at,
            withdrawn_at: told.withdrawn_at,
            register_sequence: said.register.sequence,
            reference: reference.or(said.reference),
        };
        serde_json::to_writer(&mut *output, &line)?;
        output.write_all(b"\n")?;
        lines += 1;
    }
    Ok(lines)
}
