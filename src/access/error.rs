//! Why a change of access was not made.

use std::fmt;

use crate::clock::Moment;
use crate::limits::CREDENTIALS_MAX;

/// Why a change of access was not made; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessError {
    /// The caller's fault: no such key or token.
    NotFound,
    /// The caller's fault: the key is deactivated, and stays so.
    Deactivated,
    /// The caller's fault: the idempotency key was used with another request.
    IdempotencyMismatch,
    /// The caller's fault: the allow-list was not judged by the rules of this
    /// environment.
    AddressesOfOtherEnvironment,
    /// The caller's fault: without this token nobody could issue another.
    LastOperator,
    /// The caller's fault: a token with every role, asked for in production.
    EveryRoleInProduction,
    /// As many keys or tokens as [`CREDENTIALS_MAX`] are on record.
    Full,
    /// The gateway's state: too many changes wait; try again.
    Overloaded,
    /// The gateway's fault: the store can't be written, since this moment. What
    /// was asked may still be found done once it can be again.
    Unavailable {
        /// When the first write failed.
        since: Moment,
    },
    /// The gateway's fault: the system gave no randomness for a secret.
    NoRandomness,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such key or token"),
            Self::Deactivated => f.write_str("the key is deactivated"),
            Self::IdempotencyMismatch => f.write_str("the idempotency key was used with another request"),
            Self::AddressesOfOtherEnvironment => {
                f.write_str("the allow-list was not judged by the rules of this environment")
            }
            Self::LastOperator => {
                f.write_str("the last active token with the role operator stays: issue another one first")
            }
            Self::EveryRoleInProduction => f.write_str("a token has one role in production"),
            Self::Full => write!(f, "{CREDENTIALS_MAX} keys or tokens are on record"),
            Self::Overloaded => f.write_str("too many changes of access wait"),
            Self::Unavailable { since } => write!(f, "the store of access can't be written since {since}"),
            Self::NoRandomness => f.write_str("the system gave no randomness"),
        }
    }
}

impl std::error::Error for AccessError {}
