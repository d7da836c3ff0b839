//! The contract over HTTP/2 with prior knowledge.

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use peselgate::limits::{TURNS_AT_ONCE, TURNS_PER_SECOND};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::{Reply, connect_from};
use crate::harness::{Demo, Instance, fictional};
use crate::serve::Served;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// A connection over HTTP/2; clones share it.
#[derive(Clone)]
pub(crate) struct Http2(SendRequest<Full<Bytes>>);

impl Http2 {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(tokio::net::TcpStream::connect(address).await.expect("a connection")).await
    }

    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
        // It ends with the runtime.
        drop(tokio::spawn(connection));
        Self(sender)
    }

    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Reply, hyper::Error> {
        let mut request = Request::builder().method(method).uri(format!("http://gateway{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        self.0.ready().await?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        assert_eq!(head.version, http::Version::HTTP_2);
        let text = |value: &http::HeaderValue| value.to_str().expect("a text").to_owned();
        let reply = Reply {
            status: head.status.as_u16(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.collect().await?.to_bytes().to_vec(),
        };
        reply.check_promises();
        Ok(reply)
    }
}

#[test]
fn the_contract_holds_over_http2() {
    let demo = Demo::shared();
    let bearer = format!("Bearer {}", demo.key());
    let (reserved, free) = (demo.numbers("reserved.csv"), demo.numbers("free.csv"));
    let good = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    block_on(async {
        let mut http2 = Http2::open(demo.instance.verification).await;
        for (pesel, is_reserved) in reserved.iter().zip([true; 20]).chain(free.iter().zip([false; 20])) {
            let body = json!({ "pesel": pesel }).to_string();
            let reply = http2.ask(Method::POST, "/v1/verify", &good, &body).await.expect("an answer");
            assert_eq!(reply.good()["reserved"], is_reserved);
        }
        let batch = json!({"pesels": [reserved[0], "x", free[0]]}).to_string();
        let reply = http2.ask(Method::POST, "/v1/verify/batch", &good, &batch).await.expect("an answer");
        assert_eq!(reply.good()["results"].as_array().map(Vec::len), Some(3));
        let lines = format!("\"{}\"\nx\n\"{}\"\n", reserved[0], free[0]);
        let ndjson = [good[0], ("content-type", "application/x-ndjson")];
        let reply = http2.ask(Method::POST, "/v1/verify/batch", &ndjson, &lines).await.expect("an answer");
        let answers = crate::client::json_lines(&reply.body);
        let told: Vec<_> = answers.iter().map(|answer| answer["reserved"].as_bool()).collect();
        assert_eq!(told, [Some(true), None, Some(false)]);

        let one = json!({"pesel": free[0]}).to_string();
        let large = json!({"pesel": free[0], "reference": "x".repeat(5_000)}).to_string();
        let future = json!({"pesel": free[0], "at": "2199-01-01T00:00:00Z"}).to_string();
        let (verify, post) = ("/v1/verify", Method::POST);
        type Case<'a> = (Method, &'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str);
        let cases: [Case<'_>; 11] = [
            (post.clone(), verify, good.to_vec(), "{", 400, "malformed-request"),
            (post.clone(), verify, good[1..].to_vec(), &one, 401, "unauthenticated"),
            (post.clone(), verify, vec![("authorization", "Bearer x")], &one, 401, "malformed-key"),
            (post.clone(), "/v1/none", good.to_vec(), &one, 404, "not-found"),
            (Method::GET, verify, good.to_vec(), "", 405, "method-not-allowed"),
            (post.clone(), verify, good.to_vec(), &large, 413, "content-too-large"),
            (
                post.clone(),
                verify,
                vec![good[0], ("content-type", "text/plain")],
                &one,
                415,
                "unsupported-media-type",
            ),
            (post.clone(), verify, good.to_vec(), r#"{"pesel":"44051401358"}"#, 422, "invalid-pesel"),
            (post.clone(), verify, good.to_vec(), &future, 422, "future-moment"),
            (post.clone(), "/v1/verify?x", good.to_vec(), &one, 400, "malformed-request"),
            (Method::PUT, "/v1/status", vec![], "", 405, "method-not-allowed"),
        ];
        for (method, path, headers, body, status, code) in cases {
            let reply = http2.ask(method, path, &headers, body).await.expect("an answer");
            assert_eq!(reply.problem(), (status, code.to_owned()), "{path} {body}");
        }
        let echoed = [good[0], ("x-request-id", "over-h2")];
        let reply = http2.ask(Method::GET, "/v1/limits", &echoed, "").await.expect("an answer");
        assert_eq!(reply.header("x-request-id"), Some("over-h2"));
    });
}

/// A question for a head alone: its answer says how long the body would be, and has none.
#[test]
fn an_answer_to_head_has_no_body() {
    let demo = Demo::shared();
    block_on(async {
        let mut http2 = Http2::open(demo.instance.verification).await;
        for path in ["/v1/status", "/openapi.yaml", "/v1/limits", "/v1/nothing", "/v1/verify", "/v1/status?x"]
        {
            let whole = http2.ask(Method::GET, path, &[], "").await.expect("an answer");
            let head = http2.ask(Method::HEAD, path, &[], "").await.expect("an answer without a body");
            assert_eq!((head.status, head.body.len()), (whole.status, 0), "{path}");
            assert_eq!(head.header("content-type"), whole.header("content-type"), "{path}");
            let length = head.header("content-length").map(|length| length.parse().expect("a length"));
            // What the status counts may grow meanwhile.
            assert!(length >= Some(whole.body.len()), "{path}: {length:?}");
        }
    });
}

/// Many streams at once on one connection, each with its own answer.
#[test]
fn streams_of_one_connection_are_answered_apart() {
    let demo = Demo::shared();
    let bearer = format!("Bearer {}", demo.key());
    let (reserved, free) = (demo.numbers("reserved.csv"), demo.numbers("free.csv"));
    block_on(async {
        let http2 = Http2::open(demo.instance.verification).await;
        let tasks: Vec<_> = (0..90)
            .map(|turn| {
                let mut http2 = Http2(http2.0.clone());
                let (bearer, is_reserved) = (bearer.clone(), turn % 3 == 0);
                let pesel = if is_reserved { &reserved[turn] } else { &free[turn] };
                let body = json!({ "pesel": pesel }).to_string();
                tokio::spawn(async move {
                    let headers = [("authorization", bearer.as_str())];
                    let reply = http2.ask(Method::POST, "/v1/verify", &headers, &body).await;
                    assert_eq!(reply.expect("an answer").good()["reserved"], is_reserved);
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("answered as asked");
        }
    });
}

/// A key deactivated between two requests of one connection, and a slow body.
#[test]
fn permission_and_patience_are_per_request() {
    let served = Served::start("test", "body_read_timeout_ms = 400", "");
    let limits = Some([1_000, 1_000, 10_000]);
    let (id, key) = crate::harness::issue(&mut served.admin(), "Bank", &["127.0.0.1"], limits);
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str())];
    let body = json!({"pesel": fictional(9)}).to_string();
    block_on(async {
        let mut http2 = Http2::open(served.instance.verification).await;
        http2.ask(Method::POST, "/v1/verify", &headers, &body).await.expect("an answer").good();
        // A body that is announced and never comes.
        let stream =
            tokio::net::TcpStream::connect(served.instance.verification).await.expect("a connection");
        let (mut sender, connection) = handshake::<
            _,
            _,
            http_body_util::combinators::BoxBody<Bytes, hyper::Error>,
        >(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("a handshake");
        drop(tokio::spawn(connection));
        let request = Request::post("http://gateway/v1/verify")
            .header("authorization", &bearer)
            .body(NeverEnding.boxed())
            .expect("a request");
        let reply = sender.send_request(request).await.expect("an answer");
        assert_eq!(reply.status(), 408);

        served.admin().post(&format!("/admin/v1/keys/{id}/deactivate"), &json!({})).good();
        let reply = http2.ask(Method::POST, "/v1/verify", &headers, &body).await.expect("an answer");
        assert_eq!(reply.problem(), (401, "unauthenticated".to_owned()));
    });
}

/// A body that is said to follow and does not.
pub(crate) struct NeverEnding;

impl hyper::body::Body for NeverEnding {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
        std::task::Poll::Pending
    }
}

/// An overlong head is refused with a document as long as it is read at all; far
/// beyond, by the library, with the status alone. The connection goes on.
#[test]
fn an_overlong_head_is_refused_and_the_connection_lives_on() {
    let demo = Demo::shared();
    let field = |bytes| "x".repeat(bytes);
    block_on(async {
        let mut http2 = Http2::open(demo.instance.verification).await;
        let (fits, long) = (field(7_500), field(12_000));
        http2.ask(Method::GET, "/v1/status", &[("x-long", &fits)], "").await.expect("an answer").good();
        let many: Vec<_> = std::iter::repeat_n(("x", "y"), 300).collect();
        for (path, headers, refused) in [
            ("/v1/status", vec![("x-long", long.as_str())], (431, "header-fields-too-large")),
            ("/v1/status", many, (431, "header-fields-too-large")),
            (&format!("/v1/{long}"), vec![], (414, "uri-too-long")),
        ] {
            let reply = http2.ask(Method::GET, path, &headers, "").await.expect("an answer");
            assert_eq!(reply.problem(), (refused.0, refused.1.to_owned()));
        }
        let request = Request::get("http://gateway/v1/status").header("x-long", field(20_000));
        http2.0.ready().await.expect("a connection");
        let request = request.body(Full::default()).expect("a request");
        let reply = http2.0.send_request(request).await.expect("an answer");
        assert_eq!(reply.status(), 431);
        http2.ask(Method::GET, "/v1/status", &[], "").await.expect("an answer").good();
    });
}

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An address may open many HTTP/2 connections at once; beyond that it is served in
/// turns.
#[test]
fn many_connections_of_one_address_are_served_in_turns() {
    let demo = Demo::new(100);
    let (at_once, waiting) = (TURNS_AT_ONCE.get(), 200);
    let open = || {
        let connection = std::net::TcpStream::connect(demo.instance.verification).expect("a connection");
        connection.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        connection
    };
    let mut all: Vec<_> = (0..at_once + waiting).map(|_| open()).collect();
    let began = Instant::now();
    for connection in &mut all {
        connection.write_all(PREFACE_AND_SETTINGS).expect("written");
    }
    for connection in &mut all {
        // The server's own settings: it is served now.
        let mut head = [0; 9];
        connection.read_exact(&mut head).expect("a frame");
        assert_eq!(head[3], 4, "{head:?}");
    }
    assert_served_in_turns(&demo.instance, began, waiting);
}

/// As many as these waited for their turns since then, and no others.
pub(crate) fn assert_served_in_turns(instance: &Instance, began: Instant, waiting: u32) {
    let turns = Duration::from_secs(1) * (waiting - 1) / TURNS_PER_SECOND.get();
    assert!(began.elapsed() >= turns, "{:?}", began.elapsed());
    let delayed = instance.count("peselgate_connections_delayed_total");
    assert!((1..=u64::from(waiting)).contains(&delayed), "{delayed}");
}

/// Turns of those who are gone already don't pile up: whoever comes when too many are
/// taken is turned away, and alone.
#[test]
fn whoever_takes_too_many_turns_is_turned_away() {
    let demo = Demo::new(100);
    let gateway = demo.instance.verification;
    assert_eq!(demo.instance.refused("turns"), 0);
    for many in 1.. {
        assert!(many < 100, "nobody was turned away");
        for _ in 0..100 {
            let mut gone = std::net::TcpStream::connect(gateway).expect("a connection");
            gone.write_all(PREFACE_AND_SETTINGS).expect("written");
        }
        if demo.instance.refused("turns") > 0 {
            break;
        }
    }
    let neighbour = connect_from(Ipv4Addr::new(127, 0, 0, 2), gateway);
    let mut neighbour = neighbour.expect("a connection");
    neighbour.write_all(PREFACE_AND_SETTINGS).expect("written");
    let mut head = [0; 9];
    neighbour.read_exact(&mut head).expect("a frame");
    assert_eq!(head[3], 4, "{head:?}");
}
