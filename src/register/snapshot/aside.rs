//! What few entries of a page have: the withdrawn, when temporary ones of them end,
//! and those with an earlier reservation.

use super::super::entry::State;
use super::super::words::Stamp;
use super::page::{PageEntry, Slot};

/// What few entries of a page have, in the order of their slots.
pub(super) struct Aside {
    withdrawn: Box<[Withdrawn]>,
    /// Temporary ones of them.
    ending: Box<[Ending]>,
    /// Reserved or withdrawn, with an earlier reservation behind them.
    with_earlier: Box<[Slot]>,
}

#[derive(Clone, Copy)]
pub(super) struct Withdrawn {
    pub(super) slot: Slot,
    pub(super) reserved_at: Stamp,
    pub(super) withdrawn_at: Stamp,
}

impl Withdrawn {
    fn of(entry: &PageEntry) -> Option<Self> {
        let withdrawn_at = entry.withdrawn_at?;
        Some(Self { slot: entry.slot, reserved_at: entry.reserved_at, withdrawn_at })
    }
}

/// The end of a temporary withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) at: Stamp,
    /// When readers got to know of it; it may have passed by then.
    pub(super) told_at: Stamp,
}

#[derive(Clone, Copy)]
struct Ending {
    slot: Slot,
    end: End,
}

impl Ending {
    fn of(entry: &PageEntry) -> Option<Self> {
        Some(Self { slot: entry.slot, end: entry.end? })
    }
}

impl Aside {
    pub(super) fn build(entries: &[PageEntry]) -> Self {
        let with_earlier = entries.iter().filter(|entry| entry.has_earlier).map(|entry| entry.slot);
        Self {
            withdrawn: entries.iter().filter_map(Withdrawn::of).collect(),
            ending: entries.iter().filter_map(Ending::of).collect(),
            with_earlier: with_earlier.collect(),
        }
    }

    pub(super) fn with(&self, changes: &[PageEntry]) -> Self {
        let earlier = |change: &PageEntry| change.has_earlier.then_some(change.slot);
        Self {
            withdrawn: renewed(&self.withdrawn, changes, |withdrawn| withdrawn.slot, Withdrawn::of),
            ending: renewed(&self.ending, changes, |ending| ending.slot, Ending::of),
            with_earlier: renewed(&self.with_earlier, changes, |slot| *slot, earlier),
        }
    }

    /// The withdrawn, in the order of their slots.
    pub(super) fn withdrawn(&self) -> &[Withdrawn] {
        &self.withdrawn
    }

    pub(super) fn has_earlier(&self, slot: Slot) -> bool {
        self.with_earlier.binary_search(&slot).is_ok()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.withdrawn) + size_of_val(&*self.ending) + size_of_val(&*self.with_earlier)
    }

    /// The end of the temporary withdrawal of the number in this slot.
    pub(super) fn end(&self, slot: Slot) -> Option<End> {
        let at = self.ending.binary_search_by_key(&slot, |ending| ending.slot).ok()?;
        Some(self.ending[at].end)
    }

    pub(super) fn state(&self, slot: Slot) -> State {
        let Ok(at) = self.withdrawn.binary_search_by_key(&slot, |w| w.slot) else {
            return State::Absent;
        };
        let Withdrawn { reserved_at, withdrawn_at, .. } = self.withdrawn[at];
        State::Withdrawn { reserved_at: reserved_at.moment(), withdrawn_at: withdrawn_at.moment() }
    }
}

/// The old items without those of changed entries, which have what they have now.
fn renewed<T: Copy>(
    old: &[T],
    changes: &[PageEntry],
    slot: impl Fn(&T) -> Slot,
    of: impl Fn(&PageEntry) -> Option<T>,
) -> Box<[T]> {
    let changed = |slot: Slot| changes.binary_search_by_key(&slot, |change| change.slot).is_ok();
    let kept: Vec<T> = old.iter().filter(|item| !changed(slot(item))).copied().collect();
    let new: Vec<T> = changes.iter().filter_map(of).collect();
    merge(&kept, &new, slot).into_boxed_slice()
}

/// The old items with the changed ones in their places; both in the order of
/// their slots.
pub(super) fn merge<T: Copy>(old: &[T], changed: &[T], slot: impl Fn(&T) -> Slot) -> Vec<T> {
    let mut merged = Vec::with_capacity(old.len() + changed.len());
    let mut rest = old;
    for change in changed {
        let before = rest.partition_point(|old| slot(old) < slot(change));
        merged.extend_from_slice(&rest[..before]);
        rest = &rest[before..];
        if rest.first().is_some_and(|old| slot(old) == slot(change)) {
            rest = &rest[1..];
        }
        merged.push(*change);
    }
    merged.extend_from_slice(rest);
    merged
}
