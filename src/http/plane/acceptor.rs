//! Accepts connections and deals each to the worker with the fewest.
//!
//! One acceptor rather than `SO_REUSEPORT` per worker: institutions keep few
//! connections and keep them long, and the kernel's hash splits a few unevenly.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::proxy::{Proxies, Refusal};
use super::worker::Message;
use super::{Phase, PlaneSettings};
use crate::gate::Peer;
use crate::http::shares::{Share, Shares, refused};

/// Pauses after a failed accept (out of file descriptors, say).
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);

/// A connection on its way to a worker.
pub(super) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) source: Source,
    pub(super) slot: Slot,
}

/// Who is at the other end, as far as the socket tells.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// The peer itself.
    Direct(Peer),
    /// A trusted proxy: there is no peer before its header has been read.
    Proxy(SocketAddr),
}

/// A connection's place: given back when dropped.
pub(super) struct Slot {
    /// Its share of what its address may have; a proxy's own address has no bound.
    share: Option<Share>,
    per_address: Arc<Shares>,
    worker_load: Arc<AtomicUsize>,
    open: metrics::Gauge,
    _place: OwnedSemaphorePermit,
}

impl Slot {
    /// Counts the connection for the peer that a proxy named; `false` when its
    /// address has as many as it may.
    pub(super) fn count_for(&mut self, peer: &Peer) -> bool {
        self.share = Shares::take(&self.per_address, peer);
        self.share.is_some()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.worker_load.fetch_sub(1, Ordering::Relaxed);
        self.open.decrement(1);
    }
}

pub(super) struct Acceptor {
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    runtime: tokio::runtime::Runtime,
}

struct Shared {
    workers: Vec<(mpsc::UnboundedSender<Message>, Arc<AtomicUsize>)>,
    places: Arc<Semaphore>,
    per_address: Arc<Shares>,
    proxies: Proxies,
    open: metrics::Gauge,
    accepted: metrics::Counter,
    accept_errors: metrics::Counter,
}

impl Acceptor {
    pub(super) fn new(
        listeners: Vec<TcpListener>,
        settings: &PlaneSettings,
        inboxes: Vec<mpsc::UnboundedSender<Message>>,
        phase: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            workers: inboxes.into_iter().map(|inbox| (inbox, Arc::default())).collect(),
            places: Arc::new(Semaphore::new(settings.connections_max)),
            per_address: Shares::new(settings.connections_per_address_max, "per-address"),
            proxies: settings.proxies.clone(),
            open: metrics::gauge!("peselgate_connections"),
            accepted: metrics::counter!("peselgate_connections_accepted_total"),
            accept_errors: metrics::counter!("peselgate_accept_errors_total"),
        });
        if !settings.proxies.is_empty() {
            // Seen from the first scrape on: an increase from nothing is no increase.
            for reason in Refusal::ALL.into_iter().filter_map(Refusal::reason) {
                refused(reason).increment(0);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { listeners, shared, phase, runtime })
    }

    pub(super) fn run(self) {
        let Self { listeners, shared, mut phase, runtime } = self;
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for listener in listeners {
                tasks.spawn(accept_all(listener, Arc::clone(&shared)));
            }
            // Either the sender says Draining or it is gone: both end accepting.
            let ended = phase.wait_for(|phase| *phase == Phase::Draining).await;
            drop(ended);
            tasks.shutdown().await;
        });
    }
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let listener =
        match listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listener cannot be used");
                return;
            }
        };
    let mut back_off = BACK_OFF_MIN;
    loop {
        // The place is taken before the accept: what finds none waits in the
        // kernel's backlog, unopened.
        let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                back_off = BACK_OFF_MIN;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "nodelay");
                }
                match stream.into_std() {
                    Ok(stream) => shared.deal(stream, address, place),
                    Err(error) => tracing::warn!(%error, "a connection cannot be handed over"),
                }
            }
            Err(error) => {
                shared.accept_errors.increment(1);
                tracing::warn!(%error, "accept");
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

impl Shared {
    fn deal(&self, stream: std::net::TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        let (source, share) = if self.proxies.contains(address.ip()) {
            // Counted for whom its header names, see `Slot::count_for`.
            (Source::Proxy(address), None)
        } else {
            let peer = Peer::from_socket(address);
            let Some(share) = Shares::take(&self.per_address, &peer) else { return };
            (Source::Direct(peer), Some(share))
        };
        // A worker that is gone has none, and would be given all of them.
        let there = self.workers.iter().filter(|(inbox, _)| !inbox.is_closed());
        let Some((inbox, load)) = there.min_by_key(|(_, load)| load.load(Ordering::Relaxed)) else {
            return;
        };
        load.fetch_add(1, Ordering::Relaxed);
        self.open.increment(1);
        self.accepted.increment(1);
        let slot = Slot {
            share,
            per_address: Arc::clone(&self.per_address),
            worker_load: Arc::clone(load),
            open: self.open.clone(),
            _place: place,
        };
        // A worker that ends meanwhile has drained; dropping the connection gives its slot back.
        drop(inbox.send(Message::Connection(Box::new(Accepted { stream, source, slot }))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that was lost must not draw all connections to itself.
    #[test]
    fn nobody_is_dealt_to_a_worker_that_is_gone() {
        let (alive, mut inbox) = mpsc::unbounded_channel();
        let (gone, nobody) = mpsc::unbounded_channel();
        drop(nobody);
        let shared = Shared {
            workers: [gone, alive].into_iter().map(|inbox| (inbox, Arc::default())).collect(),
            places: Arc::new(Semaphore::new(8)),
            per_address: Shares::new(8, "per-address"),
            proxies: Proxies::default(),
            open: metrics::Gauge::noop(),
            accepted: metrics::Counter::noop(),
            accept_errors: metrics::Counter::noop(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        for _ in 0..4 {
            let _client = std::net::TcpStream::connect(address).expect("a connection");
            let (stream, peer) = listener.accept().expect("a connection");
            let place = Arc::clone(&shared.places).try_acquire_owned().expect("a place");
            shared.deal(stream, peer, place);
        }
        assert_eq!(std::iter::from_fn(|| inbox.try_recv().ok()).count(), 4);
    }
}
