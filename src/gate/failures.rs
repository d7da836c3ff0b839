//! Failures counted by address in a bounded number of buckets: of authentication,
//! and of keeping to the protocol.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::peer::Peer;
use crate::access::backlog::{Backlog, charge_backlog};
use crate::limits::FAILURE_BUCKETS;

/// How many failures of one kind an address may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLimits {
    /// Failures at once.
    pub burst: NonZeroU32,
    /// Failures a second that are forgiven.
    pub per_second: NonZeroU32,
}

impl Default for FailureLimits {
    /// 200 at once, 20 a second: a misconfigured client behind an intermediary
    /// stays below it, a guesser does not.
    fn default() -> Self {
        const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);
        const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
        Self { burst: BURST, per_second: PER_SECOND }
    }
}

/// The buckets: a fixed array of atomics, so that no flood of addresses grows
/// memory and no lock is taken. An address finds its bucket by a hash under a
/// random key: nobody can aim at a neighbour's.
pub(crate) struct FailureBuckets {
    arrivals: Box<[AtomicU64]>,
    hasher: RandomState,
    /// Both may be exchanged while requests are judged: a request that sees the
    /// old one of a pair is judged by limits of a moment ago.
    interval_ns: AtomicU64,
    burst: AtomicU32,
}

impl FailureBuckets {
    pub(crate) fn new(limits: FailureLimits) -> Self {
        Self {
            arrivals: (0..FAILURE_BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            interval_ns: AtomicU64::new(interval_ns(limits)),
            burst: AtomicU32::new(limits.burst.get()),
        }
    }

    /// Judges by these limits from now on; what was charged stays charged.
    pub(super) fn set(&self, limits: FailureLimits) {
        self.interval_ns.store(interval_ns(limits), Ordering::Relaxed);
        self.burst.store(limits.burst.get(), Ordering::Relaxed);
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

    /// Gives the peer's address the next turn in its queue, which moves by the rate:
    /// how long until it comes, `wait_max` at the most.
    pub(crate) fn queue(&self, peer: &Peer, now: u64, wait_max: Duration) -> Duration {
        let interval = self.interval().as_nanos() as u64;
        let latest = now.saturating_add(wait_max.as_nanos() as u64);
        let mut due = now;
        self.bucket(peer).update(Ordering::AcqRel, Ordering::Acquire, |next| {
            due = next.clamp(now, latest);
            due + interval
        });
        Duration::from_nanos(due - now)
    }

    fn bucket(&self, peer: &Peer) -> &AtomicU64 {
        let hash = self.hasher.hash_one(peer.crowd());
        &self.arrivals[(hash % u64::from(FAILURE_BUCKETS)) as usize]
    }
}

fn interval_ns(limits: FailureLimits) -> u64 {
    // At least a nanosecond: a rate beyond it is no limit anyway.
    (1_000_000_000 / u64::from(limits.per_second.get())).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from_socket(text.parse().expect("socket"))
    }

    #[test]
    fn a_bucket_holds_its_burst_and_refills() {
        let limits = FailureLimits::default();
        let buckets = FailureBuckets::new(limits);
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
    fn a_queue_moves_by_its_rate_and_nobody_waits_longer_than_the_longest_wait() {
        let (twenty, longest) = (NonZeroU32::new(20).expect("not zero"), Duration::from_millis(120));
        let buckets = FailureBuckets::new(FailureLimits { burst: NonZeroU32::MIN, per_second: twenty });
        let (one, other, start) = (peer("192.0.2.1:1"), peer("192.0.2.2:1"), 7_000_000_000u64);
        let wait = |peer: &Peer, now| buckets.queue(peer, now, longest).as_millis();
        assert_eq!([0; 5].map(|_| wait(&one, start)), [0, 50, 100, 120, 120]);
        assert_eq!(wait(&other, start), 0);
        assert_eq!(wait(&one, start + 100_000_000), 70);
        assert_eq!(wait(&one, start + 60_000_000_000), 0);
    }

    #[test]
    fn neighbours_have_buckets_of_their_own_and_a_network_of_ipv6_shares_one() {
        let buckets =
            FailureBuckets::new(FailureLimits { burst: NonZeroU32::MIN, per_second: NonZeroU32::MIN });
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
