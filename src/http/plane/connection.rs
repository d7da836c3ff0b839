//! One connection: TLS and ALPN or the HTTP/2 preface decide its protocol, then
//! hyper serves it under the worker's deadlines.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, server::conn::http1, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::acceptor::{Accepted, Slot, Source};
use super::answers::{ReadAlong, UnderWay};
use super::control::{Control, Entry};
use super::guarded_io::{GuardedIo, PREFACE};
use super::hang_up::HangUp;
use super::head_timer::HeadTimer;
use super::proxy::{self, Header};
use super::worker::Worker;
use crate::gate::{IdentityCache, Peer};
use crate::http::closing::{self, Documented, Edge, Left, Plane};
use crate::http::shares::refused;
use crate::http::verify;
use crate::limits::{
    HEAD_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_HEAD_BYTES_READ_MAX, HTTP2_STREAM_WINDOW_BYTES,
    HTTP2_STREAMS_MAX,
};

/// What the requests of one connection share.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: Peer,
    /// The identity that proved itself last; permission is asked anew each time.
    pub(crate) identities: RefCell<IdentityCache>,
    /// The policy field of the last answer: it changes when the key or its limits do.
    pub(crate) policy: RefCell<Option<verify::Policy>>,
    pub(crate) control: Rc<Control>,
    pub(crate) over_tls: bool,
    pub(crate) http2: bool,
}

impl Connection {
    /// Waits until what has no certain end is refused: a head that cannot be read, or a
    /// malformed message with a transfer coding. It ends its connection, and over plain
    /// HTTP/1.1 the next one comes at once.
    pub(crate) async fn turn_of_malformed(&self) {
        if !self.over_tls && !self.http2 {
            self.worker.turn_of_malformed(&self.peer).await;
        }
    }
}

/// Serves one accepted connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let Accepted { stream, source, mut slot } = accepted;
    let entry = worker.table.enter(Instant::now() + jittered(worker.settings.connection_age));
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be registered");
            return;
        }
    };
    let served = Killable {
        control: Rc::clone(entry.control()),
        inner: Box::pin(establish(&worker, &entry, source, &mut slot, stream)),
    };
    if let Some(Err(error)) = served.await {
        // Broken connections are everyday life; nobody's data is in the error.
        tracing::debug!(%error, "connection ended");
    }
}

async fn establish(
    worker: &Rc<Worker>,
    entry: &Entry,
    source: Source,
    slot: &mut Slot,
    mut stream: TcpStream,
) -> io::Result<()> {
    let Some(peer) = peer_of(worker, source, slot, &mut stream).await else { return Ok(()) };
    let connection = |over_tls, http2| {
        Rc::new(Connection {
            worker: Rc::clone(worker),
            peer,
            identities: RefCell::default(),
            policy: RefCell::default(),
            control: Rc::clone(entry.control()),
            over_tls,
            http2,
        })
    };
    let patience = worker.settings.header_read_timeout;
    match &worker.tls {
        Some(handshakes) => {
            let mut stream = handshakes.accept(stream, worker.turns.wait(&peer)).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return serve_http(connection(true, false), stream, Vec::new()).await;
            }
            // The engine would wait for the preface for ever, deaf to retirement.
            let mut ahead = Vec::with_capacity(PREFACE.len());
            if sniff(&mut stream, &mut ahead, patience).await? == Sniffed::Late || ahead != PREFACE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            serve_http(connection(true, true), stream, ahead).await
        }
        None => {
            let mut ahead = Vec::with_capacity(PREFACE.len());
            if sniff(&mut stream, &mut ahead, patience).await? == Sniffed::Late {
                let edge = Edge { plane: Plane::Verification, over_tls: false };
                return closing::late_head(&mut stream, edge, !ahead.is_empty()).await;
            }
            let http2 = ahead == PREFACE;
            if http2 {
                // It may still be ended meanwhile: it does not serve yet.
                worker.turns.wait(&peer).await?;
            }
            serve_http(connection(false, http2), stream, ahead).await
        }
    }
}

/// Who is at the other end; `None` for a connection to be closed without a word.
async fn peer_of(worker: &Worker, source: Source, slot: &mut Slot, stream: &mut TcpStream) -> Option<Peer> {
    let socket = match source {
        Source::Direct(peer) => return Some(peer),
        Source::Proxy(socket) => socket,
    };
    match proxy::read(stream, worker.settings.proxy_header_timeout).await {
        Ok(Header::Local) => Some(Peer::from_socket(socket)),
        Ok(Header::Named(address)) => {
            let peer = Peer::from_proxy_header(address);
            slot.count_for(&peer).then_some(peer)
        }
        Err(refusal) => {
            if let Some(reason) = refusal.reason() {
                refused(reason).increment(1);
            }
            None
        }
    }
}

/// Whether enough was read in time to tell the protocols apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sniffed {
    Told,
    Late,
}

/// Reads until the bytes are, or can no longer become, HTTP/2's preface.
async fn sniff<S: AsyncRead + Unpin>(
    stream: &mut S,
    ahead: &mut Vec<u8>,
    patience: Duration,
) -> io::Result<Sniffed> {
    let sniffing = async {
        while ahead.len() < PREFACE.len() && PREFACE.starts_with(ahead) {
            let mut rest = [0u8; PREFACE.len()];
            let room = PREFACE.len() - ahead.len();
            match stream.read(&mut rest[..room]).await? {
                0 => break,
                count => ahead.extend_from_slice(&rest[..count]),
            }
        }
        Ok(Sniffed::Told)
    };
    tokio::time::timeout(patience, sniffing).await.unwrap_or(Ok(Sniffed::Late))
}

async fn serve_http<S>(connection: Rc<Connection>, stream: S, ahead: Vec<u8>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + HangUp + Unpin + 'static,
{
    let control = Rc::clone(&connection.control);
    let edge = Edge { plane: Plane::Verification, over_tls: connection.over_tls };
    let header_read_timeout = connection.worker.settings.header_read_timeout;
    if connection.http2 {
        let io = TokioIo::new(GuardedIo::new(Documented::http2(stream), Rc::clone(&control), ahead, true));
        control.begins_serving(true);
        let service = service_fn(move |request: Request<Incoming>| {
            let connection = Rc::clone(&connection);
            let under_way = UnderWay::begin(&connection.control);
            async move {
                let reply = verify::handle(connection, request).await;
                Ok::<_, Infallible>(reply.map(|body| ReadAlong::new(body, under_way)))
            }
        });
        let serving = http2_builder().serve_connection(io, service);
        Retiring { control, told: false, connection: serving }.await.map_err(io::Error::other)
    } else {
        let asked = Rc::clone(&connection);
        let service = service_fn(move |request: Request<Incoming>| {
            let connection = Rc::clone(&asked);
            async move { Ok::<_, Infallible>(verify::handle(connection, request).await) }
        });
        let io = TokioIo::new(GuardedIo::new(Documented::http1(stream), Rc::clone(&control), ahead, false));
        control.begins_serving(false);
        let timer = HeadTimer::new(Arc::clone(control.head()), Instant::now());
        let serving = http1_builder(timer, header_read_timeout).serve_connection(io, service);
        let mut serving = Retiring { control: Rc::clone(&control), told: false, connection: serving };
        let served = (&mut serving).await;
        let parts = serving.connection.into_parts();
        let mut io = parts.io.into_inner();
        let left = Left {
            unreadable: io.take_kept_back(),
            head_begun: !parts.read_buf.is_empty(),
            unread: control.leaves_unread(),
        };
        drop(parts.read_buf);
        closing::end(&mut io, edge, served, left, connection.turn_of_malformed()).await
    }
}

fn http1_builder(timer: HeadTimer, header_read_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(timer)
        .header_read_timeout(header_read_timeout)
        .max_buf_size(16 * 1024)
        .max_header_size(HEAD_BYTES_MAX)
        // A client that closes while its answer is being recorded is noticed at
        // the write; looking for its end meanwhile costs a read per request.
        .half_close(true);
    builder
}

fn http2_builder() -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .max_header_list_size(HTTP2_HEAD_BYTES_READ_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Give or take a tenth, so that connections opened together do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * (f64::from(rand::rng().next_u32()) / f64::from(u32::MAX)))
}

#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Both of hyper's connection types can be told to end after what is under way.
trait Retire {
    fn retire(self: Pin<&mut Self>);
}

impl<I, S> Retire for http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn retire(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Retire for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn retire(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Polls a connection and passes the order to retire on, once.
struct Retiring<C> {
    control: Rc<Control>,
    told: bool,
    connection: C,
}

impl<C: Future + Retire + Unpin> Future for Retiring<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        if self.control.is_retired() && !self.told {
            self.told = true;
            Pin::new(&mut self.connection).retire();
        }
        Pin::new(&mut self.connection).poll(cx)
    }
}

/// Ends a connection that the look-out has given up; `None` when it did.
struct Killable<F> {
    control: Rc<Control>,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Killable<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        self.control.watch(cx);
        if self.control.is_over() {
            return Poll::Ready(None);
        }
        self.inner.as_mut().poll(cx).map(Some)
    }
}
