//! `peselgate audit dump` and `audit check`: the trail read offline, without a
//! lock and without writing anything.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::instance::InstanceError;
use crate::audit::{DumpError, DumpFilter, Ending, ReadError};
use crate::datadir::DataDir;

/// What the check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every byte is as a gateway wrote it.
    Intact,
    /// Bytes after the last sound group: never answered, or damaged.
    TornTail,
    /// Something else than what a gateway wrote.
    Damaged,
}

/// Prints every verification as NDJSON, to standard output.
///
/// What was sound before a place that is torn or damaged is printed, and the place told.
///
/// # Errors
/// When the trail cannot be read.
pub fn dump(data_directory: &Path) -> Result<Verdict, InstanceError> {
    let trail = existing_trail(data_directory)?;
    let mut output = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
    let dumped = crate::audit::dump(&trail, &mut output, &DumpFilter::default());
    let dumped = match dumped {
        Ok(dumped) => dumped,
        // `dump | head` is not an error.
        Err(DumpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(Verdict::Intact);
        }
        Err(DumpError::Read(ReadError::Damage(damage))) => {
            output.flush().map_err(|error| InstanceError::new("audit dump", error))?;
            note(&format!("damaged: {damage}"));
            return Ok(Verdict::Damaged);
        }
        Err(error) => {
            drop(output.flush());
            return Err(InstanceError::new("audit dump", error));
        }
    };
    output.flush().map_err(|error| InstanceError::new("audit dump", error))?;
    let Some(torn) = dumped.torn else { return Ok(Verdict::Intact) };
    note(&format!(
        "{} ends at offset {} with {} bytes that are no sound group",
        torn.file.display(),
        torn.offset,
        torn.bytes
    ));
    if !DataDir::is_held(data_directory) {
        return Ok(Verdict::TornTail);
    }
    // A gateway may have been writing the group that was met; a second look tells.
    match crate::audit::check(&trail, &|| DataDir::is_held(data_directory)) {
        Ok(report) if report.is_intact() => Ok(Verdict::Intact),
        Ok(_) => Ok(Verdict::TornTail),
        Err(ReadError::Damage(_)) => Ok(Verdict::Damaged),
        Err(error) => Err(InstanceError::new("audit dump", error)),
    }
}

/// Tells it on standard error, which may be closed.
fn note(text: &str) {
    drop(writeln!(io::stderr(), "peselgate: {text}"));
}

/// Verifies the whole trail and prints what it found.
///
/// # Errors
/// When it cannot be read.
pub fn check(data_directory: &Path, as_json: bool) -> Result<Verdict, InstanceError> {
    let trail = existing_trail(data_directory)?;
    let (verdict, text) = match crate::audit::check(&trail, &|| DataDir::is_held(data_directory)) {
        Ok(report) => {
            let (verdict, ending) = match &report.ending {
                Ending::Empty => (Verdict::Intact, "empty".to_owned()),
                Ending::Closed { at } => {
                    let at = if as_json { at.to_string() } else { at.in_poland() };
                    (Verdict::Intact, format!("closed in order at {at}"))
                }
                Ending::Open => (
                    Verdict::Intact,
                    "open: a gateway runs or was killed, or this is a backup of a running one".to_owned(),
                ),
                Ending::InTheMaking => {
                    (Verdict::Intact, "in the making: a gateway was writing the last group".to_owned())
                }
                Ending::TornTail(torn) => (
                    Verdict::TornTail,
                    format!(
                        "torn: {} bytes at {} offset {} are no sound group; never answered or damaged, the next start sets them aside",
                        torn.bytes,
                        torn.file.display(),
                        torn.offset
                    ),
                ),
            };
            let text = if as_json {
                json!({
                    "intact": verdict == Verdict::Intact,
                    "segments": report.segments,
                    "groups": report.groups,
                    "records": report.records,
                    "verifications": report.verifications,
                    "numbers": report.numbers,
                    "runs": report.runs,
                    "recovered_bytes": report.recovered_bytes,
                    "first_answered_at": report.first_answered_at,
                    "last_answered_at": report.last_answered_at,
                    "environment": report.environment,
                    "ending": ending,
                })
                .to_string()
            } else {
                format!(
                    "{}: {} verifications of {} numbers, {} records in {} groups, {} segments, {} runs; {ending}",
                    if verdict == Verdict::Intact { "intact" } else { "not intact" },
                    report.verifications,
                    report.numbers,
                    report.records,
                    report.groups,
                    report.segments,
                    report.runs
                )
            };
            (verdict, text)
        }
        Err(ReadError::Damage(damage)) if as_json => {
            (Verdict::Damaged, json!({"intact": false, "damage": damage.to_string()}).to_string())
        }
        Err(ReadError::Damage(damage)) => (Verdict::Damaged, format!("damaged: {damage}")),
        Err(error) => return Err(InstanceError::new("audit check", error)),
    };
    writeln!(io::stdout(), "{text}").map_err(|error| InstanceError::new("audit check", error))?;
    Ok(verdict)
}

fn existing_trail(data_directory: &Path) -> Result<std::path::PathBuf, InstanceError> {
    let trail = data_directory.join("trail");
    match std::fs::metadata(&trail) {
        Ok(metadata) if metadata.is_dir() => Ok(trail),
        // "Holds none" is said of what could be looked at alone.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(InstanceError::new(&trail.display().to_string(), error))
        }
        _ => Err(InstanceError::new("audit", format!("{} holds no trail", data_directory.display()))),
    }
}
