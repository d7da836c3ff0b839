//! How the admin and operations planes are listened on: axum on the control
//! runtime, apart from the verification workers, so that both answer while the
//! public plane is flooded.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::ALLOW;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rand::Rng;
use tokio::sync::{Semaphore, watch};

use super::message::target_fits;
use super::panic::{Panicked, catch_panic};
use super::plane::Phase;
use super::plane::tls::TlsSource;
use super::problem::Problem;
use super::reply::add_common_headers;
use super::request_id::RequestId;
use crate::gate::Peer;

/// Connections at once; officials and scrapers are few.
const CONNECTIONS_MAX: usize = 1024;
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what is under way may take once the plane drains.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a plane on this listener until the phase is [`Phase::Draining`].
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsSource>,
    router: Router,
    mut phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let (tls, router, phase) = (tls.clone(), router.clone(), phase.clone());
                connections.spawn(async move {
                    let _place = place;
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
    let router = router.layer(axum::Extension(Peer::from_socket(address)));
    match tls {
        None => http(TokioIo::new(stream), router, phase).await,
        Some(source) => {
            let handshake = source.acceptor().accept(stream);
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
                .await
                .map_err(|_| io::ErrorKind::TimedOut)??;
            http(TokioIo::new(stream), router, phase).await
        }
    }
}

async fn http<I>(io: I, router: Router, mut phase: watch::Receiver<Phase>) -> io::Result<()>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        served = serving.as_mut() => return served.map_err(io::Error::other),
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => serving.as_mut().graceful_shutdown(),
    }
    serving.await.map_err(io::Error::other)
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
    let handled = async {
        match target_fits(request.uri()) {
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
    add_common_headers(response.headers_mut(), &request_id, false);
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
