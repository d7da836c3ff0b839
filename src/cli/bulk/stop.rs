//! Why the work stopped, and whether another attempt may help.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::cli::client::ClientError;
use crate::cli::error::CliError;
use crate::cli::lines::LineTooLong;
use crate::cli::refusal::again;

/// Codes of a stream's end that no waiting cures.
const LASTING_ENDS: [&str; 5] =
    ["quota-exceeded", "unauthenticated", "address-not-allowed", "malformed-request", "content-too-large"];

/// Why a stream, and perhaps the work, stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Client(ClientError),
    /// The gateway ended the stream and said why.
    Ended {
        code: String,
        detail: String,
        retry_after: Option<Duration>,
    },
    /// The gateway ended the stream and did not say why.
    Cut,
    Silence,
    /// An answer that belongs to no row asked, or to another one.
    Mismatch(&'static str),
    Input(CliError),
    Output(io::Error),
    Interrupted,
}

impl Stop {
    /// Whether another attempt may get further.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Client(error) => error.is_passing(),
            Self::Ended { code, .. } => !LASTING_ENDS.contains(&code.as_str()),
            Self::Cut | Self::Silence => true,
            Self::Mismatch(_) | Self::Input(_) | Self::Output(_) | Self::Interrupted => false,
        }
    }

    /// When the gateway asked to come again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Client(error) => error.retry_after(),
            Self::Ended { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Ended { code, detail, retry_after } => write!(f, "{code}: {detail}{}", again(*retry_after)),
            Self::Cut => f.write_str("the gateway ended the stream before its last answer"),
            Self::Silence => f.write_str("the gateway fell silent"),
            Self::Mismatch(what) => write!(f, "the gateway's answer is not as agreed: {what}"),
            Self::Input(error) => error.fmt(f),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<LineTooLong> for Stop {
    fn from(_: LineTooLong) -> Self {
        Self::Mismatch("a line is too long")
    }
}
