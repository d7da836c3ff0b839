//! What a key may spend, and what costs nothing.

use serde_json::{Value, json};

use crate::client::{Caller, Reply};
use crate::harness::Demo;

/// What is left: at once, and of the day.
fn left(caller: &mut Caller) -> (u64, u64) {
    let limits = caller.get("/v1/limits").good();
    let of = |name: &str| limits["remaining"][name].as_u64().expect("a number");
    (of("burst"), of("day"))
}

/// What the fields of a refusal say is left, of limits per second, burst and day.
fn told_left(refused: &Reply, [per_second, burst, per_day]: [u64; 3]) -> (u64, u64) {
    let window = burst / per_second;
    let policy = format!(r#""burst";q={burst};w={window}, "day";q={per_day};w=86400"#);
    assert_eq!(refused.header("ratelimit-policy"), Some(policy.as_str()));
    let field = refused.header("ratelimit").expect("what is left");
    let of = |name: &str| -> u64 {
        let rest = field.split(&format!(r#""{name}";r="#)).nth(1).and_then(|rest| rest.split(';').next());
        rest.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {name} in {field}"))
    };
    (of("burst"), of("day"))
}

#[test]
fn a_batch_costs_as_many_as_it_has_numbers_and_a_refusal_nothing() {
    let demo = Demo::shared();
    let free = demo.numbers("free.csv");
    // One a second: a refill shows as one, and the day's count is exact.
    let (id, key) = demo.issue("Bank Mały", &["127.0.0.1"], Some([1, 20, 1_000]));
    let mut caller = demo.caller_with(&key);
    let limits = caller.get("/v1/limits").good();
    assert_eq!(limits["key_id"], id);
    assert_eq!(limits["environment"], "test");
    assert_eq!(limits["institution"], "Bank Mały");
    assert_eq!(limits["addresses"], json!(["127.0.0.1/32"]));
    assert_eq!(limits["limits"], json!({"per_second": 1, "burst": 20, "per_day": 1_000}));
    assert_eq!(left(&mut caller), (20, 1_000));

    let refused = |caller: &mut Caller, status: u16, body: &Value, path: &str, more: &[(&str, &str)]| {
        let reply = caller.try_call("POST", path, more, Some(body)).expect("an answer");
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(left(caller), (20, 1_000), "a {status} has a price");
    };
    let (one, batch) = ("/v1/verify", "/v1/verify/batch");
    refused(&mut caller, 400, &json!({"pesel": free[0], "x": 1}), one, &[]);
    refused(&mut caller, 400, &json!({"pesels": []}), batch, &[]);
    refused(&mut caller, 422, &json!({"pesel": "44051401358"}), one, &[]);
    refused(&mut caller, 422, &json!({"pesel": free[0], "at": "2200-01-01T00:00:00Z"}), one, &[]);
    refused(&mut caller, 422, &json!({"pesels": [free[0]], "at": "2200-01-01T00:00:00Z"}), batch, &[]);
    refused(&mut caller, 413, &json!({"pesels": &free[..21]}), batch, &[]);
    refused(&mut caller, 415, &json!({"pesel": free[0]}), one, &[("content-encoding", "gzip")]);
    caller.get("/v1/verify").code();
    caller.get("/v1/nothing").code();
    assert_eq!(left(&mut caller), (20, 1_000));
    // Too large for a body; the connection ends with it.
    let long = json!({"pesel": free[0], "reference": "x".repeat(5_000)});
    assert_eq!(demo.caller_with(&key).post(one, &long).problem(), (413, "content-too-large".to_owned()));
    assert_eq!(left(&mut caller), (20, 1_000));

    let answer = caller.post(batch, &json!({"pesels": ["x", free[0], free[1], "44051401358", free[2]]}));
    assert_eq!(answer.good()["results"].as_array().map(Vec::len), Some(5));
    assert!(answer.header("ratelimit").is_some_and(|field| field.contains(r#""day";r=995"#)));
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""burst";q=20;w=20, "day";q=1000;w=86400"#));
    assert_eq!(left(&mut caller).1, 995);
    caller.verify(&free[0]).good();
    assert_eq!(caller.stream(&format!("\"{}\"\n\"{}\"\n", free[0], free[1])).len(), 2);
    assert_eq!(left(&mut caller).1, 992);
}

#[test]
fn over_the_limit_is_told_and_costs_nothing() {
    let demo = Demo::shared();
    let free = demo.numbers("free.csv");
    let (id, key) = demo.issue("Bank Szybki", &["127.0.0.1"], Some([1, 10, 1_000]));
    let mut caller = demo.caller_with(&key);
    let mut answered = 0;
    let refused = loop {
        let reply = caller.verify(&free[answered % 10]);
        if reply.status != 200 {
            break reply;
        }
        answered += 1;
        assert!(answered < 200, "no limit is kept");
    };
    assert!(answered >= 10, "{answered} of a burst of 10");
    assert_eq!(refused.problem(), (429, "rate-limited".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let (burst, day) = told_left(&refused, [1, 10, 1_000]);
    assert_eq!((burst, day), (0, 1_000 - answered as u64));
    for _ in 0..5 {
        let batch = caller.post("/v1/verify/batch", &json!({"pesels": &free[..10]}));
        assert_eq!(batch.status, 429);
        let seconds: u64 = batch.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
        assert!((1..=10).contains(&seconds), "{seconds}");
    }
    assert_eq!(left(&mut caller).1, 1_000 - answered as u64);

    // Neither another address nor other limits make the budget new.
    let mut admin = demo.admin();
    admin.put(&format!("/admin/v1/keys/{id}/addresses"), &json!({"addresses": ["127.0.0.0/8"]})).good();
    let (burst, day) = left(&mut caller);
    assert!(burst < 10, "an address change gave a new burst");
    assert_eq!(day, 1_000 - answered as u64);
    let limits = json!({"per_second": 1, "burst": 10, "per_day": 500});
    admin.put(&format!("/admin/v1/keys/{id}/limits"), &limits).good();
    assert_eq!(left(&mut caller).1, 500 - answered as u64);

    // One that would never pass is told so, where there is a burst left to ask with.
    let (_, key) = demo.issue("Bank Wąski", &["127.0.0.1"], Some([1, 10, 1_000]));
    let too_many = demo.caller_with(&key).post("/v1/verify/batch", &json!({"pesels": &free[..11]}));
    assert_eq!(too_many.problem(), (413, "content-too-large".to_owned()));
    assert_eq!(too_many.json()["burst"], 10);
    assert_eq!(told_left(&too_many, [1, 10, 1_000]), (10, 1_000), "the refusal costs nothing");
    // The numbers count even when they are too many for any batch.
    let many = json!({"pesels": vec!["x"; 1_001]});
    let reply = demo.caller().post("/v1/verify/batch", &many);
    assert_eq!(reply.problem(), (413, "content-too-large".to_owned()));
}

#[test]
fn a_day_has_an_end() {
    let demo = Demo::shared();
    let free = demo.numbers("free.csv");
    let (_, key) = demo.issue("Bank Skromny", &["127.0.0.1"], Some([12, 12, 12]));
    let mut caller = demo.caller_with(&key);
    caller.post("/v1/verify/batch", &json!({"pesels": &free[..10]})).good();
    let refused = caller.post("/v1/verify/batch", &json!({"pesels": &free[..3]}));
    assert_eq!(refused.problem(), (429, "quota-exceeded".to_owned()));
    assert_eq!(told_left(&refused, [12, 12, 12]).1, 2);
    let seconds: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
    // A day of the clock change in Warsaw has 25 hours.
    assert!(seconds <= 25 * 3_600, "{seconds}");
    assert_eq!(left(&mut caller).1, 2);
    caller.post("/v1/verify/batch", &json!({"pesels": &free[..2]})).good();
    assert_eq!(caller.verify(&free[0]).problem(), (429, "quota-exceeded".to_owned()));
    // What costs nothing is still had.
    assert_eq!(left(&mut caller).1, 0);
}

/// What was spent of the day is known after an orderly restart.
#[test]
fn the_day_goes_on_after_a_restart() {
    let demo = Demo::new(1_000);
    let free = demo.numbers("free.csv");
    let (_, key) = demo.issue("Bank Trwały", &["127.0.0.1"], Some([1_000, 100, 1_000]));
    demo.caller_with(&key).post("/v1/verify/batch", &json!({"pesels": &free[..77]})).good();
    let demo = demo.stop().start(&[]);
    assert_eq!(left(&mut demo.caller_with(&key)).1, 923);
}
