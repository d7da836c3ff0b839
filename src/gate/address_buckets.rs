//! What is counted by address, in a bounded number of buckets: failed
//! authentications, new connections over TLS or HTTP/2, messages without a certain end.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::peer::Peer;
use crate::access::backlog::{Backlog, charge_backlog};
use crate::limits::ADDRESS_BUCKETS;

/// The buckets: a fixed array of atomics, so that no flood of addresses grows
/// memory and no lock is taken. An address finds its bucket by a hash under a
/// random key: nobody can aim at a neighbour's.
pub(crate) struct AddressBuckets {
    arrivals: Box<[AtomicU64]>,
    hasher: RandomState,
    /// Both may be exchanged while requests are judged: a request that sees the
    /// old one of a pair is judged by limits of a moment ago.
    interval_ns: AtomicU64,
    burst: AtomicU32,
}

impl AddressBuckets {
    /// Buckets that hold `burst` and forget `per_second`.
    pub(crate) fn new(burst: NonZeroU32, per_second: NonZeroU32) -> Self {
        Self {
            arrivals: (0..ADDRESS_BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            interval_ns: AtomicU64::new(interval_ns(per_second)),
            burst: AtomicU32::new(burst.get()),
        }
    }

    /// Judges by these limits from now on; what was charged stays charged.
    pub(crate) fn set(&self, burst: NonZeroU32, per_second: NonZeroU32) {
        self.interval_ns.store(interval_ns(per_second), Ordering::Relaxed);
        self.burst.store(burst.get(), Ordering::Relaxed);
    }

    fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns.load(Ordering::Relaxed))
    }

    fn burst(&self) -> NonZeroU32 {
        NonZeroU32::new(self.burst.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }

    /// How long until a failure from this peer would be forgiven; `None` when
    /// there is room for one now. Charges nothing.
    pub(crate) fn exhausted_for(&self, peer: &Peer, now: u64) -> Option<Duration> {
        let backlog = self.bucket(peer).load(Ordering::Acquire).saturating_sub(now);
        // Room for one more: GCRA's tolerance is the burst less one.
        let tolerated = self.interval().as_nanos() as u64 * u64::from(self.burst().get() - 1);
        let wait = backlog.saturating_sub(tolerated);
        (wait > 0).then(|| Duration::from_nanos(wait))
    }

    /// Counts a failure.
    pub(crate) fn charge(&self, peer: &Peer, now: u64) {
        let backlog = Backlog { arrival: self.bucket(peer), now };
        // A failure beyond the last of the bucket leaves it as full as it is.
        charge_backlog(backlog, self.interval(), self.burst(), NonZeroU32::MIN).ok();
    }

    /// Gives the peer's address its next turn, as many at once as a bucket holds:
    /// how long until it comes. `None`, and no turn is given, when that is longer
    /// than `patience`.
    pub(crate) fn turn(&self, peer: &Peer, now: u64, patience: Duration) -> Option<Duration> {
        let interval = self.interval().as_nanos() as u64;
        let at_once = interval * u64::from(self.burst().get() - 1);
        let wait = |arrival: u64| Duration::from_nanos(arrival.saturating_sub(now.saturating_add(at_once)));
        let next =
            |arrival: u64| (wait(arrival) <= patience).then(|| arrival.max(now).saturating_add(interval));
        self.bucket(peer).try_update(Ordering::AcqRel, Ordering::Acquire, next).ok().map(wait)
    }

    fn bucket(&self, peer: &Peer) -> &AtomicU64 {
        let hash = self.hasher.hash_one(peer.crowd());
        &self.arrivals[(hash % u64::from(ADDRESS_BUCKETS)) as usize]
    }
}

fn interval_ns(per_second: NonZeroU32) -> u64 {
    // At least a nanosecond: a rate beyond it is no limit anyway.
    (1_000_000_000 / u64::from(per_second.get())).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not zero")
    }

    fn peer(text: &str) -> Peer {
        Peer::from_socket(text.parse().expect("socket"))
    }

    #[test]
    fn a_bucket_holds_its_burst_and_refills() {
        let buckets = AddressBuckets::new(some(200), some(20));
        let (guesser, second) = (peer("192.0.2.1:1"), 1_000_000_000u64);
        for _ in 0..200 {
            assert_eq!(buckets.exhausted_for(&guesser, second), None);
            buckets.charge(&guesser, second);
        }
        assert_eq!(buckets.exhausted_for(&guesser, second), Some(Duration::from_millis(50)));
        // Charging a full bucket makes nothing worse.
        buckets.charge(&guesser, second);
        assert_eq!(buckets.exhausted_for(&guesser, second), Some(Duration::from_millis(50)));
        let mut forgiven = 0;
        while buckets.exhausted_for(&guesser, 2 * second).is_none() {
            buckets.charge(&guesser, 2 * second);
            forgiven += 1;
        }
        assert_eq!(forgiven, 20);
    }

    #[test]
    fn turns_come_by_the_rate() {
        let buckets = AddressBuckets::new(some(2), some(20));
        let (one, other, start) = (peer("192.0.2.1:1"), peer("192.0.2.2:1"), 7_000_000_000u64);
        let turn = |peer: &Peer, now| {
            buckets.turn(peer, now, Duration::from_millis(100)).map(|wait| wait.as_millis())
        };
        assert_eq!([0; 4].map(|_| turn(&one, start)), [Some(0), Some(0), Some(50), Some(100)]);
        // Beyond the patience none is given, however often it is asked for.
        assert_eq!([0; 3].map(|_| turn(&one, start)), [None; 3]);
        assert_eq!(turn(&other, start), Some(0));
        assert_eq!(turn(&one, start + 100_000_000), Some(50));
        assert_eq!([0; 3].map(|_| turn(&one, start + 60_000_000_000)), [Some(0), Some(0), Some(50)]);
    }

    #[test]
    fn neighbours_have_buckets_of_their_own_and_a_network_of_ipv6_shares_one() {
        let buckets = AddressBuckets::new(NonZeroU32::MIN, NonZeroU32::MIN);
        buckets.charge(&peer("192.0.2.1:1"), 1);
        buckets.charge(&peer("[2001:db8::1]:1"), 1);
        assert!(buckets.exhausted_for(&peer("192.0.2.1:99"), 1).is_some());
        assert!(buckets.exhausted_for(&peer("[2001:db8::2]:1"), 1).is_some());
        // Two of 32 768 buckets are taken; a hundred neighbours meet them with
        // a probability of 0.6 %, and two of them practically never.
        let hit = (2..102u32)
            .filter(|n| buckets.exhausted_for(&peer(&format!("192.0.2.{n}:1")), 1).is_some())
            .count();
        assert!(hit <= 2, "{hit}");
    }
}
