//! Building a snapshot from all entries in order, as a start does: straight
//! into pages, without a copy for each change.

use std::sync::Arc;

use super::super::entry::Entry;
use super::super::words::Stamp;
use super::page::{Page, PageEntry};
use super::{CHUNK_PAGES, CHUNKS, Chunk, Counts, Snapshot, SnapshotHead, page_index, slot, stamp_of};
use crate::clock::Moment;
use crate::pesel::Ordinal;

/// Collects entries in the order of their ordinals.
pub(in super::super) struct Builder {
    chunks: Vec<Chunk>,
    counts: Counts,
    /// The page being filled, and its entries.
    index: usize,
    entries: Vec<PageEntry>,
    last: Option<Ordinal>,
    told_at: Stamp,
}

/// The entries did not come in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct OutOfOrder;

impl Builder {
    /// Of what readers get to know at `told_at`.
    pub(in super::super) fn new(told_at: Moment) -> Self {
        Self {
            told_at: stamp_of(told_at),
            chunks: vec![Chunk::EMPTY; CHUNKS],
            counts: Counts::default(),
            index: 0,
            entries: Vec::new(),
            last: None,
        }
    }

    /// Adds the next entry.
    pub(in super::super) fn push(&mut self, ordinal: Ordinal, entry: &Entry) -> Result<(), OutOfOrder> {
        if self.last.is_some_and(|last| last >= ordinal) {
            return Err(OutOfOrder);
        }
        self.last = Some(ordinal);
        let index = page_index(ordinal);
        if index != self.index {
            self.close_page();
            self.index = index;
        }
        self.entries.extend(PageEntry::of(slot(ordinal), entry, self.told_at));
        Ok(())
    }

    pub(in super::super) fn finish(mut self, head: SnapshotHead) -> Snapshot {
        self.close_page();
        let chunks = self.chunks.into_iter().map(Arc::new).collect();
        Snapshot { chunks, head, counts: self.counts }
    }

    fn close_page(&mut self) {
        if let Some(page) = Page::build(&self.entries) {
            self.counts.add(&page);
            self.chunks[self.index / CHUNK_PAGES].pages[self.index % CHUNK_PAGES] = Some(page);
        }
        self.entries.clear();
    }
}
