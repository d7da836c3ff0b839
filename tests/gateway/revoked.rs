//! Keys and tokens that die in the middle of what they do: whatever is done after
//! that is not done for them.

use std::io;

use serde_json::{Value, json};

use crate::client::{Caller, Connection, Reply, json_lines};
use crate::harness::{Demo, events, fictional, issue, wait_for};
use crate::serve::Served;

const IMPORT: &str = "/admin/v1/import?allow_mass_change=true";

/// A request whose head was judged and whose body is waited for.
struct Begun {
    connection: Connection,
    rest: Vec<u8>,
}

impl Begun {
    /// Sends the head and half of the body. The gateway asks for the body
    /// (`100 Continue`) when it wants to read it, and not before.
    fn of(mut connection: Connection, method: &str, path: &str, credential: &str, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {credential}\r\n\
             content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write(head.as_bytes()).expect("written");
        assert_eq!(connection.read_head().expect("a word").status, 100);
        let (first, rest) = body.split_at(5);
        connection.write(first).expect("written");
        Self { connection, rest: rest.to_vec() }
    }

    fn end(mut self) -> Reply {
        self.connection.write(&self.rest).expect("written");
        let reply = self.connection.read(false).expect("an answer");
        reply.check_promises();
        reply
    }
}

/// A token of this role: its id and itself.
fn token(demo: &Demo, body: &Value) -> (String, String) {
    let issued = demo.admin().post("/admin/v1/tokens", body).good();
    let text = |name: &str| issued[name].as_str().expect("a text").to_owned();
    (text("id"), text("token"))
}

fn deactivate(demo: &Demo, id: &str) {
    demo.admin().post(&format!("/admin/v1/tokens/{id}/deactivate"), &json!({})).good();
}

#[test]
fn nothing_is_done_for_a_token_that_died_before_its_body_was_whole() {
    let demo = Demo::new(1_000);
    let pesel = fictional(81_000_000);
    let (spare, _) = demo.issue("Bank Zapasowy", &["127.0.0.1"], Some([10, 10, 10]));
    let operator = json!({"role": "operator", "label": "op"});
    let official = json!({"role": "official", "label": "o", "registrant": "Gmina", "teryt": "1419052"});
    let filing = json!({"pesel": pesel, "channel": "gmina", "registrant": "Gmina"});
    let key = json!({"institution": {"name": "Bank"}, "system": "s", "addresses": ["127.0.0.1"]});
    let renumbering = json!({"old": pesel, "new": fictional(81_000_001), "moment": "2024-01-01T00:00:00Z"});
    let of_key = |what: &str| format!("/admin/v1/keys/{spare}/{what}");
    let limits = json!({"per_second": 1, "burst": 1, "per_day": 1});
    for (role, method, path, body) in [
        (&operator, "POST", "/admin/v1/tokens".to_owned(), &operator),
        (&operator, "POST", "/admin/v1/keys".to_owned(), &key),
        (&operator, "PUT", of_key("addresses"), &json!({"addresses": ["10.0.0.0/8"]})),
        (&operator, "PUT", of_key("limits"), &limits),
        (&official, "POST", "/admin/v1/reservations".to_owned(), &filing),
        (&official, "POST", "/admin/v1/withdrawals".to_owned(), &filing),
        (&official, "POST", "/admin/v1/renumberings".to_owned(), &renumbering),
        (&official, "POST", "/admin/v1/entries/query".to_owned(), &json!({ "pesel": pesel })),
    ] {
        let (id, token) = token(&demo, role);
        let connection = Connection::open(demo.instance.admin).expect("a connection");
        let begun = Begun::of(connection, method, &path, &token, body);
        deactivate(&demo, &id);
        assert_eq!(begun.end().problem(), (401, "unauthenticated".to_owned()), "{method} {path}");
    }
    let tokens = demo.admin().get("/admin/v1/tokens").good();
    assert_eq!(tokens["tokens"].as_array().map(Vec::len), Some(1 + 8), "none but those issued here");
    let keys = demo.admin().get("/admin/v1/keys").good();
    let keys = keys["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 2);
    let kept = keys.iter().find(|key| key["id"] == *spare).expect("the key");
    assert_eq!(kept["limits"]["per_second"], 10);
    assert_eq!(kept["addresses"], json!(["127.0.0.1/32"]));
    assert_eq!(events(&mut demo.admin(), 2_000).len(), 1_000);
}

/// Whoever is unknown is refused by the head, without a word for the body.
#[test]
fn no_body_of_a_stranger_is_asked_for() {
    let demo = Demo::shared();
    let (id, dead) = token(&demo, &json!({"role": "operator", "label": "op"}));
    deactivate(&demo, &id);
    for path in ["/admin/v1/tokens", "/admin/v1/keys", "/admin/v1/reservations", "/admin/v1/renumberings"] {
        let mut connection = Connection::open(demo.instance.admin).expect("a connection");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {dead}\r\n\
             content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n"
        );
        connection.write(head.as_bytes()).expect("written");
        assert_eq!(connection.read_head().expect("an answer").status, 401, "{path}");
    }
    let mut stranger = demo.admin_with(&dead);
    let reply = stranger.put("/admin/v1/keys/-/limits", &json!({}));
    assert_eq!(reply.problem(), (401, "unauthenticated".to_owned()), "before anything is said of the path");
}

#[test]
fn nothing_is_verified_for_a_key_that_died_before_its_body_was_whole() {
    // Longer than whatever happens meanwhile takes.
    let served = Served::start("test", "body_read_timeout_ms = 60000", "");
    let numbers: Vec<String> = (0..5).map(|place| fictional(81_500_000 + place)).collect();
    let (one, batch) = (json!({"pesel": numbers[0]}), json!({ "pesels": numbers }));
    for (path, body) in [("/v1/verify", &one), ("/v1/verify/batch", &batch)] {
        let mut admin = served.admin();
        let (id, key) = issue(&mut admin, "Bank Chwilowy", &["127.0.0.0/8"], Some([1, 20, 100]));
        let begin = || {
            let connection = Connection::open(served.instance.verification).expect("a connection");
            Begun::of(connection, "POST", path, &key, body)
        };
        let put = |what: &str, body: &Value| {
            served.admin().put(&format!("/admin/v1/keys/{id}/{what}"), body).good();
        };
        // Other keys' changes are nothing to this one.
        let begun = begin();
        issue(&mut admin, "Bank Obcy", &["127.0.0.1"], None);
        assert_eq!(begun.end().status, 200);

        let begun = begin();
        put("addresses", &json!({"addresses": ["10.0.0.0/8"]}));
        assert_eq!(begun.end().problem(), (403, "address-not-allowed".to_owned()), "{path}");
        put("addresses", &json!({"addresses": ["127.0.0.0/8"]}));

        let begun = begin();
        put("limits", &json!({"per_second": 1, "burst": 3, "per_day": 100}));
        assert_eq!(begun.end().status, if path == "/v1/verify" { 200 } else { 413 });

        let begun = begin();
        let left = Caller::new(served.instance.verification, &key).get("/v1/limits").good();
        admin.post(&format!("/admin/v1/keys/{id}/deactivate"), &json!({})).good();
        assert_eq!(begun.end().problem(), (401, "unauthenticated".to_owned()), "{path}");
        // One of the day is held by the question that waits.
        let spent = if path == "/v1/verify" { 2 + 1 } else { 5 + 1 };
        assert_eq!(left["remaining"]["day"], 100 - spent, "a refusal costs nothing");
    }
    served.instance.stop();
}

/// An import, line by line.
struct Import(Connection);

impl Import {
    fn begin(demo: &Demo, token: &str) -> Self {
        let mut connection = Connection::open(demo.instance.admin).expect("a connection");
        let head = format!(
            "POST {IMPORT} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {token}\r\n\
             content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        connection.write(head.as_bytes()).expect("written");
        assert_eq!(connection.read_head().expect("an answer").status, 200);
        Self(connection)
    }

    fn send(&mut self, lines: &str) -> io::Result<()> {
        self.0.write(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes())
    }

    fn line(&mut self) -> Value {
        let chunk = self.0.read_chunk().expect("a chunk").expect("a line");
        json_lines(&chunk).remove(0)
    }

    /// What else is told.
    fn rest(&mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(chunk) = self.0.read_chunk().expect("a chunk") {
            rest.extend(json_lines(&chunk));
        }
        rest
    }
}

fn lines(places: std::ops::Range<u32>) -> String {
    let line = |place| {
        let pesel = fictional(82_000_000 + place);
        json!({"pesel": pesel, "kind": "reservation", "moment": "2024-03-01T00:00:00Z",
            "channel": "bank", "registrant": "Bank X"})
        .to_string()
            + "\n"
    };
    places.map(line).collect()
}

#[test]
fn an_import_ends_with_its_token() {
    let demo = Demo::new(1_000);
    let source = json!({"role": "source", "label": "s", "registrant": "Bank X", "channel": "bank"});
    let last = || events(&mut demo.admin(), 10_000).len();

    // A chunk is recorded and the next one begun, which then is complete, or is not.
    for (place, more) in [(0, 7_000), (20_000, 1)] {
        let (id, token) = token(&demo, &source);
        let mut import = Import::begin(&demo, &token);
        import.send(&lines(place..place + 13_000)).expect("written");
        assert_eq!(import.line()["accepted"], 10_000);
        let before = last();
        deactivate(&demo, &id);
        import.send(&lines(50_000..50_000 + more)).expect("written");
        let told = import.rest();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["error"], "unauthenticated");
        assert_eq!(last(), before, "nothing more is recorded");
    }

    // With nothing but its end to come.
    let (id, token) = token(&demo, &source);
    let mut import = Import::begin(&demo, &token);
    import.send(&lines(60_000..60_001)).expect("written");
    let before = last();
    deactivate(&demo, &id);
    import.0.write(b"0\r\n\r\n").expect("written");
    assert_eq!(import.rest().pop().expect("a last line")["error"], "unauthenticated");
    assert_eq!(last(), before);
    demo.stop();
}

/// What was given away is given; the rest is not, and nobody takes it for the whole.
#[test]
fn a_backup_breaks_off_with_its_token() {
    let demo = Demo::new(200_000);
    let (id, token) = token(&demo, &json!({"role": "operator", "label": "op"}));
    let mut caller: Caller = demo.admin_with(&token);
    let bearer = caller.bearer.clone();
    caller.connection.send("GET", "/admin/v1/backup", &[("authorization", &bearer)], None).expect("sent");
    assert_eq!(caller.connection.read_head().expect("a head").status, 200);
    deactivate(&demo, &id);
    let end = loop {
        match caller.connection.read_chunk() {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(end.is_err(), "it looks whole");
    wait_for("the count", || {
        (demo.instance.count("peselgate_backups_total{outcome=\"revoked\"}") == 1).then_some(())
    });
    demo.stop();
}
