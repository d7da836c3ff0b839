//! What the register is told by sources: ordered feeds and renumberings.

use std::path::Path;

use peselgate::clock::Clock;
use peselgate::limits::{FEED_ANSWERS_KEPT, REGISTER_COMMANDS_PENDING_MAX};
use peselgate::register::{Channel, Delivery, Feed, FeedSequence, RegisterConfig, Registrant, open};
use serde_json::{Value, json};

use crate::client::Caller;
use crate::harness::{Demo, err, events, fictional, out, program};
use crate::rights::{official, source, token};

const RESERVE: &str = "/admin/v1/reservations";
const WITHDRAW: &str = "/admin/v1/withdrawals";
const RENUMBER: &str = "/admin/v1/renumberings";
const FEEDS: &str = "/admin/v1/feeds";

fn number(place: u32) -> String {
    fictional(70_000_000 + place)
}

/// What the PESEL register says of a number, at a place of its feed.
fn message(pesel: &str, sequence: u64) -> Value {
    json!({"pesel": pesel, "channel": "pesel-register", "registrant": "Kancelaria", "feed_sequence": sequence})
}

fn renumbering(old: &str, new: &str) -> Value {
    json!({"old": old, "new": new, "moment": "2024-05-01T10:00:00+02:00"})
}

fn gap(source: &mut Caller, path: &str, body: &Value) -> u64 {
    let reply = source.post(path, body);
    assert_eq!(reply.problem(), (409, "feed-gap".to_owned()), "{}", reply.text());
    reply.json()["expected"].as_u64().expect("a sequence")
}

/// A whole feed, told in disorder, twice, and over a killed process.
#[test]
fn a_feed_is_taken_in_order_once_and_over_a_kill() {
    let demo = Demo::new(100);
    let mut feed = source(&demo, "pesel-register");
    let bearer = feed.bearer.trim_start_matches("Bearer ").to_owned();
    assert_eq!(gap(&mut feed, RESERVE, &message(&number(1), 2)), 1, "a feed begins with 1");
    assert_eq!(feed.get(FEEDS).good(), json!({"feeds": []}));
    // Reserved, refused by the law, not even a PESEL, a renumbering: each takes its place.
    let mut told = renumbering(&number(1), &number(2));
    told["feed_sequence"] = json!(4);
    let outbox = [
        (RESERVE, message(&number(1), 1), 201),
        (WITHDRAW, message(&number(1), 2), 422),
        (RESERVE, message("44051401358", 3), 422),
        (RENUMBER, told, 201),
        (RESERVE, message(&number(3), 5), 201),
    ];
    let first: Vec<_> = outbox
        .iter()
        .map(|(path, body, status)| {
            let reply = feed.post(path, body);
            assert_eq!(reply.status, *status, "{}", reply.text());
            assert_eq!(
                gap(&mut feed, RESERVE, &message(&number(9), 9)),
                body["feed_sequence"].as_u64().expect("one") + 1
            );
            reply.json()
        })
        .collect();
    let all = events(&mut demo.admin(), 100);
    let demo = demo.kill().start(&[]);
    let mut feed = demo.admin_with(&bearer);
    for ((path, body, status), first) in outbox.iter().zip(&first) {
        let reply = feed.post(path, body);
        assert_eq!(reply.status, if *status == 201 { 200 } else { *status }, "{}", reply.text());
        for field in ["event_id", "sequence", "code", "reason"] {
            assert_eq!(reply.json().get(field), first.get(field), "{field}");
        }
    }
    let mut command = program();
    command.args(["feeds", "--admin-url", &format!("http://{}", demo.instance.admin)]);
    let shown =
        command.arg("--admin-token-file").arg(demo.file("demo-admin-token")).output().expect("an end");
    assert!(shown.status.success(), "{}", err(&shown));
    assert!(out(&shown).contains("z urzędu: rejestr PESEL  Kancelaria            5 "), "{}", out(&shown));
    // Another message at a place that is taken; over the three calls together.
    for (path, body) in [
        (RESERVE, message(&number(4), 1)),
        (WITHDRAW, message(&number(1), 1)),
        (RESERVE, message(&number(4), 3)),
    ] {
        assert_eq!(feed.post(path, &body).problem(), (409, "idempotency-mismatch".to_owned()), "{body}");
    }
    assert_eq!(events(&mut demo.admin(), 100), all, "nothing happened twice");
    let standing = feed.get(FEEDS).good();
    let moment = standing["feeds"][0]["moment"].clone();
    assert!(moment.is_string());
    assert_eq!(
        standing,
        json!({"feeds": [{"channel": "pesel-register", "registrant": "Kancelaria", "last_sequence": 5, "moment": moment}]})
    );
    assert!(demo.instance.metrics().contains("peselgate_feed_gaps_total{channel=\"pesel-register\"} 0"));
    let waiting = |count: u64| {
        let sample = format!("peselgate_feeds_waiting{{channel=\"pesel-register\"}} {count}");
        assert!(demo.instance.metrics().contains(&sample), "{sample}");
    };
    waiting(0);
    gap(&mut feed, RESERVE, &message(&number(4), 7));
    assert!(demo.instance.metrics().contains("peselgate_feed_gaps_total{channel=\"pesel-register\"} 1"));
    waiting(1);
    // A repetition is not what it waits for.
    feed.post(RESERVE, &message(&number(1), 1));
    waiting(1);
    feed.post(RESERVE, &message(&number(4), 6));
    waiting(0);
}

/// Takes messages of a feed, of the kind that is no command, for a stopped gateway:
/// thousands in a commit, where a sender's would be one each.
fn take_messages(register: &Path, feed: &Feed, messages: u64) {
    let config =
        RegisterConfig { path: register.to_owned(), cache_bytes: RegisterConfig::CACHE_BYTES_DEFAULT };
    let (_, commander, thread) = open(&config, Clock::system()).expect("a register");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let all: Vec<u64> = (1..=messages).collect();
    for part in all.chunks(REGISTER_COMMANDS_PENDING_MAX / 2) {
        runtime.block_on(async {
            let mut taken = tokio::task::JoinSet::new();
            for sequence in part {
                let (commander, feed) = (commander.clone(), feed.clone());
                let place = FeedSequence::new(*sequence).expect("positive");
                let delivery = Delivery::new(place, &sequence.to_le_bytes());
                taken.spawn(async move { commander.pass_over(feed, delivery).await });
            }
            for outcome in taken.join_all().await {
                outcome.expect("taken");
            }
        });
    }
    thread.stop();
}

#[test]
fn a_message_beyond_what_is_remembered_is_not_guessed_at() {
    let demo = Demo::new(100);
    let bearer = source(&demo, "pesel-register").bearer.trim_start_matches("Bearer ").to_owned();
    let register = demo.file("register.redb");
    let home = demo.stop();
    let registrant = Registrant::new("Kancelaria").expect("a name");
    let own = Feed { channel: Channel::PeselRegister, registrant };
    take_messages(&register, &own, FEED_ANSWERS_KEPT + 2);
    let demo = home.start(&[]);
    let mut feed = demo.admin_with(&bearer);
    let all = events(&mut demo.admin(), 1_000);
    let mut told = renumbering(&number(1), &number(2));
    for (path, sequence, code) in [
        (RESERVE, 1, "feed-forgotten"),
        (RESERVE, 2, "feed-forgotten"),
        (WITHDRAW, 2, "feed-forgotten"),
        (RENUMBER, 2, "feed-forgotten"),
        // The oldest that is remembered, and was another one.
        (RESERVE, 3, "idempotency-mismatch"),
        (RESERVE, FEED_ANSWERS_KEPT + 2, "idempotency-mismatch"),
        (RESERVE, FEED_ANSWERS_KEPT + 4, "feed-gap"),
    ] {
        told["feed_sequence"] = json!(sequence);
        let body = if path == RENUMBER { told.clone() } else { message(&number(1), sequence) };
        let reply = feed.post(path, &body);
        assert_eq!(reply.problem(), (409, code.to_owned()), "{path} {sequence}");
        let expected = (code != "idempotency-mismatch").then_some(FEED_ANSWERS_KEPT + 3);
        assert_eq!(reply.json()["expected"].as_u64(), expected, "{path} {sequence}");
    }
    assert_eq!(events(&mut demo.admin(), 1_000), all, "nothing changed");
    assert_eq!(feed.post(RESERVE, &message(&number(1), FEED_ANSWERS_KEPT + 3)).status, 201);
    assert_eq!(feed.get(FEEDS).good()["feeds"][0]["last_sequence"], FEED_ANSWERS_KEPT + 3);
    // The window has gone on by one.
    assert_eq!(feed.post(RESERVE, &message(&number(1), 3)).problem(), (409, "feed-forgotten".to_owned()));
}

#[test]
fn a_feed_is_its_sources_own() {
    let demo = Demo::shared();
    let at = |channel: &str, place: u32, sequence: u64| {
        let mut body = message(&number(place), sequence);
        body["channel"] = json!(channel);
        body
    };
    let (mut skok, mut post) = (source(&demo, "skok"), source(&demo, "post"));
    skok.post(RESERVE, &at("skok", 10, 1)).good();
    // Another feed begins with its own 1; a second token of a feed goes on with it.
    assert_eq!(gap(&mut post, RESERVE, &at("post", 11, 2)), 1);
    source(&demo, "skok").post(RESERVE, &at("skok", 12, 2)).good();
    post.post(RESERVE, &at("post", 11, 1)).good();
    let listed = |caller: &mut Caller| -> Vec<(Value, Value)> {
        let feeds = caller.get(FEEDS).good()["feeds"].as_array().expect("feeds").clone();
        feeds.iter().map(|feed| (feed["channel"].clone(), feed["last_sequence"].clone())).collect()
    };
    assert_eq!(listed(&mut skok), [(json!("skok"), json!(2))]);
    assert_eq!(listed(&mut post), [(json!("post"), json!(1))]);
    for role in ["auditor", "operator"] {
        let all = listed(&mut token(&demo, &json!({"role": role, "label": "x"})));
        assert!(all.contains(&(json!("skok"), json!(2))) && all.contains(&(json!("post"), json!(1))));
    }
    // A channel that is not the token's takes no place; nor does what has no feed.
    assert_eq!(skok.post(RESERVE, &at("post", 13, 3)).problem(), (403, "forbidden".to_owned()));
    assert_eq!(listed(&mut skok), [(json!("skok"), json!(2))]);
    let gmina =
        json!({"pesel": number(14), "channel": "gmina", "registrant": "Gmina Łąck", "feed_sequence": 1});
    for caller in [&mut official(&demo), &mut demo.admin()] {
        assert_eq!(caller.post(RESERVE, &gmina).problem(), (403, "forbidden".to_owned()));
    }
    for wrong in [json!(0), json!(-1), json!("1"), json!(1.5)] {
        let mut body = at("skok", 15, 3);
        body["feed_sequence"] = wrong;
        assert_eq!(skok.post(RESERVE, &body).problem(), (400, "malformed-request".to_owned()), "{body}");
    }
    // A null is no sequence, as if it were not there.
    let mut body = at("skok", 15, 3);
    body["feed_sequence"] = Value::Null;
    skok.post(RESERVE, &body).good();
    assert_eq!(listed(&mut skok), [(json!("skok"), json!(2))]);
}

#[test]
fn a_renumbering_is_told_by_those_who_may_and_shown_on_both_numbers() {
    let demo = Demo::shared();
    let (a, b) = (number(20), number(21));
    demo.admin().post(RESERVE, &json!({"pesel": a, "channel": "gmina", "registrant": "Gmina Łąck"})).good();
    for channel in ["bank", "skok", "post", "e-service", "id-card-register"] {
        let refused = source(&demo, channel).post(RENUMBER, &renumbering(&a, &b));
        assert_eq!(refused.problem(), (403, "forbidden".to_owned()), "{channel}");
    }
    let mut register = source(&demo, "pesel-register");
    let told = register.post(RENUMBER, &renumbering(&a, &b));
    assert_eq!(told.status, 201, "{}", told.text());
    let event = told.json();
    for (field, value) in [
        ("kind", "renumbering"),
        ("channel", "pesel-register"),
        ("registrant", "Kancelaria"),
        ("moment", "2024-05-01T08:00:00Z"),
        ("pesel", &a),
        ("new_pesel", &b),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    // Told again, by an office even: the same event.
    for caller in [&mut register, &mut official(&demo)] {
        let again = caller.post(RENUMBER, &renumbering(&a, &b));
        assert_eq!((again.status, again.json()), (200, event.clone()));
    }
    let mut by_gmina = renumbering(&number(22), &b);
    by_gmina["moment"] = json!("2024-06-01T00:00:00Z");
    let other = official(&demo).post(RENUMBER, &by_gmina).good();
    assert_eq!((&other["channel"], &other["registrant"]), (&json!("gmina"), &json!("Gmina Łąck")));
    let mut admin = demo.admin();
    for (pesel, count, reserved) in [(&a, 2, true), (&b, 2, false)] {
        let entry = admin.post("/admin/v1/entries/query", &json!({ "pesel": pesel })).good();
        assert_eq!(
            (entry["events"].as_array().map(Vec::len), &entry["reserved"]),
            (Some(count), &json!(reserved))
        );
        assert_eq!(demo.caller().verify(pesel).good()["reserved"], reserved, "neither takes anything over");
    }
    let with = |field: &str, value: Value| {
        let mut body = renumbering(&a, &b);
        body[field] = value;
        body
    };
    for (body, status, code, field) in [
        (with("old", json!("44051401358")), 422, "invalid-pesel", json!("old")),
        (with("new", json!("44051401358")), 422, "invalid-pesel", json!("new")),
        (with("new", json!(a)), 422, "invalid-value", Value::Null),
        (with("moment", json!("2090-01-01T00:00:00Z")), 422, "future-moment", Value::Null),
        (with("moment", json!("1969-12-31T23:59:59Z")), 422, "invalid-value", json!("moment")),
        (with("moment", json!("yesterday")), 400, "malformed-request", Value::Null),
        (with("x", json!(1)), 400, "malformed-request", Value::Null),
        (json!({"old": a, "new": b}), 400, "malformed-request", Value::Null),
    ] {
        let reply = register.post(RENUMBER, &body);
        assert_eq!(reply.problem(), (status, code.to_owned()), "{body}");
        assert_eq!(reply.json()["field"], field, "{body}");
    }
}

/// `Idempotency-Key` counts for a renumbering as for every other change, also where the
/// change itself was known before.
#[test]
fn a_renumbering_is_told_once_under_its_idempotency_key() {
    let demo = Demo::shared();
    let mut register = source(&demo, "pesel-register");
    let mut tell = |key: &str, body: &Value| {
        register.try_call("POST", RENUMBER, &[("idempotency-key", key)], Some(body)).expect("an answer")
    };
    let (first, other) = (renumbering(&number(30), &number(31)), renumbering(&number(30), &number(32)));
    for malformed in ["", &"k".repeat(256)] {
        assert_eq!(tell(malformed, &first).problem(), (400, "malformed-request".to_owned()));
    }
    let told = tell("k1", &first);
    assert_eq!(told.status, 201, "{}", told.text());
    let again = tell("k1", &first);
    assert_eq!((again.status, again.json()), (200, told.json()));
    assert_eq!(tell("k1", &other).problem(), (409, "idempotency-mismatch".to_owned()));
    // Under another key it was known already: the key is taken all the same.
    assert_eq!(tell("k2", &first).status, 200);
    assert_eq!(tell("k2", &other).problem(), (409, "idempotency-mismatch".to_owned()));
    let entry = demo.admin().post("/admin/v1/entries/query", &json!({ "pesel": number(30) })).good();
    assert_eq!(entry["events"].as_array().map(Vec::len), Some(1), "the refused ones are not recorded");
    // A key is another one for another caller.
    let of_another = official(&demo).try_call("POST", RENUMBER, &[("idempotency-key", "k1")], Some(&other));
    assert_eq!(of_another.expect("an answer").status, 201);
}

/// A field that a reservation does not have makes it malformed, and malformed requests
/// take no place in a feed: the mended one comes under the same number.
#[test]
fn a_malformed_reservation_takes_no_place_in_its_feed() {
    let demo = Demo::new(10);
    let mut feed = source(&demo, "pesel-register");
    let mut body = message(&number(40), 1);
    body["reserve_again_at"] = json!("2090-01-01T00:00:00Z");
    assert_eq!(feed.post(RESERVE, &body).problem(), (400, "malformed-request".to_owned()));
    assert_eq!(gap(&mut feed, RESERVE, &message(&number(41), 2)), 1);
    assert_eq!(feed.post(RESERVE, &message(&number(40), 1)).status, 201);
    demo.stop();
}
