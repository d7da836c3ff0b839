//! Provokes what each operation promises to refuse.

use super::*;

pub(super) fn verification_refusals(prober: &mut Prober) {
    let single = prober.operation("verify");
    let batch = prober.operation("verifyBatch");
    let (_, slow) = prober.issue_key("127.0.0.0/8", 2, 1_000);
    let (_, spent) = prober.issue_key("127.0.0.0/8", 2, 2);
    for operation in [&single, &batch] {
        let many = if operation.path.ends_with("batch") { "pesels" } else { "pesel" };
        let question = |number: &str| match many {
            "pesels" => json!({"pesels": [number, number]}),
            _ => json!({"pesel": number}),
        };
        let mut later = question("50810100014");
        later["at"] = json!("2999-01-01T00:00:00Z");
        let asked = prober.asked(operation);
        prober.expect(operation, &asked.clone().json(&later), 422, "future-moment");
        for (key, code) in [(&slow, "rate-limited"), (&spent, "quota-exceeded")] {
            let greedy = request("POST", operation.path).bearer(key).json(&question("50810100014"));
            // Two numbers are allowed; the third is not, whatever was asked before.
            let answers: Vec<Answer> = (0..3).map(|_| prober.probe(operation, &greedy)).collect();
            let last = answers.last().expect("three");
            assert_eq!((last.status, last.json()["code"].as_str()), (429, Some(code)), "{}", last.text());
            assert!(last.headers.contains_key("ratelimit"), "{code}");
            assert!(last.headers.contains_key("ratelimit-policy"), "{code}");
        }
    }
    let (_, narrow) = prober.issue_key("127.0.0.0/8", 1, 1_000);
    let two = request("POST", batch.path).bearer(&narrow).json(&json!({"pesels": ["x", "x"]}));
    let larger = prober.expect(&batch, &two, 413, "content-too-large");
    assert_eq!(larger.json()["burst"], json!(1));
    assert!(larger.headers.contains_key("ratelimit") && larger.headers.contains_key("ratelimit-policy"));
    let asked = prober.asked(&single);
    for (number, reason) in [
        ("5081010001", "length"),
        ("5081010001x", "digit"),
        ("44133101357", "date"),
        ("50810100015", "checksum"),
    ] {
        let answer =
            prober.expect(&single, &asked.clone().json(&json!({"pesel": number})), 422, "invalid-pesel");
        assert_eq!(answer.json()["reason"], json!(reason));
        assert!(!answer.text().contains(number), "{}", answer.text());
    }
}

/// A valid number that begins with these ten digits.
fn number(ten: &str) -> String {
    let numbers = (0..10).map(|check| format!("{ten}{check}"));
    numbers.into_iter().find(|text| Pesel::parse(text.as_bytes()).is_ok()).expect("a check digit")
}

fn renumbering_refusals(prober: &mut Prober) {
    let renumber = prober.operation("renumber");
    let (old, new, past) = ("50810100014", "90923100134", "2025-03-01T08:00:00Z");
    for (old, new, moment, status, code) in [
        // The document's own example, told again.
        (old, new, past, 200, ""),
        (old, new, "2099-01-01T00:00:00Z", 422, "future-moment"),
        (old, "50810100015", past, 422, "invalid-pesel"),
        (old, old, past, 422, "invalid-value"),
    ] {
        let body = json!({"old": old, "new": new, "moment": moment});
        let request = prober.asked(&renumber).json(&body);
        prober.expect(&renumber, &request, status, code);
    }
    let keyed = prober.asked(&renumber).header("idempotency-key", "r1");
    let told = |moment: &str| json!({"old": old, "new": new, "moment": moment});
    prober.expect(&renumber, &keyed.clone().json(&told(past)), 200, "");
    let changed = keyed.json(&told("2025-04-01T08:00:00Z"));
    prober.expect(&renumber, &changed, 409, "idempotency-mismatch");
}

pub(super) fn register_refusals(prober: &mut Prober) {
    renumbering_refusals(prober);
    let reserve = prober.operation("reserve");
    let withdraw = prober.operation("withdraw");
    let fresh = number("9092319999");
    let filing = |pesel: &str, more: Value| {
        let mut body = json!({"pesel": pesel, "channel": "gmina", "registrant": "Gmina"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let guardian = json!({"channel": "e-service", "applicant": "guardian"});
    for (operation, body, status, code) in [
        (&reserve, filing("50810100015", json!({})), 422, "invalid-pesel"),
        (&withdraw, filing("50810100015", json!({})), 422, "invalid-pesel"),
        (&reserve, filing(&fresh, json!({"registrant": " "})), 422, "invalid-value"),
        (&reserve, filing(&fresh, json!({"registrant": " Gmina"})), 422, "invalid-value"),
        (&reserve, filing(&fresh, json!({"registrant": "Gmina "})), 422, "invalid-value"),
        (&reserve, filing(&fresh, guardian.clone()), 422, "applicant-needs-gmina"),
        (&withdraw, filing(&fresh, guardian), 422, "applicant-needs-gmina"),
        (&reserve, filing(&fresh, json!({"applicant": "proxy"})), 422, "obstacle-required"),
        (&withdraw, filing(&fresh, json!({"applicant": "proxy"})), 422, "applicant-may-not-withdraw"),
        (&reserve, filing(&number("2022010001"), json!({})), 422, "not-of-age"),
        (&withdraw, filing(&fresh, json!({})), 409, "not-reserved"),
        (&reserve, filing(&fresh, json!({})), 201, ""),
        (&reserve, filing(&fresh, json!({})), 409, "already-reserved"),
        (&withdraw, filing(&fresh, json!({"channel": "bank"})), 422, "channel-may-not-withdraw"),
        (
            &withdraw,
            filing(&fresh, json!({"reserve_again_at": "2099-01-01T00:00:00Z"})),
            422,
            "temporary-withdrawal-by-e-service-only",
        ),
        (
            &withdraw,
            filing(&fresh, json!({"channel": "e-service", "reserve_again_at": "2024-01-01T00:00:00Z"})),
            422,
            "re-reservation-too-soon",
        ),
        (
            &withdraw,
            filing(&fresh, json!({"reserve_again_at": "2999-01-01T00:00:00Z"})),
            422,
            "invalid-value",
        ),
        (&withdraw, filing(&fresh, json!({})), 201, ""),
        (&reserve, filing(&fresh, json!({})), 409, "filing-too-soon"),
    ] {
        let request = prober.asked(operation).json(&body);
        prober.expect(operation, &request, status, code);
    }
    let other = number("9092319998");
    for (operation, key) in [(&reserve, "k1"), (&withdraw, "k2")] {
        let request = prober.asked(operation).header("idempotency-key", key);
        prober.expect(operation, &request.clone().json(&filing(&other, json!({}))), 201, "");
        prober.expect(operation, &request.clone().json(&filing(&other, json!({}))), 200, "");
        let changed = filing(&other, json!({"registrant": "Inna"}));
        prober.expect(operation, &request.json(&changed), 409, "idempotency-mismatch");
    }
    let of_a_reservation = prober.asked(&withdraw).header("idempotency-key", "k1");
    let request = of_a_reservation.json(&filing(&other, json!({})));
    prober.expect(&withdraw, &request, 409, "idempotency-mismatch");
    let entry = prober.operation("entry");
    let request = prober.asked(&entry).json(&json!({"pesel": "50810100015"}));
    prober.expect(&entry, &request, 422, "invalid-pesel");
    let events = prober.operation("events");
    let token = prober.demo.token();
    for (query, status, code) in [
        ("?limit=0", 422, "invalid-value"),
        ("?limit=x", 400, "malformed-request"),
        ("?after=990&limit=20", 200, ""),
    ] {
        let target = format!("{}{query}", events.path);
        prober.expect(&events, &self::request("GET", &target).bearer(&token), status, code);
    }
}

/// A message that is missing, another one at a place that is taken, and a feed of
/// somebody who has none.
pub(super) fn feed_refusals(prober: &mut Prober) {
    let role = json!({"role": "source", "label": "f", "registrant": "Feed", "channel": "pesel-register"});
    let (_, source) = prober.issue_token(&role);
    let (a, b) = (number("9092319997"), number("9092319996"));
    let filing = |pesel: &str| json!({"pesel": pesel, "channel": "pesel-register", "registrant": "Feed"});
    let renumbering = |new: &str| json!({"old": a, "new": new, "moment": "2025-03-01T08:00:00Z"});
    let messages = [
        ("reserve", filing(&a), filing(&b), None),
        ("withdraw", filing(&a), filing(&b), Some("channel-may-not-withdraw")),
        ("renumber", renumbering(&b), renumbering("90923100134"), None),
    ];
    for (next, (id, good, other, refused)) in (1..).zip(messages) {
        let operation = prober.operation(id);
        let at = |body: &Value, sequence: u64| {
            let mut body = body.clone();
            body["feed_sequence"] = json!(sequence);
            request("POST", operation.path).bearer(&source).json(&body)
        };
        let gap = prober.expect(&operation, &at(&good, next + 1), 409, "feed-gap");
        assert_eq!(gap.json()["expected"], json!(next));
        for again in [false, true] {
            match refused {
                Some(code) => prober.expect(&operation, &at(&good, next), 422, code),
                None => prober.expect(&operation, &at(&good, next), if again { 200 } else { 201 }, ""),
            };
        }
        prober.expect(&operation, &at(&other, next), 409, "idempotency-mismatch");
        prober.expect(&operation, &at(&good, 0), 400, "malformed-request");
        // The demo's token speaks for every channel, so it has no feed.
        let mut of_nobody = good.clone();
        of_nobody["feed_sequence"] = json!(1);
        let request = prober.asked(&operation).json(&of_nobody);
        prober.expect(&operation, &request, 403, "forbidden");
    }
    let feeds = prober.operation("feeds");
    let answer = prober.expect(&feeds, &request("GET", feeds.path).bearer(&source), 200, "");
    assert_eq!(answer.json()["feeds"][0]["last_sequence"], json!(3), "{}", answer.text());
}

pub(super) fn access_refusals(prober: &mut Prober) {
    let operation = prober.operation("issueKey");
    for (institution, limits) in
        [(json!(["B", null, null]), json!(null)), (json!({"name": "B"}), json!([1, 1, 1]))]
    {
        let body =
            json!({"institution": institution, "system": "s", "addresses": ["127.0.0.1"], "limits": limits});
        let request = prober.asked(&operation).json(&body);
        prober.expect(&operation, &request, 400, "malformed-request");
    }
    for (id, good, other, unacceptable) in [
        (
            "issueKey",
            json!({"institution": {"name": "B"}, "system": "s", "addresses": ["127.0.0.1"]}),
            json!({"institution": {"name": "B"}, "system": "t", "addresses": ["127.0.0.1"]}),
            json!({"institution": {"name": "B", "regon": "123456784"}, "system": "s", "addresses": ["127.0.0.1"]}),
        ),
        (
            "issueToken",
            json!({"role": "auditor", "label": "a"}),
            json!({"role": "auditor", "label": "b"}),
            json!({"role": "source", "label": "a", "registrant": "B", "channel": "fax"}),
        ),
    ] {
        let operation = prober.operation(id);
        let request = prober.asked(&operation).header("idempotency-key", id);
        prober.expect(&operation, &request.clone().json(&good), 201, "");
        let again = prober.expect(&operation, &request.clone().json(&good), 200, "");
        assert!(again.json().get("key").is_none() && again.json().get("token").is_none());
        prober.expect(&operation, &request.clone().json(&other), 409, "idempotency-mismatch");
        prober.expect(&operation, &request.json(&unacceptable), 422, "invalid-value");
    }
    let listed = request("GET", "/admin/v1/tokens").bearer(&prober.demo.token()).send(prober.demo.admin);
    let listed = listed.json();
    let is_operator =
        |token: &&Value| token["roles"].as_array().is_some_and(|roles| roles.contains(&json!("operator")));
    let last = listed["tokens"].as_array().and_then(|tokens| tokens.iter().find(is_operator));
    let last = last.and_then(|token| token["id"].as_str()).expect("the demo's");
    let operation = prober.operation("deactivateToken");
    let target = operation.path.replace("{id}", last);
    let request = request("POST", &target).bearer(&prober.demo.token());
    prober.expect(&operation, &request, 409, "last-operator");
    for (id, body) in [
        ("setAddresses", json!({"addresses": ["0.0.0.0/0"]})),
        ("setLimits", json!({"per_second": 0, "burst": 1, "per_day": 1})),
    ] {
        let operation = prober.operation(id);
        let request = prober.asked(&operation).json(&body);
        prober.expect(&operation, &request, 422, "invalid-value");
    }
}

/// Several at once: one is made, the others are told so.
pub(super) fn backup_refusals(prober: &mut Prober) {
    let operation = prober.operation("backup");
    let (asked, admin) = (prober.asked(&operation), prober.demo.admin);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::time::Instant::now() < deadline {
        let askers: Vec<_> = (0..8)
            .map(|_| {
                let asked = asked.clone();
                std::thread::spawn(move || asked.send(admin))
            })
            .collect();
        let answers: Vec<Answer> = askers.into_iter().map(|asker| asker.join().expect("an answer")).collect();
        let refused = answers.into_iter().map(|answer| prober.judge(&operation, answer).status == 409);
        if refused.fold(false, |any, refused| any | refused) {
            return;
        }
    }
    panic!("backups were never refused");
}

/// A body that does not come; the gateway's own deadline ends the wait.
pub(super) fn too_slow(prober: &mut Prober) {
    for id in ["verify", "verifyBatch"] {
        let operation = prober.operation(id);
        let whole = filled(&operation, prober.asked(&operation)).bytes();
        let answer = send_raw(prober.demo.verification, &whole[..whole.len() - 1]);
        let answer = prober.judge(&operation, answer);
        assert_eq!(answer.status, 408, "{}", answer.text());
    }
}

pub(super) fn too_many_failures(prober: &mut Prober) {
    let strange = PlainCredential::generate(Plane::Verification, Environment::Test).expect("randomness");
    let guess = request("GET", "/v1/limits").bearer(strange.reveal());
    // A bucket of 200 that gains 20 a second: it cannot last 3 000 guesses.
    let refused = (0..3_000).any(|_| guess.send(prober.demo.verification).status == 429);
    assert!(refused, "guessing is not bounded");
    for id in ["evidence", "limits"] {
        let operation = prober.operation(id);
        let target = operation.path.replace("{id}", "019ab7a2-1c7e-7d3f-9a51-7a4a0b1f3c55");
        let guess = request("GET", &target).bearer(strange.reveal());
        let answers = (0..50).map(|_| prober.probe(&operation, &guess).status);
        assert!(answers.into_iter().any(|status| status == 429), "{id}");
    }
}
