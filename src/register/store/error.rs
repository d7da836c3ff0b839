//! What can go wrong with the register's file.

use std::fmt;

use super::super::words::Sequence;

/// The store cannot answer; the gateway's side is at fault, never the caller.
#[derive(Debug)]
pub enum StoreError {
    /// The disk or the file system failed, or the file does not hold together
    /// for redb.
    Disk(Box<redb::Error>),
    /// The file holds together, its content does not.
    Damaged(Damage),
    /// The file is closed while the writer tries to open it again after a failure.
    Closed,
}

/// Where the content of the store contradicts itself. It names no person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The table.
    pub table: &'static str,
    /// The last event of the row, or the event; absent where the row is not
    /// found by sequence.
    pub sequence: Option<Sequence>,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}", self.table)?;
        if let Some(sequence) = self.sequence {
            write!(f, ", sequence {sequence}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl From<Damage> for StoreError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "register store: {error}"),
            Self::Damaged(damage) => write!(f, "register store is damaged: {damage}"),
            Self::Closed => f.write_str("register store is closed after a failure"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk(error) => Some(error),
            Self::Damaged(_) | Self::Closed => None,
        }
    }
}

macro_rules! disk_errors {
    ($($error:ty),+) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Disk(Box::new(error.into()))
            }
        })+
    };
}

disk_errors!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError,
    std::io::Error
);

/// Why the register cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The file cannot be read, or what it says does not hold together.
    Store(StoreError),
    /// The file was written in a format that this program does not know.
    UnknownFormat {
        /// The version found.
        found: u32,
    },
    /// A new store was to be made where there is one.
    NotEmpty,
    /// The writer's thread did not start.
    Thread(std::io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => fmt::Display::fmt(error, f),
            Self::UnknownFormat { found } => {
                write!(f, "register store has format {found}, this program knows {}", super::FORMAT)
            }
            Self::NotEmpty => f.write_str("there is a register store already"),
            Self::Thread(error) => write!(f, "the register's writer did not start: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Thread(error) => Some(error),
            Self::UnknownFormat { .. } | Self::NotEmpty => None,
        }
    }
}

impl<E: Into<StoreError>> From<E> for OpenError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}
