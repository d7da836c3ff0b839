//! Addresses whose HTTP/2 connections had to be ended for breaking the protocol.
//!
//! A flood is seen after some dozens of requests or hundreds of frames, and the
//! connection is over; whoever then comes again at once has done it a thousand
//! times a second. So the connections of such an address are served one after the
//! other, until it has kept the peace for a while. Nobody is turned away: behind
//! the address may be others, too.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::gate::{FailureBuckets, FailureLimits, Peer};

/// Offences that have no consequence, and how many are forgiven a second: what
/// broken clients come to.
const OFFENCES: FailureLimits = limits(100, 10);
/// Connections a second of an address that has had more.
const TURNS: FailureLimits = limits(1, 200);
/// The longest wait for a turn.
const WAIT_MAX: Duration = Duration::from_secs(2);

const fn limits(burst: u32, per_second: u32) -> FailureLimits {
    FailureLimits { burst: at_least_one(burst), per_second: at_least_one(per_second) }
}

const fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(n.saturating_sub(1))
}

/// What the workers know of offences.
pub(super) struct Offenders {
    began: Instant,
    offences: FailureBuckets,
    turns: FailureBuckets,
    delayed: metrics::Counter,
}

impl Offenders {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            offences: FailureBuckets::new(OFFENCES),
            turns: FailureBuckets::new(TURNS),
            delayed: metrics::counter!("peselgate_connections_delayed_total"),
        }
    }

    /// How long a new connection of this peer waits before it is served.
    pub(super) fn wait(&self, peer: &Peer, now: Instant) -> Duration {
        let now = self.nanos(now);
        if self.offences.exhausted_for(peer, now).is_none() {
            return Duration::ZERO;
        }
        self.delayed.increment(1);
        self.turns.queue(peer, now, WAIT_MAX)
    }

    /// Counts a connection of this peer that had to be ended.
    pub(super) fn offended(&self, peer: &Peer, now: Instant) {
        self.offences.charge(peer, self.nanos(now));
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from_socket(text.parse().expect("socket"))
    }

    #[test]
    fn who_offends_again_and_again_is_served_in_turns_and_others_are_not() {
        let start = Instant::now();
        let offenders = Offenders::new(start);
        let (flooder, honest) = (peer("192.0.2.1:1"), peer("192.0.2.2:1"));
        let mut now = start;
        let mut served = 0;
        // As fast as the connections are ended, 200 us each.
        while now < start + Duration::from_secs(4) {
            now += offenders.wait(&flooder, now) + Duration::from_micros(200);
            offenders.offended(&flooder, now);
            assert_eq!(offenders.wait(&honest, now), Duration::ZERO);
            served += 1;
        }
        let turns = 4 * TURNS.per_second.get() + OFFENCES.burst.get() + 4 * OFFENCES.per_second.get();
        assert!((turns / 2..=turns + 2).contains(&served), "{served}");
        // What was forgiven is forgiven.
        assert_eq!(offenders.wait(&flooder, now + Duration::from_secs(30)), Duration::ZERO);
    }

    #[test]
    fn a_crowd_at_an_offenders_address_waits_for_a_bounded_time() {
        let start = Instant::now();
        let offenders = Offenders::new(start);
        let address = peer("192.0.2.1:1");
        for _ in 0..OFFENCES.burst.get() {
            assert_eq!(offenders.wait(&address, start), Duration::ZERO);
            offenders.offended(&address, start);
        }
        let waits: Vec<_> = (0..512).map(|_| offenders.wait(&address, start)).collect();
        assert!(waits.is_sorted());
        assert_eq!(waits[1], Duration::from_millis(5));
        assert_eq!(waits[511], WAIT_MAX);
    }
}
