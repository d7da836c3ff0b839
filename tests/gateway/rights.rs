//! What each role may do on the admin plane, and for whom it speaks.

use serde_json::{Value, json};

use crate::client::Caller;
use crate::harness::{Demo, fictional};

/// A token, as the operator issues it.
pub(crate) fn token(demo: &Demo, body: &Value) -> Caller {
    let issued = demo.admin().post("/admin/v1/tokens", body);
    assert_eq!(issued.status, 201, "{}", issued.text());
    let token = issued.json()["token"].as_str().expect("a token").to_owned();
    assert!(token.starts_with("pga_test_"));
    demo.admin_with(&token)
}

pub(crate) fn official(demo: &Demo) -> Caller {
    token(demo, &json!({"role": "official", "label": "o", "registrant": "Gmina Łąck", "teryt": "1419052"}))
}

pub(crate) fn source(demo: &Demo, channel: &str) -> Caller {
    token(demo, &json!({"role": "source", "label": "s", "registrant": "Kancelaria", "channel": channel}))
}

/// A number in a URL ends up in somebody's log, and a filter that does nothing is
/// believed in.
#[test]
fn a_query_is_refused_where_none_is_taken() {
    let demo = Demo::shared();
    let pesel = fictional(30_000_002);
    let entry = json!({ "pesel": pesel });
    let refused = demo.admin().post(&format!("/admin/v1/entries/query?pesel={pesel}"), &entry);
    assert_eq!(refused.problem(), (400, "malformed-request".to_owned()));
    assert!(!refused.text().contains(&pesel));
    for path in ["/admin/v1/keys?institution=Bank", "/admin/v1/tokens?", "/admin/v1/feeds?x=1"] {
        assert_eq!(demo.admin().get(path).problem(), (400, "malformed-request".to_owned()), "{path}");
    }
    assert_eq!(demo.admin().get("/admin/v1/events?limit=1").status, 200);
}

/// Every call by every role: who may not is told so, and nothing happens.
#[test]
fn every_call_belongs_to_its_roles() {
    let demo = Demo::shared();
    let pesel = fictional(30_000_000);
    let gmina = json!({"pesel": pesel, "channel": "gmina", "registrant": "Gmina Łąck"});
    let key = json!({"institution": {"name": "Bank"}, "system": "s", "addresses": ["127.0.0.1"]});
    let (id, _) = demo.issue("Bank Ról", &["127.0.0.1"], None);
    let (deactivate, addresses) =
        (format!("/admin/v1/keys/{id}/deactivate"), format!("/admin/v1/keys/{id}/addresses"));
    let limits = format!("/admin/v1/keys/{id}/limits");
    let (entry, one) = (json!({ "pesel": pesel }), json!({"addresses": ["127.0.0.1"]}));
    let three = json!({"per_second": 1, "burst": 1, "per_day": 1});
    let renumbering = json!({"old": pesel, "new": fictional(30_000_001), "moment": "2024-01-01T00:00:00Z"});
    let calls: [(&str, &str, Option<&Value>, &[&str]); 14] = [
        ("POST", "/admin/v1/reservations", Some(&gmina), &["official", "source"]),
        ("POST", "/admin/v1/withdrawals", Some(&gmina), &["official", "source"]),
        ("POST", "/admin/v1/renumberings", Some(&renumbering), &["official", "source"]),
        ("GET", "/admin/v1/feeds", None, &["auditor", "operator", "source"]),
        ("POST", "/admin/v1/entries/query", Some(&entry), &["official", "auditor"]),
        ("GET", "/admin/v1/events?limit=1", None, &["auditor", "operator"]),
        ("POST", "/admin/v1/keys", Some(&key), &["operator"]),
        ("GET", "/admin/v1/keys", None, &["operator", "auditor"]),
        ("PUT", &addresses, Some(&one), &["operator"]),
        ("PUT", &limits, Some(&three), &["operator"]),
        ("GET", "/admin/v1/tokens", None, &["operator", "auditor"]),
        ("POST", "/admin/v1/tokens", Some(&json!({"role": "auditor", "label": "a"})), &["operator"]),
        ("POST", "/admin/v1/import", None, &["operator", "source"]),
        ("POST", &deactivate, Some(&json!({})), &["operator"]),
    ];
    let mut callers = [
        ("operator", token(&demo, &json!({"role": "operator", "label": "op"}))),
        ("auditor", token(&demo, &json!({"role": "auditor", "label": "au"}))),
        ("official", official(&demo)),
        ("source", source(&demo, "bank")),
    ];
    for (method, path, body, roles) in calls {
        for (role, caller) in &mut callers {
            let more: &[_] = if path.ends_with("import") {
                &[("content-type", "application/x-ndjson"), ("content-length", "0")]
            } else {
                &[]
            };
            let reply = caller.try_call(method, path, more, body).expect("an answer");
            let forbidden = reply.status == 403 && reply.code() == "forbidden";
            if roles.contains(role) {
                // A source is refused here for its channel, which is not the role.
                let by_role = forbidden && reply.text().contains("needs the role");
                assert!(!by_role, "{role} {method} {path}: {}", reply.text());
            } else {
                assert!(forbidden, "{role} {method} {path}: {} {}", reply.status, reply.text());
            }
        }
    }
    assert_eq!(demo.admin().get("/admin/v1/none").status, 404);
}

#[test]
fn a_source_speaks_for_its_own_channel_and_registrant() {
    let demo = Demo::shared();
    let mut bank = source(&demo, "bank");
    let body = |channel: &str, registrant: &str, place: u32| json!({"pesel": fictional(31_000_000 + place), "channel": channel, "registrant": registrant});
    let reserved = bank.post("/admin/v1/reservations", &body("bank", "Kancelaria", 1)).good();
    assert_eq!((&reserved["channel"], &reserved["registrant"]), (&json!("bank"), &json!("Kancelaria")));
    for channel in ["e-service", "gmina", "skok", "post", "id-card-register", "pesel-register"] {
        let refused = bank.post("/admin/v1/reservations", &body(channel, "Kancelaria", 2));
        assert_eq!(refused.problem(), (403, "forbidden".to_owned()), "{channel}");
    }
    let refused = bank.post("/admin/v1/reservations", &body("bank", "Inna", 2));
    assert_eq!(refused.problem(), (403, "forbidden".to_owned()));
    let mut gmina = official(&demo);
    gmina.post("/admin/v1/reservations", &body("gmina", "Gmina Łąck", 3)).good();
    for (channel, registrant) in [("e-service", "Gmina Łąck"), ("gmina", "Gmina Inna")] {
        let refused = gmina.post("/admin/v1/reservations", &body(channel, registrant, 4));
        assert_eq!(refused.problem(), (403, "forbidden".to_owned()));
    }
    // Nothing of what was refused has happened.
    for place in [2, 4] {
        let entry =
            demo.admin().post("/admin/v1/entries/query", &json!({"pesel": fictional(31_000_000 + place)}));
        assert_eq!(entry.good()["events"], json!([]));
    }
    // An import speaks for its channel alone, too.
    let line = body("gmina", "Kancelaria", 5);
    let line = json!({"pesel": line["pesel"], "kind": "reservation", "moment": "2024-01-01T00:00:00Z",
        "channel": "gmina", "registrant": "Kancelaria"})
    .to_string();
    let headers =
        [("authorization", bank.bearer.clone()), ("content-type", "application/x-ndjson".to_owned())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let reply = bank.connection.request("POST", "/admin/v1/import", &headers, Some(line.as_bytes()));
    let answer = reply.expect("an answer").json();
    assert_eq!(
        (&answer["accepted"], &answer["errors"]),
        (&json!(0), &json!([{"line": 0, "error": "forbidden"}]))
    );
}

#[test]
fn a_token_is_issued_and_deactivated_like_a_key() {
    let demo = Demo::shared();
    let mut admin = demo.admin();
    let mut auditor = token(&demo, &json!({"role": "auditor", "label": "kontrola"}));
    auditor.get("/admin/v1/keys").good();
    let listed = admin.get("/admin/v1/tokens").good();
    let records = listed["tokens"].as_array().expect("tokens");
    let own = records.iter().find(|record| record["label"] == "kontrola").expect("the token");
    assert_eq!(own["roles"], json!(["auditor"]));
    assert!(own.get("token").is_none());
    let id = own["id"].as_str().expect("an id");
    admin.post(&format!("/admin/v1/tokens/{id}/deactivate"), &json!({})).good();
    assert_eq!(auditor.get("/admin/v1/keys").problem(), (401, "unauthenticated".to_owned()));
    for wrong in [
        json!({"role": "king", "label": "k"}),
        json!({"role": "auditor"}),
        json!({"role": "auditor", "label": "a", "channel": "bank"}),
        json!({"role": "source", "label": "a", "registrant": "r"}),
    ] {
        assert_eq!(admin.post("/admin/v1/tokens", &wrong).problem(), (400, "malformed-request".to_owned()));
    }
    for wrong in [
        json!({"role": "source", "label": "a", "registrant": "r", "channel": "pigeon"}),
        json!({"role": "official", "label": "a", "registrant": "r", "teryt": "12"}),
        json!({"role": "auditor", "label": ""}),
    ] {
        assert_eq!(admin.post("/admin/v1/tokens", &wrong).problem(), (422, "invalid-value".to_owned()));
    }
}
