//! The verification plane's sockets: one acceptor deals connections to one
//! worker per core; each worker is a current-thread runtime with its own
//! recorder, counters and table of connections, so that nothing on the way of a
//! request is shared but the register's snapshot, the directory and the key's
//! own limiter.

mod acceptor;
mod answers;
mod connection;
mod control;
mod frame_budget;
mod guarded_io;
mod hang_up;
mod head_timer;
pub(crate) mod proxy;
mod streams;
mod tally;
mod threads;
pub mod tls;
mod turns;
mod turnstile;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::audit::Trail;
use crate::clock::Clock;
use crate::gate::Gate;
use crate::http::readings::StoreReadings;
use crate::http::verify::status::StatusBoard;
use crate::register::Reader;

use threads::Threads;
use turns::Turns;

pub(crate) use connection::Connection;
pub(crate) use control::Control;
pub use proxy::Proxies;
pub(crate) use streams::StreamPlace;
pub(crate) use tally::{Tally, Verdict};
pub(crate) use worker::Worker;

/// What the plane is told by its configuration.
#[derive(Debug, Clone)]
pub struct PlaneSettings {
    /// Workers; one a core.
    pub threads: NonZeroUsize,
    /// Connections at once, all addresses together.
    pub connections_max: usize,
    /// Connections at once from one address, of IPv6 from one /64.
    pub connections_per_address_max: u32,
    /// From the first byte awaited to the end of a head; also ends idle connections.
    pub header_read_timeout: Duration,
    /// From the end of a head to the end of a body that is not a stream.
    pub body_read_timeout: Duration,
    /// Longest time without a complete line of a stream's request body.
    pub stream_idle_timeout: Duration,
    /// Longest time a client may leave an answer unread.
    pub write_stall_timeout: Duration,
    /// Age at which a connection is retired, give or take a tenth.
    pub connection_age: Duration,
    /// From accept to the end of a TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// TLS handshakes that may be worked on between two rounds of everything else,
    /// all workers together; the others wait for their turn.
    pub tls_handshakes_max: usize,
    /// Networks whose connections begin with a PROXY header, and no others do.
    pub proxies: Proxies,
    /// From accept to the end of that header.
    pub proxy_header_timeout: Duration,
    /// How long a drain waits for what is under way.
    pub drain_timeout: Duration,
}

/// The handles the plane is given; readers all of them, and the trail.
#[derive(Clone)]
pub struct PlaneHandles {
    /// Who may ask.
    pub gate: Arc<Gate>,
    /// What is reserved.
    pub register: Reader,
    /// Where answers are put on record.
    pub trail: Trail,
    /// How the readings of both stores go.
    pub readings: StoreReadings,
    /// What time it is.
    pub clock: Clock,
    /// What `/v1/status` says beyond the register.
    pub status: Arc<StatusBoard>,
}

/// Running or on the way out; every worker watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// No new connections; what is under way ends.
    Draining,
}

/// The plane at work.
pub struct RunningPlane {
    addresses: Vec<SocketAddr>,
    inboxes: Vec<mpsc::UnboundedSender<worker::Message>>,
    threads: Threads,
}

impl RunningPlane {
    /// Starts acceptor and workers on these bound listeners.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be had.
    pub fn start(
        listeners: Vec<TcpListener>,
        settings: PlaneSettings,
        tls: Option<tls::TlsSource>,
        handles: PlaneHandles,
        phase: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let settings = Arc::new(settings);
        let tls = tls.map(|source| tls::Handshakes::new(source, &settings));
        let turns = Arc::new(Turns::new(Instant::now()));
        let mut inboxes = Vec::new();
        let mut threads = Threads::new();
        for number in 0..settings.threads.get() {
            let (inbox, messages) = mpsc::unbounded_channel();
            inboxes.push(inbox);
            let seed = worker::Seed {
                settings: Arc::clone(&settings),
                tls: tls.clone(),
                turns: Arc::clone(&turns),
                handles: handles.clone(),
                recorder: handles.trail.recorder(),
                messages,
                phase: phase.clone(),
            };
            threads.spawn(format!("verify-{number}"), move || worker::run(seed))?;
        }
        let acceptor = acceptor::Acceptor::new(listeners, &settings, inboxes.clone(), phase)?;
        threads.spawn("accept".to_owned(), move || acceptor.run())?;
        Ok(Self { addresses, inboxes, threads })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle that makes every worker hand its counters over.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        Tallies(self.inboxes.clone())
    }

    /// Resolves with the name of a thread that has ended. None does before it is told
    /// to: what it held is gone, and whoever would have come to it finds nobody.
    pub async fn broken(&mut self) -> String {
        self.threads.ended().await
    }

    /// Waits until every worker has drained; send [`Phase::Draining`] first.
    pub fn join(self) {
        drop(self.inboxes);
        self.threads.join();
    }
}

/// Collects the workers' counters before a scrape.
#[derive(Clone)]
pub struct Tallies(Vec<mpsc::UnboundedSender<worker::Message>>);

impl Tallies {
    /// Every worker's counts up to now are in the metrics when this returns; a
    /// worker that does not answer in 200 ms is left out, its counts come later.
    pub async fn collect(&self) {
        if !self.collect_within(Duration::from_millis(200)).await {
            tracing::warn!("a worker did not hand its counters over in time");
        }
    }

    /// The same with another patience for each worker; says whether all of them
    /// answered.
    pub async fn collect_within(&self, patience: Duration) -> bool {
        let mut all = true;
        let mut answers = Vec::with_capacity(self.0.len());
        for inbox in &self.0 {
            let (done, answer) = oneshot::channel();
            match inbox.send(worker::Message::HandOver(done)) {
                Ok(()) => answers.push(answer),
                Err(_) => all = false,
            }
        }
        for answer in answers {
            all &= matches!(tokio::time::timeout(patience, answer).await, Ok(Ok(())));
        }
        all
    }
}
