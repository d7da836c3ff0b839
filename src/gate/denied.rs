//! Every way of not being let in, by name.

use std::fmt;
use std::time::Duration;

use super::peer::Peer;
use crate::access::LimitsView;

/// Why a request was not let in; always the caller's to mend. Nothing was
/// charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No credential was presented.
    MissingCredential,
    /// What was presented is no credential of this plane: a typing error, or the
    /// credential of another plane.
    Malformed,
    /// A credential of the other environment.
    WrongEnvironment,
    /// Unknown, wrong secret or deactivated: one answer, at one cost.
    Unauthenticated,
    /// Too many failures came from this address; nothing was looked at.
    TooManyFailures {
        /// When one more try will be looked at.
        retry_after: Duration,
    },
    /// The address is not in the key's allow-list.
    AddressNotAllowed {
        /// The address seen.
        address: Peer,
    },
    /// Too many numbers a second.
    RateLimited {
        /// When this request could pass.
        retry_after: Duration,
        /// What is left of the key's limits.
        left: LimitsView,
    },
    /// The day's quota does not hold this request.
    QuotaExceeded {
        /// Until the next midnight in Warsaw.
        retry_after: Duration,
        /// What is left of the key's limits.
        left: LimitsView,
    },
    /// More numbers at once than the key's burst, or than its whole day: would never
    /// pass.
    BatchLargerThanBurst {
        /// The most that may come at once.
        burst: u32,
        /// What is left of the key's limits.
        left: LimitsView,
    },
}

impl Denied {
    /// Nobody has shown a good key: a guess, a mistake, or no key at all.
    #[must_use]
    pub const fn is_of_stranger(&self) -> bool {
        match self {
            Self::MissingCredential
            | Self::Malformed
            | Self::WrongEnvironment
            | Self::Unauthenticated
            | Self::TooManyFailures { .. } => true,
            Self::AddressNotAllowed { .. }
            | Self::RateLimited { .. }
            | Self::QuotaExceeded { .. }
            | Self::BatchLargerThanBurst { .. } => false,
        }
    }

    /// What is left of the key's limits, where one of them refused.
    #[must_use]
    pub const fn left(&self) -> Option<&LimitsView> {
        match self {
            Self::RateLimited { left, .. }
            | Self::QuotaExceeded { left, .. }
            | Self::BatchLargerThanBurst { left, .. } => Some(left),
            Self::MissingCredential
            | Self::Malformed
            | Self::WrongEnvironment
            | Self::Unauthenticated
            | Self::TooManyFailures { .. }
            | Self::AddressNotAllowed { .. } => None,
        }
    }

    /// A label for metrics and the trail.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MissingCredential => "missing-credential",
            Self::Malformed => "malformed-key",
            Self::WrongEnvironment => "wrong-environment",
            Self::Unauthenticated => "unauthenticated",
            Self::TooManyFailures { .. } => "too-many-failures",
            Self::AddressNotAllowed { .. } => "address-not-allowed",
            Self::RateLimited { .. } => "rate-limited",
            Self::QuotaExceeded { .. } => "quota-exceeded",
            Self::BatchLargerThanBurst { .. } => "batch-larger-than-burst",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingCredential => f.write_str("no credential was presented"),
            Self::Malformed => f.write_str("what was presented is no credential of this plane"),
            Self::WrongEnvironment => f.write_str("the credential belongs to the other environment"),
            Self::Unauthenticated => f.write_str("the credential is not known"),
            Self::TooManyFailures { .. } => f.write_str("too many failed authentications from this address"),
            Self::AddressNotAllowed { address } => {
                write!(f, "the address {address} is not in the key's allow-list")
            }
            Self::RateLimited { .. } => f.write_str("too many numbers a second for this key"),
            Self::QuotaExceeded { .. } => {
                f.write_str("the key's quota for this day does not hold this request")
            }
            Self::BatchLargerThanBurst { burst, .. } => {
                write!(f, "this key may ask for at most {burst} numbers at once")
            }
        }
    }
}

impl std::error::Error for Denied {}
