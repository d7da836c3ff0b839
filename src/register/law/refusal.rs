//! Why the law refuses a filing.

use std::fmt;

use crate::clock::Moment;

/// Why the law refuses a change; whoever asks is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A person reserves a number that is reserved.
    AlreadyReserved,
    /// There is no reservation to withdraw.
    NotReserved,
    /// Less than 30 minutes since the withdrawal (art. 23d(5)).
    FilingTooSoon {
        /// From when a reservation may be filed.
        allowed_from: Moment,
    },
    /// Banks, SKOKs, the post (art. 23f) and the registers (art. 23g) only reserve.
    ChannelMayNotWithdraw,
    /// A proxy only reserves.
    ApplicantMayNotWithdraw,
    /// Guardians, curators and proxies file at a gmina.
    ApplicantNeedsGmina,
    /// A proxy comes only when the person cannot.
    ObstacleRequired,
    /// A temporary withdrawal is made in the e-service (art. 23d(3)).
    TemporaryWithdrawalByEServiceOnly,
    /// A re-reservation lies at least 30 minutes ahead.
    ReReservationTooSoon {
        /// The earliest moment of a re-reservation.
        allowed_from: Moment,
    },
    /// Only adults reserve (art. 23a).
    NotOfAge,
    /// A renumbering that is to happen.
    FutureMoment,
    /// A renumbering of a number to itself.
    SameNumber,
    /// A number with as many renumberings as it may have
    /// ([`RENUMBERINGS_MAX`](crate::limits::RENUMBERINGS_MAX)).
    TooManyRenumberings,
}

impl Refusal {
    /// The code of the problem that the caller is told.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::AlreadyReserved => "already-reserved",
            Self::NotReserved => "not-reserved",
            Self::FilingTooSoon { .. } => "filing-too-soon",
            Self::ChannelMayNotWithdraw => "channel-may-not-withdraw",
            Self::ApplicantMayNotWithdraw => "applicant-may-not-withdraw",
            Self::ApplicantNeedsGmina => "applicant-needs-gmina",
            Self::ObstacleRequired => "obstacle-required",
            Self::TemporaryWithdrawalByEServiceOnly => "temporary-withdrawal-by-e-service-only",
            Self::ReReservationTooSoon { .. } => "re-reservation-too-soon",
            Self::NotOfAge => "not-of-age",
            Self::FutureMoment => "future-moment",
            Self::SameNumber => "same-number",
            Self::TooManyRenumberings => "too-many-renumberings",
        }
    }

    /// From when it would be allowed, where waiting helps.
    #[must_use]
    pub const fn allowed_from(self) -> Option<Moment> {
        match self {
            Self::FilingTooSoon { allowed_from } | Self::ReReservationTooSoon { allowed_from } => {
                Some(allowed_from)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyReserved => "the number is reserved already",
            Self::NotReserved => "the number is not reserved",
            Self::FilingTooSoon { .. } => "a reservation may be filed 30 minutes after a withdrawal",
            Self::ChannelMayNotWithdraw => "this channel may reserve, not withdraw",
            Self::ApplicantMayNotWithdraw => "a proxy may reserve, not withdraw",
            Self::ApplicantNeedsGmina => "a guardian, curator or proxy files at a gmina",
            Self::ObstacleRequired => "a proxy files only for an obstacle, which must be named",
            Self::TemporaryWithdrawalByEServiceOnly => "a temporary withdrawal is made in the e-service",
            Self::ReReservationTooSoon { .. } => "a re-reservation lies at least 30 minutes ahead",
            Self::NotOfAge => "only an adult's number can be reserved",
            Self::FutureMoment => "the number has not changed yet",
            Self::SameNumber => "the new number is the old one",
            Self::TooManyRenumberings => "a number of this renumbering has more than a person's life brings",
        })
    }
}

impl std::error::Error for Refusal {}
