//! One page of the set: 65 536 ordinals, as many bits or fewer.
//!
//! A page is never changed; a change makes a new one from the entries of the old.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::super::entry::{Entry, Phase, State};
use super::super::words::Stamp;
use super::aside::{Aside, End, merge};

/// The place of a number within its page: the low 16 bits of its ordinal.
pub(super) type Slot = u16;

/// From this many reserved numbers on a page is dense. A dense page costs 9 KiB
/// before its moments, a sparse one some 2 bytes a number: at this count a
/// number costs 22 bytes at the most however thinly the numbers are strewn,
/// while every page of the real register (1 300 and more) is dense and quick.
pub(super) const DENSE_FROM: usize = 512;

const WORDS: usize = 65_536 / 64;
/// Words that share one rank. Two keep the directory at 1 KiB a page, and the
/// count between free of loops and branches.
const WORDS_PER_RANK: usize = 2;
const RANKS: usize = WORDS / WORDS_PER_RANK;

/// What a page keeps of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct PageEntry {
    pub(super) slot: Slot,
    pub(super) reserved_at: Stamp,
    pub(super) withdrawn_at: Option<Stamp>,
    /// The end of the withdrawal, if it is a temporary one.
    pub(super) end: Option<End>,
    /// Reserved and withdrawn before the present or last reservation?
    pub(super) has_earlier: bool,
}

impl PageEntry {
    /// Of an entry that readers get to know at `told_at`; `None` without any event.
    pub(super) fn of(slot: Slot, entry: &Entry, told_at: Stamp) -> Option<Self> {
        let (reserved_at, withdrawn_at) = match entry.phase() {
            Phase::Absent => return None,
            Phase::Reserved { reserved_at } => (reserved_at, None),
            Phase::Withdrawn { reserved_at, withdrawn_at } => (reserved_at, Some(withdrawn_at)),
        };
        let end = entry.re_reservation_at().map(|at| End { at, told_at });
        Some(Self { slot, reserved_at, withdrawn_at, end, has_earlier: entry.has_earlier() })
    }

    pub(super) const fn state(&self) -> State {
        let reserved_at = self.reserved_at.moment();
        match self.withdrawn_at {
            None => State::Reserved { reserved_at },
            Some(withdrawn_at) => State::Withdrawn { reserved_at, withdrawn_at: withdrawn_at.moment() },
        }
    }
}

/// A page that has an entry.
#[derive(Clone)]
pub(super) enum Page {
    Dense(Arc<Dense>),
    Sparse(Arc<Sparse>),
}

/// Many reserved numbers: a bit each, and their moments found by counting bits.
pub(super) struct Dense {
    aside: Aside,
    /// Moments of the reserved numbers, in the order of their slots.
    moments: Box<[Stamp]>,
    /// Reserved numbers before each group of words. Fits: the last group begins
    /// 128 slots before the end.
    ranks: [u16; RANKS],
    bits: [u64; WORDS],
}

/// Few reserved numbers.
pub(super) struct Sparse {
    aside: Aside,
    moments: Box<[Stamp]>,
    slots: RoaringBitmap,
}

impl Page {
    /// Builds a page from its entries, in the order of their slots; `None` when
    /// there are none.
    pub(super) fn build(entries: &[PageEntry]) -> Option<Self> {
        if entries.is_empty() {
            return None;
        }
        let reserved = || entries.iter().filter(|entry| entry.withdrawn_at.is_none());
        let aside = Aside::build(entries);
        let moments: Box<[Stamp]> = reserved().map(|entry| entry.reserved_at).collect();
        Some(if moments.len() < DENSE_FROM {
            let slots = reserved().map(|entry| u32::from(entry.slot)).collect();
            Self::Sparse(Arc::new(Sparse { aside, moments, slots }))
        } else {
            let mut bits = [0u64; WORDS];
            for entry in reserved() {
                bits[usize::from(entry.slot) / 64] |= 1 << (entry.slot % 64);
            }
            Self::Dense(Arc::new(Dense { aside, moments, ranks: ranks(&bits), bits }))
        })
    }

    /// The page after changes, in the order of their slots, one for each slot.
    pub(super) fn with(&self, changes: &[PageEntry]) -> Option<Self> {
        if let Self::Dense(page) = self
            && let Some(page) = page.with(changes)
        {
            return Some(Self::Dense(Arc::new(page)));
        }
        Self::build(&merge(&self.entries(), changes, |entry| entry.slot))
    }

    /// The state of the number in this slot.
    #[inline]
    pub(super) fn state(&self, slot: Slot) -> State {
        let (reserved_at, aside) = match self {
            Self::Dense(page) => (page.reserved_at(slot), &page.aside),
            Self::Sparse(page) => (page.reserved_at(slot), &page.aside),
        };
        match reserved_at {
            Some(reserved_at) => State::Reserved { reserved_at: reserved_at.moment() },
            None if aside.withdrawn().is_empty() => State::Absent,
            None => aside.state(slot),
        }
    }

    /// Has the number in this slot an earlier reservation behind the one that
    /// [`Page::state`] tells?
    pub(super) fn has_earlier(&self, slot: Slot) -> bool {
        self.aside().has_earlier(slot)
    }

    /// The end of the temporary withdrawal of the number in this slot.
    pub(super) fn end(&self, slot: Slot) -> Option<End> {
        self.aside().end(slot)
    }

    /// All entries, in the order of their slots.
    pub(super) fn entries(&self) -> Vec<PageEntry> {
        let aside = self.aside();
        let mut withdrawn = aside.withdrawn().iter().peekable();
        let mut entries = Vec::with_capacity(self.moments().len() + aside.withdrawn().len());
        let entry = |slot, reserved_at, withdrawn_at| PageEntry {
            slot,
            reserved_at,
            withdrawn_at,
            end: self.end(slot),
            has_earlier: self.has_earlier(slot),
        };
        self.for_each_reserved(|slot, reserved_at| {
            while let Some(w) = withdrawn.next_if(|w| w.slot < slot) {
                entries.push(entry(w.slot, w.reserved_at, Some(w.withdrawn_at)));
            }
            entries.push(entry(slot, reserved_at, None));
        });
        for w in withdrawn {
            entries.push(entry(w.slot, w.reserved_at, Some(w.withdrawn_at)));
        }
        entries
    }

    /// Calls back with the reserved slots in order.
    pub(super) fn for_each_reserved(&self, mut each: impl FnMut(Slot, Stamp)) {
        match self {
            Self::Dense(page) => {
                let mut moments = page.moments.iter();
                for (index, word) in page.bits.iter().enumerate() {
                    let mut rest = *word;
                    while rest != 0 {
                        if let Some(moment) = moments.next() {
                            each((index * 64) as Slot + rest.trailing_zeros() as Slot, *moment);
                        }
                        rest &= rest - 1;
                    }
                }
            }
            Self::Sparse(page) => {
                for (slot, moment) in page.slots.iter().zip(&page.moments) {
                    each(slot as Slot, *moment);
                }
            }
        }
    }

    pub(super) fn reserved_count(&self) -> usize {
        self.moments().len()
    }

    pub(super) fn entry_count(&self) -> usize {
        self.moments().len() + self.aside().withdrawn().len()
    }

    /// Bytes on the heap; for a sparse page those of its set are estimated.
    pub(super) fn heap_bytes(&self) -> usize {
        let own = match self {
            Self::Dense(_) => size_of::<Dense>(),
            Self::Sparse(page) => size_of::<Sparse>() + page.slots.serialized_size(),
        };
        own + size_of_val(self.moments())
            + self.aside().heap_bytes()
            // The counters of the Arc.
            + 16
    }

    fn aside(&self) -> &Aside {
        match self {
            Self::Dense(page) => &page.aside,
            Self::Sparse(page) => &page.aside,
        }
    }

    fn moments(&self) -> &[Stamp] {
        match self {
            Self::Dense(page) => &page.moments,
            Self::Sparse(page) => &page.moments,
        }
    }

    #[cfg(test)]
    pub(super) fn is_dense(&self) -> bool {
        matches!(self, Self::Dense(_))
    }
}

impl Dense {
    #[inline]
    fn reserved_at(&self, slot: Slot) -> Option<Stamp> {
        if self.bits[usize::from(slot) / 64] >> (slot % 64) & 1 == 0 {
            return None;
        }
        self.moments.get(self.rank(slot)).copied()
    }

    /// Reserved slots before this one.
    #[inline]
    fn rank(&self, slot: Slot) -> usize {
        let index = usize::from(slot) / 64;
        let below = self.bits[index] & ((1 << (slot % 64)) - 1);
        // The first word of the group counts only when ours is the second.
        let earlier = self.bits[index & !1] & (index as u64 & 1).wrapping_neg();
        usize::from(self.ranks[index / WORDS_PER_RANK]) + (earlier.count_ones() + below.count_ones()) as usize
    }

    /// The page after changes, mostly by copying; `None` when it would have too
    /// few reserved numbers for a dense one.
    fn with(&self, changes: &[PageEntry]) -> Option<Self> {
        let mut bits = self.bits;
        let mut moments = Vec::with_capacity(self.moments.len() + changes.len());
        let mut copied = 0;
        for change in changes {
            let (rank, bit) = (self.rank(change.slot), 1u64 << (change.slot % 64));
            let word = &mut bits[usize::from(change.slot) / 64];
            moments.extend_from_slice(&self.moments[copied..rank]);
            copied = rank + usize::from(*word & bit != 0);
            if change.withdrawn_at.is_none() {
                moments.push(change.reserved_at);
                *word |= bit;
            } else {
                *word &= !bit;
            }
        }
        moments.extend_from_slice(&self.moments[copied..]);
        let dense = moments.len() >= DENSE_FROM;
        dense.then(|| Self {
            aside: self.aside.with(changes),
            moments: moments.into_boxed_slice(),
            ranks: ranks(&bits),
            bits,
        })
    }
}

fn ranks(bits: &[u64; WORDS]) -> [u16; RANKS] {
    let mut ranks = [0u16; RANKS];
    let mut before = 0u32;
    for (rank, words) in ranks.iter_mut().zip(bits.chunks_exact(WORDS_PER_RANK)) {
        *rank = before as u16;
        before += words.iter().map(|word| word.count_ones()).sum::<u32>();
    }
    ranks
}

impl Sparse {
    fn reserved_at(&self, slot: Slot) -> Option<Stamp> {
        let slot = u32::from(slot);
        if !self.slots.contains(slot) {
            return None;
        }
        // The rank counts the slot itself.
        self.moments.get(self.slots.rank(slot) as usize - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_page_counts_to_its_end() {
        let entries: Vec<_> = (0..=Slot::MAX)
            .map(|slot| PageEntry {
                slot,
                reserved_at: Stamp::from_seconds(u32::from(slot) + 7),
                withdrawn_at: None,
                end: None,
                has_earlier: false,
            })
            .collect();
        let page = Page::build(&entries).expect("not empty");
        assert_eq!(page.reserved_count(), 65_536);
        for slot in 0..=Slot::MAX {
            let reserved_at = Stamp::from_seconds(u32::from(slot) + 7).moment();
            assert_eq!(page.state(slot), State::Reserved { reserved_at });
        }
        assert_eq!(page.entries(), entries);
    }
}
