//! How many connections of a plane each address has, of IPv6 each /64: one host may own
//! it whole.

use std::sync::Arc;

use dashmap::DashMap;

use crate::gate::Peer;

/// The counts of a plane's addresses.
pub(super) struct Shares {
    counts: DashMap<u64, u32>,
    max: u32,
    refused: metrics::Counter,
}

/// One connection of an address: given back when dropped.
pub(super) struct Share {
    crowd: u64,
    of: Arc<Shares>,
}

impl Shares {
    /// So many for each; whoever wants more is counted as refused for this reason.
    pub(super) fn new(max: u32, reason: &'static str) -> Arc<Self> {
        Arc::new(Self { counts: DashMap::new(), max, refused: refused(reason) })
    }

    /// `None` when the peer's address has as many as it may.
    pub(super) fn take(this: &Arc<Self>, peer: &Peer) -> Option<Share> {
        let crowd = peer.crowd();
        let mut count = this.counts.entry(crowd).or_insert(0);
        if *count >= this.max {
            this.refused.increment(1);
            return None;
        }
        *count += 1;
        Some(Share { crowd, of: Arc::clone(this) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.counts.remove_if_mut(&self.crowd, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

/// Counts a connection closed at once.
pub(super) fn refused(reason: &'static str) -> metrics::Counter {
    metrics::counter!("peselgate_connections_refused_total", "reason" => reason)
}
