//! How the admin and operations planes are listened on: axum on the control
//! runtime, apart from the verification workers, so that both answer while the
//! public plane is flooded.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{ALLOW, CONNECTION, TRANSFER_ENCODING};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rand::Rng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use super::closing::{self, Documented, Edge, Left, Plane};
use super::message::{host_is_one, target_fits};
use super::panic::{Panicked, catch_panic};
use super::plane::Phase;
use super::plane::tls::TlsSource;
use super::problem::Problem;
use super::reply::add_common_headers;
use super::request_id::RequestId;
use super::shares::{Share, Shares};
use super::stall::{Patience, Stalling};
use super::unread::Unread;
use crate::gate::Peer;
use crate::limits::{CONTROL_CONNECTIONS_PER_ADDRESS_MAX, HEAD_BYTES_MAX};

const TIMES: Times = Times { header_read: Duration::from_secs(10), write_stall: Duration::from_secs(10) };
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what is under way may take once the plane drains.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that the kernel takes ahead of a reader, about twice of them: with more,
/// a slow one would seem not to move at all.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// How long a connection waits for its client.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// For a whole head, idle keep-alive included.
    header_read: Duration,
    /// For progress while an answer is written.
    write_stall: Duration,
}

/// Whether a connection's bytes are encrypted.
#[derive(Debug, Clone, Copy)]
struct OverTls(bool);

/// The connections that a control plane may have at once, all its listeners together.
#[derive(Clone)]
pub struct Places {
    all: Arc<Semaphore>,
    shares: Arc<Shares>,
}

impl Places {
    /// So many, and for one address no more than half of them.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        let half = u32::try_from(connections_max / 2).unwrap_or(u32::MAX).max(1);
        let share = half.min(CONTROL_CONNECTIONS_PER_ADDRESS_MAX);
        Self {
            all: Arc::new(Semaphore::new(connections_max)),
            shares: Shares::new(share, "control-per-address"),
        }
    }

    fn share(&self, address: SocketAddr) -> Option<Share> {
        Shares::take(&self.shares, &Peer::from_socket(address))
    }
}

/// Serves a plane on this listener until the phase is [`Phase::Draining`].
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    places: Places,
    tls: Option<TlsSource>,
    router: Router,
    mut phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places.all).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(share) = places.share(address) else { continue };
                let (tls, router, phase) = (tls.clone(), router.clone(), phase.clone());
                connections.spawn(async move {
                    let _place = (place, share);
                    if let Err(error) = connection(stream, address, tls, router, phase).await {
                        tracing::debug!(%error, "control connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!("the drain's deadline cut control connections");
    }
    Ok(())
}

async fn connection(
    stream: tokio::net::TcpStream,
    address: SocketAddr,
    tls: Option<TlsSource>,
    router: Router,
    phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES)?;
    let router = router
        .layer(axum::Extension(Peer::from_socket(address)))
        .layer(axum::Extension(OverTls(tls.is_some())));
    match tls {
        None => http(stream, false, router, TIMES, phase).await,
        Some(source) => {
            let handshake = source.acceptor().accept(stream);
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
                .await
                .map_err(|_| io::ErrorKind::TimedOut)??;
            http(stream, true, router, TIMES, phase).await
        }
    }
}

async fn http<S>(
    stream: S,
    over_tls: bool,
    router: Router,
    times: Times,
    mut phase: watch::Receiver<Phase>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let edge = Edge { plane: Plane::Control, over_tls };
    let unread = Unread::default();
    let patience = Patience::new(times.write_stall);
    let router = router.layer(axum::Extension(unread.clone())).layer(axum::Extension(patience.clone()));
    let stream = Stalling::new(stream, patience);
    let mut serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.header_read)
        .max_buf_size(64 * 1024)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Documented::http1(stream)), TowerToHyperService::new(router));
    let served = tokio::select! {
        served = &mut serving => Some(served),
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            std::pin::Pin::new(&mut serving).graceful_shutdown();
            (&mut serving).await
        }
    };
    let parts = serving.into_parts();
    let mut io = parts.io.into_inner();
    let left = Left {
        unreadable: io.take_kept_back(),
        head_begun: !parts.read_buf.is_empty(),
        unread: unread.is_so(),
    };
    // What is not for the public is not flooded by it.
    closing::end(&mut io, edge, served, left, std::future::ready(())).await
}

impl IntoResponse for Problem {
    /// Carries the problem out to `leave`, which knows the request's identifier.
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The one place where every response of a control plane leaves: problems are
/// rendered and counted, panics become 500, the common headers are added.
pub(super) async fn leave(request: Request, next: Next) -> Response {
    let request_id = RequestId::of(request.headers(), || rand::rng().next_u64());
    let patience = request.extensions().get::<Patience>().cloned();
    let over_tls = request.extensions().get().is_some_and(|OverTls(over_tls)| *over_tls);
    // A coded message is the last on its connection: whoever read its end elsewhere has
    // nothing answered behind it.
    let is_last = request.headers().contains_key(TRANSFER_ENCODING);
    let unread = request.extensions().get::<Unread>().cloned().unwrap_or_default();
    let request = request.map(|body| unread.clone().watch(body));
    let handled = async {
        let judged =
            target_fits(request.uri()).and_then(|()| host_is_one(request.version(), request.headers()));
        match judged {
            Ok(()) => next.run(request).await,
            Err(problem) => IntoResponse::into_response(problem),
        }
    };
    let mut response = match catch_panic(handled).await {
        Ok(response) => response,
        Err(Panicked) => {
            metrics::counter!("peselgate_handler_panics_total").increment(1);
            tracing::error!(request_id = request_id.as_str(), "a handler panicked");
            IntoResponse::into_response(Problem::internal())
        }
    };
    if unread.is_so() {
        // As on the verification plane: whether the connection ends is known then.
        tokio::task::yield_now().await;
    }
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        metrics::counter!("peselgate_control_refusals_total", "code" => problem.code().name()).increment(1);
        if let Some(problem) = Arc::into_inner(problem) {
            // The router knows what is allowed at a path, the problem does not.
            let allow = response.headers_mut().remove(ALLOW);
            response = problem.into_response(&request_id).map(axum::body::Body::new);
            if let Some(allow) = allow {
                response.headers_mut().insert(ALLOW, allow);
            }
        }
    }
    if let Some(patience) = patience {
        patience.become_that_of(response.extensions().get().copied());
    }
    add_common_headers(response.headers_mut(), &request_id, over_tls);
    if is_last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// 404 of a control plane.
pub(super) async fn not_found() -> Problem {
    Problem::not_found()
}

/// 405 of a path that exists; axum adds the `allow` field.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(super::problem::Code::MethodNotAllowed, "this path has other methods; see `allow`")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What a connection says to these bytes until it ends.
    async fn said(bytes: &[u8]) -> String {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let router = Router::new().fallback(not_found).layer(axum::middleware::from_fn(leave));
        let times = Times { header_read: Duration::from_millis(50), ..TIMES };
        let (_sender, phase) = watch::channel(Phase::Running);
        let serving = tokio::spawn(http(server, false, router, times, phase));
        client.write_all(bytes).await.expect("written");
        let mut said = String::new();
        client.read_to_string(&mut said).await.expect("a text");
        drop(client);
        serving.await.expect("an end").expect("a clean end");
        said
    }

    #[test]
    fn a_late_head_gets_a_problem_document_and_an_idle_connection_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let late = said(b"GET /livez HTTP/1.1\r\nhost:").await;
            assert!(late.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{late}");
            assert!(late.contains("\"code\":\"request-timeout\""), "{late}");
            assert_eq!(said(b"").await, "");
            let idle = said(b"GET /none HTTP/1.1\r\nhost: g\r\n\r\n").await;
            assert!(idle.starts_with("HTTP/1.1 404 "), "{idle}");
            assert_eq!(idle.matches("HTTP/1.1").count(), 1, "{idle}");
        });
    }

    const ANSWER_BYTES: usize = 1024 * 1024;
    const STALL: Duration = Duration::from_millis(500);

    /// A connection that was asked for a large answer, with so little between the
    /// two ends that it waits for its reader.
    fn asked(
        unhurried: Option<Duration>,
    ) -> (tokio::io::DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
        let (client, server) = tokio::io::duplex(4 * 1024);
        let answer = move || async move {
            let extension =
                unhurried.map(|patience| axum::Extension(crate::http::stall::Unhurried(patience)));
            (extension, vec![b'x'; ANSWER_BYTES])
        };
        let router =
            Router::new().route("/large", axum::routing::get(answer)).layer(axum::middleware::from_fn(leave));
        let times = Times { write_stall: STALL, ..TIMES };
        let serving = tokio::spawn(async move {
            let (_sender, phase) = watch::channel(Phase::Running);
            http(server, false, router, times, phase).await
        });
        (client, serving)
    }

    const ASK: &[u8] = b"GET /large HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_client_that_leaves_its_answer_unread_is_let_go() {
        let (mut client, serving) = asked(None);
        client.write_all(ASK).await.expect("written");
        let ended = tokio::time::timeout(STALL * 40, serving).await.expect("in time").expect("no panic");
        assert!(ended.is_err(), "it did not end by itself");
        let mut come = Vec::new();
        client.read_to_end(&mut come).await.expect("an end");
        assert!(come.len() < ANSWER_BYTES, "it was not whole");
    }

    #[tokio::test]
    async fn a_slow_reader_and_one_that_may_rest_get_everything() {
        for (unhurried, piece) in [(None, 16 * 1024), (Some(STALL * 100), 1)] {
            let (mut client, serving) = asked(unhurried);
            client.write_all(ASK).await.expect("written");
            let mut come = Vec::new();
            // Longer than the deadline, in small pieces or nearly none.
            for _ in 0..12 {
                tokio::time::sleep(STALL / 5).await;
                let mut bytes = vec![0; piece];
                client.read_exact(&mut bytes).await.expect("it goes on");
                come.extend(bytes);
            }
            client.read_to_end(&mut come).await.expect("an end");
            assert!(come.len() > ANSWER_BYTES, "all of it");
            serving.await.expect("no panic").expect("a clean end");
        }
    }
}
