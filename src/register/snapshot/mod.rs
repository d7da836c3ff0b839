//! The set: what is reserved, and since when, as of one event of the register.
//!
//! Pages of 65 536 ordinals behind a table of two levels, all behind `Arc`s: a
//! change copies 218 + 128 pointers and the page it touches, the rest is shared
//! with the snapshot before. The common look-up is a bit in a dense page; plain
//! roaring would be two binary searches through cold memory at the register's
//! density, and is used where pages are sparse and for exchange.

mod aside;
mod build;
mod page;

use std::sync::Arc;

use roaring::RoaringBitmap;

pub(super) use build::Builder;
use page::{Page, PageEntry, Slot};

use super::entry::{AsOf, Entry, State};
use super::words::{Sequence, Stamp};
use crate::clock::Moment;
use crate::pesel::{ORDINALS, Ordinal};

/// Pages that all ordinals take.
const PAGES: usize = (ORDINALS as usize).div_ceil(1 << 16);
/// Pages of one chunk of the table.
const CHUNK_PAGES: usize = 128;
const CHUNKS: usize = PAGES.div_ceil(CHUNK_PAGES);

/// What is reserved, as of one event. It never changes; a reader loads one and
/// answers everything that belongs together from it.
pub struct Snapshot {
    chunks: Box<[Arc<Chunk>]>,
    head: SnapshotHead,
    counts: Counts,
}

/// The event that a snapshot is as of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotHead {
    pub(super) sequence: Sequence,
    pub(super) as_of: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    reserved: u64,
    entries: u64,
    page_bytes: usize,
}

#[derive(Clone)]
struct Chunk {
    pages: [Option<Page>; CHUNK_PAGES],
}

/// The entry of a number after a change.
pub(super) type Changed = (Ordinal, Entry);

impl Snapshot {
    /// The last event that this snapshot takes into account.
    #[must_use]
    pub const fn sequence(&self) -> Sequence {
        self.head.sequence
    }

    /// Whether nobody has ever been reserved, by no import either. That numbers were
    /// changed (renumberings) says nothing of who is.
    #[must_use]
    pub fn holds_nobody(&self) -> bool {
        self.entry_count() == 0
    }

    /// The latest moment of any event up to there; of the store's creation when
    /// there is none.
    #[must_use]
    pub const fn as_of(&self) -> Moment {
        self.head.as_of
    }

    /// Numbers that are reserved.
    #[must_use]
    pub const fn reserved_count(&self) -> u64 {
        self.counts.reserved
    }

    /// Numbers that are or were reserved.
    #[must_use]
    pub const fn entry_count(&self) -> u64 {
        self.counts.entries
    }

    /// Bytes of memory that the snapshot holds, shared pages included.
    #[must_use]
    pub const fn resident_bytes(&self) -> usize {
        self.counts.page_bytes + CHUNKS * (size_of::<Chunk>() + size_of::<Arc<Chunk>>() + 16)
    }

    /// The state of a number after all events of this snapshot.
    #[inline]
    #[must_use]
    pub fn state(&self, ordinal: Ordinal) -> State {
        match self.page(ordinal) {
            Some(page) => page.state(slot(ordinal)),
            None => State::Absent,
        }
    }

    /// The state of a number at a moment: after all its events of that second
    /// and before. Intervals are half-open, the last event of a second counts.
    #[must_use]
    pub fn state_at(&self, ordinal: Ordinal, at: Moment) -> AsOf {
        let state = self.state(ordinal);
        let reserved_at = match state {
            State::Absent => return AsOf::Known(State::Absent),
            State::Withdrawn { withdrawn_at, .. } if at >= withdrawn_at => return AsOf::Known(state),
            State::Reserved { reserved_at } | State::Withdrawn { reserved_at, .. } => reserved_at,
        };
        if at >= reserved_at {
            AsOf::Known(State::Reserved { reserved_at })
        } else if self.page(ordinal).is_some_and(|page| page.has_earlier(slot(ordinal))) {
            AsOf::History
        } else {
            AsOf::Known(State::Absent)
        }
    }

    /// Since when what the register says of the number is not so any more: its
    /// temporary withdrawal ended, not after `at`, and the register has not recorded
    /// that yet. Not before the register knew of the withdrawal: until then it said
    /// something else.
    #[must_use]
    pub fn overdue(&self, ordinal: Ordinal, at: Moment) -> Option<Moment> {
        let end = self.page(ordinal)?.end(slot(ordinal))?;
        (end.at.moment() <= at).then(|| end.at.max(end.told_at).moment())
    }

    /// All entries in the order of their ordinals, with their states.
    pub fn iter(&self) -> impl Iterator<Item = (Ordinal, State)> + '_ {
        self.pages().flat_map(|(index, page)| {
            page.entries().into_iter().filter_map(move |entry| {
                Some((Ordinal::new(base(index) | u32::from(entry.slot))?, entry.state()))
            })
        })
    }

    /// The ordinals of all reserved numbers, in the form for exchange.
    #[must_use]
    pub fn to_roaring(&self) -> RoaringBitmap {
        let mut set = RoaringBitmap::new();
        for (index, page) in self.pages() {
            // In order, so every push is at the end.
            page.for_each_reserved(|slot, _| drop(set.try_push(base(index) | u32::from(slot))));
        }
        set
    }

    /// The next snapshot, which readers see from `told_at` on: this one after the
    /// changes. Of several changes of one number the last counts. Every touched page is
    /// copied once.
    pub(super) fn apply(&self, mut changes: Vec<Changed>, told_at: Moment, head: SnapshotHead) -> Self {
        let told_at = stamp_of(told_at);
        changes.sort_by_key(|(ordinal, _)| *ordinal);
        let mut next = Self { chunks: self.chunks.clone(), head, counts: self.counts };
        for of_page in changes.chunk_by(|a, b| page_index(a.0) == page_index(b.0)) {
            next.change_page(page_index(of_page[0].0), of_page, told_at);
        }
        next
    }

    fn change_page(&mut self, index: usize, changes: &[Changed], told_at: Stamp) {
        // The last of several changes of one number; none takes an entry away.
        let changes: Vec<PageEntry> = changes
            .chunk_by(|a, b| a.0 == b.0)
            .filter_map(|of_slot| of_slot.last())
            .filter_map(|(ordinal, entry)| PageEntry::of(slot(*ordinal), entry, told_at))
            .collect();
        let chunk = Arc::make_mut(&mut self.chunks[index / CHUNK_PAGES]);
        let place = &mut chunk.pages[index % CHUNK_PAGES];
        let next = match place {
            Some(page) => {
                self.counts.remove(page);
                page.with(&changes)
            }
            None => Page::build(&changes),
        };
        if let Some(page) = &next {
            self.counts.add(page);
        }
        *place = next;
    }

    #[inline]
    fn page(&self, ordinal: Ordinal) -> Option<&Page> {
        let index = page_index(ordinal);
        self.chunks[index / CHUNK_PAGES].pages[index % CHUNK_PAGES].as_ref()
    }

    fn pages(&self) -> impl Iterator<Item = (usize, &Page)> {
        let places = self.chunks.iter().flat_map(|chunk| chunk.pages.iter());
        places.enumerate().filter_map(|(index, place)| Some((index, place.as_ref()?)))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("head", &self.head).field("counts", &self.counts).finish()
    }
}

impl Counts {
    fn add(&mut self, page: &Page) {
        self.reserved += page.reserved_count() as u64;
        self.entries += page.entry_count() as u64;
        self.page_bytes += page.heap_bytes();
    }

    fn remove(&mut self, page: &Page) {
        self.reserved -= page.reserved_count() as u64;
        self.entries -= page.entry_count() as u64;
        self.page_bytes -= page.heap_bytes();
    }
}

impl Chunk {
    const EMPTY: Self = Self { pages: [const { None }; CHUNK_PAGES] };
}

/// A clock that shows what no event can have says nothing: then an end counts alone.
fn stamp_of(told_at: Moment) -> Stamp {
    Stamp::try_from(told_at).unwrap_or(Stamp::from_seconds(0))
}

const fn page_index(ordinal: Ordinal) -> usize {
    (ordinal.value() >> 16) as usize
}

const fn slot(ordinal: Ordinal) -> Slot {
    ordinal.value() as Slot
}

/// The first ordinal of a page.
const fn base(page_index: usize) -> u32 {
    (page_index as u32) << 16
}

#[cfg(test)]
mod tests;
