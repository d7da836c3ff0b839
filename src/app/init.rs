//! `peselgate init`: a data directory and the first operator token.

use std::fmt;
use std::path::{Path, PathBuf};

use super::instance::InstanceError;
use super::serve::control_runtime;
use crate::access::{KeyLimits, Name, NewToken};
use crate::clock::Clock;
use crate::datadir::DataDir;
use crate::environment::Environment;
use crate::secret::{KeyId, PlainCredential};
use crate::secret_file::SecretFile;

/// Makes the directory with an empty register, a trail and an access store, all for this
/// environment, and an operator token; returns the file that holds the token.
///
/// # Errors
/// When the directory holds a store already, or a file cannot be written: it can then
/// be tried again.
pub fn init(
    data_directory: &Path,
    environment: Environment,
    token_file: Option<&Path>,
) -> Result<PathBuf, InstanceError> {
    let data = DataDir::lock(data_directory).map_err(|error| InstanceError::new("init", error))?;
    let token_file = token_file.map_or_else(|| data.path().join("operator-token"), Path::to_owned);
    let there = |path: &Path| InstanceError::new("init", format!("{} is there already", path.display()));
    if data.making().exists() {
        // An earlier one was cut short: the stores are its own, and so is the token if
        // this was its place.
        let token_was_its = std::fs::read(data.making()).is_ok_and(|place| place == bytes_of(&token_file));
        forget(&data);
        if token_was_its {
            drop(std::fs::remove_file(&token_file));
        }
    }
    if let Some(store) = data.any_store() {
        return Err(there(&store));
    }
    if token_file.exists() {
        return Err(there(&token_file));
    }
    let made = std::fs::write(data.making(), bytes_of(&token_file))
        .map_err(|error| InstanceError::new("init", error))
        .and_then(|()| make(&data, environment, &token_file));
    if made.is_err() {
        // Parts of a directory, or a token that nobody knows, would be in the way of the
        // next try.
        forget(&data);
    }
    made?;
    std::fs::remove_file(data.making()).map_err(|error| InstanceError::new("init", error))?;
    Ok(token_file)
}

fn bytes_of(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}

/// Takes away what an `init` has made, and then its mark: while anything is left, the
/// next one begins with this again.
fn forget(data: &DataDir) {
    if data.remove_stores().is_ok() {
        drop(std::fs::remove_file(data.making()));
    }
}

fn make(data: &DataDir, environment: Environment, token_file: &Path) -> Result<(), InstanceError> {
    let clock = Clock::system();
    crate::audit::create(data.trail(), clock.clone(), env!("CARGO_PKG_VERSION"), environment)
        .map_err(|error| InstanceError::new("audit trail", error))?;
    crate::register::create(&data.register(), clock.now())
        .map_err(|error| InstanceError::new("register", error))?;
    crate::access::create(&data.access(), environment)
        .map_err(|error| InstanceError::new("access store", error))?;
    let (_, plain) = issue_operator(data, environment, clock, "first operator")?;
    SecretFile::write(token_file, &plain)
        .map_err(|error| InstanceError::new(&token_file.display().to_string(), error))
}

/// Issues an operator token in the access store of a directory that nobody serves.
pub(super) fn issue_operator(
    data: &DataDir,
    environment: Environment,
    clock: Clock,
    label: &str,
) -> Result<(KeyId, PlainCredential), InstanceError> {
    let failed = |error: &dyn fmt::Display| InstanceError::new("access store", error);
    let label = Name::parse(label).map_err(|error| failed(&error))?;
    // No key is issued here: any limits will do.
    let limits = KeyLimits::new(200, 1_000, 1_000_000).map_err(|error| failed(&error))?;
    let (reader, access, thread) =
        crate::access::open(&data.access(), environment, clock, limits).map_err(|error| failed(&error))?;
    let issued = control_runtime()?.block_on(access.issue_token(NewToken::operator(label), None));
    drop((reader, access));
    thread.close();
    let issued = issued.map_err(|error| failed(&error))?;
    let plain = issued.plain.ok_or_else(|| failed(&"no token was issued"))?;
    Ok((issued.record.id(), plain))
}
