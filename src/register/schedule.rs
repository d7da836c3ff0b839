//! The schedule: which numbers are to be reserved again, and at which second
//! (art. 23d(3)).
//!
//! It is no second truth: every line of it is the last word of an entry, a
//! temporary withdrawal that still lasts. A start derives it from the store, and
//! from then on it follows the same changes as the snapshot, so what ends a
//! temporary withdrawal (a reservation ex officio, a filing that brings it
//! forward, a withdrawal without limit, the clock itself) takes its line away.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use super::snapshot::Changed;
use super::words::Stamp;
use crate::clock::Moment;
use crate::limits::IMPORT_LATE_ENDS_HELD_SECONDS;
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

/// All temporary withdrawals that last.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    by_moment: BTreeSet<Due>,
    /// Ends that had passed when an import brought them. A line behind may still
    /// tell what came before the end, so they wait for the import.
    late: BTreeSet<Due>,
    of_number: HashMap<Ordinal, Stamp>,
}

impl Schedule {
    /// The schedule of these entries. Ends not after `late` waited for an import
    /// then, and do so still, unless that was too long before `now`.
    pub(super) fn of(pending: impl IntoIterator<Item = Due>, late: Option<Stamp>, now: Moment) -> Self {
        let late = late.filter(|late| now < late.plus_seconds(IMPORT_LATE_ENDS_HELD_SECONDS).moment());
        let mut schedule = Self::default();
        for due in pending {
            schedule.set(due.ordinal, Some(due.at), late);
        }
        schedule
    }

    /// Follows entries that have changed, in order.
    pub(super) fn follow(&mut self, changes: &[Changed]) {
        for (ordinal, entry) in changes {
            self.set(*ordinal, entry.re_reservation_at(), None);
        }
    }

    /// Follows entries that imports have changed: what is due at `now` already
    /// waits for [`Self::release`].
    pub(super) fn follow_import(&mut self, changes: &[Changed], now: Stamp) {
        for (ordinal, entry) in changes {
            self.set(*ordinal, entry.re_reservation_at(), Some(now));
        }
    }

    /// Does anything wait for an import?
    pub(super) fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Does the end of this number's withdrawal wait for an import?
    pub(super) fn is_late(&self, ordinal: Ordinal) -> bool {
        let at = if self.late.is_empty() { None } else { self.of_number.get(&ordinal) };
        at.is_some_and(|at| self.late.contains(&Due { at: *at, ordinal }))
    }

    /// Nothing waits for an import any more.
    pub(super) fn release(&mut self) {
        self.by_moment.append(&mut self.late);
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
        self.by_moment.len() + self.late.len()
    }

    /// How long to wait before the next look at the clock, which shows
    /// `now_millis` since 1970; `None` when there is nothing to wait for.
    pub(super) fn wait(&self, now_millis: i64) -> Option<Duration> {
        let first = self.by_moment.first()?;
        let left = i64::from(first.at.seconds()) * 1_000 - now_millis;
        let tick = if left <= i64::from(NEAR_SECONDS) * 1_000 { TICK_NEAR } else { TICK_FAR };
        Some(tick.min(Duration::from_millis(u64::try_from(left).unwrap_or(0))))
    }

    /// The last word of an entry; of an import, with the moment of its commit.
    fn set(&mut self, ordinal: Ordinal, at: Option<Stamp>, imported: Option<Stamp>) {
        let before = match at {
            // The common case of a large import: nothing waits at all.
            None if self.of_number.is_empty() => None,
            None => self.of_number.remove(&ordinal),
            Some(at) => self.of_number.insert(ordinal, at),
        };
        if let Some(before) = before {
            let before = Due { at: before, ordinal };
            if !self.by_moment.remove(&before) {
                self.late.remove(&before);
            }
        }
        if let Some(at) = at {
            let is_late = imported.is_some_and(|now| at <= now);
            let place = if is_late { &mut self.late } else { &mut self.by_moment };
            place.insert(Due { at, ordinal });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Entry;
    use super::super::words::EventKind;
    use super::*;

    const NOW: Moment = Moment::from_unix_seconds(0);

    fn ordinal(value: u32) -> Ordinal {
        Ordinal::new(value).expect("in range")
    }

    fn due(at: u32, number: u32) -> Due {
        Due { at: Stamp::from_seconds(at), ordinal: ordinal(number) }
    }

    fn withdrawn(until: Option<u32>) -> Entry {
        let mut entry = Entry::ABSENT;
        entry.apply(EventKind::Reservation, Stamp::from_seconds(1), None);
        entry.apply(EventKind::Withdrawal, Stamp::from_seconds(2), until.map(Stamp::from_seconds));
        entry
    }

    #[test]
    fn due_ones_come_in_the_order_of_moments_then_numbers() {
        let schedule = Schedule::of([due(30, 1), due(20, 9), due(20, 3), due(40, 2)], None, NOW);
        let at = |now, max| schedule.due(Stamp::from_seconds(now), max);
        assert_eq!(at(19, 9), []);
        assert_eq!(at(20, 9), [due(20, 3), due(20, 9)]);
        assert_eq!(at(35, 2), [due(20, 3), due(20, 9)]);
        assert_eq!(at(99, 9), [due(20, 3), due(20, 9), due(30, 1), due(40, 2)]);
    }

    #[test]
    fn an_entry_has_one_line_and_its_last_word_counts() {
        let mut schedule = Schedule::of([due(30, 1), due(30, 2)], None, NOW);
        schedule.follow(&[(ordinal(1), withdrawn(None)), (ordinal(2), withdrawn(Some(50)))]);
        assert_eq!(schedule.due(Stamp::from_seconds(99), 9), [due(50, 2)]);
        schedule.follow(&[(ordinal(2), withdrawn(Some(60))), (ordinal(2), withdrawn(Some(70)))]);
        assert_eq!(schedule.due(Stamp::from_seconds(99), 9), [due(70, 2)]);
        schedule.settle(&[due(70, 2), due(1, 7)]);
        assert_eq!((schedule.len(), schedule.of_number.len()), (0, 0));
    }

    #[test]
    fn what_waited_for_an_import_waits_on_but_not_for_ever() {
        let held = i64::from(IMPORT_LATE_ENDS_HELD_SECONDS);
        for (now, waits) in [(0, 2), (50, 2), (50 + held - 1, 2), (50 + held, 0)] {
            let pending = [due(40, 1), due(50, 2), due(51, 3)];
            let mut schedule =
                Schedule::of(pending, Some(Stamp::from_seconds(50)), Moment::from_unix_seconds(now));
            assert_eq!((schedule.late.len(), schedule.len()), (waits, 3), "{now}");
            schedule.release();
            assert_eq!(schedule.due(Stamp::from_seconds(51), 9), pending);
        }
    }

    #[test]
    fn the_wait_ends_at_the_second_and_never_sleeps_through_a_set_clock() {
        let schedule = Schedule::of([due(1_000, 1)], None, NOW);
        let wait = |millis| schedule.wait(millis).expect("something waits");
        assert_eq!(wait(0), TICK_FAR);
        assert_eq!(wait(1_000_000 - 300_001), TICK_FAR);
        assert_eq!(wait(1_000_000 - 300_000), TICK_NEAR);
        assert_eq!(wait(999_995), Duration::from_millis(5));
        assert_eq!(wait(1_000_000), Duration::ZERO);
        assert_eq!(wait(9_000_000), Duration::ZERO);
        assert_eq!(Schedule::default().wait(0), None);
    }
}
