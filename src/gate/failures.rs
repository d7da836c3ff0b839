//! The limits of failed authentication.

use std::num::NonZeroU32;

/// How many failed authentications an address may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLimits {
    /// Failures at once.
    pub burst: NonZeroU32,
    /// Failures a second that are forgiven.
    pub per_second: NonZeroU32,
}

impl Default for FailureLimits {
    /// 200 at once, 20 a second: a misconfigured client behind an intermediary
    /// stays below it, a guesser does not.
    fn default() -> Self {
        const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);
        const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
        Self { burst: BURST, per_second: PER_SECOND }
    }
}
