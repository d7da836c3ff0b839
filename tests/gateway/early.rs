//! Early answers: whoever is refused while still sending reads the whole answer
//! and a clean end, not a reset; and keeps no place by going on.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::{Connection, Reply};
use crate::harness::{Demo, Home, wait_for};
use crate::tls;

const PIECE: [u8; 16 * 1024] = [b' '; 16 * 1024];
/// Pieces of a body: below what is read after an answer.
const PIECES: usize = 40;

/// A request, refused by its head or by the first bytes of its body.
struct Refused {
    what: &'static str,
    request_line: &'static str,
    fields: Vec<String>,
    code: &'static str,
}

fn refused(what: &'static str, request_line: &'static str, fields: &[String], code: &'static str) -> Refused {
    Refused { what, request_line, fields: fields.to_vec(), code }
}

impl Refused {
    fn head(&self) -> Vec<u8> {
        let fields: String = self.fields.iter().map(|field| format!("{field}\r\n")).collect();
        let length = PIECES * PIECE.len();
        format!("{} HTTP/1.1\r\nhost: g\r\n{fields}content-length: {length}\r\n\r\n", self.request_line)
            .into_bytes()
    }

    /// Sends all of the body; the answer is read after its first pieces, or at
    /// the very end.
    fn send(&self, connection: &mut Connection, reads_first: bool) -> io::Result<Reply> {
        connection.write(&self.head())?;
        let mut reply = None;
        for piece in 0..PIECES {
            if piece == 8 && reads_first {
                reply = Some(connection.read(false)?);
            }
            connection.write(&PIECE)?;
        }
        let reply = reply.map_or_else(|| connection.read(false), Ok)?;
        match connection.rest()?.is_empty() {
            true => Ok(reply),
            false => Err(io::Error::other("more than one answer")),
        }
    }

    fn try_often(&self, open: &dyn Fn() -> Connection) {
        for round in 0..20 {
            for reads_first in [true, false] {
                let what = format!("{}, round {round}, reads first: {reads_first}", self.what);
                let reply = self.send(&mut open(), reads_first);
                let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
                reply.check_promises();
                assert_eq!(reply.code(), self.code, "{what}");
                assert_eq!(reply.header("connection"), Some("close"), "{what}");
            }
        }
    }
}

fn of_verification(key: &str) -> [Refused; 4] {
    let key = format!("authorization: Bearer {key}");
    let text = "content-type: text/plain".to_owned();
    let ndjson = "content-type: application/x-ndjson".to_owned();
    [
        refused("no key", "POST /v1/verify", &[], "unauthenticated"),
        refused("too large", "POST /v1/verify", std::slice::from_ref(&key), "content-too-large"),
        refused("another type", "POST /v1/verify/batch", &[key, text], "unsupported-media-type"),
        refused("a stream without a key", "POST /v1/verify/batch", &[ndjson], "unauthenticated"),
    ]
}

#[test]
fn an_early_answer_is_read_whole() {
    let demo = Demo::shared();
    let plain = |address: SocketAddr| move || Connection::open(address).expect("a connection");
    for case in of_verification(&demo.key()) {
        case.try_often(&plain(demo.instance.verification));
    }
    let token = format!("authorization: Bearer {}", demo.token());
    let ndjson = "content-type: application/x-ndjson".to_owned();
    for case in [
        refused("no token", "POST /admin/v1/keys", &[], "unauthenticated"),
        refused("too large", "POST /admin/v1/keys", std::slice::from_ref(&token), "content-too-large"),
        refused("an import without a token", "POST /admin/v1/import", &[ndjson], "unauthenticated"),
    ] {
        case.try_often(&plain(demo.instance.admin));
    }
    let head = refused("no head", "POST /v1/ve rify", &[], "malformed-request");
    for address in [demo.instance.verification, demo.instance.admin, demo.instance.ops] {
        head.try_often(&plain(address));
    }
}

/// A refusal behind a body that has come is not the end of its connection; one that does
/// not wait for the body says that it is.
#[test]
fn a_refusal_says_whether_its_connection_ends() {
    let demo = Demo::shared();
    let (verification, admin) = (demo.instance.verification, demo.instance.admin);
    for (plane, path) in
        [(verification, "/v1/verify"), (verification, "/v1/nothing"), (admin, "/admin/v1/keys")]
    {
        let mut connection = Connection::open(plane).expect("a connection");
        for _ in 0..3 {
            let reply = connection.request("POST", path, &[], Some(b"{}")).expect("an answer");
            assert!(matches!(reply.status, 401 | 404), "{}", reply.text());
            assert_eq!(reply.header("connection"), None);
        }
        let waits =
            format!("POST {path} HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 20\r\n\r\n");
        connection.write(waits.as_bytes()).expect("written");
        let reply = connection.read(false).expect("an answer");
        reply.check_promises();
        assert!(matches!(reply.status, 401 | 404), "{}", reply.text());
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(connection.rest().expect("a clean end").is_empty());
    }
}

#[test]
fn an_early_answer_is_read_whole_over_tls() {
    let demo = Home::new().start(&["--reserved", "1000", "--tls"]);
    let config = tls::config(&demo.file("demo-ca.pem"), &[]);
    for case in of_verification(&demo.key()) {
        case.try_often(&|| tls::open(demo.instance.verification, &config).0);
    }
}

/// A stream whose key has no more numbers for the day: its last line comes while
/// the client still sends.
#[test]
fn the_last_line_of_a_refused_stream_is_read() {
    let demo = Demo::shared();
    let (_, key) = demo.issue("Bank skromny", &["127.0.0.1"], Some([1_000, 50, 50]));
    let line = format!("\"{}\"\n", demo.numbers("free.csv")[0]);
    let piece = line.repeat(1_000);
    for _ in 0..5 {
        let mut connection = Connection::open(demo.instance.verification).expect("a connection");
        let head = format!(
            "POST /v1/verify/batch HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\
             content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            40 * piece.len()
        );
        connection.write(head.as_bytes()).expect("written");
        for _ in 0..10 {
            connection.write(piece.as_bytes()).expect("written");
        }
        let reply = connection.read(false).expect("the whole answer");
        for _ in 10..40 {
            connection.write(piece.as_bytes()).expect("no reset while the rest is sent");
        }
        // The first round may ask a few numbers, the later ones none.
        let last = match reply.status {
            200 => crate::client::json_lines(&reply.body).pop().expect("a line")["error"].clone(),
            _ => reply.code().into(),
        };
        assert_eq!(last, "quota-exceeded");
        assert!(connection.rest().expect("a clean end").is_empty());
    }
}

/// What goes on sending is cut; what goes silent is, too.
#[test]
fn no_place_is_kept_after_an_early_answer() {
    let demo = Demo::new(1_000);
    let case = refused("no key", "POST /v1/verify", &[], "unauthenticated");
    let begin = || {
        let mut connection = Connection::open(demo.instance.verification).expect("a connection");
        connection.write(&case.head()).expect("written");
        assert_eq!(connection.read(false).expect("an answer").status, 401);
        connection
    };
    let mut endless = begin();
    let most = (0..100_000).find(|_| endless.write(&PIECE).is_err());
    assert!(most.is_some(), "read without an end");

    let started = Instant::now();
    let silent = begin();
    wait_for("the place", || demo.instance.metrics().contains("\npeselgate_connections 0\n").then_some(()));
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    drop(silent);
    // A drain waits for nobody longer than that.
    let silent = begin();
    demo.stop();
    drop(silent);
}
