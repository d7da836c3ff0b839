//! The admin plane: what the law refuses, retries, imports, pages of events.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};

use peselgate::clock::Moment;
use serde_json::{Value, json};

use crate::client::{Caller, Connection, Reply, json_lines};
use crate::harness::{Demo, fictional, filing};

const RESERVE: &str = "/admin/v1/reservations";
const WITHDRAW: &str = "/admin/v1/withdrawals";

fn moment(value: &Value) -> i64 {
    Moment::parse(value.as_str().expect("a moment")).expect("a moment").unix_seconds()
}

fn at(seconds: i64) -> String {
    Moment::from_unix_seconds(seconds).to_string()
}

/// A filing with more fields, or other ones.
fn with(pesel: &str, channel: &str, more: Value) -> Value {
    let mut body = json!({"pesel": pesel, "channel": channel, "registrant": "Kancelaria"});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

/// Files, and expects this refusal.
fn refused(admin: &mut Caller, path: &str, body: &Value, status: u16, code: &str) -> Value {
    let reply = admin.post(path, body);
    assert_eq!(reply.problem(), (status, code.to_owned()), "{body}");
    reply.json()
}

/// A number with the check digit that belongs to its first ten.
fn checked(ten: &str) -> String {
    let digits = ten.bytes().map(|digit| u32::from(digit - b'0'));
    let sum: u32 = digits.zip([1, 3, 7, 9, 1, 3, 7, 9, 1, 3]).map(|(digit, weight)| digit * weight).sum();
    format!("{ten}{}", (10 - sum % 10) % 10)
}

#[test]
fn who_may_not_file_is_told_why() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let mut refused = |path, body: Value, status, code| drop(refused(&mut admin, path, &body, status, code));
    let a = fictional(40_000_001);
    refused(WITHDRAW, filing(&a), 409, "not-reserved");
    for channel in ["bank", "skok", "post", "id-card-register", "pesel-register"] {
        refused(WITHDRAW, with(&a, channel, json!({})), 422, "channel-may-not-withdraw");
    }
    let proxy = json!({"applicant": "proxy", "obstacle": "illness"});
    refused(WITHDRAW, with(&a, "gmina", proxy), 422, "applicant-may-not-withdraw");
    refused(RESERVE, with(&a, "gmina", json!({"applicant": "proxy"})), 422, "obstacle-required");
    for applicant in ["guardian", "curator", "proxy"] {
        let body = json!({"applicant": applicant, "obstacle": "illness"});
        refused(RESERVE, with(&a, "e-service", body.clone()), 422, "applicant-needs-gmina");
        refused(RESERVE, with(&a, "bank", body), 422, "applicant-needs-gmina");
    }
    // Born on 1 January 2099 and in 2209: nobody yet, whenever this runs.
    for child in [checked("9921010000"), checked("0961010000")] {
        refused(RESERVE, filing(&child), 422, "not-of-age");
        refused(RESERVE, with(&child, "gmina", json!({"majority_by_marriage": true})), 422, "not-of-age");
    }
    refused(RESERVE, filing("44051401358"), 422, "invalid-pesel");
    refused(RESERVE, with(&a, "pigeon", json!({})), 400, "malformed-request");
    refused(RESERVE, with(&a, "gmina", json!({"x": 1})), 400, "malformed-request");
    refused(RESERVE, json!({"pesel": a}), 400, "malformed-request");
    let later = json!({"reserve_again_at": at(4_000_000_000)});
    refused(RESERVE, with(&a, "gmina", later), 400, "malformed-request");
    assert_eq!(demo.caller().verify(&a).good()["reserved"], false);
}

/// Half an hour after a withdrawal, told to the second; ex officio passes.
#[test]
fn the_state_of_a_number_and_the_time_decide() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let (a, c) = (fictional(40_000_002), fictional(40_000_003));
    let reserved = admin.post(RESERVE, &filing(&a)).good();
    for channel in ["e-service", "gmina", "bank", "skok", "post"] {
        refused(&mut admin, RESERVE, &with(&a, channel, json!({})), 409, "already-reserved");
    }
    let again_in = |seconds| json!({"reserve_again_at": at(moment(&reserved["moment"]) + seconds)});
    let soon = with(&a, "e-service", again_in(60));
    let too_soon = refused(&mut admin, WITHDRAW, &soon, 422, "re-reservation-too-soon");
    assert!(moment(&too_soon["allowed_from"]) >= moment(&reserved["moment"]) + 1_800);
    let at_gmina = with(&a, "gmina", again_in(86_400));
    refused(&mut admin, WITHDRAW, &at_gmina, 422, "temporary-withdrawal-by-e-service-only");

    let withdrawn = admin.post(WITHDRAW, &filing(&a)).good();
    for channel in ["e-service", "gmina", "bank", "skok", "post"] {
        let early = refused(&mut admin, RESERVE, &with(&a, channel, json!({})), 409, "filing-too-soon");
        assert_eq!(moment(&early["allowed_from"]), moment(&withdrawn["moment"]) + 1_800);
    }
    admin.post(RESERVE, &with(&a, "id-card-register", json!({}))).good();
    admin.post(RESERVE, &with(&a, "pesel-register", json!({}))).good();
    assert_eq!(demo.caller().verify(&a).good()["reserved"], true);

    admin.post(RESERVE, &filing(&c)).good();
    let later = again_in(86_400);
    let withdrawn = admin.post(WITHDRAW, &with(&c, "e-service", later.clone()));
    let entry = admin.post("/admin/v1/entries/query", &json!({ "pesel": c })).good();
    if withdrawn.status == 422 {
        // A gateway without a scheduler refuses rather than forgets.
        assert_eq!(withdrawn.json()["field"], "reserve_again_at");
        assert_eq!(entry["reserved"], true);
    } else {
        assert_eq!(withdrawn.good()["reserve_again_at"], later["reserve_again_at"]);
        assert_eq!(entry["reserve_again_at"], later["reserve_again_at"]);
    }
}

/// What was filed at a gmina is in the entry's history; an absent number has an
/// entry without events.
#[test]
fn an_entry_tells_its_whole_history() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let b = fictional(40_000_004);
    let proxy = json!({"applicant": "proxy", "obstacle": "illness"});
    let reserved = admin.post(RESERVE, &with(&b, "gmina", proxy)).good();
    let guardian = json!({"applicant": "guardian", "document_seen": "passport"});
    let withdrawn = admin.post(WITHDRAW, &with(&b, "gmina", guardian)).good();
    let entry = admin.post("/admin/v1/entries/query", &json!({ "pesel": b })).good();
    assert_eq!(entry["events"], json!([reserved, withdrawn]));
    assert_eq!((&reserved["applicant"], &reserved["obstacle"]), (&json!("proxy"), &json!("illness")));
    assert_eq!(
        (&withdrawn["applicant"], &withdrawn["document_seen"]),
        (&json!("guardian"), &json!("passport"))
    );
    assert_eq!((&entry["reserved"], &entry["withdrawn_at"]), (&json!(false), &withdrawn["moment"]));
    let nobody = admin.post("/admin/v1/entries/query", &json!({"pesel": fictional(40_000_009)})).good();
    assert_eq!((&nobody["reserved"], &nobody["events"]), (&json!(false), &json!([])));
}

fn retried(caller: &mut Caller, path: &str, key: &str, body: &Value) -> Reply {
    caller.try_call("POST", path, &[("idempotency-key", key)], Some(body)).expect("an answer")
}

#[test]
fn a_retry_gets_the_first_answer_and_another_request_does_not() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let (a, b) = (fictional(41_000_001), fictional(41_000_002));
    let first = retried(&mut admin, RESERVE, "nr 1", &filing(&a));
    assert_eq!(first.status, 201);
    let again = retried(&mut admin, RESERVE, "nr 1", &filing(&a));
    assert_eq!((again.status, again.json()), (200, first.json()));
    let other = retried(&mut admin, RESERVE, "nr 1", &filing(&b));
    assert_eq!(other.problem(), (409, "idempotency-mismatch".to_owned()));
    assert_eq!(demo.caller().verify(&b).good()["reserved"], false);
    // Without the key it is a filing of its own; another key as well.
    assert_eq!(admin.post(RESERVE, &filing(&a)).code(), "already-reserved");
    assert_eq!(retried(&mut admin, RESERVE, "nr 2", &filing(&a)).code(), "already-reserved");
    // For a withdrawal it is another request's as well.
    let withdrawal = retried(&mut admin, WITHDRAW, "nr 1", &filing(&a));
    assert_eq!(withdrawal.problem(), (409, "idempotency-mismatch".to_owned()));
    assert_eq!(demo.caller().verify(&a).good()["reserved"], true);
    let renumbered = json!({"old": a, "new": b, "moment": "2025-03-01T09:00:00Z"});
    let renumbering = retried(&mut admin, "/admin/v1/renumberings", "nr 1", &renumbered);
    assert_eq!(renumbering.problem(), (409, "idempotency-mismatch".to_owned()));
    assert_eq!(retried(&mut admin, WITHDRAW, "nr 3", &filing(&a)).status, 201);
    let entry = admin.post("/admin/v1/entries/query", &json!({ "pesel": a })).good();
    assert_eq!(entry["events"].as_array().map(Vec::len), Some(2), "each was recorded once");

    let key = json!({"institution": {"name": "Bank Powtórzony"}, "system": "s", "addresses": ["127.0.0.1"]});
    let issued = retried(&mut admin, "/admin/v1/keys", "k 1", &key);
    assert_eq!(issued.status, 201);
    assert!(issued.json()["key"].is_string());
    let again = retried(&mut admin, "/admin/v1/keys", "k 1", &key);
    assert_eq!((again.status, &again.json()["id"]), (200, &issued.json()["id"]));
    assert!(again.json().get("key").is_none(), "a key is shown once");
    let mut changed = key;
    changed["system"] = json!("t");
    assert_eq!(retried(&mut admin, "/admin/v1/keys", "k 1", &changed).problem().0, 409);
    for bad in ["", &"x".repeat(256)] {
        assert_eq!(
            retried(&mut admin, RESERVE, bad, &filing(&b)).problem(),
            (400, "malformed-request".to_owned())
        );
    }
}

/// What was refused under a key is not carried out by the same request on its way,
/// whatever has become of the number; also behind a restart.
#[test]
fn a_refusal_is_answered_again_and_never_carried_out_later() {
    let mut demo = Demo::new(10);
    let (a, b) = (fictional(41_700_001), fictional(41_700_002));
    let told = |demo: &Demo| {
        [(WITHDRAW, "k2", &a, "not-reserved"), (RESERVE, "k3", &b, "filing-too-soon")].map(
            |(path, key, pesel, code)| {
                let refused = retried(&mut demo.admin(), path, key, &filing(pesel));
                assert_eq!(refused.problem(), (409, code.to_owned()));
                let mut document = refused.json();
                document.as_object_mut().expect("an object").remove("request_id").expect("one");
                document
            },
        )
    };
    let mut admin = demo.admin();
    admin.post(RESERVE, &filing(&b)).good();
    let withdrawn = admin.post(WITHDRAW, &filing(&b)).good();
    let refused = told(&demo);
    assert_eq!(moment(&refused[1]["allowed_from"]), moment(&withdrawn["moment"]) + 1_800);
    // Somebody else, meanwhile.
    admin.post(RESERVE, &filing(&a)).good();
    admin.post(RESERVE, &with(&b, "pesel-register", json!({}))).good();
    for is_restarted in [false, true] {
        if is_restarted {
            demo = demo.stop().start(&[]);
        }
        assert_eq!(told(&demo), refused);
        assert_eq!(demo.caller().verify(&a).good()["reserved"], true);
        let other = retried(&mut demo.admin(), WITHDRAW, "k2", &filing(&b));
        assert_eq!(other.problem(), (409, "idempotency-mismatch".to_owned()));
        assert_eq!(demo.caller().verify(&b).good()["reserved"], true);
    }
    // Under another key it is a request of its own.
    assert_eq!(retried(&mut demo.admin(), WITHDRAW, "k4", &filing(&a)).status, 201);
    demo.stop();
}

/// The same filing ten times at once: one 201, and every other answer agrees.
#[test]
fn concurrent_retries_are_one_filing() {
    let demo = Demo::shared();
    let body = filing(&fictional(41_500_000));
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..10).map(|_| scope.spawn(|| retried(&mut demo.admin(), RESERVE, "at once", &body))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
    assert!(replies.iter().all(|reply| reply.good() == replies[0].good()));
}

fn import(admin: &mut Caller, body: &str) -> Vec<Value> {
    import_at(admin, body, "/admin/v1/import")
}

fn import_mass(admin: &mut Caller, body: &str) -> Vec<Value> {
    import_at(admin, body, "/admin/v1/import?allow_mass_change=true")
}

fn import_at(admin: &mut Caller, body: &str, path: &str) -> Vec<Value> {
    let bearer = admin.bearer.clone();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    let reply = admin.connection.request("POST", path, &headers, Some(body.as_bytes()));
    json_lines(&reply.expect("an answer").body)
}

#[test]
fn an_import_takes_a_chunk_whole_or_not_at_all() {
    let demo = Demo::new(1_000);
    let mut admin = demo.admin();
    let line = |place: u32, kind: &str, moment: &str| {
        json!({"pesel": fictional(50_000_000 + place), "kind": kind, "moment": moment, "channel": "gmina",
            "registrant": "Urząd"})
        .to_string()
            + "\n"
    };
    let good = |place| line(place, "reservation", "2024-03-01T00:00:00Z");
    for (bad, error) in [
        ("{\n".to_owned(), "malformed-request"),
        (good(2).replace("gmina", "pigeon"), "malformed-request"),
        (good(2).replace(&fictional(50_000_002), "44051401358"), "invalid-pesel"),
        (line(2, "withdrawal", "2024-03-01T00:00:00Z"), "not-reserved"),
        (line(2, "reservation", "2090-03-01T00:00:00Z"), "future-moment"),
        (line(1, "reservation", "2024-04-01T00:00:00Z"), "already-reserved"),
        (line(1, "withdrawal", "2023-04-01T00:00:00Z"), "out-of-order"),
    ] {
        let answers = import(&mut admin, &(good(1) + &bad + &good(3)));
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["accepted"], 0, "{bad}");
        assert_eq!(answers[0]["errors"], json!([{"line": 1, "error": error}]), "{bad}");
    }
    assert_eq!(admin.get("/admin/v1/events?limit=1").good()["last"], 1_000, "nothing was recorded");

    // The register would grow elevenfold: nobody says so by accident.
    let body: String = (0..10_000).map(good).collect();
    let answers = import(&mut admin, &body);
    assert_eq!(answers.iter().map(|answer| &answer["error"]).collect::<Vec<_>>(), ["mass-change"]);
    assert_eq!(admin.get("/admin/v1/events?limit=1").good()["last"], 1_000, "nothing was recorded");

    // Two whole chunks and a short one; the second has a bad line.
    let mut body: String = (0..10_000).map(good).collect();
    body += &(10_000..19_999).map(good).collect::<String>();
    body += "\"bad\"\n";
    body += &(20_000..20_005).map(good).collect::<String>();
    let answers = import_mass(&mut admin, &body);
    let accepted: Vec<_> = answers.iter().map(|answer| answer["accepted"].as_u64()).collect();
    assert_eq!(accepted, [Some(10_000), Some(0), Some(5)]);
    assert_eq!(answers[1]["errors"], json!([{"line": 19_999, "error": "malformed-request"}]));
    let mut caller = demo.caller();
    for (place, reserved) in [(0, true), (9_999, true), (10_000, false), (19_998, false), (20_004, true)] {
        let answer = caller.verify(&fictional(50_000_000 + place)).good();
        assert_eq!(answer["reserved"], reserved, "{place}");
    }
    // Sent again after mending, what is there is skipped.
    let answers = import_mass(&mut admin, &body.replace("\"bad\"\n", ""));
    let told = |name: &str| -> u64 { answers.iter().filter_map(|answer| answer[name].as_u64()).sum() };
    assert_eq!((told("accepted"), told("already_there")), (9_999, 10_005));
    assert_eq!(admin.get("/admin/v1/events?limit=1").good()["last"], 21_004);
    let home = demo.stop();
    let demo = home.start(&[]);
    assert_eq!(demo.caller().get("/v1/status").good()["register"]["reserved"], 21_004);
}

#[test]
fn events_come_in_pages_with_their_chain() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let first = admin.get("/admin/v1/events?limit=3").good();
    let rest = admin.get("/admin/v1/events?after=3&limit=2").good();
    let sequences: Vec<_> = [&first, &rest]
        .iter()
        .flat_map(|page| page["events"].as_array().expect("events"))
        .map(|event| event["sequence"].as_u64().expect("a sequence"))
        .collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    let hash = first["events"][0]["hash"].as_str().expect("a hash");
    assert!(hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit()), "{hash}");
    let beyond = admin.get("/admin/v1/events?after=99999999").good();
    assert_eq!(beyond["events"], json!([]));
    for (query, status) in
        [("limit=0", 422), ("limit=10001", 422), ("after=x", 400), ("after=-1", 400), ("x=1", 400)]
    {
        assert_eq!(admin.get(&format!("/admin/v1/events?{query}")).status, status, "{query}");
    }
}

/// What is not of the plane's form is told in a problem document as well.
#[test]
fn every_refusal_of_the_plane_is_a_problem_document() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let body = filing(&fictional(42_000_000));
    for path in ["/admin/v1/keys/%FF/deactivate", "/admin/v1/keys/x/deactivate", "/admin/v1/keys//deactivate"]
    {
        assert_eq!(admin.post(path, &json!({})).problem(), (404, "not-found".to_owned()), "{path}");
    }
    assert_eq!(
        admin.put("/admin/v1/keys/abcdefghij/addresses", &json!({"addresses": ["10.0.0.1"]})).status,
        404
    );
    assert_eq!(admin.get(RESERVE).header("allow"), Some("POST"));
    let bearer = admin.bearer.clone();
    let text = [("authorization", bearer.as_str()), ("content-type", "text/plain")];
    let reply = admin.connection.request("POST", RESERVE, &text, Some(body.to_string().as_bytes()));
    assert_eq!(reply.expect("an answer").problem(), (415, "unsupported-media-type".to_owned()));
    for wrong in [
        json!([]),
        json!({"addresses": []}),
        json!({"addresses": ["::1"]}),
        json!({"addresses": ["0.0.0.0/0"]}),
    ] {
        let (id, _) = demo.issue("Bank Sieci", &["127.0.0.1"], None);
        let reply = admin.put(&format!("/admin/v1/keys/{id}/addresses"), &wrong);
        assert!(matches!(reply.status, 400 | 422), "{wrong}: {}", reply.text());
    }
    let mut large = demo.admin();
    let long = with(&fictional(42_000_000), "gmina", json!({"registrant": "x".repeat(70_000)}));
    assert_eq!(large.post(RESERVE, &long).problem(), (413, "content-too-large".to_owned()));
    let mut slow = demo.admin();
    let head = format!(
        "POST {RESERVE} HTTP/1.1\r\nhost: g\r\nauthorization: {bearer}\r\ncontent-length: 9\r\n\r\n{{"
    );
    slow.connection.write(head.as_bytes()).expect("written");
    let reply = slow.connection.read(false).expect("an answer");
    reply.check_promises();
    assert_eq!(reply.problem(), (408, "request-timeout".to_owned()));
    let mut stranger = Connection::open(demo.instance.admin).expect("a connection");
    let reply = stranger.request("GET", "/admin/v1/keys", &[], None).expect("an answer");
    assert_eq!(reply.problem(), (401, "unauthenticated".to_owned()));
}

/// Broken off is not too large.
#[test]
fn a_body_that_breaks_off_is_told_so() {
    let demo = Demo::shared();
    let mut socket = TcpStream::connect(demo.instance.admin).expect("a connection");
    let head = format!(
        "POST /admin/v1/tokens HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"role\"",
        demo.token()
    );
    socket.write_all(head.as_bytes()).expect("written");
    socket.shutdown(Shutdown::Write).expect("half closed");
    let reply = Connection::over(socket).read(false).expect("an answer");
    reply.check_promises();
    assert_eq!(reply.problem(), (400, "malformed-request".to_owned()));
    let large = json!({"role": "auditor", "label": "x".repeat(100_000)});
    assert_eq!(
        demo.admin().post("/admin/v1/tokens", &large).problem(),
        (413, "content-too-large".to_owned())
    );
}
