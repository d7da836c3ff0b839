//! `peselgate init`: a data directory and the first operator token.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::instance::InstanceError;
use super::serve::control_runtime;
use crate::access::{KeyLimits, Name, NewToken};
use crate::clock::Clock;
use crate::datadir::{DataDir, sync_name};
use crate::environment::Environment;
use crate::secret::{KeyId, PlainCredential};

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
    write_secret(token_file, &plain)
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

/// Writes a credential into a new file that its owner alone reads.
pub(super) fn write_secret(path: &Path, plain: &PlainCredential) -> io::Result<()> {
    SecretFile::create(path)?.keep(plain)
}

/// A new file for a credential that its owner alone reads, taken away again unless the
/// credential gets into it: half of one is in the way, and opens nothing.
pub(super) struct SecretFile {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl SecretFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file, is_kept: false })
    }

    pub(super) fn keep(mut self, plain: &PlainCredential) -> io::Result<()> {
        writeln!(self.file, "{}", plain.reveal())?;
        self.file.sync_all()?;
        sync_name(&self.path)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.is_kept {
            drop(std::fs::remove_file(&self.path));
        }
    }
}
