//! The made register: every answer against the register's own events, and the
//! same again after a restart.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::client::Caller;
use crate::harness::{Demo, err, events, fictional, filing};
use crate::load::reserve_on;

/// Moment of reservation by number, from the events: the naive model.
fn reserved_since(events: &[Value]) -> HashMap<String, String> {
    let mut model = HashMap::new();
    for event in events {
        let text = |name: &str| event[name].as_str().expect("a text").to_owned();
        assert_eq!(text("kind"), "reservation");
        assert!(model.insert(text("pesel"), text("moment")).is_none(), "reserved twice");
    }
    model
}

/// Asks for all listed numbers; compares each answer with the model.
fn compare(caller: &mut Caller, lists: [&[String]; 2], model: &HashMap<String, String>) {
    for (list, reserved) in lists.into_iter().zip([true, false]) {
        assert_eq!(list.len(), 1_000);
        let answer = caller.post("/v1/verify/batch", &json!({ "pesels": list })).good();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.len(), list.len());
        for (pesel, result) in list.iter().zip(results) {
            let mut expected = json!({"pesel": pesel, "reserved": reserved});
            if let Some(moment) = model.get(pesel) {
                expected["reserved_at"] = json!(moment);
            }
            assert_eq!(*result, expected);
            assert_eq!(model.contains_key(pesel), reserved);
        }
        for pesel in list.iter().step_by(50) {
            let answer = caller.verify(pesel).good();
            assert_eq!(answer["reserved"], reserved);
            assert_eq!(answer["reserved_at"].as_str(), model.get(pesel).map(String::as_str));
            assert_eq!(answer.get("withdrawn_at"), None);
            assert_eq!(answer["at"], answer["answered_at"]);
        }
    }
}

#[test]
fn the_lists_are_answered_as_the_events_say_and_again_after_a_restart() {
    let demo = Demo::new(3_000);
    let all = events(&mut demo.admin(), 777);
    let sequences = all.iter().map(|event| event["sequence"].as_u64().expect("a sequence"));
    assert!(sequences.eq(1..=3_000), "sequences without gaps");
    let model = reserved_since(&all);
    let (reserved, free) = (demo.numbers("reserved.csv"), demo.numbers("free.csv"));
    compare(&mut demo.caller(), [&reserved, &free], &model);

    let status = demo.caller().get("/v1/status").good();
    assert_eq!(status["environment"], "test");
    assert_eq!(status["register"]["reserved"], 3_000);
    assert_eq!(status["register"]["sequence"], 3_000);

    // While it runs, nobody else may have the directory.
    let second = demo.home().command(&[]).output().expect("an end");
    assert_eq!(second.status.code(), Some(2));
    assert!(err(&second).contains("in use by another process"), "{}", err(&second));
    demo.caller().verify(&free[0]).good();

    let home = demo.stop();
    for other in [["--reserved", "3001"], ["--seed", "2"]] {
        let refused = home.command(&other).output().expect("an end");
        assert_eq!(refused.status.code(), Some(2));
        assert!(err(&refused).contains("made with --reserved 3000 --seed 1"), "{}", err(&refused));
    }
    let demo = home.start(&["--reserved", "3000", "--seed", "1"]);
    assert_eq!(events(&mut demo.admin(), 10_000), all, "the chain's hashes too");
    compare(&mut demo.caller(), [&reserved, &free], &model);
    let home = demo.stop();
    let (status, said) = home.check();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("closed in order"), "{said}");
}

#[test]
fn another_seed_makes_another_register() {
    let one = Demo::shared();
    let other = crate::harness::Home::new().start(&["--reserved", "1000", "--seed", "9"]);
    assert_ne!(one.numbers("reserved.csv"), other.numbers("reserved.csv"));
    let model = reserved_since(&events(&mut other.admin(), 1_000));
    compare(&mut other.caller(), [&other.numbers("reserved.csv"), &other.numbers("free.csv")], &model);
}

/// Whoever follows the events never hears of one that is neither listed nor to be
/// had with the next page.
#[test]
fn a_page_of_events_and_its_last_are_of_one_state() {
    let demo = Demo::new(1_000);
    let fresh = |office: u32| (0..).map(move |place| fictional(2_000_000 + office * 1_000_000 + place));
    let offices = [1, 2].map(|office| reserve_on(demo.instance.admin, &demo.token(), fresh(office)));
    let mut admin = demo.admin();
    let mut after = 1_000;
    while after < 1_500 {
        let page = admin.get(&format!("/admin/v1/events?after={after}&limit=50")).good();
        let listed = page["events"].as_array().expect("events");
        let end = listed.last().map_or(after, |event| event["sequence"].as_u64().expect("a sequence"));
        let last = page["last"].as_u64().expect("a sequence");
        assert!(if listed.len() < 50 { end == last } else { end <= last }, "{end} of {last}");
        after = end;
    }
    demo.kill();
    for office in offices {
        office.join().expect("an office");
    }
}

/// The 201 leaves after the change is seen: 200 times, by the very next question.
#[test]
fn a_change_is_seen_by_the_very_next_verification() {
    let demo = Demo::shared();
    let (mut admin, mut caller) = (demo.admin(), demo.caller());
    for place in 0..200 {
        let pesel = fictional(1_000_000 + place * 37);
        let body = filing(&pesel);
        let reserved = admin.post("/admin/v1/reservations", &body).good();
        let seen = caller.verify(&pesel).good();
        assert_eq!((&seen["reserved"], &seen["reserved_at"]), (&json!(true), &reserved["moment"]));
        assert!(seen["register"]["sequence"].as_u64() >= reserved["sequence"].as_u64());
        if place % 4 == 0 {
            let withdrawn = admin.post("/admin/v1/withdrawals", &body).good();
            let seen = caller.verify(&pesel).good();
            assert_eq!(seen["reserved"], false);
            assert_eq!(
                (&seen["reserved_at"], &seen["withdrawn_at"]),
                (&reserved["moment"], &withdrawn["moment"])
            );
        }
    }
}

/// Intervals are half-open: reserved from the reservation's second on, no more
/// from the withdrawal's second on. Asked about the past, from history.
#[test]
fn the_past_is_answered_by_half_open_intervals() {
    let demo = Demo::shared();
    let (mut admin, mut caller) = (demo.admin(), demo.caller());
    let pesel = fictional(1_900_000);
    let line = |kind: &str, moment: &str| {
        json!({"pesel": pesel, "kind": kind, "moment": moment, "channel": "gmina", "registrant": "Urząd"})
            .to_string()
    };
    let history = [
        line("reservation", "2024-03-01T10:00:00Z"),
        line("withdrawal", "2024-05-01T10:00:00Z"),
        line("reservation", "2024-07-01T10:00:00Z"),
    ];
    let bearer = admin.bearer.clone();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    let body = history.join("\n");
    let reply = admin.connection.request("POST", "/admin/v1/import", &headers, Some(body.as_bytes()));
    assert_eq!(reply.expect("an answer").json()["accepted"], 3);
    let first = Some("2024-03-01T10:00:00Z");
    let cases = [
        ("2023-01-01T00:00:00Z", false, None, None),
        ("2024-03-01T09:59:59Z", false, None, None),
        ("2024-03-01T10:00:00Z", true, first, None),
        ("2024-03-01T11:00:00+01:00", true, first, None),
        ("2024-05-01T09:59:59Z", true, first, None),
        ("2024-05-01T10:00:00Z", false, first, Some("2024-05-01T10:00:00Z")),
        ("2024-06-30T23:59:59-05:00", false, first, Some("2024-05-01T10:00:00Z")),
        ("2024-07-01T10:00:00Z", true, Some("2024-07-01T10:00:00Z"), None),
    ];
    for (at, reserved, reserved_at, withdrawn_at) in cases {
        let answer = caller.post("/v1/verify", &json!({"pesel": pesel, "at": at})).good();
        assert_eq!(answer["reserved"], reserved, "{at}");
        if !reserved || withdrawn_at.is_none() {
            assert_eq!(answer["reserved_at"].as_str(), reserved_at, "{at}");
        }
        if !reserved {
            assert_eq!(answer["withdrawn_at"].as_str(), withdrawn_at, "{at}");
        }
        assert_ne!(answer["at"], answer["answered_at"]);
        let batch = caller.post("/v1/verify/batch", &json!({"pesels": [pesel], "at": at})).good();
        assert_eq!(batch["results"][0]["reserved"], reserved, "{at}");
        assert_eq!(batch["at"], answer["at"]);
    }
}
