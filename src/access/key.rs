//! The record of an API key.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::addresses::AllowList;
use super::key_limits::{KeyLimits, LimitsView};
use super::limiter::{Charged, KeyLimiter, OverLimit};
use super::names::{Institution, Name};
use crate::clock::Moment;
use crate::environment::Environment;
use crate::secret::{CredentialHash, KeyId};

/// What an operator asks for when a key is issued.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose key it is.
    pub institution: Institution,
    /// The one system that calls with it.
    pub system: Name,
    /// Where it calls from.
    pub addresses: AllowList,
    /// What it may spend; the gateway's defaults when absent.
    pub limits: Option<KeyLimits>,
}

/// An API key as the directory holds it. A record never changes; a change makes
/// another record that shares the budget of this one.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct KeyRecord {
    // What every request reads stands first and together, in this order.
    pub(super) id: KeyId,
    pub(super) hash: CredentialHash,
    pub(super) deactivated_at: Option<Moment>,
    pub(super) limits: KeyLimits,
    pub(super) limiter: Arc<KeyLimiter>,
    pub(super) addresses: AllowList,
    pub(super) institution: Institution,
    pub(super) system: Name,
    pub(super) environment: Environment,
    pub(super) created_at: Moment,
}

impl KeyRecord {
    /// The key identifier (identyfikator klucza).
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The environment it opens.
    #[must_use]
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// Whose it is.
    #[must_use]
    pub const fn institution(&self) -> &Institution {
        &self.institution
    }

    /// The system that calls with it.
    #[must_use]
    pub const fn system(&self) -> &Name {
        &self.system
    }

    /// Where it may be used from.
    #[must_use]
    pub const fn addresses(&self) -> &AllowList {
        &self.addresses
    }

    /// What it may spend.
    #[must_use]
    pub const fn limits(&self) -> &KeyLimits {
        &self.limits
    }

    /// What is left of it.
    #[must_use]
    pub fn limits_view(&self) -> LimitsView {
        self.limiter.view(&self.limits)
    }

    /// When it was issued.
    #[must_use]
    pub const fn created_at(&self) -> Moment {
        self.created_at
    }

    /// When it was deactivated, if it was.
    #[must_use]
    pub const fn deactivated_at(&self) -> Option<Moment> {
        self.deactivated_at
    }

    /// Whether it opens anything.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.deactivated_at.is_none()
    }

    /// Charges refused since the process started, for the metrics.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.limiter.refused()
    }

    /// Reads a word of each line that a decision reads.
    pub(super) fn touch(&self) -> u64 {
        let first = u64::from(self.id.as_bytes()[0]) ^ u64::from(self.is_active());
        first ^ u64::from(self.limits.burst()) ^ u64::from(self.addresses.touch())
    }

    pub(crate) const fn hash(&self) -> &CredentialHash {
        &self.hash
    }

    pub(crate) fn limiter(&self) -> &KeyLimiter {
        &self.limiter
    }

    pub(crate) fn charge(&self, n: NonZeroU32) -> Result<Charged, OverLimit> {
        self.limiter.charge(&self.limits, n)
    }

    pub(crate) fn charge_paced(&self, wanted: NonZeroU32, within: Duration) -> Result<Charged, OverLimit> {
        self.limiter.charge_paced(&self.limits, wanted, within)
    }

    pub(crate) fn refund(&self, charged: Charged) {
        self.limiter.refund(&self.limits, charged);
    }
}
