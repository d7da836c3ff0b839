//! `peselgate snapshot export` and `inspect`: the reserved numbers as a file for
//! exchange, made of a stopped gateway's register.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;

use super::instance::InstanceError;
use crate::clock::Clock;
use crate::datadir::{DataDir, sync_name};
use crate::register::{ExchangedSet, RegisterConfig};

/// Writes the set to a new file, mode 0600; gives back what to tell.
///
/// # Errors
/// When a gateway holds the directory, the register cannot be read, or the file
/// is there already or cannot be written.
pub fn export(data_directory: &Path, output: &Path, as_json: bool) -> Result<String, InstanceError> {
    if !data_directory.is_dir() {
        return Err(InstanceError::new("snapshot", format!("no directory {}", data_directory.display())));
    }
    let data = DataDir::lock(data_directory).map_err(|error| InstanceError::new("snapshot", error))?;
    if !data.register().exists() {
        return Err(InstanceError::new("snapshot", format!("no {}", data.register().display())));
    }
    let config = RegisterConfig { path: data.register(), cache_bytes: RegisterConfig::CACHE_BYTES_DEFAULT };
    let snapshot = crate::register::read(&config, &Clock::system())
        .map_err(|error| InstanceError::new("register", error))?
        .into_snapshot();
    let set = ExchangedSet::of(&snapshot);
    let bytes = set.to_bytes();
    let failed = |error| InstanceError::new(&output.display().to_string(), error);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(output).map_err(failed)?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| sync_name(output));
    if written.is_err() {
        // Half of one is in the way of the next try; the first error is the one to tell.
        drop(std::fs::remove_file(output));
    }
    written.map_err(failed)?;
    Ok(told(&set, bytes.len(), as_json))
}

/// Reads a file for exchange and says what it holds.
///
/// # Errors
/// When it cannot be read or is not what it should be.
pub fn inspect(file: &Path, as_json: bool) -> Result<String, InstanceError> {
    let failed = |error: &dyn std::fmt::Display| InstanceError::new(&file.display().to_string(), error);
    let bytes = std::fs::read(file).map_err(|error| failed(&error))?;
    let set = ExchangedSet::from_bytes(&bytes).map_err(|error| failed(&error))?;
    Ok(told(&set, bytes.len(), as_json))
}

fn told(set: &ExchangedSet, bytes: usize, as_json: bool) -> String {
    let ExchangedSet { sequence, as_of, ordinals } = set;
    let reserved = ordinals.len();
    if as_json {
        json!({"reserved": reserved, "sequence": sequence, "as_of": as_of, "bytes": bytes}).to_string()
    } else {
        format!("{reserved} reserved numbers as of event {sequence} ({}), {bytes} bytes", as_of.in_poland())
    }
}
