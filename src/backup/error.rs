//! Why an archive is no backup, or cannot be restored. No text here names a
//! person or a secret.

use std::fmt;
use std::io;

use crate::{access, audit, register};

/// Why an archive is refused.
#[derive(Debug)]
pub enum BackupError {
    /// It cannot be read, or the new directory cannot be written.
    Io(io::Error),
    /// It does not begin like a backup.
    NotABackup,
    /// It was written by a version that this program does not know.
    UnknownVersion,
    /// It ends before its end.
    EndsEarly {
        /// Its length.
        at: u64,
        /// What is not in it.
        missing: &'static str,
    },
    /// Its bytes are not what was written.
    Damaged {
        /// Bytes from its start to the frame that is wrong.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The register in it does not hold together.
    Register(register::OpenError),
    /// The access store in it does not hold together.
    Access(access::OpenError),
    /// The trail in it does not hold together.
    Trail(audit::ReadError),
    /// Its parts do not fit one another.
    Contradiction(&'static str),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotABackup => f.write_str("not a peselgate backup"),
            Self::UnknownVersion => f.write_str("a backup of a format that this program does not know"),
            Self::EndsEarly { at, missing } => {
                write!(f, "the backup ends early, at byte {at}; missing: {missing}")
            }
            Self::Damaged { at, what } => write!(f, "the backup is damaged, frame at byte {at}: {what}"),
            Self::Register(error) => write!(f, "in the backup: {error}"),
            Self::Access(error) => write!(f, "in the backup: {error}"),
            Self::Trail(error) => write!(f, "in the backup: {error}"),
            Self::Contradiction(what) => write!(f, "the backup contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Register(error) => Some(error),
            Self::Access(error) => Some(error),
            Self::Trail(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<register::OpenError> for BackupError {
    fn from(error: register::OpenError) -> Self {
        Self::Register(error)
    }
}

impl From<access::OpenError> for BackupError {
    fn from(error: access::OpenError) -> Self {
        Self::Access(error)
    }
}

impl From<audit::ReadError> for BackupError {
    fn from(error: audit::ReadError) -> Self {
        Self::Trail(error)
    }
}
