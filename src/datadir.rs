//! The data directory and its exclusive lock: one process, one directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

const REGISTER: &str = "register.redb";
const ACCESS: &str = "access.redb";
const TRAIL: &str = "trail";
const MAKING: &str = "init.making";

/// A data directory that this process alone may write. The lock lasts as long
/// as the value does, and ends with the process however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Which directory stores belong to: the chain value of the first group of its trail,
/// which no other trail has and which a backup takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Of the first group's chain value.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it is stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a demo's directory was made with (`demo.json`). Other directories have no
/// such file: what else they are is written in their stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoFacts {
    /// Reserved numbers that were made.
    pub reserved: u64,
    /// Their seed.
    pub seed: u64,
}

impl DemoFacts {
    /// Reads them; `None` when the directory is no demo's.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(file: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(file) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes them, durably and all at once: half of them would be an error for ever.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let partial = file.with_extension("part");
        let mut written = File::create(&partial)?;
        io::Write::write_all(&mut written, &serde_json::to_vec(self)?)?;
        written.sync_all()?;
        std::fs::rename(&partial, file)?;
        sync_name(file)
    }
}

/// Why a data directory cannot be had.
#[derive(Debug)]
pub enum DataDirError {
    /// Another process holds it.
    InUse(PathBuf),
    /// It holds none of the three stores.
    Bare(PathBuf),
    /// An `init` of it was cut short.
    HalfMade(PathBuf),
    /// It holds some of the stores, and this one is missing or empty.
    Lacks(PathBuf),
    /// The file system refused.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for DataDirError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InUse(path) => write!(f, "data directory {} is in use by another process", path.display()),
            Self::Bare(path) => write!(
                f,
                "data directory {} holds no gateway: `peselgate init` makes one, `peselgate restore` makes \
                 one of a backup",
                path.display()
            ),
            Self::HalfMade(path) => write!(
                f,
                "the making of data directory {} was cut short: run `peselgate init` again",
                path.display()
            ),
            Self::Lacks(path) => write!(
                f,
                "{} is missing or empty, and none is made in its place: put it back, or restore the whole \
                 directory from a backup",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "data directory {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DataDirError {}

impl DataDir {
    /// Takes the directory, making it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// [`DataDirError::InUse`] when another process holds it.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let io = |error| DataDirError::Io(path.to_owned(), error);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(io)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(path.to_owned())),
            Err(error) => Err(io(error.into())),
        }
    }

    /// Takes a directory in which all stores have been made. Makes nothing in one that
    /// lacks any.
    ///
    /// # Errors
    /// As [`Self::lock`] and [`Self::has_stores`].
    pub fn lock_made(path: &Path) -> Result<Self, DataDirError> {
        has_stores(path)?;
        let data = Self::lock(path)?;
        // Once more, now that nobody else is at work in it.
        data.has_stores()?;
        Ok(data)
    }

    /// Whether register, access store and trail are there. What is missing was lost,
    /// wherever another is: a new one in its place would know of nothing.
    ///
    /// # Errors
    /// [`DataDirError::Bare`], [`DataDirError::HalfMade`] and [`DataDirError::Lacks`].
    pub fn has_stores(&self) -> Result<(), DataDirError> {
        has_stores(&self.path)
    }

    /// Marks a directory whose making was begun by `init`, and that it may begin again:
    /// `init.making`.
    #[must_use]
    pub fn making(&self) -> PathBuf {
        self.path.join(MAKING)
    }

    /// The first of the stores, or what is left of it, that is there.
    #[must_use]
    pub fn any_store(&self) -> Option<PathBuf> {
        [self.register(), self.access(), self.trail()].into_iter().find(|store| store.exists())
    }

    /// Takes away the stores that are there: those of a making that was cut short.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_stores(&self) -> io::Result<()> {
        remove_file(&self.register())?;
        remove_file(&self.access())?;
        gone(std::fs::remove_dir_all(self.trail()))
    }

    /// Whether a process holds the directory. Asked only where there is doubt: a
    /// directory that nobody holds is held by the question itself for a moment.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        let Ok(lock) = File::open(path.join("lock")) else { return false };
        // The file is closed, and so the lock given back, at once.
        flock(&lock, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The trail's segments: `trail/`.
    #[must_use]
    pub fn trail(&self) -> PathBuf {
        self.path.join(TRAIL)
    }

    /// The register's store: `register.redb`.
    #[must_use]
    pub fn register(&self) -> PathBuf {
        self.path.join(REGISTER)
    }

    /// What a demo was made with: `demo.json`; written last, so that its presence
    /// means that everything is there.
    #[must_use]
    pub fn demo(&self) -> PathBuf {
        self.path.join("demo.json")
    }

    /// Keys and tokens: `access.redb`.
    #[must_use]
    pub fn access(&self) -> PathBuf {
        self.path.join(ACCESS)
    }
}

/// Makes the name of a file or directory durable, which its content's sync does not.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn sync_name(place: &Path) -> io::Result<()> {
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Removes a file, if it is there.
///
/// # Errors
/// When the file system refuses.
pub fn remove_file(file: &Path) -> io::Result<()> {
    gone(std::fs::remove_file(file))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn has_stores(directory: &Path) -> Result<(), DataDirError> {
    if directory.join(MAKING).exists() {
        return Err(DataDirError::HalfMade(directory.to_owned()));
    }
    let stores = [REGISTER, ACCESS, TRAIL].map(|name| directory.join(name));
    let mut lost = None;
    let mut is_bare = true;
    for store in stores {
        let holds = match std::fs::metadata(&store) {
            Ok(found) if found.is_dir() => std::fs::read_dir(&store).map(|mut names| names.next().is_some()),
            Ok(found) => Ok(found.len() > 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        is_bare &= !store.exists();
        if !holds.map_err(|error| DataDirError::Io(store.clone(), error))? {
            lost.get_or_insert(store);
        }
    }
    match lost {
        _ if is_bare => Err(DataDirError::Bare(directory.to_owned())),
        Some(store) => Err(DataDirError::Lacks(store)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_taken_only_with_all_of_its_stores() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let place = dir.path().join("data");
        assert!(matches!(DataDir::lock_made(&place), Err(DataDirError::Bare(_))));
        assert!(!place.exists(), "nothing is made");
        std::fs::create_dir(&place).expect("made");
        assert!(matches!(DataDir::lock_made(&place), Err(DataDirError::Bare(_))));
        assert!(!place.join("lock").exists(), "a restore wants it empty");
        let lacks = |name: &str| match DataDir::lock_made(&place) {
            Err(DataDirError::Lacks(store)) => assert_eq!(store, place.join(name)),
            other => panic!("{other:?}"),
        };
        std::fs::write(place.join("access.redb"), "x").expect("written");
        lacks("register.redb");
        std::fs::write(place.join("register.redb"), "").expect("written");
        lacks("register.redb");
        std::fs::write(place.join("register.redb"), "x").expect("written");
        lacks("trail");
        std::fs::create_dir(place.join("trail")).expect("made");
        lacks("trail");
        std::fs::write(place.join("trail").join("00000000000000000001.seg"), "x").expect("written");
        DataDir::lock_made(&place).expect("whole");
    }

    #[test]
    fn the_second_holder_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert!(!DataDir::is_held(dir.path()), "there is nothing yet");
        let first = DataDir::lock(dir.path()).expect("free");
        assert!(DataDir::is_held(dir.path()));
        assert!(matches!(DataDir::lock(dir.path()), Err(DataDirError::InUse(_))));
        drop(first);
        assert!(!DataDir::is_held(dir.path()));
        DataDir::lock(dir.path()).expect("free again");
    }
}
