//! What the gate hands out: an identity, a permit, a visit.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::denied::Denied;
use crate::access::{Charged, Edition, Institution, KeyRecord, LimitsView, OverLimit};
use crate::secret::KeyId;

/// Who is asking: the holder of an active key, proved for this request. Made by
/// [`super::Gate::identify`] alone, used up by the decision what they may.
#[derive(Debug)]
pub struct Identity {
    pub(super) key: Arc<KeyRecord>,
    /// Of the directory that knew the key.
    pub(super) edition: Edition,
}

impl Identity {
    /// The key's identifier.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key.id()
    }
}

/// May see what belongs to its key, from an allowed address; may verify nothing.
/// Made by [`super::Gate::visit`] alone.
#[derive(Debug)]
pub struct Visit {
    pub(super) key: Arc<KeyRecord>,
    pub(super) address: Ipv4Addr,
}

impl Visit {
    /// The key's record.
    #[must_use]
    pub fn key(&self) -> &KeyRecord {
        &self.key
    }

    /// The address the request came from, one of the key's allow-list.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What is left of the key's limits.
    #[must_use]
    pub fn remaining(&self) -> LimitsView {
        self.key.limits_view()
    }
}

/// May verify as many numbers as it was charged for. Made by
/// [`super::Gate::admit`] and [`super::Gate::admit_paced`] alone.
///
/// What was charged and not [spent](Self::spend) is given back when the permit is
/// dropped: a refused request costs no quota.
#[derive(Debug)]
pub struct Permit {
    key: Arc<KeyRecord>,
    /// Of the directory by which it was given or last [confirmed](super::Gate::confirm).
    edition: Edition,
    address: Ipv4Addr,
    unspent: Option<Charged>,
}

/// Somebody who may ask from where they are: what a permit is charged to.
pub(super) struct Admissible {
    pub(super) key: Arc<KeyRecord>,
    pub(super) edition: Edition,
    pub(super) address: Ipv4Addr,
}

/// What became of a charge that may wait.
#[derive(Debug)]
pub enum Pace {
    /// May verify as many as the [permit's numbers](Permit::numbers).
    Charged(Permit),
    /// Nothing is charged; this long until it can be.
    Wait(Duration),
}

impl Permit {
    pub(super) fn charge(admissible: Admissible, cost: NonZeroU32) -> Result<Self, Denied> {
        let charged = admissible.key.charge(cost).map_err(|over| denied(&admissible.key, over, 0))?;
        Ok(Self::of(admissible, charged))
    }

    fn of(Admissible { key, edition, address }: Admissible, charged: Charged) -> Self {
        Self { key, edition, address, unspent: Some(charged) }
    }

    /// Charges as many of `wanted` numbers as are there or come `within` this time.
    pub(super) fn charge_paced(
        admissible: Admissible,
        wanted: NonZeroU32,
        within: Duration,
    ) -> Result<Pace, Denied> {
        match admissible.key.charge_paced(wanted, within) {
            Ok(charged) => Ok(Pace::Charged(Self::of(admissible, charged))),
            Err(OverLimit::Rate { retry_after }) => Ok(Pace::Wait(retry_after)),
            Err(over) => Err(denied(&admissible.key, over, 0)),
        }
    }

    pub(super) const fn edition(&self) -> Edition {
        self.edition
    }

    /// From here on by what this record says, which follows the one that the permit
    /// was given by and has the same budget.
    pub(super) fn follow(&mut self, key: Arc<KeyRecord>, edition: Edition) {
        self.key = key;
        self.edition = edition;
    }

    /// Numbers charged and not yet [spent](Self::spend).
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.unspent.map_or(0, |unspent| unspent.numbers())
    }

    /// The key's identifier.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key.id()
    }

    /// Whose key it is.
    #[must_use]
    pub fn institution(&self) -> &Institution {
        self.key.institution()
    }

    /// The key's record.
    #[must_use]
    pub fn key(&self) -> &KeyRecord {
        &self.key
    }

    /// The address the request came from, one of the key's allow-list.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What is left of the key's limits, for the `RateLimit` fields.
    #[must_use]
    pub fn remaining(&self) -> LimitsView {
        self.key.limits_view()
    }

    /// Charges `n` numbers more: a batch, once its body is read.
    ///
    /// # Errors
    /// [`Denied::RateLimited`], [`Denied::QuotaExceeded`], or
    /// [`Denied::BatchLargerThanBurst`] when this and what is not yet spent would
    /// never pass together. Nothing more is charged then.
    pub fn charge_more(&mut self, n: NonZeroU32) -> Result<(), Denied> {
        let together = self.numbers() + u64::from(n.get());
        if together > u64::from(self.key.limits().at_once_max()) {
            return Err(denied(&self.key, OverLimit::LargerThanBurst, self.numbers()));
        }
        let charged = self.key.charge(n).map_err(|over| denied(&self.key, over, self.numbers()))?;
        self.add(charged);
        Ok(())
    }

    /// The numbers charged so far are on their way to the record: they stay charged, also
    /// where nobody waits for the answer any more.
    pub fn spend(&mut self) -> Spent {
        Spent(self.unspent.take())
    }

    /// They were not put on record, so nothing is answered, and a refusal costs nothing.
    pub fn give_back(&mut self, Spent(charged): Spent) {
        if let Some(charged) = charged {
            self.add(charged);
        }
    }

    fn add(&mut self, later: Charged) {
        self.unspent = Some(self.unspent.map_or(later, |earlier| earlier.and_then(later)));
    }
}

/// What was [spent](Permit::spend); for good when it is dropped.
#[derive(Debug)]
pub struct Spent(Option<Charged>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(unspent) = self.unspent.take() {
            self.key.refund(unspent);
        }
    }
}

/// `held` are the numbers that go back when the refused permit is dropped: the refusal
/// tells what is left then.
fn denied(key: &KeyRecord, over: OverLimit, held: u64) -> Denied {
    let left = key.limits_view().with_given_back(held);
    match over {
        OverLimit::LargerThanBurst => {
            Denied::BatchLargerThanBurst { burst: key.limits().at_once_max(), left }
        }
        OverLimit::Rate { retry_after } => Denied::RateLimited { retry_after, left },
        OverLimit::Day { retry_after } => Denied::QuotaExceeded { retry_after, left },
    }
}
