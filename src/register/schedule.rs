//! The schedule: which numbers are to be reserved again, and at which second
//! (art. 23d(3)).
//!
//! It is no second truth: every line of it is the last word of an entry, a
//! temporary withdrawal that still lasts. A start derives it from the store, and
//! from then on it follows the same changes as the snapshot, so what ends a
//! temporary withdrawal (a reservation ex officio, a filing that brings it
//! forward, a withdrawal without limit, the clock itself) takes its line away.

mod holds;

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use tokio::time::Instant;

use self::holds::Holds;
pub(super) use self::holds::Import;
use super::snapshot::Changed;
use super::words::Stamp;
use crate::pesel::Ordinal;

/// How often the clock is looked at while something is due within
/// [`NEAR_SECONDS`]: a clock that is set is noticed in time, and the sleep never
/// outlasts the second that it waits for.
const TICK_NEAR: Duration = Duration::from_millis(20);
/// How often it is looked at otherwise.
const TICK_FAR: Duration = Duration::from_secs(1);
/// What "near" means: what is due by then is also made ready.
pub(super) const NEAR_SECONDS: u32 = 5 * 60;

/// A number that is to be reserved again at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    /// First, so that the order is that of the moments; numbers within a second
    /// in their own.
    pub(super) at: Stamp,
    pub(super) ordinal: Ordinal,
}

/// All temporary withdrawals that last, and for which imports their ends wait: a
/// later line may tell what came before an end, and would be out of order for ever
/// behind it.
#[derive(Debug)]
pub(super) struct Schedule<I> {
    /// Ends that the clock may record: all but those that are held.
    by_moment: BTreeSet<Due>,
    of_number: HashMap<Ordinal, Stamp>,
    /// Of numbers that have an end.
    holds: Holds<I>,
}

impl<I> Default for Schedule<I> {
    fn default() -> Self {
        Self { by_moment: BTreeSet::new(), of_number: HashMap::new(), holds: Holds::default() }
    }
}

impl<I: Import> Schedule<I> {
    /// The schedule of these entries.
    pub(super) fn of(pending: impl IntoIterator<Item = Due>) -> Self {
        let mut schedule = Self::default();
        for due in pending {
            schedule.set(due.ordinal, Some(due.at));
        }
        schedule
    }

    /// Follows entries that the clock or commands have changed, in order. What was
    /// filed now is no matter of an import that told what was before.
    pub(super) fn follow(&mut self, changes: &[Changed]) {
        for (ordinal, entry) in changes {
            self.holds.forget(*ordinal);
            self.set(*ordinal, entry.re_reservation_at());
        }
    }

    /// Follows entries that imports have changed; whatever holds such a number still
    /// holds it. [`Self::told`] comes next.
    pub(super) fn follow_imports(&mut self, changes: &[Changed]) {
        for (ordinal, entry) in changes {
            self.set(*ordinal, entry.re_reservation_at());
        }
    }

    /// An import has told these temporary withdrawals, or told them again: those that
    /// last wait for it. It takes over what others held that broke off.
    pub(super) fn told(&mut self, import: &Arc<I>, withdrawals: impl IntoIterator<Item = Due>) {
        for due in withdrawals {
            if self.of_number.get(&due.ordinal) == Some(&due.at) {
                self.by_moment.remove(&due);
                self.holds.hold(import, due.ordinal);
            }
        }
    }

    /// Imports that nobody knows any more held these numbers, `None`: any of them. They
    /// wait as for an import that broke off at `now`.
    pub(super) fn hold_interrupted(&mut self, numbers: Option<&RoaringBitmap>, now: Instant) {
        for (ordinal, at) in &self.of_number {
            if numbers.is_none_or(|numbers| numbers.contains(ordinal.value()))
                && !self.holds.is_held(*ordinal)
            {
                self.by_moment.remove(&Due { at: *at, ordinal: *ordinal });
                self.holds.leave(*ordinal, now);
            }
        }
    }

    /// Lets go of what waits for nothing any more: its imports are complete, or broke
    /// off too long before `now`.
    pub(super) fn release(&mut self, now: Instant) {
        for ordinal in self.holds.release(now) {
            if let Some(at) = self.of_number.get(&ordinal) {
                self.by_moment.insert(Due { at: *at, ordinal });
            }
        }
    }

    /// The numbers whose ends wait for an import.
    pub(super) fn held(&self) -> &RoaringBitmap {
        self.holds.numbers()
    }

    /// The first `max` that are due at `now`.
    pub(super) fn due(&self, now: Stamp, max: usize) -> Vec<Due> {
        self.by_moment.iter().take_while(|due| due.at <= now).take(max).copied().collect()
    }

    /// The first `max` that are due up to `end`, from this one on.
    pub(super) fn between(&self, from: Option<Due>, end: Stamp, max: usize) -> Vec<Due> {
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let soon = self.by_moment.range((from, Bound::Unbounded)).take_while(|due| due.at <= end);
        soon.take(max).copied().collect()
    }

    /// Takes away what has been looked after.
    pub(super) fn settle(&mut self, due: &[Due]) {
        for due in due {
            if self.by_moment.remove(due) {
                self.of_number.remove(&due.ordinal);
            }
        }
    }

    /// Temporary withdrawals that last.
    pub(super) fn len(&self) -> usize {
        self.of_number.len()
    }

    /// How long to wait before the next look at the clock, which shows `now_millis`
    /// since 1970, or at the imports; `None` when there is nothing to wait for.
    pub(super) fn wait(&self, now_millis: i64, now: Instant) -> Option<Duration> {
        let clock = self.by_moment.first().map(|first| {
            let left = i64::from(first.at.seconds()) * 1_000 - now_millis;
            let tick = if left <= i64::from(NEAR_SECONDS) * 1_000 { TICK_NEAR } else { TICK_FAR };
            tick.min(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
        });
        [clock, self.holds.wait(now)].into_iter().flatten().min()
    }

    /// The last word of an entry.
    fn set(&mut self, ordinal: Ordinal, at: Option<Stamp>) {
        let before = match at {
            // The common case of a large import: nothing waits at all.
            None if self.of_number.is_empty() => None,
            None => self.of_number.remove(&ordinal),
            Some(at) => self.of_number.insert(ordinal, at),
        };
        if let Some(before) = before {
            self.by_moment.remove(&Due { at: before, ordinal });
        }
        match at {
            None => self.holds.forget(ordinal),
            Some(at) if !self.holds.is_held(ordinal) => drop(self.by_moment.insert(Due { at, ordinal })),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
