//! `peselgate restore`: a new data directory of a backup, or a backup judged.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::instance::InstanceError;
use crate::backup::{BackupError, Held, Restoring};
use crate::datadir::{DataDir, sync_name};

/// Judges every part of a backup and writes nothing.
///
/// # Errors
/// With the first place that is wrong, or what is missing.
pub fn verify(input: impl Read) -> Result<Held, InstanceError> {
    let restoring = Restoring::judging();
    through(input, restoring).map_err(|error| InstanceError::new("restore", error))
}

/// Makes a data directory of a backup. It is built beside its place and takes it
/// once everything is judged, durable and read again.
///
/// # Errors
/// When there is a directory with something in it, the backup is not whole or
/// does not hold together, or the disk fails. What was written is then removed.
pub fn restore(input: impl Read, data_directory: &Path) -> Result<Held, InstanceError> {
    let refused =
        |path: &Path, why: &str| Err(InstanceError::new("restore", format!("{} {why}", path.display())));
    let partial = partial_of(data_directory)?;
    if partial.exists() {
        return refused(&partial, "is there: another restore runs, or one was cut off; remove it then");
    }
    if !is_free(data_directory).map_err(|error| at(data_directory, error))? {
        return refused(data_directory, "is not empty; a backup is restored into a new directory");
    }
    let data = DataDir::lock(&partial).map_err(|error| InstanceError::new("restore", error))?;
    let restored = build(input, &data, data_directory, &partial);
    if restored.is_err() && partial.exists() {
        // The first error is the one to tell.
        drop(fs::remove_dir_all(&partial));
    }
    restored
}

/// Whoever holds `data` keeps everybody from starting on a part of it.
fn build(input: impl Read, data: &DataDir, place: &Path, partial: &Path) -> Result<Held, InstanceError> {
    let held =
        through(input, Restoring::into_new(data)).map_err(|error| InstanceError::new("restore", error))?;
    File::open(partial).and_then(|directory| directory.sync_all()).map_err(|error| at(partial, error))?;
    fs::rename(partial, place).map_err(|error| at(place, error))?;
    sync_name(place).map_err(|error| at(place, error))?;
    Ok(held)
}

fn through(input: impl Read, mut restoring: Restoring) -> Result<Held, BackupError> {
    let received = crate::backup::read(input, &mut restoring)?;
    restoring.finish(&received)
}

/// Whether there is nothing, or a directory with nothing in it.
fn is_free(place: &Path) -> io::Result<bool> {
    match fs::read_dir(place) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn partial_of(place: &Path) -> Result<PathBuf, InstanceError> {
    let name = place.file_name().ok_or_else(|| InstanceError::new("restore", "name the new directory"))?;
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(place.with_file_name(name))
}

fn at(path: &Path, error: io::Error) -> InstanceError {
    InstanceError::new(&path.display().to_string(), error)
}
