//! The gate: who is this, may they, how often.
//!
//! ```text
//! Peer -> identify -> Identity -> admit -> Permit
//!                          \----- visit -> Visit      (sees its own things, verifies nothing)
//! ```
//!
//! Each has private fields and one function that makes it. Every way of not
//! getting one is a [`Denied`] with a name. The gate reads the directory of
//! [`crate::access`] and takes no lock; all it writes is the key's own budget and,
//! for a failed authentication, one bucket.

mod address_buckets;
mod admin;
mod cache;
mod credential;
mod denied;
mod failures;
mod peer;
mod permit;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub use admin::{AdminIdentity, Forbidden, Officer, authenticate_admin};
pub use cache::IdentityCache;
pub use denied::Denied;
pub use failures::FailureLimits;
pub use peer::Peer;
pub use permit::{Identity, Pace, Permit, Visit};

use crate::access::{DirectoryReader, KeySlot};
use crate::secret::{KeyId, Plane};
pub(crate) use address_buckets::AddressBuckets;
use credential::OnRecord;
use permit::Admissible;

/// The gate of the verification plane, shared by all its workers.
pub struct Gate {
    reader: DirectoryReader,
    failures: AddressBuckets,
}

impl Gate {
    /// A gate over this directory.
    #[must_use]
    pub fn new(reader: DirectoryReader, failures: FailureLimits) -> Self {
        Self { reader, failures: AddressBuckets::new(failures.burst, failures.per_second) }
    }

    /// Exchanges the limits for failed authentication while the gate is at work.
    pub fn set_failure_limits(&self, limits: FailureLimits) {
        self.failures.set(limits.burst, limits.per_second);
    }

    /// Finds out who presents this value of `authorization`.
    ///
    /// The directory is asked on every request, so a key deactivated a moment ago
    /// is refused on a connection that is open. A credential that has proved
    /// itself on this connection is compared with itself and not hashed again.
    ///
    /// # Errors
    /// [`Denied::MissingCredential`], [`Denied::Malformed`] and
    /// [`Denied::WrongEnvironment`], which need no secret;
    /// [`Denied::Unauthenticated`] for an unknown id, a wrong secret and a
    /// deactivated key alike; [`Denied::TooManyFailures`] instead of looking, when
    /// the peer's address has had too many of those and is no place of the key's.
    pub fn identify(
        &self,
        peer: &Peer,
        authorization: Option<&[u8]>,
        cache: &mut IdentityCache,
    ) -> Result<Identity, Denied> {
        let directory = self.reader.load();
        let text = credential::bearer(authorization)?;
        if let Some((kept, proved)) = cache.recall(text) {
            let key = directory.recall(kept).inspect(|slot| slot.fetch()).map(KeySlot::record);
            if let Some(key) = key.filter(|key| key.is_active() && key.hash().matches(proved)) {
                return Ok(Identity { key: Arc::clone(key), edition: directory.edition() });
            }
            // Deactivated since: from here on it is as any other credential.
            cache.forget();
        }
        let presented = credential::read(authorization, Plane::Verification, self.reader.environment())?;
        let slot = directory.slot(&presented.id()).inspect(|slot| slot.fetch());
        let now = self.reader.nanos();
        if let Some(retry_after) = self.failures.exhausted_for(peer, now)
            && !slot.is_some_and(|slot| is_expected_here(slot, peer))
        {
            return Err(Denied::TooManyFailures { retry_after });
        }
        let on_record =
            slot.map(KeySlot::record).map(|key| OnRecord { hash: key.hash(), active: key.is_active() });
        match (slot, credential::prove(&presented, on_record)) {
            (Some(slot), Some(hash)) => {
                cache.remember(text, hash, directory.keep(slot));
                Ok(Identity { key: Arc::clone(slot.record()), edition: directory.edition() })
            }
            _ => {
                self.failures.charge(peer, now);
                Err(Denied::Unauthenticated)
            }
        }
    }

    /// Lets an identity verify `cost` numbers: from an allowed address, within
    /// the day's quota, within the rate.
    ///
    /// # Errors
    /// [`Denied::AddressNotAllowed`], [`Denied::BatchLargerThanBurst`],
    /// [`Denied::QuotaExceeded`], [`Denied::RateLimited`]; nothing is charged then.
    pub fn admit(&self, peer: &Peer, identity: Identity, cost: NonZeroU32) -> Result<Permit, Denied> {
        Permit::charge(from_allowed_address(peer, identity)?, cost)
    }

    /// Asks again for a permit whose holder was waited for since: a key that was
    /// deactivated meanwhile, or may not be used from here any more, is not answered,
    /// and limits are those of now. Nothing is looked up while the directory is the one
    /// that the permit was given by.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`], [`Denied::AddressNotAllowed`].
    pub fn confirm(&self, peer: &Peer, permit: &mut Permit) -> Result<(), Denied> {
        let directory = self.reader.load();
        let edition = directory.edition();
        if edition == permit.edition() {
            return Ok(());
        }
        let key = directory.key(&permit.key_id());
        let key = key.filter(|key| key.is_active() && key.hash().matches(permit.key().hash()));
        // No guess: the key proved itself a moment ago, so no failure is counted.
        let key = key.ok_or(Denied::Unauthenticated)?;
        if !key.addresses().contains(permit.address()) {
            return Err(Denied::AddressNotAllowed { address: *peer });
        }
        permit.follow(Arc::clone(key), edition);
        Ok(())
    }

    /// Lets an identity verify some of `wanted` numbers at the pace of its rate: a
    /// stream waits where a request would be refused. As many as are there, or come
    /// `within` this time; [spend](Permit::spend) them before asking for the next.
    ///
    /// # Errors
    /// [`Denied::AddressNotAllowed`] and, when the day holds not one more,
    /// [`Denied::QuotaExceeded`].
    pub fn admit_paced(
        &self,
        peer: &Peer,
        identity: Identity,
        wanted: NonZeroU32,
        within: Duration,
    ) -> Result<Pace, Denied> {
        Permit::charge_paced(from_allowed_address(peer, identity)?, wanted, within)
    }

    /// Lets an identity see what belongs to its key, from an allowed address; it
    /// costs nothing, so it is open to a key whose quota is spent, too.
    ///
    /// # Errors
    /// [`Denied::AddressNotAllowed`].
    pub fn visit(&self, peer: &Peer, identity: Identity) -> Result<Visit, Denied> {
        let Admissible { key, address, .. } = from_allowed_address(peer, identity)?;
        Ok(Visit { key, address })
    }

    /// Whether what was told to this key may be seen again: by the key itself, and
    /// by every key of its institution. A key that is not in the directory, where
    /// deactivated ones stay, is nobody's.
    #[must_use]
    pub fn may_see(&self, visit: &Visit, told_to: &KeyId) -> bool {
        let own = visit.key();
        own.id() == *told_to
            || self
                .reader
                .load()
                .key(told_to)
                .is_some_and(|key| key.institution().is_same_as(own.institution()))
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("directory", &self.reader).finish_non_exhaustive()
    }
}

fn from_allowed_address(peer: &Peer, identity: Identity) -> Result<Admissible, Denied> {
    let Identity { key, edition } = identity;
    match peer.ipv4() {
        Some(address) if key.addresses().contains(address) => Ok(Admissible { key, edition, address }),
        _ => Err(Denied::AddressNotAllowed { address: *peer }),
    }
}

/// Whether the key may be used from this address: then it is looked at even while the
/// address has too many failures, since one misconfigured client of an intermediary must
/// not lock out the thousand good ones behind the same address, new ones and those of a
/// gateway that has just started among them. A guesser gains nothing by it but the
/// hashing of wrong secrets.
fn is_expected_here(slot: &KeySlot, peer: &Peer) -> bool {
    let key = slot.record();
    key.is_active() && peer.ipv4().is_some_and(|address| key.addresses().contains(address))
}
