//! What ends a command, and what it says of it. No text here ever holds a PESEL
//! or a secret.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::client::ClientError;
use crate::app::instance::InstanceError;

/// How a command ended, as its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done; for `verify`: not reserved.
    Done,
    /// 1: done, but not all of it; for `verify`: reserved.
    Partly,
    /// 2: not done.
    Failed,
    /// 74, `EX_IOERR` of sysexits(3): the audit trail could not be written.
    /// `config/peselgate.service` starts nothing again after it.
    TrailFailed,
}

impl Exit {
    pub(crate) const fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Partly => 1,
            Self::Failed => 2,
            Self::TrailFailed => 74,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The command line asks for something that cannot be.
    Usage(String),
    /// A file (or standard input, standard output) failed.
    File { path: PathBuf, error: io::Error },
    /// The input is not what it should be.
    Input(String),
    /// The gateway refused or could not be asked.
    Client(ClientError),
    /// The instance did not start, or did not end well.
    Instance(InstanceError),
}

impl CliError {
    /// For `map_err`: names the file.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::File { path: path.to_owned(), error }
    }

    /// How a command ends with it.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Instance(error) if error.is_of_the_trail() => Exit::TrailFailed,
            _ => Exit::Failed,
        }
    }

    /// Whether the log has it already.
    pub(crate) const fn is_logged(&self) -> bool {
        matches!(self, Self::Instance(error) if error.is_logged())
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Input(message) => f.write_str(message),
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Client(error) => error.fmt(f),
            Self::Instance(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CliError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { error, .. } => Some(error),
            Self::Client(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}
