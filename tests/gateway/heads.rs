//! Heads that are no heads, and messages that could be read in two ways: each
//! gets one answer at most, with a problem document, and the connection ends.

use std::net::SocketAddr;
use std::time::Instant;

use peselgate::limits::TURNS_AT_ONCE;

use crate::client::{Connection, Reply};
use crate::harness::Demo;
use crate::http2::assert_served_in_turns;

/// Sends bytes as they are, and reads until the other end closes: every answer.
fn answers(plane: SocketAddr, bytes: &[u8]) -> Vec<Reply> {
    let mut connection = Connection::open(plane).expect("a connection");
    connection.write(bytes).expect("written");
    all_of(&mut connection)
}

fn all_of(connection: &mut Connection) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Ok(reply) = connection.read(false) {
        replies.push(reply);
    }
    replies
}

/// One refusal, then the end.
fn assert_refused(plane: SocketAddr, what: &str, bytes: &[u8], status: u16, code: &str) {
    let replies = answers(plane, bytes);
    assert_eq!(replies.len(), 1, "{what}: {replies:?}");
    replies[0].check_promises();
    assert_eq!(replies[0].problem(), (status, code.to_owned()), "{what}");
    assert_eq!(replies[0].header("connection"), Some("close"), "{what}");
    assert_ne!(replies[0].header("x-request-id"), Some("unreadable"), "one of its own: {what}");
}

#[test]
fn malformed_heads_get_a_problem_document() {
    let demo = Demo::shared();
    let heads: [(&str, &[u8]); 9] = [
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
        ("no version", b"GET /v1/status\r\n\r\n"),
        ("another version", b"GET /v1/status HTTP/3.7\r\n\r\n"),
        ("a space in the target", b"GET /v1/st atus HTTP/1.1\r\nhost: g\r\n\r\n"),
        ("a field without a colon", b"GET /v1/status HTTP/1.1\r\nhost g\r\n\r\n"),
        ("a space before the colon", b"GET /v1/status HTTP/1.1\r\nhost : g\r\n\r\n"),
        ("a folded field", b"GET /v1/status HTTP/1.1\r\nhost: g\r\n x: y\r\n\r\n"),
        ("a length that is none", b"POST /v1/verify HTTP/1.1\r\nhost: g\r\ncontent-length: x\r\n\r\n"),
        ("a NUL in a field", b"GET /v1/status HTTP/1.1\r\nhost: g\r\nx: a\0b\r\n\r\n"),
    ];
    let long_target = format!("GET /v1/{} HTTP/1.1\r\nhost: g\r\n\r\n", "x".repeat(100_000));
    let long_field = format!("GET /v1/status HTTP/1.1\r\nhost: g\r\nx: {}\r\n\r\n", "x".repeat(12_000));
    let many = format!("GET /v1/status HTTP/1.1\r\nhost: g\r\n{}\r\n", "x: y\r\n".repeat(150));
    for plane in [demo.instance.verification, demo.instance.admin, demo.instance.ops] {
        for (what, head) in heads {
            assert_refused(plane, what, head, 400, "malformed-request");
        }
        let replies = answers(plane, long_target.as_bytes());
        replies[0].check_promises();
        assert!(matches!(replies[0].status, 414 | 431), "{}", replies[0].text());
        for (what, head) in [("a long field", &long_field), ("many fields", &many)] {
            assert_refused(plane, what, head.as_bytes(), 431, "header-fields-too-large");
        }
    }
}

/// What was read before stands; what cannot be read ends it with a document.
#[test]
fn garbage_after_a_request_is_refused_apart() {
    let demo = Demo::shared();
    let ways = [
        (demo.instance.verification, "/v1/status"),
        (demo.instance.admin, "/x"),
        (demo.instance.ops, "/livez"),
    ];
    for (plane, path) in ways {
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: g\r\n\r\n").repeat(3) + "no head\r\n\r\n";
        let replies = answers(plane, bytes.as_bytes());
        assert_eq!(replies.len(), 4, "{path}: {replies:?}");
        replies.iter().for_each(Reply::check_promises);
        assert_eq!(replies[3].problem(), (400, "malformed-request".to_owned()), "{path}");
        // Behind a question in HTTP/1.0 the engine goes on in it.
        let bytes = format!("GET {path} HTTP/1.0\r\nconnection: keep-alive\r\n\r\nno head\r\n\r\n");
        let replies = answers(plane, bytes.as_bytes());
        assert_eq!(replies.len(), 2, "{path}: {replies:?}");
        replies[1].check_promises();
        assert_eq!(replies[1].problem(), (400, "malformed-request".to_owned()), "{path}");
    }
}

/// One message that two readers could end at two places: never two answers, and
/// never a 200 to what might be somebody else's.
#[test]
fn ambiguous_messages_are_never_answered_twice() {
    let demo = Demo::shared();
    let key = demo.key();
    let body = format!(r#"{{"pesel":"{}"}}"#, demo.numbers("free.csv")[0]);
    let smuggled = "GET /v1/status HTTP/1.1\r\nhost: g\r\n\r\n";
    let length = body.len();
    let framings = [
        ("CL.TE", format!("content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}", 5)),
        ("TE.CL", format!("transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{smuggled}")),
        ("CL.CL", format!("content-length: {length}\r\ncontent-length: 0\r\n\r\n{body}{smuggled}")),
        ("a list of lengths", format!("content-length: {length}, {}\r\n\r\n{body}{smuggled}", length + 1)),
        ("a signed length", format!("content-length: +{length}\r\n\r\n{body}{smuggled}")),
        ("another coding", format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}")),
        ("two codings", format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}")),
        (
            "TE.TE",
            format!("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        ("a needless coding", format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")),
        (
            "an overlong chunk size",
            format!("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{smuggled}"),
        ),
    ];
    for (what, rest) in framings {
        // Nothing but the framing itself makes it the last on its connection.
        let head = format!(
            "POST /v1/verify HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\n{rest}"
        );
        let replies = answers(demo.instance.verification, head.as_bytes());
        assert!(replies.len() <= 1, "{what}: {replies:?}");
        for reply in replies {
            assert_eq!(reply.problem(), (400, "malformed-request".to_owned()), "{what}");
            reply.check_promises();
        }
    }
}

/// A malformed message ends its connection, and the next one would come at once: its
/// refusal waits for its turn, whichever part of it was no message.
#[test]
fn malformed_messages_of_one_address_are_refused_in_turns() {
    let demo = Demo::new(100);
    let (at_once, waiting) = (TURNS_AT_ONCE.get(), 200);
    let asked = format!("POST /v1/verify HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\n", demo.key());
    let ways =
        ["no head\r\n\r\n".to_owned(), asked + "transfer-encoding: chunked\r\n\r\n5\r\nfalse\r\n0\r\n\r\n"];
    let open = |_| Connection::open(demo.instance.verification).expect("a connection");
    let mut all: Vec<_> = (0..at_once + waiting).map(open).collect();
    let began = Instant::now();
    for (connection, bytes) in all.iter_mut().zip(ways.iter().cycle()) {
        connection.write(bytes.as_bytes()).expect("written");
    }
    for connection in &mut all {
        let replies = all_of(connection);
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].problem(), (400, "malformed-request".to_owned()));
    }
    assert_served_in_turns(&demo.instance, began, waiting);
}

/// A stream needs a transfer coding; what stands behind it on the connection may
/// be somebody's body, so it is never answered.
#[test]
fn nothing_is_answered_behind_a_stream() {
    let demo = Demo::shared();
    let (key, number) = (demo.key(), &demo.numbers("free.csv")[0]);
    let line = format!("\"{number}\"\n");
    for coding in ["chunked", "identity\r\ntransfer-encoding: chunked", "chunked, chunked"] {
        let bytes = format!(
            "POST /v1/verify/batch HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\
             content-type: application/x-ndjson\r\ntransfer-encoding: {coding}\r\n\r\n\
             {:x}\r\n{line}\r\n0\r\n\r\nGET /v1/status HTTP/1.1\r\nhost: g\r\n\r\n",
            line.len()
        );
        let replies = answers(demo.instance.verification, bytes.as_bytes());
        assert_eq!(replies.len(), 1, "{coding}: {replies:?}");
        assert_eq!(replies[0].header("connection"), Some("close"), "{coding}");
    }
}

/// Requests sent ahead are answered in order, each once.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let demo = Demo::shared();
    let key = demo.key();
    let numbers = [&demo.numbers("reserved.csv")[0], &demo.numbers("free.csv")[0]];
    let mut bytes = String::new();
    for turn in 0..20 {
        let body = format!(r#"{{"pesel":"{}"}}"#, numbers[turn % 2]);
        let end = if turn == 19 { "connection: close\r\n" } else { "" };
        bytes += &format!(
            "POST /v1/verify HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\nx-request-id: t{turn}\r\n\
             {end}content-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let replies = answers(demo.instance.verification, bytes.as_bytes());
    assert_eq!(replies.len(), 20);
    for (turn, reply) in replies.iter().enumerate() {
        assert_eq!(reply.good()["reserved"], turn % 2 == 0);
        assert_eq!(reply.header("x-request-id"), Some(format!("t{turn}").as_str()));
    }
}

/// The control planes read a head as the public one does: one host, a transfer coding
/// for an import alone, and nothing answered behind one.
#[test]
fn the_control_planes_are_as_strict() {
    let demo = Demo::shared();
    let token = demo.token();
    let (admin, ops) = (demo.instance.admin, demo.instance.ops);
    let smuggled = format!("GET /admin/v1/keys HTTP/1.1\r\nauthorization: Bearer {token}\r\n\r\n");
    let coded = "transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for (plane, path) in [(admin, "/admin/v1/keys"), (ops, "/livez")] {
        let get = format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {token}\r\n");
        let end = "connection: close\r\n\r\n";
        for (what, fields) in [
            ("no host", end.to_owned()),
            ("two hosts", format!("host: a\r\nhost: b\r\n{end}")),
            ("two hosts and a coding", format!("host: a\r\nhost: b\r\n{coded}{smuggled}")),
        ] {
            let bytes = format!("{get}{fields}");
            assert_refused(plane, what, bytes.as_bytes(), 400, "malformed-request");
        }
        // An older client names none.
        let old = format!("GET {path} HTTP/1.0\r\nauthorization: Bearer {token}\r\n\r\n");
        assert_eq!(answers(plane, old.as_bytes())[0].status, 200, "{path}");
        let bytes = format!("{get}host: g\r\n{coded}{smuggled}");
        let replies = answers(plane, bytes.as_bytes());
        assert_eq!(replies.len(), 1, "{path}: {replies:?}");
        assert_eq!((replies[0].status, replies[0].header("connection")), (200, Some("close")), "{path}");
    }
    let body = r#"{"pesel":"x"}"#;
    let post = |path: &str, media_type: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {token}\r\ncontent-type: {media_type}\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n{smuggled}",
            body.len()
        )
    };
    let needless = post("/admin/v1/entries/query", "application/json", body);
    assert_refused(admin, "a needless coding", needless.as_bytes(), 400, "malformed-request");
    let import = post("/admin/v1/import", "application/x-ndjson", "\n");
    let replies = answers(admin, import.as_bytes());
    assert_eq!(replies.len(), 1, "behind an import: {replies:?}");
    assert_eq!((replies[0].status, replies[0].header("connection")), (200, Some("close")));
}
