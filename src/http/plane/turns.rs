//! Three kinds of new connections are served in turns by address: those over TLS, whose
//! handshake takes ten times what a question takes, those over HTTP/2, and in plain
//! HTTP/1.1 those whose message has no certain end.
//!
//! One connection carries a client's whole work, so honest addresses open few. A
//! flood of frames or of resets is seen after some dozens of requests and its
//! connection ended; without turns the next one would come at once, a thousand times
//! a second. Whoever opens more than that waits; how the connections before ended is
//! not asked, since a client can make any end look like a broken line. A connection
//! that waits has one of the places of its address: who keeps theirs and has no more
//! places than the default gives is never turned away, who throws them away may be.
//!
//! Of plain HTTP/1.1 that refusal alone waits: there are proxies that open a connection
//! for each question, and what they ask and are refused otherwise never does.

use std::io;
use std::time::{Duration, Instant};

use crate::gate::{AddressBuckets, Peer};
use crate::http::shares::refused;
use crate::limits::{TURN_WAIT_MAX, TURNS_AT_ONCE, TURNS_PER_SECOND};

/// The turns of all addresses, shared by the workers.
pub(super) struct Turns {
    began: Instant,
    connections: AddressBuckets,
    malformed: AddressBuckets,
    delayed: metrics::Counter,
    refused: metrics::Counter,
}

impl Turns {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            connections: AddressBuckets::new(TURNS_AT_ONCE, TURNS_PER_SECOND),
            malformed: AddressBuckets::new(TURNS_AT_ONCE, TURNS_PER_SECOND),
            delayed: metrics::counter!("peselgate_connections_delayed_total"),
            refused: refused("turns"),
        }
    }

    /// Waits until a new connection of this peer has its turn.
    ///
    /// # Errors
    /// When its turn lies too far ahead: the connection is to be closed.
    pub(super) async fn wait(&self, peer: &Peer) -> io::Result<()> {
        let Some(wait) = self.take(&self.connections, peer, Instant::now()) else {
            self.refused.increment(1);
            return Err(io::ErrorKind::QuotaExceeded.into());
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// How long a message of this peer without a certain end waits for its refusal. Who
    /// has as many waiting as have turns within the longest wait waits that long: what
    /// bounds these is the number of connections that an address may have.
    pub(super) fn wait_of_malformed(&self, peer: &Peer, now: Instant) -> Duration {
        self.take(&self.malformed, peer, now).unwrap_or_else(|| {
            self.delayed.increment(1);
            TURN_WAIT_MAX
        })
    }

    /// How long until the turn that this takes comes, if it takes one.
    fn take(&self, of: &AddressBuckets, peer: &Peer, now: Instant) -> Option<Duration> {
        let now = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let wait = of.turn(peer, now, TURN_WAIT_MAX)?;
        if !wait.is_zero() {
            self.delayed.increment(1);
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_again_at_once_is_served_in_turns_and_others_are_not() {
        let start = Instant::now();
        let turns = Turns::new(start);
        let flooder = Peer::from_socket("192.0.2.1:1".parse().expect("socket"));
        let honest = Peer::from_socket("192.0.2.2:1".parse().expect("socket"));
        let (mut now, mut served) = (start, 0);
        while now < start + Duration::from_secs(4) {
            now += turns.take(&turns.connections, &flooder, now).expect("a turn");
            // Its flood is seen and ended.
            now += Duration::from_micros(200);
            served += 1;
        }
        let due = TURNS_AT_ONCE.get() + 4 * TURNS_PER_SECOND.get();
        assert!((due - 2..=due + 2).contains(&served), "{served} of {due}");
        assert_eq!(turns.take(&turns.connections, &honest, now), Some(Duration::ZERO));
        // Who takes turns without waiting for them can't put them off for ever.
        let taken =
            (0..10_000).map_while(|_| turns.take(&turns.connections, &flooder, now)).last().expect("a turn");
        assert!(taken <= TURN_WAIT_MAX);
        assert_eq!(turns.take(&turns.connections, &flooder, now), None);
        let later = turns.take(&turns.connections, &flooder, now + TURN_WAIT_MAX);
        assert_eq!(later.map(|wait| wait < taken), Some(true));
        // What is no message has turns of its own, and always one.
        let refusals = || turns.wait_of_malformed(&flooder, now);
        assert!((0..TURNS_AT_ONCE.get()).all(|_| refusals().is_zero()));
        assert!((0..10_000).map(|_| refusals()).all(|wait| !wait.is_zero() && wait <= TURN_WAIT_MAX));
        assert_eq!(turns.wait_of_malformed(&honest, now), Duration::ZERO);
    }
}
