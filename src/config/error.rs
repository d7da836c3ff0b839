//! What can be wrong with a configuration, and who wrote it.

use std::fmt;
use std::path::PathBuf;

/// A configuration that is refused. Every variant names the key or the place,
/// so that the operator knows what to change.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no TOML, has a key that does not exist, or a value of a wrong
    /// type.
    File {
        /// Which file.
        path: PathBuf,
        /// Line, from 1; 0 when the reader could not tell.
        line: usize,
        /// The table in which it stands; empty for the top of the file.
        table: String,
        /// What is wrong, with the key's name.
        message: String,
    },
    /// An environment variable `PESELGATE_…__…` names no key.
    UnknownVariable {
        /// The variable.
        name: String,
    },
    /// An environment variable has a value of a wrong type.
    Variable {
        /// The variable.
        name: String,
        /// What its key takes.
        message: String,
    },
    /// A key that has no default is missing.
    Missing {
        /// The key, with its table.
        key: &'static str,
        /// What it takes.
        allowed: String,
    },
    /// A value is not allowed, by itself or beside another one.
    Value {
        /// The key, with its table.
        key: &'static str,
        /// The value as written.
        value: String,
        /// What is allowed.
        allowed: String,
        /// The environment variable that set it, if it was one.
        variable: Option<String>,
    },
}

impl ConfigError {
    pub(super) fn value(key: &'static str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self::Value { key, value: value.to_string(), allowed: allowed.into(), variable: None }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "{}: {error}", path.display()),
            Self::File { path, line, table, message } => {
                write!(f, "{}", path.display())?;
                if *line > 0 {
                    write!(f, ", line {line}")?;
                }
                if !table.is_empty() {
                    write!(f, ", table [{table}]")?;
                }
                write!(f, ": {message}")
            }
            Self::UnknownVariable { name } => {
                write!(f, "environment variable {name} names no key of the configuration")
            }
            Self::Variable { name, message } => write!(f, "environment variable {name}: {message}"),
            Self::Missing { key, allowed } => write!(f, "{key} must be said: {allowed}"),
            Self::Value { key, value, allowed, variable } => {
                write!(f, "{key} = {value}")?;
                if let Some(variable) = variable {
                    write!(f, " (from {variable})")?;
                }
                write!(f, ": {allowed}")
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            _ => None,
        }
    }
}
