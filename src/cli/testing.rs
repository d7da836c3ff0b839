//! A gateway for the tests of the client commands: it answers NDJSON streams by
//! a simple rule, and misbehaves on demand.
//!
//! A number of eleven digits is valid; it is reserved when its last digit is
//! even, withdrawn when that is 5. Moments and identifiers follow from the number,
//! so that two runs over the same file are told the same.
#![allow(dead_code, reason = "the library's tests and tests/cli.rs each use a part of it")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

/// What goes wrong with a stream.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    None,
    /// After so many answered lines the connection breaks.
    Cut(u64),
    /// After so many answered lines the answer ends, without a word.
    Stop(u64),
    /// After so many answered lines this line ends the answer.
    End(u64, &'static str),
    /// The stream is refused with this status and body.
    Refuse(u16, &'static str),
    /// After so many answered lines nothing comes any more.
    Stall(u64),
    /// The answer to this line (from 0) is replaced.
    Lie(u64, &'static str),
}

/// What the gateway has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicU64,
    pub(crate) streams: AtomicU64,
    pub(crate) lines: AtomicU64,
    pub(crate) longest_stream: AtomicU64,
    /// Method, path, user-agent and body of requests that do not stream.
    pub(crate) requests: Mutex<Vec<(String, String, String, String)>>,
}

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    replies: Arc<Mutex<VecDeque<(u16, String)>>>,
}

type Failing = Box<dyn std::error::Error + Send + Sync>;

impl Gateway {
    /// Starts it on a free port of the loopback; it lives as long as the process.
    pub(crate) fn start() -> Self {
        Self::serve(None)
    }

    /// The same over TLS, with the certificate to trust as PEM.
    pub(crate) fn start_tls() -> (Self, String) {
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("an identity");
        (Self::serve(Some(Arc::new(config).into())), own.cert.pem())
    }

    fn serve(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("non-blocking");
        let gateway = Self {
            address: listener.local_addr().expect("an address"),
            seen: Arc::default(),
            faults: Arc::default(),
            replies: Arc::default(),
        };
        let (seen, faults, replies) = (gateway.seen.clone(), gateway.faults.clone(), gateway.replies.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).expect("no delay");
                    seen.connections.fetch_add(1, Ordering::SeqCst);
                    let (seen, faults, replies) = (seen.clone(), faults.clone(), replies.clone());
                    let service = hyper::service::service_fn(move |request| {
                        answer(request, seen.clone(), faults.clone(), replies.clone())
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    match tls.clone() {
                        None => drop(tokio::spawn(http.serve_connection(TokioIo::new(stream), service))),
                        Some(tls) => drop(tokio::spawn(async move {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            http.serve_connection(TokioIo::new(stream), service).await.ok();
                        })),
                    }
                }
            });
        });
        gateway
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next streams have these faults, one each.
    pub(crate) fn misbehave(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().expect("faults").extend(faults);
    }

    /// The next requests that do not stream get these statuses and bodies.
    pub(crate) fn reply(&self, status: u16, body: &str) {
        self.replies.lock().expect("replies").push_back((status, body.to_owned()));
    }

    pub(crate) fn request(&self, at: usize) -> (String, String, String, String) {
        self.seen.requests.lock().expect("requests")[at].clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    replies: Arc<Mutex<VecDeque<(u16, String)>>>,
) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/v1/verify/batch" {
        let fault = faults.lock().expect("faults").pop_front().unwrap_or(Fault::None);
        seen.streams.fetch_add(1, Ordering::SeqCst);
        if let Fault::Refuse(status, body) = fault {
            return Ok(whole(status, body));
        }
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(stream(body, sender, fault, seen));
        return Ok(Response::new(Answer::Stream(receiver)));
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let agent = head.headers.get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    seen.requests.lock().expect("requests").push((
        head.method.to_string(),
        head.uri.to_string(),
        agent.to_owned(),
        String::from_utf8_lossy(&body).into_owned(),
    ));
    let (status, body) = replies.lock().expect("replies").pop_front().unwrap_or((404, "{}".into()));
    Ok(whole(status, &body))
}

fn whole(status: u16, body: &str) -> Response<Answer> {
    let body = Answer::Whole(Some(Bytes::from(body.to_owned())));
    Response::builder().status(status).body(body).expect("a response")
}

async fn stream(
    mut body: Incoming,
    answers: mpsc::Sender<Result<Bytes, Failing>>,
    fault: Fault,
    seen: Arc<Seen>,
) {
    let (mut begun, mut index) = (Vec::new(), 0u64);
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        begun.extend_from_slice(&bytes);
        let mut out = Vec::with_capacity(begun.len() * 12);
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', &begun) {
            let ends = match fault {
                Fault::Cut(after) | Fault::Stop(after) | Fault::Stall(after) | Fault::End(after, _) => {
                    index == after
                }
                _ => false,
            };
            if ends {
                return end(answers, out, &fault, &seen).await;
            }
            match fault {
                Fault::Lie(line, lie) if line == index => out.extend_from_slice(lie.as_bytes()),
                _ => one(&mut out, index, &begun[from..at], from == 0),
            }
            out.push(b'\n');
            index += 1;
            from = at + 1;
        }
        begun.drain(..from);
        seen.lines.fetch_add(memchr::memchr_iter(b'\n', &out).count() as u64, Ordering::SeqCst);
        seen.longest_stream.fetch_max(index, Ordering::SeqCst);
        if !out.is_empty() && answers.send(Ok(Bytes::from(out))).await.is_err() {
            return;
        }
    }
    if let Fault::Cut(after) | Fault::Stop(after) | Fault::End(after, _) = fault
        && after == index
    {
        end(answers, Vec::new(), &fault, &seen).await;
    }
}

async fn end(answers: mpsc::Sender<Result<Bytes, Failing>>, mut out: Vec<u8>, fault: &Fault, seen: &Seen) {
    seen.lines.fetch_add(memchr::memchr_iter(b'\n', &out).count() as u64, Ordering::SeqCst);
    if let Fault::End(_, line) = fault {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    answers.send(Ok(Bytes::from(out))).await.ok();
    if matches!(fault, Fault::Stall(_)) {
        answers.closed().await;
    }
    if matches!(fault, Fault::Cut(_)) {
        // Let the answers so far reach the wire: hyper drops what it has not
        // flushed when a body fails.
        tokio::task::yield_now().await;
        answers.send(Err("cut".into())).await.ok();
    }
}

/// The answer's line, in the shape that the real gateway writes.
fn one(out: &mut Vec<u8>, index: u64, line: &[u8], is_first: bool) {
    let digits = line.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default();
    if digits.len() != 11 || !digits.iter().all(u8::is_ascii_digit) {
        write!(out, "{{\"index\":{index},\"error\":\"invalid-pesel\",\"reason\":\"length\"}}")
            .expect("a vector");
        return;
    }
    out.extend_from_slice(b"{\"index\":");
    out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
    out.extend_from_slice(b",\"pesel\":\"");
    out.extend_from_slice(digits);
    let last = digits[10];
    out.extend_from_slice(b"\",\"reserved\":");
    out.extend_from_slice(if last.is_multiple_of(2) { b"true" } else { b"false" });
    if last.is_multiple_of(2) || last == b'5' {
        out.extend_from_slice(b",\"reserved_at\":\"2026-10-02T08:15:3");
        out.extend_from_slice(&[last, b'Z', b'"']);
    }
    if last == b'5' {
        out.extend_from_slice(b",\"withdrawn_at\":\"2026-11-02T08:15:30Z\"");
    }
    out.extend_from_slice(b",\"verification_id\":\"01936f5e-7c1a-7e6b-8f00-0");
    out.extend_from_slice(digits);
    out.push(b'"');
    if is_first {
        out.extend_from_slice(
            b",\"register\":{\"sequence\":1,\"as_of\":\"2026-11-21T21:51:40Z\"},\"answered_at\":\"2026-11-21T21:51:42Z\",\"at\":\"2026-11-21T21:51:42Z\"",
        );
    }
    out.push(b'}');
}

enum Answer {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Result<Bytes, Failing>>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Failing;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failing>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(answers) => {
                answers.poll_recv(context).map(|answer| answer.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }
}
