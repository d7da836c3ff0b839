//! The swap: the one place where the next snapshot takes over from the last.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::snapshot::Snapshot;

/// The present snapshot, shared by all readers.
pub(super) type Current = Arc<ArcSwap<Snapshot>>;

/// The one that may swap.
pub(super) struct Publisher {
    current: Current,
    /// Snapshots that some reader may still hold. They are kept until this is
    /// their last owner, so that freeing pages falls to the writer and never to
    /// a reader in the middle of an answer.
    retired: Vec<Arc<Snapshot>>,
}

impl Publisher {
    pub(super) fn new(first: Snapshot) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(first)), retired: Vec::new() }
    }

    pub(super) fn current(&self) -> Current {
        Arc::clone(&self.current)
    }

    /// The snapshot that readers see.
    pub(super) fn last(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Readers see this snapshot from now on.
    pub(super) fn publish(&mut self, next: Snapshot) {
        // The swap settles what readers hold into the count, so a count of one
        // is ours alone.
        self.retired.push(self.current.swap(Arc::new(next)));
        self.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    #[cfg(test)]
    pub(super) fn retired_count(&self) -> usize {
        self.retired.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{Builder, SnapshotHead};
    use super::super::words::Sequence;
    use super::*;
    use crate::clock::Moment;

    fn snapshot(sequence: u64) -> Snapshot {
        let as_of = Moment::from_unix_seconds(0);
        Builder::new(as_of).finish(SnapshotHead { sequence: Sequence::new(sequence), as_of })
    }

    #[test]
    fn a_held_snapshot_outlives_its_readers_in_the_writers_hands() {
        let mut publisher = Publisher::new(snapshot(0));
        let current = publisher.current();
        let held = current.load();
        publisher.publish(snapshot(1));
        publisher.publish(snapshot(2));
        assert_eq!(held.sequence(), Sequence::new(0));
        assert_eq!(current.load().sequence(), Sequence::new(2));
        assert_eq!(publisher.retired_count(), 1, "the one that is held");
        drop(held);
        publisher.publish(snapshot(3));
        assert_eq!(publisher.retired_count(), 0);
    }
}
