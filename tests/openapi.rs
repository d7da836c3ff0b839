//! The contract (`config/openapi.yaml`) against the code and a running gateway,
//! both ways: nothing undocumented is answered, nothing promised is missing.

mod demo;
#[path = "openapi/probe.rs"]
mod probe;
#[path = "openapi/refusals.rs"]
mod refusals;
#[path = "openapi/schema.rs"]
mod schema;

use std::collections::BTreeSet;
use std::fs;

use demo::{Answer, Demo, request, send_raw};
use peselgate::environment::Environment;
use peselgate::http::problem::Code;
use peselgate::limits;
use peselgate::pesel::Pesel;
use peselgate::secret::{PlainCredential, Plane};
use probe::{Prober, filled, with_body};
use schema::{Contract, Operation};
use serde_json::{Value, json};

/// Told in a last answer line of an import, never as a status.
const LINE_CODES: &[&str] = &["mass-change"];

/// What cannot be provoked from outside a healthy instance; each has tests of
/// its own where it is made.
const UNPROVOKED: &[&str] = &[
    "internal-error",
    "overloaded",
    "draining",
    "register-unavailable",
    "audit-unavailable",
    "access-unavailable",
    // Ten thousand messages would have to go before.
    "feed-forgotten",
];

#[test]
fn document_and_code_have_the_same_problems() {
    let contract = Contract::read();
    let words = contract.0.pointer("/components/schemas/Code/enum").and_then(Value::as_array).expect("codes");
    let documented: BTreeSet<&str> = words.iter().filter_map(Value::as_str).collect();
    let coded: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(documented, coded);
    let mut used = BTreeSet::new();
    for operation in contract.operations() {
        for status in operation.statuses() {
            for code in operation.codes(status) {
                let known = Code::ALL.iter().find(|known| known.name() == code).expect(&code);
                assert_eq!(known.status(), status, "{}: {code}", operation.name());
                used.insert(known.name());
            }
        }
    }
    used.extend(LINE_CODES);
    assert_eq!(used, coded, "a code that no operation is documented to answer with");
}

/// The literal paths of the routers, as their sources have them.
fn routed_paths() -> BTreeSet<String> {
    let source = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http").join(name);
        fs::read_to_string(path).expect(name)
    };
    let mut paths = BTreeSet::new();
    for name in ["admin/mod.rs", "ops.rs"] {
        let text = source(name);
        for part in text.split(".route(\"").skip(1) {
            paths.insert(part.split('"').next().expect("a path").to_owned());
        }
    }
    for part in source("verify/mod.rs").split("\"/").skip(1) {
        let path = format!("/{}", part.split('"').next().expect("a path"));
        paths.insert(if path.ends_with('/') { format!("{path}{{id}}") } else { path });
    }
    paths
}

#[test]
fn document_and_routers_have_the_same_paths() {
    let contract = Contract::read();
    let paths = contract.0["paths"].as_object().expect("paths");
    assert_eq!(paths.keys().cloned().collect::<BTreeSet<_>>(), routed_paths());
}

#[test]
fn document_and_code_have_the_same_limits() {
    let contract = Contract::read();
    let most = |pointer: &str| {
        let value = contract.0.pointer(&format!("/x-rate-limits/{pointer}")).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("{pointer} has no number"))
    };
    let defaults = peselgate_defaults();
    for (pointer, value) in [
        ("key/per_second/max", u64::from(limits::KEY_PER_SECOND_MAX)),
        ("key/burst/max", u64::from(limits::KEY_PER_SECOND_MAX)),
        ("key/per_day/max", limits::KEY_PER_DAY_MAX),
        ("key/per_second/default", defaults["per_second"]),
        ("key/burst/default", defaults["burst"]),
        ("key/per_day/default", defaults["per_day"]),
        ("address/burst/default", defaults["auth_failures_burst"]),
        ("address/per_second/default", defaults["auth_failures_per_second"]),
        ("new_connections/burst/max", u64::from(limits::TURNS_AT_ONCE.get())),
        ("new_connections/per_second/max", u64::from(limits::TURNS_PER_SECOND.get())),
        ("new_connections/wait_seconds/max", limits::TURN_WAIT_MAX.as_secs()),
        ("malformed_messages/burst/max", u64::from(limits::TURNS_AT_ONCE.get())),
        ("malformed_messages/per_second/max", u64::from(limits::TURNS_PER_SECOND.get())),
        ("malformed_messages/wait_seconds/max", limits::TURN_WAIT_MAX.as_secs()),
        ("streams/at_once/max", limits::STREAMS_PER_CONNECTION_MAX as u64),
        ("imports/at_once/max", limits::IMPORTS_MAX as u64),
        ("streams/read_ahead_bytes/max", limits::STREAM_AHEAD_BYTES_MAX as u64),
        ("streams/http2_window_bytes/max", u64::from(limits::HTTP2_STREAM_WINDOW_BYTES)),
        ("sizes/single_body_bytes/max", limits::SINGLE_BODY_BYTES_MAX as u64),
        ("sizes/batch_body_bytes/max", limits::BATCH_BODY_BYTES_MAX as u64),
        ("sizes/batch_numbers/max", limits::BATCH_NUMBERS_MAX as u64),
        ("sizes/stream_lines/max", limits::STREAM_LINES_MAX),
        ("sizes/stream_line_bytes/max", limits::STREAM_LINE_BYTES_MAX as u64),
        ("sizes/admin_body_bytes/max", limits::ADMIN_BODY_BYTES_MAX as u64),
        ("sizes/import_chunk_lines/max", limits::IMPORT_CHUNK_LINES as u64),
        ("sizes/events_page/max", limits::EVENTS_PAGE_MAX as u64),
        ("sizes/feed_answers/max", limits::FEED_ANSWERS_KEPT),
        ("sizes/reference_chars/max", limits::REFERENCE_CHARS_MAX as u64),
        ("sizes/request_target_bytes/max", limits::TARGET_BYTES_MAX as u64),
    ] {
        assert_eq!(most(pointer), value, "{pointer}");
    }
}

/// The `[limits]` of the example configuration, which shows the defaults.
fn peselgate_defaults() -> std::collections::HashMap<String, u64> {
    let text = include_str!("../config/peselgate.example.toml");
    let table: toml::Table = text.parse().expect("TOML");
    let limits = table["limits"].as_table().expect("a table");
    limits.iter().map(|(name, value)| (name.clone(), value.as_integer().expect("a number") as u64)).collect()
}

#[test]
fn the_documents_examples_are_of_its_schemas() {
    let contract = Contract::read();
    let mut seen = 0;
    for operation in contract.operations() {
        let bodies = operation.value["responses"].as_object().expect("responses").values();
        let bodies = bodies.map(|response| &contract.resolve(response)["content"]);
        for (media_type, body) in bodies
            .chain(operation.value.pointer("/requestBody/content"))
            .filter_map(Value::as_object)
            .flatten()
        {
            for (name, example) in body.get("examples").and_then(Value::as_object).into_iter().flatten() {
                let wrong = contract.check(&body["schema"], &example["value"]);
                assert!(wrong.is_empty(), "{} {media_type} {name}: {wrong:?}", operation.name());
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn every_answer_is_documented_and_every_promise_is_kept() {
    let contract: &'static Contract = Box::leak(Box::new(Contract::read()));
    let mut prober = Prober { contract, demo: Demo::start(1_000), seen: BTreeSet::new() };
    let operations = contract.operations();
    for operation in &operations {
        as_pasted(&mut prober, operation);
        without_right(&mut prober, operation);
        malformed(&mut prober, operation);
        other_methods(&mut prober, operation, &operations);
    }
    refusals::verification_refusals(&mut prober);
    refusals::register_refusals(&mut prober);
    refusals::feed_refusals(&mut prober);
    refusals::access_refusals(&mut prober);
    refusals::backup_refusals(&mut prober);
    refusals::too_slow(&mut prober);
    // Last: this address is refused unheard from here on.
    refusals::too_many_failures(&mut prober);

    let missing: Vec<_> =
        operations.iter().flat_map(promises).filter(|it| !prober.seen.contains(it)).collect();
    let missing: Vec<_> = missing
        .iter()
        .filter(|(name, status, code)| {
            !UNPROVOKED.contains(&code.as_str()) && (name.as_str(), *status) != ("GET /readyz", 503)
        })
        .collect();
    assert!(missing.is_empty(), "promised and not seen: {missing:#?}");
}

/// Every status, with every code, that the document promises.
fn promises(operation: &Operation<'_>) -> Vec<(String, u16, String)> {
    let mut promises = Vec::new();
    for status in operation.statuses() {
        let codes = operation.codes(status);
        let codes = if codes.is_empty() { BTreeSet::from([String::new()]) } else { codes };
        promises.extend(codes.into_iter().map(|code| (operation.name(), status, code)));
    }
    promises
}

fn as_pasted(prober: &mut Prober, operation: &Operation<'_>) {
    let request = prober.asked(operation);
    let examples = operation.examples();
    if examples.is_empty() {
        let answer = prober.probe(operation, &request);
        assert_eq!(answer.status, 200, "{}: {}", operation.name(), answer.text());
    }
    for (media_type, name, value) in examples {
        let answer = prober.probe(operation, &with_body(request.clone(), media_type, value));
        assert!(answer.status < 300, "{} {name}: {}", operation.name(), answer.text());
    }
}

fn without_right(prober: &mut Prober, operation: &Operation<'_>) {
    let Some(good) = prober.credential(operation) else { return };
    let target = prober.target(operation);
    let asked = || filled(operation, request(&operation.method, &target));
    prober.expect(operation, &asked(), 401, "unauthenticated");
    prober.expect(operation, &asked().bearer("pg_test_x"), 401, "malformed-key");
    let (plane, other) = match operation.path.starts_with("/admin/") {
        true => (Plane::Admin, prober.demo.key()),
        false => (Plane::Verification, prober.demo.token()),
    };
    prober.expect(operation, &asked().bearer(&other), 401, "malformed-key");
    for (environment, code) in
        [(Environment::Test, "unauthenticated"), (Environment::Production, "wrong-environment")]
    {
        let strange = PlainCredential::generate(plane, environment).expect("randomness");
        prober.expect(operation, &asked().bearer(strange.reveal()), 401, code);
    }
    prober.expect(operation, &asked().bearer(&good).bearer(&good), 400, "malformed-request");
    if plane == Plane::Admin {
        let role = match operation.value["operationId"].as_str() {
            Some("listKeys" | "listTokens" | "events" | "feeds") => {
                json!({"role": "official", "label": "x", "registrant": "Gmina", "teryt": "1465011"})
            }
            Some("entry") => json!({"role": "source", "label": "x", "registrant": "Bank", "channel": "bank"}),
            _ => json!({"role": "auditor", "label": "x"}),
        };
        let (_, token) = prober.issue_token(&role);
        prober.expect(operation, &asked().bearer(&token), 403, "forbidden");
    } else {
        let (_, key) = prober.issue_key("10.0.0.0/8", 10, 10);
        let answer = prober.expect(operation, &asked().bearer(&key), 403, "address-not-allowed");
        assert_eq!(answer.json()["address"], json!("127.0.0.1"));
    }
}

fn malformed(prober: &mut Prober, operation: &Operation<'_>) {
    let asked = prober.asked(operation);
    let credential = prober.credential(operation);
    let at = |target: &str| {
        let request = filled(operation, request(&operation.method, target));
        credential.iter().fold(request, |request, credential| request.bearer(credential))
    };
    prober.expect(operation, &at(&format!("/{}", "a".repeat(1_024))), 414, "uri-too-long");
    if prober.address(operation) == prober.demo.verification {
        let target = prober.target(operation);
        prober.expect(operation, &at(&format!("{target}?a=1")), 400, "malformed-request");
        let large = filled(operation, asked.clone()).header("x-large", &"a".repeat(9_000));
        prober.expect(operation, &large, 431, "header-fields-too-large");
    }
    if operation.path.contains("{id}") {
        for id in ["019ab7a2-1c7e-7d3f-9a51-7a4a0b1f3c55", "aaaaaaaaaa", "x", "%FF", "%00"] {
            prober.expect(operation, &at(&operation.path.replace("{id}", id)), 404, "not-found");
        }
    }
    let examples = operation.examples();
    let Some((media_type, ..)) = examples.first() else { return };
    let body = |media_type: &str, body: &str| asked.clone().body(media_type, body);
    prober.expect(operation, &body("text/plain", "{}"), 415, "unsupported-media-type");
    let coded = filled(operation, asked.clone()).header("content-encoding", "gzip");
    prober.expect(operation, &coded, 415, "unsupported-media-type");
    if *media_type == "application/json" {
        // The fields of the first example in an array, in the order a derived reader would take.
        let (.., example) = examples[0];
        let array =
            Value::from(example.as_object().expect("an object").values().cloned().collect::<Vec<_>>());
        let array = array.to_string();
        for malformed in ["", "{", "[]", "{}", "null", r#"{"no such field":1}"#, "\u{1}", &array] {
            prober.expect(operation, &body("application/json", malformed), 400, "malformed-request");
        }
        let large = format!("{{\"pesel\":\"{}\"}}", "1".repeat(70_000));
        prober.expect(operation, &body("application/json", &large), 413, "content-too-large");
    }
}

/// What the path allows is what the document has for it.
fn other_methods(prober: &mut Prober, operation: &Operation<'_>, operations: &[Operation<'_>]) {
    let target = prober.target(operation);
    let refused = request("DELETE", &target).send(prober.address(operation));
    let refused = prober.judge(operation, refused);
    assert_eq!(refused.status, 405, "{}", operation.name());
    let allow = refused.headers.get("allow").expect("allow").clone();
    let allowed: BTreeSet<&str> =
        allow.split(',').map(str::trim).filter(|method| *method != "HEAD").collect();
    let same_path = operations.iter().filter(|other| other.path == operation.path);
    let documented: BTreeSet<&str> = same_path.map(|other| other.method.as_str()).collect();
    assert_eq!(allowed, documented, "{}", operation.path);
}

#[test]
fn the_document_is_served_as_it_is() {
    let demo = Demo::start(10);
    let answer = request("GET", "/openapi.yaml").send(demo.verification);
    assert_eq!((answer.status, answer.media_type()), (200, "application/yaml"));
    assert!(answer.text() == include_str!("../config/openapi.yaml"));
    for other in [demo.admin, demo.ops] {
        assert_eq!(request("GET", "/openapi.yaml").send(other).status, 404);
    }
    // A head that nobody can read is answered with a document too.
    let answer = send_raw(demo.verification, b"GET / HTTP/1.1\r\nbad header\r\n\r\n");
    assert_eq!(answer.json()["code"], json!("malformed-request"), "{}", answer.text());
}
