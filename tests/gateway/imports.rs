//! Imports over the wire: for whom a line speaks, how it is refused by name, what
//! a broken one leaves, and temporary withdrawals of the past.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Caller, Connection, dripped, json_lines};
use crate::harness::{Demo, Instance, events, fictional, filing, program, wait_for};
use crate::history::{moment, unix_millis};
use crate::rights::source;
use crate::serve::{Served, init, write_config};

const IMPORT: &str = "/admin/v1/import";

fn number(place: u32) -> String {
    fictional(80_000_000 + place)
}

/// A line of the e-service, with other fields or more of them.
fn line(place: u32, kind: &str, moment: &str, more: Value) -> String {
    let mut line = json!({"pesel": number(place), "kind": kind, "moment": moment, "channel": "e-service",
        "registrant": "Kancelaria"});
    for (name, value) in more.as_object().expect("an object") {
        line[name] = value.clone();
    }
    format!("{line}\n")
}

fn import_with(caller: &mut Caller, more: &[(&str, &str)], path: &str, body: &str) -> Vec<Value> {
    let bearer = caller.bearer.clone();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    let headers = [&headers, more].concat();
    let reply = caller.connection.request("POST", path, &headers, Some(body.as_bytes())).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    json_lines(&reply.body)
}

fn import(caller: &mut Caller, body: &str) -> Vec<Value> {
    import_with(caller, &[], IMPORT, body)
}

const EARLY: &str = "2024-03-01T00:00:00Z";

#[test]
fn a_refused_line_has_a_name_and_takes_its_chunk_along() {
    let demo = Demo::new(1_000);
    let mut admin = demo.admin();
    let good = |place| line(place, "reservation", EARLY, json!({}));
    let reserve_again = |at: &str| json!({ "reserve_again_at": at });
    for (bad, error) in [
        (line(2, "renumbering", EARLY, json!({"channel": "pesel-register"})), "kind-not-imported"),
        (line(2, "birth", EARLY, json!({})), "malformed-request"),
        (line(2, "reservation", EARLY, json!({"x": 1})), "malformed-request"),
        (line(2, "reservation", "yesterday", json!({})), "malformed-request"),
        ("[]\n".to_owned(), "malformed-request"),
        ("null\n".to_owned(), "malformed-request"),
        (line(2, "reservation", EARLY, json!({"pesel": 44_051_401_359_u64})), "malformed-request"),
        (line(2, "reservation", EARLY, json!({"registrant": " "})), "invalid-registrant"),
        (line(2, "reservation", EARLY, json!({"registrant": " Bank"})), "invalid-registrant"),
        (line(2, "reservation", "1969-12-31T23:59:59Z", json!({})), "moment-out-of-range"),
        (line(2, "reservation", EARLY, reserve_again("2024-03-02T00:00:00Z")), "malformed-request"),
        (line(1, "withdrawal", EARLY, json!({"channel": "bank"})), "channel-may-not-withdraw"),
        (line(1, "withdrawal", EARLY, reserve_again("2024-03-01T00:29:59Z")), "re-reservation-too-soon"),
        (line(1, "withdrawal", EARLY, reserve_again("2999-01-01T00:00:00Z")), "moment-out-of-range"),
        (
            line(
                1,
                "withdrawal",
                EARLY,
                json!({"channel": "gmina", "reserve_again_at": "2024-04-01T00:00:00Z"}),
            ),
            "temporary-withdrawal-by-e-service-only",
        ),
    ] {
        let answers = import(&mut admin, &(good(1) + &bad + &good(3)));
        let expected = json!([{"chunk": 0, "lines": 3, "accepted": 0, "refused": 1,
            "errors": [{"line": 1, "error": error}]}]);
        assert_eq!(json!(answers), expected, "{bad}");
    }
    assert_eq!(events(&mut admin, 2_000).len(), 1_000, "nothing was recorded");
    let long = line(2, "reservation", EARLY, json!({"registrant": "x".repeat(5_000)}));
    let answers = import(&mut admin, &(good(1) + &long));
    assert_eq!(answers.last().map(|last| &last["error"]), Some(&json!("content-too-large")), "{answers:?}");
    for (query, media_type, status) in [
        ("?allow_mass_change=2", "application/x-ndjson", 400),
        ("?x=1", "application/x-ndjson", 400),
        ("", "application/json", 415),
    ] {
        let mut other = demo.admin();
        let bearer = other.bearer.clone();
        let headers = [("authorization", bearer.as_str()), ("content-type", media_type)];
        let reply = other.connection.request("POST", &format!("{IMPORT}{query}"), &headers, Some(b""));
        assert_eq!(reply.expect("an answer").status, status, "{query} {media_type}");
    }
}

/// In a later chunk, too: what can be read of the lines of a refused one counts.
#[test]
fn what_comes_behind_a_refused_chunk_is_not_recorded_before_it() {
    let demo = Demo::new(1_000);
    let mut many = line(0, "reservation", EARLY, json!({"registrant": " "}));
    many += &line(1, "reservation", EARLY, json!({}));
    many += &line(2, "reservation", EARLY, json!({"pesel": "44851401358"}));
    many.extend((3..10_000).map(|n| line(n, "reservation", EARLY, json!({}))));
    let behind = "2024-04-01T00:00:00Z";
    for place in [0, 1, 2, 10_000] {
        many += &line(place, "reservation", behind, json!({}));
    }
    let told = import_with(&mut demo.admin(), &[], "/admin/v1/import?allow_mass_change=true", &many);
    assert_eq!(
        told[0]["errors"],
        json!([{"line": 0, "error": "invalid-registrant"}, {"line": 2, "error": "invalid-pesel"}])
    );
    let refused = |line| json!({"line": line, "error": "behind-refused"});
    assert_eq!(told[1]["errors"], json!([refused(10_000), refused(10_001)]));
    assert_eq!(events(&mut demo.admin(), 2_000).len(), 1_000);
}

#[test]
fn a_line_speaks_for_its_token() {
    let demo = Demo::new(1_000);
    let mut feed = source(&demo, "e-service");
    for other in [json!({"channel": "gmina"}), json!({"registrant": "Inna"})] {
        let answers = import(&mut feed, &line(1, "reservation", EARLY, other.clone()));
        assert_eq!(answers[0]["errors"], json!([{"line": 0, "error": "forbidden"}]), "{other}");
    }
    let own = line(1, "reservation", EARLY, json!({}));
    assert_eq!(import(&mut feed, &own)[0]["accepted"], 1);
    // A key for the request is not needed: the line is its own.
    let keyed = [("idempotency-key", "k1")];
    let other = line(2, "reservation", EARLY, json!({}));
    let told = [&own, &other, &other].map(|body| {
        let answers = import_with(&mut feed, &keyed, IMPORT, body);
        (answers[0]["accepted"].clone(), answers[0]["already_there"].clone())
    });
    assert_eq!(told, [(json!(0), json!(1)), (json!(1), json!(0)), (json!(0), json!(1))]);
    assert_eq!(events(&mut demo.admin(), 2_000).len(), 1_002);
}

/// A wrong file must not pass for the truth, in either direction; what was broken
/// off is sent again from its beginning.
#[test]
fn a_mass_change_is_refused_and_a_broken_import_goes_on() {
    let demo = Demo::new(1_000);
    let mut admin = demo.admin();
    let reservations: String = (0..200).map(|n| line(n, "reservation", EARLY, json!({}))).collect();
    let more = line(200, "reservation", EARLY, json!({}));
    let refused = import(&mut admin, &(reservations.clone() + &more));
    assert_eq!(refused[0]["error"], "mass-change");
    assert!(
        refused[0]["detail"].as_str().is_some_and(|detail| detail.contains("take away 0, and add 201;")),
        "{refused:?}"
    );
    assert_eq!(import(&mut admin, &reservations)[0]["accepted"], 200);
    let withdrawals: String =
        (0..13).map(|n| line(n, "withdrawal", "2024-04-01T00:00:00Z", json!({}))).collect();
    assert_eq!(import(&mut admin, &withdrawals)[0]["error"], "mass-change");
    assert_eq!(events(&mut admin, 2_000).len(), 1_200, "nothing of it was recorded");
    let allowed = import_with(&mut admin, &[], "/admin/v1/import?allow_mass_change=true", &withdrawals);
    assert_eq!(allowed[0]["accepted"], 13);

    // Ten thousand lines are a chunk of their own; the request ends in the next one.
    let many: String = (1_000..11_010).map(|n| line(n, "reservation", EARLY, json!({}))).collect();
    let broken = begin_import(&demo, &many);
    drop(broken);
    let again = import_with(&mut admin, &[], "/admin/v1/import?allow_mass_change=true", &many);
    let told = |name: &str| -> u64 { again.iter().filter_map(|answer| answer[name].as_u64()).sum() };
    assert_eq!((told("accepted"), told("already_there")), (10, 10_000));
}

/// Sends all of this but for the end of the request; when its first chunk of ten
/// thousand lines is recorded, the connection.
fn begin_import(demo: &Demo, lines: &str) -> Connection {
    let mut admin = demo.admin();
    let head = format!(
        "POST {IMPORT}?allow_mass_change=true HTTP/1.1\r\nhost: g\r\nauthorization: {}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        admin.bearer,
        lines.len() + 1
    );
    let last = || demo.caller().get("/v1/status").good()["register"]["sequence"].as_u64();
    let before = last();
    admin.connection.write(head.as_bytes()).expect("written");
    admin.connection.write(lines.as_bytes()).expect("written");
    wait_for("the first chunk", || last().filter(|last| Some(*last) >= before.map(|n| n + 10_000)).map(drop));
    admin.connection
}

/// Whoever cannot know answers 503: an end that has passed and waits for its import.
#[test]
fn a_number_whose_withdrawal_has_ended_is_never_told_to_be_free() {
    let demo = Demo::new(1_000);
    let begun = moment(unix_millis() / 1_000);
    let end = "2024-05-01T00:00:00Z";
    let mut many = line(0, "reservation", EARLY, json!({}));
    many += &line(0, "withdrawal", "2024-04-01T00:00:00Z", json!({ "reserve_again_at": end }));
    many.extend((1..10_009).map(|n| line(n, "reservation", EARLY, json!({}))));
    drop(begin_import(&demo, &many));
    let mut caller = demo.caller();
    let mut outage: Option<Value> = None;
    for (path, body) in
        [("/v1/verify", json!({"pesel": number(0)})), ("/v1/verify", json!({"pesel": number(0), "at": end}))]
    {
        let reply = caller.post(path, &body);
        assert_eq!(reply.problem(), (503, "register-unavailable".to_owned()), "{body}");
        // Since the register has known of it, and that in every answer.
        let since = reply.json()["unavailable_since"].clone();
        assert!(since.as_str().is_some_and(|since| since >= begun.as_str()), "{since} before {begun}");
        assert_eq!(*outage.get_or_insert(since.clone()), since);
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    // It takes nobody else's answer away, and that it had none is on record.
    let unknown = |mut result: Value| {
        let since = result.as_object_mut().and_then(|fields| fields.remove("unavailable_since"));
        assert_eq!(since, outage);
        assert_eq!(
            result.as_object_mut().and_then(|fields| fields.remove("error")),
            Some("register-unavailable".into())
        );
        result
    };
    let batch = caller.post("/v1/verify/batch", &json!({"pesels": [number(0), number(1)]})).good();
    assert_eq!(unknown(batch["results"][0].clone()), json!({"pesel": number(0)}));
    assert_eq!(
        (&batch["results"][1]["pesel"], &batch["results"][1]["reserved"]),
        (&number(1).into(), &true.into())
    );
    let id = batch["verification_id"].as_str().expect("an id");
    let evidence = caller.get(&format!("/v1/verifications/{id}")).good();
    assert_eq!(evidence["results"][0], json!({"error": "register-unavailable"}));
    assert_eq!(evidence["results"][1]["reserved"], true);
    let lines = caller.stream(&format!("\"{}\"\n\"{}\"\n\"{}\"\n", number(1), number(0), number(1)));
    assert_eq!(unknown(lines[1].clone()), json!({"index": 1}));
    assert_eq!([&lines[0]["reserved"], &lines[2]["reserved"]], [true, true]);
    let before = json!({"pesel": number(0), "at": "2024-04-30T23:59:59Z"});
    assert_eq!(caller.post("/v1/verify", &before).good()["reserved"], false);
    assert_eq!(caller.verify(&number(1)).good()["reserved"], true);
    // Sent again, and whole.
    import_with(&mut demo.admin(), &[], "/admin/v1/import?allow_mass_change=true", &many);
    let answer = wait_for("the end", || {
        let reply = caller.verify(&number(0));
        (reply.status == 200).then(|| reply.good())
    });
    assert_eq!((&answer["reserved"], &answer["reserved_at"]), (&json!(true), &json!(end)));
}

/// A client that goes silent, before its first line or between two, is told and
/// let go; what was recorded stays, and sent again it goes on.
#[test]
fn an_import_that_pauses_ends_as_a_broken_one() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let mut command = program();
    command.arg("serve").arg("--config").arg(write_config(dir.path(), "test", "", ""));
    command.env("PESELGATE_ADMIN__IMPORT_IDLE_TIMEOUT_MS", "300");
    let served = Served { instance: Instance::start(command, dir.path()), dir };
    let many: String = (0..10_010).map(|place| line(100 + place, "reservation", EARLY, json!({}))).collect();
    let head = format!(
        "POST {IMPORT} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        served.token(),
        many.len() + 1,
    );
    for (sent, answers) in [("", 0), (&many[..many.len() / 2], 0), (many.as_str(), 1)] {
        let mut paused = Connection::open(served.instance.admin).expect("a connection");
        paused.write(head.as_bytes()).expect("written");
        paused.write(sent.as_bytes()).expect("written");
        let reply = paused.read(false).expect("an answer");
        assert_eq!(reply.status, 200);
        let told = json_lines(&reply.body);
        assert_eq!(told.len(), answers + 1, "{told:?}");
        assert_eq!(told[answers]["error"], "request-timeout");
        assert!(paused.is_closed(), "its place is free");
    }
    let mut admin = served.admin();
    let again = import(&mut admin, &many);
    let told = |name: &str| -> u64 { again.iter().filter_map(|answer| answer[name].as_u64()).sum() };
    assert_eq!((told("accepted"), told("already_there")), (10, 10_000));
    served.instance.stop();
}

/// A byte now and then is no line: neither a drip nor blank lines hold an import, be
/// it before its first line or behind one.
#[test]
fn an_import_that_completes_no_line_in_time_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let mut command = program();
    command.arg("serve").arg("--config").arg(write_config(dir.path(), "test", "", ""));
    command.env("PESELGATE_ADMIN__IMPORT_IDLE_TIMEOUT_MS", "700");
    let served = Served { instance: Instance::start(command, dir.path()), dir };
    let head = format!(
        "POST {IMPORT} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n",
        served.token(),
    );
    let one = line(200, "reservation", EARLY, json!({}));
    for (first, drip) in [("", " "), ("", "\n"), (one.as_str(), "\n"), (one.as_str(), "x")] {
        let (last, after) = dripped(served.instance.admin, &head, first, drip);
        assert_eq!(last["error"], "request-timeout", "held by {drip:?}");
        assert!(after >= Duration::from_millis(600), "{after:?}");
    }
    served.instance.stop();
}

/// Each holds the lines of a chunk in memory: more at once are told to come again,
/// and everybody else is served.
#[test]
fn more_imports_at_once_are_told_to_come_again() {
    let demo = Demo::new(1_000);
    let begin = || {
        let mut caller = demo.admin();
        let head = format!(
            "POST {IMPORT} HTTP/1.1\r\nhost: g\r\nauthorization: {}\r\n\
             content-type: application/x-ndjson\r\ncontent-length: 10\r\n\r\n",
            caller.bearer,
        );
        caller.connection.write(head.as_bytes()).expect("written");
        (caller.connection.read_head().expect("an answer"), caller)
    };
    let mut open: Vec<_> = (0..16).map(|_| begin()).collect();
    assert!(open.iter().all(|(reply, _)| reply.status == 200));
    let (refused, _) = begin();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    let mut admin = demo.admin();
    let reply = admin.connection.request(
        "POST",
        IMPORT,
        &[("authorization", admin.bearer.as_str()), ("content-type", "application/x-ndjson")],
        Some(b""),
    );
    assert_eq!(reply.expect("an answer").problem(), (503, "overloaded".to_owned()));
    assert_eq!(demo.admin().post("/admin/v1/reservations", &filing(&number(0))).status, 201);
    // One ends, another one breaks off.
    for _ in 0..2 {
        let (_, mut ended) = open.remove(0);
        if open.len() == 15 {
            ended.connection.write(&[b'\n'; 10]).expect("written");
        }
        drop(ended);
        open.push(wait_for("a place", || Some(begin()).filter(|(reply, _)| reply.status == 200)));
    }
}

/// Of the past and with an end: carried out once, unless a line says otherwise.
#[test]
fn temporary_withdrawals_of_the_past_end_once() {
    let demo = Demo::new(1_000);
    let mut admin = demo.admin();
    let withdrawn = |place, end: &str| {
        line(place, "withdrawal", "2024-04-01T00:00:00Z", json!({ "reserve_again_at": end }))
    };
    let history = [
        line(1, "reservation", EARLY, json!({})),
        line(2, "reservation", EARLY, json!({})),
        line(3, "reservation", EARLY, json!({})),
        line(4, "reservation", EARLY, json!({})),
        withdrawn(1, "2024-05-01T00:00:00Z"),
        withdrawn(2, "2024-05-01T00:00:00Z"),
        withdrawn(3, "2024-05-01T00:00:00Z"),
        withdrawn(4, "2099-05-01T00:00:00Z"),
        line(2, "reservation", "2024-04-15T00:00:00Z", json!({"channel": "id-card-register"})),
        line(3, "withdrawal", "2024-06-01T00:00:00Z", json!({"channel": "gmina"})),
    ];
    let body = history.concat();
    assert_eq!(import(&mut admin, &body)[0]["accepted"], 10);
    let mut entry = |place| admin.post("/admin/v1/entries/query", &json!({"pesel": number(place)})).good();
    wait_for("the end", || (entry(1)["reserved"] == true).then_some(()));
    for (place, reserved_at, withdrawn_at, again_at, count) in [
        (1, json!("2024-05-01T00:00:00Z"), Value::Null, Value::Null, 3),
        (2, json!("2024-04-15T00:00:00Z"), Value::Null, Value::Null, 3),
        (3, json!("2024-05-01T00:00:00Z"), json!("2024-06-01T00:00:00Z"), Value::Null, 4),
        (4, json!(EARLY), json!("2024-04-01T00:00:00Z"), json!("2099-05-01T00:00:00Z"), 2),
    ] {
        let entry = entry(place);
        assert_eq!(
            [&entry["reserved_at"], &entry["withdrawn_at"], &entry["reserve_again_at"]],
            [&reserved_at, &withdrawn_at, &again_at],
            "{place}"
        );
        assert_eq!(entry["events"].as_array().map(Vec::len), Some(count), "{place}");
    }
    assert_eq!(entry(1)["events"][2]["scheduled"], true);
    // What an institution is told of the time between.
    for (place, at, reserved) in [
        (1, "2024-04-30T23:59:59Z", false),
        (1, "2024-05-01T00:00:00Z", true),
        (3, "2024-05-15T00:00:00Z", true),
        (2, "2024-04-15T00:00:00Z", true),
    ] {
        let answer = demo.caller().post("/v1/verify", &json!({"pesel": number(place), "at": at})).good();
        assert_eq!(answer["reserved"], reserved, "{place} {at}");
    }
    let mut admin = demo.admin();
    let all = events(&mut admin, 2_000);
    let again = import(&mut admin, &body);
    assert_eq!((&again[0]["accepted"], &again[0]["already_there"]), (&json!(0), &json!(10)));
    let other = import(&mut admin, &line(1, "withdrawal", "2024-04-01T00:00:00Z", json!({})));
    assert_eq!(other[0]["errors"], json!([{"line": 0, "error": "reserve-again-at-differs"}]));
    let home = demo.stop();
    let demo = home.start(&[]);
    assert_eq!(events(&mut demo.admin(), 2_000), all);
}
