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
/// # Errors
/// When the trail is damaged or cannot be read; what was sound before the place
/// is printed.
pub fn dump(data_directory: &Path) -> Result<(), InstanceError> {
    let trail = existing_trail(data_directory)?;
    let mut output = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
    let dumped = crate::audit::dump(&trail, &mut output, &DumpFilter::default());
    let dumped = match dumped {
        Ok(dumped) => dumped,
        // `dump | head` is not an error.
        Err(DumpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => {
            drop(output.flush());
            return Err(InstanceError::new("audit dump", error));
        }
    };
    output.flush().map_err(|error| InstanceError::new("audit dump", error))?;
    if let Some(torn) = dumped.torn {
        let note = format!(
            "peselgate: {} ends at offset {} with {} bytes that are no sound group\n",
            torn.file.display(),
            torn.offset,
            torn.bytes
        );
        drop(io::stderr().write_all(note.as_bytes()));
    }
    Ok(())
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
                Ending::Closed { at } => (Verdict::Intact, format!("closed in order at {at}")),
                Ending::Open => (Verdict::Intact, "open: a gateway runs, or was killed".to_owned()),
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
    if trail.is_dir() {
        Ok(trail)
    } else {
        Err(InstanceError::new("audit", format!("{} holds no trail", data_directory.display())))
    }
}
