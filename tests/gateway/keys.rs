//! Who is let in: allow-lists, wrong credentials, changes on open connections,
//! planes that know nothing of one another.

use std::net::Ipv4Addr;

use peselgate::environment::Environment;
use peselgate::secret::{PlainCredential, Plane};
use serde_json::{Value, json};

use crate::client::{Caller, Connection};
use crate::harness::Demo;
use crate::serve::{Served, write_config};
use crate::tls::reload;

/// The same credential with another secret, and a checksum that fits again.
fn with_another_secret(credential: &str) -> String {
    const CHECKSUM_CHARS: usize = 7;
    let mut body = credential[..credential.len() - CHECKSUM_CHARS].to_owned();
    let last = if body.ends_with('a') { 'b' } else { 'a' };
    body.pop();
    body.push(last);
    let crc = crc32c::crc32c(body.as_bytes()).to_be_bytes();
    let checksum = data_encoding::BASE32_NOPAD.encode(&crc).to_ascii_lowercase();
    body + &checksum
}

fn unknown(plane: Plane, environment: Environment) -> String {
    PlainCredential::generate(plane, environment).expect("randomness").reveal().to_owned()
}

/// The problem without what is of this request alone.
fn timeless(reply: &crate::client::Reply) -> Value {
    let mut problem = reply.json();
    problem.as_object_mut().expect("an object").remove("request_id");
    problem
}

#[test]
fn an_address_must_be_on_the_list() {
    let demo = Demo::shared();
    let pesel = &demo.numbers("free.csv")[0];
    let (_, elsewhere) = demo.issue("Bank Daleki", &["10.0.0.0/8"], None);
    let refused = demo.caller_with(&elsewhere).verify(pesel);
    assert_eq!(refused.problem(), (403, "address-not-allowed".to_owned()));
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("127.0.0.1")));
    for path in ["/v1/limits", "/v1/verifications/0199d4d7-f000-7abc-8123-456789abcdef"] {
        assert_eq!(demo.caller_with(&elsewhere).get(path).status, 403, "{path}");
    }

    let (_, second) = demo.issue("Bank Drugi", &["127.0.0.2"], None);
    let from = |local: [u8; 4]| {
        let connection = Connection::open_from(Ipv4Addr::from(local), demo.instance.verification);
        Caller::with(connection.expect("a connection"), &second)
    };
    from([127, 0, 0, 2]).verify(pesel).good();
    for other in [[127, 0, 0, 1], [127, 0, 0, 3], [127, 2, 0, 0]] {
        let refused = from(other).verify(pesel);
        assert_eq!(refused.problem(), (403, "address-not-allowed".to_owned()));
        let seen = Ipv4Addr::from(other).to_string();
        assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains(&seen)));
    }
    // No header changes whose socket it is.
    for spoofed in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let reply = from([127, 0, 0, 3]).try_call(
            "POST",
            "/v1/verify",
            &[(spoofed, "127.0.0.2")],
            Some(&json!({ "pesel": pesel })),
        );
        assert_eq!(reply.expect("an answer").status, 403, "{spoofed}");
    }
}

#[test]
fn every_wrong_credential_gets_one_answer() {
    let demo = Demo::shared();
    let (id, key) = demo.issue("Bank Zamknięty", &["127.0.0.0/8"], None);
    let pesel = &demo.numbers("free.csv")[1];
    demo.caller_with(&key).verify(pesel).good();
    let connect = || {
        // An address of its own: failures are counted by address.
        Connection::open_from(Ipv4Addr::new(127, 0, 0, 77), demo.instance.verification).expect("a connection")
    };
    let wrong_secret = with_another_secret(&key);
    assert_eq!(wrong_secret.len(), key.len());
    demo.admin().post(&format!("/admin/v1/keys/{id}/deactivate"), &json!({})).good();
    let wrong = [
        wrong_secret,
        with_another_secret(&demo.key()),
        unknown(Plane::Verification, Environment::Test),
        key.clone(),
    ];
    let answers: Vec<_> = wrong
        .iter()
        .map(|credential| Caller::with(connect(), credential).verify(pesel))
        .chain([connect().request("POST", "/v1/verify", &[], Some(b"{}")).expect("an answer")])
        .collect();
    for answer in &answers {
        assert_eq!(answer.problem(), (401, "unauthenticated".to_owned()));
        assert_eq!(timeless(answer), timeless(&answers[0]));
        let names = |reply: &crate::client::Reply| -> Vec<String> {
            reply.headers.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(answer), names(&answers[0]));
    }

    let other = unknown(Plane::Verification, Environment::Production);
    let reply = Caller::with(connect(), &other).verify(pesel);
    assert_eq!(reply.problem(), (401, "wrong-environment".to_owned()));
    let mut mistyped = demo.key();
    let last = if mistyped.ends_with('a') { "b" } else { "a" };
    mistyped.replace_range(mistyped.len() - 1.., last);
    for malformed in [mistyped.as_str(), "pg_test_x", "x"] {
        let reply = Caller::with(connect(), malformed).verify(pesel);
        assert_eq!(reply.problem(), (401, "malformed-key".to_owned()));
        assert!(malformed.len() < 8 || !reply.text().contains(malformed));
    }
    let twice = format!("Bearer {key}\r\nauthorization: Bearer {key}");
    let reply = connect().request("GET", "/v1/limits", &[("authorization", &twice)], None);
    assert_eq!(reply.expect("an answer").problem(), (400, "malformed-request".to_owned()));
}

#[test]
fn a_change_of_a_key_counts_from_the_next_request_on() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let pesel = &demo.numbers("free.csv")[2];
    let (id, key) = demo.issue("Bank Ruchomy", &["127.0.0.1"], None);
    let mut caller = demo.caller_with(&key);
    for _ in 0..5 {
        caller.verify(pesel).good();
        let away = json!({"addresses": ["10.1.2.3"]});
        let record = admin.put(&format!("/admin/v1/keys/{id}/addresses"), &away).good();
        assert_eq!(record["addresses"], json!(["10.1.2.3/32"]));
        assert_eq!(caller.verify(pesel).problem(), (403, "address-not-allowed".to_owned()));
        let back = json!({"addresses": ["127.0.0.0/30"]});
        admin.put(&format!("/admin/v1/keys/{id}/addresses"), &back).good();
        caller.verify(pesel).good();
    }
    let record = admin.post(&format!("/admin/v1/keys/{id}/deactivate"), &json!({})).good();
    assert!(record["deactivated_at"].is_string() && record.get("key").is_none());
    assert_eq!(caller.verify(pesel).problem(), (401, "unauthenticated".to_owned()));
    assert_eq!(caller.get("/v1/limits").problem(), (401, "unauthenticated".to_owned()));
    // The list never shows the key itself.
    assert!(!admin.get("/admin/v1/keys").text().contains(&key));
}

/// Too many failures from an address: refused unheard, but not for a key that
/// may come from there, though it never did before, and not for other addresses.
#[test]
fn a_guesser_is_slowed_down_and_nobody_else() {
    let demo = Demo::shared();
    let pesel = &demo.numbers("free.csv")[3];
    let from = |last: u8, key: &str| {
        let local = Ipv4Addr::new(127, 0, 9, last);
        Caller::with(Connection::open_from(local, demo.instance.verification).expect("a connection"), key)
    };
    let (_, key) = demo.issue("Bank Wytrwały", &["127.0.0.0/8"], None);
    let guess = unknown(Plane::Verification, Environment::Test);
    let mut guesser = from(1, &guess);
    let mut tries = 0;
    let refused = loop {
        let reply = guesser.verify(pesel);
        tries += 1;
        if reply.status == 429 {
            break reply;
        }
        assert_eq!(reply.status, 401);
        assert!(tries < 2_000, "nobody stops the guessing");
    };
    assert!(tries > 100, "{tries}");
    assert_eq!(refused.code(), "rate-limited");
    assert_eq!(from(2, &guess).verify(pesel).problem(), (401, "unauthenticated".to_owned()));
    from(2, &demo.key()).verify(pesel).good();
    from(1, &key).verify(pesel).good();
}

/// However many they are and however fast they ask, strangers are refused no faster
/// than a worker's turnstile lets through; whoever has a key does not wait there.
#[test]
fn refusals_of_strangers_wait_their_turn() {
    const REFUSALS: u32 = 2_400;
    let demo = Demo::new(10);
    let mut stranger = Connection::open(demo.instance.verification).expect("a connection");
    let question = "POST /v1/verify HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n";
    let began = std::time::Instant::now();
    stranger.write(question.repeat(REFUSALS as usize).as_bytes()).expect("written");
    for _ in 0..REFUSALS {
        assert_eq!(stranger.read(false).expect("an answer").problem(), (401, "unauthenticated".to_owned()));
    }
    // 400 at once, then 4 000 a second: half a second for the rest.
    assert!(began.elapsed() >= std::time::Duration::from_millis(490), "{:?}", began.elapsed());
}

#[test]
fn a_credential_of_one_plane_opens_no_other() {
    let demo = Demo::shared();
    let pesel = &demo.numbers("free.csv")[4];
    let reply = demo.caller_with(&demo.token()).verify(pesel);
    assert_eq!(reply.problem(), (401, "malformed-key".to_owned()));
    for path in ["/admin/v1/keys", "/admin/v1/events", "/admin/v1/tokens"] {
        assert_eq!(demo.admin_with(&demo.key()).get(path).status, 401, "{path}");
        let unknown = unknown(Plane::Admin, Environment::Test);
        assert_eq!(demo.admin_with(&unknown).get(path).problem(), (401, "unauthenticated".to_owned()));
        let forged = with_another_secret(&demo.token());
        assert_eq!(demo.admin_with(&forged).get(path).problem(), (401, "unauthenticated".to_owned()));
        let production = self::unknown(Plane::Admin, Environment::Production);
        assert_eq!(demo.admin_with(&production).get(path).problem(), (401, "wrong-environment".to_owned()));
    }
}

/// Every path of each plane, on each plane: 404 everywhere but at home.
#[test]
fn a_path_of_one_plane_is_not_found_on_another() {
    let demo = Demo::shared();
    let paths: [(&str, &[&str]); 3] = [
        (
            "verification",
            &["/v1/verify", "/v1/verify/batch", "/v1/limits", "/v1/status", "/v1/verifications/x"],
        ),
        (
            "admin",
            &[
                "/admin/v1/reservations",
                "/admin/v1/withdrawals",
                "/admin/v1/entries/query",
                "/admin/v1/events",
                "/admin/v1/import",
                "/admin/v1/keys",
                "/admin/v1/keys/abcdefghij/deactivate",
                "/admin/v1/keys/abcdefghij/addresses",
                "/admin/v1/tokens",
            ],
        ),
        ("operations", &["/livez", "/readyz", "/metrics"]),
    ];
    let planes = [
        ("verification", demo.instance.verification, demo.key()),
        ("admin", demo.instance.admin, demo.token()),
        ("operations", demo.instance.ops, String::new()),
    ];
    for (home, paths) in paths {
        for (plane, address, credential) in &planes {
            let mut caller = Caller::new(*address, credential);
            for path in paths {
                for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
                    let reply = caller.try_call(method, path, &[], Some(&json!({}))).expect("an answer");
                    if home != *plane {
                        assert_eq!(
                            reply.problem(),
                            (404, "not-found".to_owned()),
                            "{method} {path} on {plane}"
                        );
                    } else if method == "DELETE" {
                        assert_eq!(reply.problem(), (405, "method-not-allowed".to_owned()), "{path}");
                    }
                }
            }
        }
    }
}

/// The same request under its idempotency key is the same, whatever limits the
/// configuration gives to keys without their own by then.
#[test]
fn a_repeated_issue_is_the_same_after_other_limits_were_configured() {
    let served = Served::start("test", "", "[limits]\nper_second = 200");
    let body = json!({"institution": {"name": "Bank"}, "system": "s", "addresses": ["127.0.0.1"]});
    let issue = |key: &str| {
        let keyed = [("idempotency-key", key)];
        served.admin().try_call("POST", "/admin/v1/keys", &keyed, Some(&body)).expect("an answer")
    };
    let first = issue("k1");
    assert_eq!(first.status, 201, "{}", first.text());
    write_config(served.dir.path(), "test", "", "[limits]\nper_second = 300");
    reload(&served, "done");
    let again = issue("k1");
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert_eq!(again.json()["limits"]["per_second"], 200, "it is as it was issued");
    assert_eq!(issue("k2").good()["limits"]["per_second"], 300);
    served.instance.stop();
}

/// A day that holds less than what may come at once: the configuration refuses it, and
/// so does a key.
#[test]
fn limits_that_contradict_each_other_are_refused() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let (id, _) = demo.issue("Bank Zgodny", &["127.0.0.1"], Some([10, 20, 20]));
    let wrong = json!({"per_second": 10, "burst": 1_000, "per_day": 5});
    let key = json!({"institution": {"name": "Bank"}, "system": "s", "addresses": ["127.0.0.1"],
        "limits": wrong});
    for refused in
        [admin.post("/admin/v1/keys", &key), admin.put(&format!("/admin/v1/keys/{id}/limits"), &wrong)]
    {
        assert_eq!(refused.problem(), (422, "invalid-value".to_owned()));
        let problem = refused.json();
        assert_eq!(problem["field"], "limits");
        assert_eq!(problem["detail"], "limits: per_day is at least burst, which is 1000");
    }
}

#[test]
fn a_wrong_network_is_named_once() {
    let demo = Demo::shared();
    let key =
        json!({"institution": {"name": "Bank"}, "system": "s", "addresses": ["127.0.0.1", "300.1.1.1"]});
    let refused = demo.admin().post("/admin/v1/keys", &key);
    assert_eq!(refused.problem(), (422, "invalid-value".to_owned()));
    let problem = refused.json();
    assert_eq!(problem["field"], "addresses");
    let says = "addresses[1] is no IPv4 address or network such as 198.51.100.0/24";
    assert_eq!(problem["detail"], says);
}
