//! Clients that leave while their streams wait, and a gateway that ends meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use peselgate::limits::STREAMS_PER_CONNECTION_MAX;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::dripped;
use crate::harness::{Demo, fictional, wait_for};
use crate::http2::{NeverEnding, block_on};
use crate::serve::Served;
use crate::stream::Stream;

/// Streams over one HTTP/2 connection.
struct Streams(SendRequest<BoxBody<Bytes, hyper::Error>>);

impl Streams {
    async fn open(demo: &Demo) -> Self {
        let stream = tokio::net::TcpStream::connect(demo.instance.verification).await.expect("a connection");
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
        // It ends with the runtime.
        drop(tokio::spawn(connection));
        Self(sender)
    }

    async fn begin(&mut self, key: &str, body: BoxBody<Bytes, hyper::Error>) -> Response<Incoming> {
        let request = Request::post("http://gateway/v1/verify/batch")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/x-ndjson")
            .body(body)
            .expect("a request");
        self.0.ready().await.expect("a connection");
        self.0.send_request(request).await.expect("an answer")
    }
}

fn whole(text: String) -> BoxBody<Bytes, hyper::Error> {
    Full::from(text).map_err(|never| match never {}).boxed()
}

fn lines(count: usize) -> String {
    format!("\"{}\"\n", fictional(71)).repeat(count)
}

/// Streams that were reset ask for nothing more: the key's burst is whole again.
#[test]
fn a_stream_that_was_reset_asks_no_further() {
    let demo = Demo::shared();
    let (_, key) = demo.issue("Bank Ulotny", &["127.0.0.1"], Some([20, 100, 1_000_000]));
    block_on(async {
        let mut streams = Streams::open(&demo).await;
        for _ in 0..40 {
            // As often as the streams before have left nothing, or are not over yet.
            while streams.begin(&key, whole(lines(60))).await.status() != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // The last reset has arrived when this is answered; the connection stays.
        assert_eq!(streams.begin("none", whole(String::new())).await.status(), 401);
        let mut caller = demo.caller_with(&key);
        wait_for("a whole burst", || {
            let left = caller.get("/v1/limits").good()["remaining"]["burst"].as_u64();
            (left == Some(100)).then_some(())
        });
    });
}

/// A connection has so many streams at work; one more is told to come again, and has
/// its place when another one goes.
#[test]
fn a_connection_has_places_for_streams() {
    let demo = Demo::shared();
    let key = demo.key();
    block_on(async {
        let mut streams = Streams::open(&demo).await;
        let mut kept = Vec::new();
        for _ in 0..STREAMS_PER_CONNECTION_MAX {
            let begun = streams.begin(&key, NeverEnding.boxed()).await;
            assert_eq!(begun.status(), 200);
            kept.push(begun);
        }
        let (head, body) = streams.begin(&key, NeverEnding.boxed()).await.into_parts();
        assert_eq!(head.status, 503);
        assert_eq!(head.headers["retry-after"], "1");
        let problem = body.collect().await.expect("a body").to_bytes();
        let problem: Value = serde_json::from_slice(&problem).expect("a problem");
        assert_eq!(problem["code"], "overloaded");
        drop(kept.pop());
        let end = Instant::now() + Duration::from_secs(60);
        while streams.begin(&key, NeverEnding.boxed()).await.status() != 200 {
            assert!(Instant::now() < end, "no place was given back");
        }
        // Other connections have their own.
        assert_eq!(Streams::open(&demo).await.begin(&key, NeverEnding.boxed()).await.status(), 200);
    });
}

/// HTTP/1.1 clients that hang up while hundreds wait for one key leave nothing behind,
/// and a gateway that is told to end waits for nobody's rate.
#[test]
fn whoever_hangs_up_is_not_waited_for() {
    let demo = Demo::new(100);
    let (_, key) = demo.issue("Bank Wolny", &["127.0.0.1"], Some([1, 1_000, 1_000_000]));
    let mut streams: Vec<_> = (0..300).map(|_| Stream::open(&demo, &key)).collect();
    for stream in &mut streams {
        stream.send(&lines(1_100));
    }
    drop(streams);
    wait_for("the end of all connections", || {
        (demo.instance.count("peselgate_connections") == 0).then_some(())
    });

    let (_, key) = demo.issue("Bank Cichy", &["127.0.0.1"], Some([1, 20, 1_000_000]));
    let mut streams: Vec<_> = (0..40).map(|_| Stream::open(&demo, &key)).collect();
    for stream in &mut streams {
        stream.send(&lines(1_000));
    }
    demo.instance.signal(Signal::TERM);
    for mut stream in streams {
        let last = std::iter::from_fn(|| stream.line()).last().expect("a last line");
        assert_eq!((&last["error"], &last["retry_after"]), (&json!("draining"), &json!(2)));
    }
    let (mut instance, _home) = demo.parts();
    assert!(instance.ended().success(), "{}", instance.stderr());
    assert!(!instance.stderr().contains("deadline"), "{}", instance.stderr());
}

/// A byte now and then is no line: neither a drip nor blank lines hold a stream.
#[test]
fn whoever_completes_no_line_in_time_is_let_go() {
    let served = Served::start("test", "stream_idle_timeout_ms = 700", "");
    let key = served.key();
    let head = format!(
        "POST /v1/verify/batch HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\
         content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let too_long = "x".repeat(5_000);
    for (first, drip) in [("", " "), ("", "\n"), (too_long.as_str(), "x"), (&lines(1), " ")] {
        let (last, after) = dripped(served.instance.verification, &head, first, drip);
        assert_eq!(last["error"], "request-timeout", "held by {drip:?}");
        assert!(after >= Duration::from_millis(600), "{after:?}");
    }
    served.instance.stop();
}
