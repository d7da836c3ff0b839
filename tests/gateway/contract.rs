//! Statuses and codes of the contract, each from a real request over HTTP/1.1.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Caller, Connection, Reply};
use crate::harness::{Demo, fictional};
use crate::serve::Served;

fn post(caller: &mut Caller, path: &str, more: &[(&str, &str)], body: &[u8]) -> Reply {
    let bearer = caller.bearer.clone();
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend_from_slice(more);
    caller.connection.request("POST", path, &headers, Some(body)).expect("an answer")
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_single_answer_is_of_the_contracts_form() {
    let demo = Demo::shared();
    let mut caller = demo.caller();
    let reserved = &demo.numbers("reserved.csv")[7];
    let body = json!({"pesel": reserved, "reference": "umowa nr 7, żółta"});
    let reply = caller.post("/v1/verify", &body);
    let answer = reply.good();
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.header("ratelimit").is_some() && reply.header("ratelimit-policy").is_some());
    let fields: Vec<_> = answer.as_object().expect("an object").keys().cloned().collect();
    let promised = ["answered_at", "at", "register", "reserved", "reserved_at", "verification_id"];
    assert_eq!(fields, promised);
    assert_eq!(answer["register"].as_object().map(|fields| fields.len()), Some(2));
    for moment in [&answer["at"], &answer["reserved_at"], &answer["register"]["as_of"]] {
        let moment = moment.as_str().expect("a moment");
        assert!(moment.len() == 20 && moment.ends_with('Z') && &moment[10..11] == "T", "{moment}");
    }
    let id = answer["verification_id"].as_str().expect("an identifier");
    assert_eq!((id.len(), &id[14..15]), (36, "7"));

    // The evidence, fetched again.
    let evidence = caller.get(&format!("/v1/verifications/{id}")).good();
    for (name, value) in answer.as_object().expect("an object") {
        assert_eq!(&evidence[name], value, "{name}");
    }
    assert_eq!(evidence["pesel"], json!(reserved));
    assert_eq!(evidence["reference"], body["reference"]);
    // A colleague of the same institution sees it, another institution does not.
    let (_, own) = demo.issue("Bank Przykładowy SA", &["127.0.0.1"], None);
    assert_eq!(demo.caller_with(&own).get(&format!("/v1/verifications/{id}")).good(), evidence);
    let (_, other) = demo.issue("Bank Obcy", &["127.0.0.1"], None);
    let reply = demo.caller_with(&other).get(&format!("/v1/verifications/{id}"));
    assert_eq!(reply.problem(), (404, "not-found".to_owned()));
    let mut admin = demo.admin();
    // One of the same name with a number is another body; a number makes the same
    // one under another name, after its key was deactivated as well.
    let mut issue = |name: &str, regon: &str| {
        let institution = json!({"name": name, "regon": regon});
        let body = json!({"institution": institution, "system": "tests", "addresses": ["127.0.0.1"]});
        let issued = admin.post("/admin/v1/keys", &body).good();
        let text = |name: &str| issued[name].as_str().expect("a text").to_owned();
        (text("id"), text("key"))
    };
    let (_, namesake) = issue("Bank Przykładowy SA", "123456785");
    assert_eq!(demo.caller_with(&namesake).get(&format!("/v1/verifications/{id}")).status, 404);
    let (old_id, old) = issue("Bank Dawny", "000331501");
    let answer = demo.caller_with(&old).verify(reserved).good();
    let id = answer["verification_id"].as_str().expect("an identifier");
    let (_, namesake) = issue("Bank Dawny", "123456785");
    let (_, renamed) = issue("Bank Nowy", "000331501");
    demo.admin().post(&format!("/admin/v1/keys/{old_id}/deactivate"), &json!({})).good();
    assert_eq!(demo.caller_with(&namesake).get(&format!("/v1/verifications/{id}")).status, 404);
    let evidence = demo.caller_with(&renamed).get(&format!("/v1/verifications/{id}")).good();
    assert_eq!(evidence["reserved_at"], answer["reserved_at"]);
    for none in ["0199d4d7-f000-7abc-8123-456789abcdef", "x", "../../etc/passwd", "%00"] {
        assert_eq!(caller.get(&format!("/v1/verifications/{none}")).status, 404, "{none}");
    }
}

#[test]
fn a_batch_keeps_order_and_one_state() {
    let demo = Demo::shared();
    let mut caller = demo.caller();
    let (reserved, free) = (demo.numbers("reserved.csv"), demo.numbers("free.csv"));
    let asked = [&reserved[0], "x", &free[0], "44851401358", &reserved[1], &reserved[0], ""];
    let answer = caller.post("/v1/verify/batch", &json!({"pesels": asked, "reference": "r"})).good();
    let results = answer["results"].as_array().expect("results");
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            (result["pesel"].as_str().expect("a text"), result["reserved"].as_bool(), &result["error"])
        })
        .collect();
    let wrong = json!("invalid-pesel");
    let expected = [
        (asked[0], Some(true), &Value::Null),
        (asked[1], None, &wrong),
        (asked[2], Some(false), &Value::Null),
        (asked[3], None, &wrong),
        (asked[4], Some(true), &Value::Null),
        (asked[5], Some(true), &Value::Null),
        (asked[6], None, &wrong),
    ];
    assert_eq!(told, expected);
    let id = answer["verification_id"].as_str().expect("an identifier");
    let evidence = caller.get(&format!("/v1/verifications/{id}")).good();
    assert_eq!(evidence["register"], answer["register"]);
    let again = evidence["results"].as_array().expect("results");
    assert_eq!(again.len(), results.len());
    for (now, then) in results.iter().zip(again) {
        assert_eq!((&now["reserved"], &now["reserved_at"]), (&then["reserved"], &then["reserved_at"]));
        assert_eq!(now["error"], then["error"]);
    }
    let thousand = json!({"pesels": vec![&free[0]; 1_000]});
    let answer = caller.post("/v1/verify/batch", &thousand).good();
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(1_000));
}

#[test]
fn malformed_questions_are_told_apart_from_wrong_numbers() {
    let demo = Demo::shared();
    let mut caller = demo.caller();
    let good = fictional(7);
    let malformed = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        "\u{feff}{}".to_owned(),
        format!(r#"{{"pesel":{good}}}"#),
        format!(r#"{{"pesel":["{good}"]}}"#),
        r#"{"pesel":null}"#.to_owned(),
        format!(r#"{{"pesel":"{good}","x":1}}"#),
        format!(r#"{{"pesel":"{good}","{good}":1}}"#),
        format!(r#"{{"pesel":"{good}","pesel":"{good}"}}"#),
        format!(r#"{{"pesel":"{good}"}} {{}}"#),
        format!(r#"{{"pesel":"{good}","at":1700000000}}"#),
        format!(r#"{{"pesel":"{good}","at":"{good}"}}"#),
        format!(r#"{{"pesel":"{good}","at":"2024-02-30T00:00:00Z"}}"#),
        format!(r#"{{"pesel":"{good}","at":"2024-02-03T00:00:00"}}"#),
        format!(r#"{{"pesel":"{good}","reference":"{}"}}"#, "ż".repeat(65)),
        format!(r#"{{"pesel":"{good}","reference":"a\u0000"}}"#),
        format!("{}{}", "[".repeat(2_000), "]".repeat(2_000)),
    ];
    for body in malformed {
        let reply = post(&mut caller, "/v1/verify", &[JSON], body.as_bytes());
        assert_eq!(reply.problem(), (400, "malformed-request".to_owned()), "{body}");
        assert!(!reply.text().contains(&good[..10]), "the number comes back: {}", reply.text());
    }
    let invalid = [
        ("", "length"),
        ("4485140135", "length"),
        ("448514013530", "length"),
        ("4485140135x", "digit"),
        ("44851401358", "checksum"),
        ("00000000000", "date"),
        ("44133101357", "date"),
        ("99022900014", "date"),
    ];
    for (pesel, reason) in invalid {
        let reply = caller.verify(pesel);
        assert_eq!(reply.problem(), (422, "invalid-pesel".to_owned()), "{pesel}");
        assert_eq!(reply.json()["reason"], reason, "{pesel}");
    }
    for pesel in ["44051401359", "75120804355", "07061552938", "98072831138", "22222222222"] {
        caller.verify(pesel).good();
    }
    let reply = post(&mut caller, "/v1/verify", &[JSON], b"{\"pesel\":\"\xFF\"}");
    assert_eq!(reply.problem(), (400, "malformed-request".to_owned()));
}

#[test]
fn moments_of_the_past_are_answered_and_of_the_future_refused() {
    let demo = Demo::shared();
    let mut caller = demo.caller();
    let free = &demo.numbers("free.csv")[9];
    let at = |caller: &mut Caller, at: &str| caller.post("/v1/verify", &json!({"pesel": free, "at": at}));
    for (offset, utc) in [
        ("2025-11-01T12:00:00+01:00", "2025-11-01T11:00:00Z"),
        ("2025-11-01T12:00:00.999Z", "2025-11-01T12:00:00Z"),
        ("2025-11-01T00:00:00-11:30", "2025-11-01T11:30:00Z"),
        ("2010-01-01T00:00:00Z", "2010-01-01T00:00:00Z"),
        ("2016-12-31t23:59:60z", "2016-12-31T23:59:59Z"),
        ("1900-01-01T00:00:00Z", "1900-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ] {
        assert_eq!(at(&mut caller, offset).good()["at"], utc);
    }
    for future in
        ["2199-01-01T00:00:00Z", "9999-12-30T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59"]
    {
        assert_eq!(at(&mut caller, future).problem(), (422, "future-moment".to_owned()));
    }
    for none in ["0000-01-01T00:00:00Z", "2025-11-01T24:00:00Z", "2025-11-01T12:00:60Z"] {
        assert_eq!(at(&mut caller, none).problem(), (400, "malformed-request".to_owned()));
    }
    // Before there was a register nothing was reserved; the evidence says the same.
    let reserved = &demo.numbers("reserved.csv")[9];
    let before = json!({"pesel": reserved, "at": "1900-01-01T00:00:00Z"});
    let answer = caller.post("/v1/verify", &before).good();
    assert_eq!(answer["reserved"], false);
    let id = answer["verification_id"].as_str().expect("an identifier");
    let evidence = caller.get(&format!("/v1/verifications/{id}")).good();
    assert_eq!((&evidence["at"], &evidence["reserved"]), (&before["at"], &json!(false)));
}

#[test]
fn paths_methods_and_media_types() {
    let demo = Demo::shared();
    let mut caller = demo.caller();
    let body = json!({"pesel": fictional(8)}).to_string();
    for path in ["/", "/v1", "/v1/verify/", "/v1/Verify", "/v1/verifications/", "//v1/verify", "/v1/verify/x"]
    {
        let reply = post(&mut caller, path, &[JSON], body.as_bytes());
        assert_eq!(reply.problem(), (404, "not-found".to_owned()), "{path}");
    }
    for (path, allow) in [("/v1/verify", "POST"), ("/v1/verify/batch", "POST"), ("/v1/status", "GET, HEAD")] {
        let reply = caller.call("DELETE", path, None);
        assert_eq!(reply.problem(), (405, "method-not-allowed".to_owned()), "{path}");
        assert_eq!(reply.header("allow"), Some(allow));
    }
    let query = format!("/v1/verify?pesel={}", fictional(8));
    assert_eq!(post(&mut caller, &query, &[JSON], body.as_bytes()).status, 400);
    for media in ["text/plain", "application/xml", "application/jsonx", "multipart/form-data"] {
        for path in ["/v1/verify", "/v1/verify/batch"] {
            let reply = post(&mut caller, path, &[("content-type", media)], body.as_bytes());
            assert_eq!(reply.problem(), (415, "unsupported-media-type".to_owned()), "{media}");
        }
    }
    for coding in ["gzip", "br", "deflate, gzip"] {
        let reply = post(&mut caller, "/v1/verify", &[JSON, ("content-encoding", coding)], body.as_bytes());
        assert_eq!(reply.problem(), (415, "unsupported-media-type".to_owned()), "{coding}");
    }
    for media in ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"] {
        post(&mut caller, "/v1/verify", &[("content-type", media)], body.as_bytes()).good();
    }
    // The status needs nobody's credential.
    let mut stranger = Connection::open(demo.instance.verification).expect("a connection");
    let status = stranger.request("GET", "/v1/status", &[], None).expect("an answer").good();
    assert_eq!(status["outages"], json!([]));
    let head = stranger.request("HEAD", "/v1/status", &[], None).expect("an answer");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn a_request_identifier_is_echoed_if_it_is_one() {
    let demo = Demo::shared();
    let mut caller = demo.caller();
    for good in ["a", "req-1.2_3", &"x".repeat(64)] {
        let reply = caller.try_call("GET", "/v1/limits", &[("x-request-id", good)], None).expect("an answer");
        assert_eq!(reply.header("x-request-id"), Some(good));
        let reply = caller.try_call("GET", "/v1/none", &[("x-request-id", good)], None).expect("an answer");
        assert_eq!(reply.json()["request_id"], good);
    }
    let long = "x".repeat(65);
    for bad in ["", "a b", "a\"b", "44851401353", "x-44851401353-y", &long, "<script>"] {
        for path in ["/v1/limits", "/v1/none"] {
            let reply = caller.try_call("GET", path, &[("x-request-id", bad)], None).expect("an answer");
            let id = reply.header("x-request-id").expect("an identifier");
            assert!(id.len() == 16 && id.bytes().all(|c| c.is_ascii_hexdigit()), "{bad} became {id}");
        }
    }
}

/// Slow heads and bodies are cut in time, with an answer; with time-outs of a
/// fraction of a second, set in the configuration.
#[test]
fn slowness_and_size_have_limits() {
    let served = Served::start(
        "test",
        "header_read_timeout_ms = 700\nbody_read_timeout_ms = 400\nstream_idle_timeout_ms = 600",
        "",
    );
    let key = served.key();
    let open = || Connection::open(served.instance.verification).expect("a connection");
    let authorization = format!("authorization: Bearer {key}\r\ncontent-type: application/json\r\n");

    let began = Instant::now();
    let mut slow = open();
    let head = format!("POST /v1/verify HTTP/1.1\r\nhost: g\r\n{authorization}content-length: 25\r\n\r\n{{");
    slow.write(head.as_bytes()).expect("written");
    let reply = slow.read(false).expect("an answer");
    reply.check_promises();
    assert_eq!(reply.problem(), (408, "request-timeout".to_owned()));
    assert!(slow.is_closed() && began.elapsed().as_millis() >= 400);

    // The second of them might still have become HTTP/2.
    for begun in [&b"POST /v1/verify HTTP/1.1\r\nhost: g\r\n"[..], b"PRI * HT"] {
        let mut slow = open();
        slow.write(begun).expect("written");
        let reply = slow.read(false).expect("an answer");
        reply.check_promises();
        assert_eq!(reply.problem(), (408, "request-timeout".to_owned()));
        assert!(slow.is_closed());
    }
    assert!(open().is_closed(), "a silent client is cut without a word");

    let mut slow = open();
    let head = format!(
        "POST /v1/verify/batch HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\
         content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    slow.write(head.as_bytes()).expect("written");
    let reply = slow.read(false).expect("an answer");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["error"], "request-timeout", "the last line of a stream that paused");

    // A body said to be too large is refused before it is sent.
    for (path, bytes) in [("/v1/verify", 4 * 1024 + 1), ("/v1/verify/batch", 64 * 1024 + 1)] {
        let mut large = open();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: g\r\n{authorization}content-length: {bytes}\r\n\r\n");
        large.write(head.as_bytes()).expect("written");
        let reply = large.read(false).expect("an answer");
        reply.check_promises();
        assert_eq!(reply.problem(), (413, "content-too-large".to_owned()), "{path}");
        assert!(large.is_closed(), "an undrained body ends the connection");
    }
    // A stranger's body is not awaited at all.
    let mut stranger = open();
    stranger.write(b"POST /v1/verify HTTP/1.1\r\nhost: g\r\ncontent-length: 25\r\n\r\n").expect("written");
    assert_eq!(stranger.read(false).expect("an answer").problem(), (401, "unauthenticated".to_owned()));
    served.instance.stop();
}
