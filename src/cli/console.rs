//! Standard output for what was asked for, standard error for everything else.

use std::io::{self, Write as _};
use std::path::Path;

use super::error::CliError;

/// Writes a line to standard output.
///
/// # Errors
/// When standard output is closed: the answer was then not given.
pub(crate) fn say(line: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(CliError::file(Path::new("standard output")))
}

/// Writes a line to standard error. A closed standard error changes nothing of
/// what the command does.
pub(crate) fn note(line: &str) {
    let mut err = io::stderr().lock();
    err.write_all(line.as_bytes()).and_then(|()| err.write_all(b"\n")).ok();
}
