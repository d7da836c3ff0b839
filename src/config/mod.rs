//! The configuration: the file as written (`raw`), then as judged (`resolved`,
//! made by `judge`).
//!
//! The file is TOML; `config/peselgate.example.toml` names every key. An
//! environment variable `PESELGATE_<TABLE>__<KEY>` (`PESELGATE_ENVIRONMENT` for
//! the one key outside of a table) overrides the file and is judged by the same
//! types. Secrets are no values here: a key points to the file that holds one.
//!
//! Nobody passes [`Config`] around: the composition root takes it apart and
//! hands each part its own small struct.

mod error;
mod judge;
mod overrides;
mod raw;
mod resolved;

use std::path::Path;

pub use error::ConfigError;
pub use overrides::Variables;
pub use resolved::{
    Admin, Audit, AuthFailures, Config, Connections, DefaultLimits, Durability, Listen, Log, LogFormat,
    LogLevel, Machine, Ops, Place, Register, Timeouts, TlsFiles, Verification, Warning,
};

use raw::Raw;

/// Keys (or whole tables, with a final dot) that SIGHUP reads again; all others
/// need a restart. The example file says the same of each key, held by a test.
pub const RELOADED: &[&str] = &["verification.tls.", "admin.tls.", "limits.", "log.level"];

/// Whether SIGHUP reads this key (`table.key`) again.
#[must_use]
pub fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|entry| if entry.ends_with('.') { key.starts_with(entry) } else { key == *entry })
}

/// Reads and judges the configuration for this process on this machine.
///
/// # Errors
/// [`ConfigError`], which names the key, the value and what is allowed.
pub fn load(path: &Path, variables: &Variables) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    judge(path, &text, variables, &Machine::of_this_process())
}

/// [`load`] with everything passed in; `path` serves the error texts only.
///
/// # Errors
/// As [`load`].
pub fn judge(
    path: &Path,
    text: &str,
    variables: &Variables,
    machine: &Machine,
) -> Result<Config, ConfigError> {
    let file_error = |error: &toml::de::Error| file_error(path, text, error);
    // The strict types judge the file alone first, for errors with a line ...
    toml::from_str::<Raw>(text).map_err(|error| file_error(&error))?;
    let mut table: toml::Table = toml::from_str(text).map_err(|error| file_error(&error))?;
    // ... and file and environment together.
    variables.apply(&mut table)?;
    let raw: Raw = table.try_into().map_err(|error| file_error(&error))?;
    judge::resolve(&raw, machine).map_err(|error| match error {
        ConfigError::Value { key, value, allowed, .. } => {
            ConfigError::Value { key, value, allowed, variable: variables.name_of(key) }
        }
        other => other,
    })
}

fn file_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let mut message = error.message().to_owned();
    let (mut line, mut table) = (0, String::new());
    if let Some(span) = error.span() {
        line = text.get(..span.start).unwrap_or(text).matches('\n').count() + 1;
        let at = text.lines().nth(line - 1).unwrap_or_default();
        if !at.trim_start().starts_with('[') {
            table = header_above(text, line);
        }
        // "unknown field" names the key by itself; "invalid type" does not.
        if let Some((key, _)) = at.split_once('=')
            && (message.starts_with("invalid") || message.starts_with("expected"))
        {
            message = format!("{}: {message}", key.trim());
        }
    }
    ConfigError::File { path: path.to_owned(), line, table, message }
}

/// The name in the last `[table]` line above this one.
fn header_above(text: &str, line: usize) -> String {
    let header = |line: &str| Some(line.trim().strip_prefix('[')?.split_once(']')?.0.trim().to_owned());
    text.lines().take(line - 1).filter_map(header).last().unwrap_or_default()
}

#[cfg(test)]
mod tests;
