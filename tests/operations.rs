//! What an operator copies from `config/`, against a running gateway: every
//! metric that alert rules and dashboard name is one that `/metrics` shows.

mod demo;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use demo::{Demo, request};
use serde_json::{Value, json};

/// A load that makes every metric appear: answers of each kind, refusals on both
/// planes, a change of the register and of access, a key over its limits.
fn load(demo: &Demo) {
    let numbers = demo.file("reserved.csv") + "\n" + &demo.file("free.csv");
    let numbers: Vec<&str> = numbers.lines().filter(|line| line.len() == 11).collect();
    let ask = |key: &str, body: &Value| {
        request("POST", "/v1/verify/batch").bearer(key).json(body).send(demo.verification).status
    };
    for chunk in numbers.chunks(100) {
        assert_eq!(ask(&demo.key(), &json!({"pesels": chunk})), 200);
    }
    assert_eq!(ask("pg_test_x", &json!({})), 401);
    let admin = |target: &str, body: &Value| {
        request("POST", target).bearer(&demo.token()).json(body).send(demo.admin)
    };
    let filing = json!({"pesel": "90923100134", "channel": "gmina", "registrant": "Gmina"});
    assert_eq!(admin("/admin/v1/reservations", &filing).status, 201);
    assert_eq!(admin("/admin/v1/reservations", &filing).status, 409);
    let key = json!({
        "institution": {"name": "Bank"}, "system": "s", "addresses": ["127.0.0.0/8"],
        "limits": {"per_second": 1, "burst": 1, "per_day": 1},
    });
    let key = admin("/admin/v1/keys", &key).json()["key"].as_str().expect("a key").to_owned();
    assert_eq!(ask(&key, &json!({"pesels": [numbers[0]]})), 200);
    assert_eq!(ask(&key, &json!({"pesels": [numbers[0]]})), 429);
}

/// The names of all samples, suffixes of histograms included.
fn sample_names(metrics: &str) -> BTreeSet<String> {
    let samples = metrics.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()).collect()
}

/// The words of an expression that name metrics of this process.
fn named_metrics(expression: &str) -> BTreeSet<String> {
    // Label values are not names.
    let outside: String = expression.split('"').step_by(2).collect();
    let words = outside.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("peselgate_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Every text under a field of this name, at any depth.
fn texts<'a>(value: &'a Value, field: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == field => found.push(text),
                    value => texts(value, field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, field, found)),
        _ => {}
    }
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).expect("YAML")
}

#[test]
fn rules_and_dashboard_name_what_is_measured() {
    let rules = yaml(include_str!("../config/alerts.yml"));
    let dashboard: Value = serde_json::from_str(include_str!("../config/dashboard.json")).expect("JSON");
    let mut expressions = Vec::new();
    texts(&rules, "expr", &mut expressions);
    texts(&dashboard, "expr", &mut expressions);
    let named: BTreeSet<String> = expressions.iter().flat_map(|text| named_metrics(text)).collect();
    assert!(named.len() > 40, "{named:?}");

    let demo = Demo::start(1_000);
    load(&demo);
    // A plane in the clear has no certificate to tell of.
    let encrypted = Demo::start_tls(10);
    let metrics = [&demo, &encrypted].map(|demo| request("GET", "/metrics").send(demo.ops).text()).concat();
    let shown = sample_names(&metrics);
    let missing: Vec<_> = named.difference(&shown).collect();
    assert!(missing.is_empty(), "named and not measured: {missing:?}");

    // The other way round: what is measured is described, and somebody looks at it.
    let described: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let typed: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in typed {
        assert!(described.contains(name), "{name} has no description");
        let looked_at = named.iter().any(|named| named == name || named.starts_with(&format!("{name}_")));
        let of_the_process = name.starts_with("process_");
        assert!(looked_at || of_the_process, "{name} is on no panel and in no rule");
    }
}

/// The samples that are not what the load must have made of them.
fn miscounted(metrics: &str) -> Vec<String> {
    let sample = |name: &str| -> f64 {
        let line =
            metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    let counts: [(&str, f64); 9] = [
        // 1 000 reserved and 1 000 free ones, and the small key's one (reserved).
        (r#"peselgate_verifications_total{outcome="reserved"}"#, 1_001.0),
        (r#"peselgate_verifications_total{outcome="not-reserved"}"#, 1_000.0),
        (r#"peselgate_refusals_total{code="malformed-key"}"#, 1.0),
        (r#"peselgate_control_refusals_total{code="already-reserved"}"#, 1.0),
        (r#"peselgate_register_commands_total{outcome="recorded"}"#, 1.0),
        ("peselgate_trail_records_total", 21.0),
        ("peselgate_answer_seconds_count", 23.0),
        ("peselgate_register_reserved", 1_001.0),
        ("peselgate_ready", 1.0),
    ];
    let wrong = counts.iter().filter(|(name, value)| sample(name).to_bits() != value.to_bits());
    wrong.map(|(name, value)| format!("{name} is {}, not {value}", sample(name))).collect()
}

#[test]
fn the_load_is_counted_exactly() {
    let demo = Demo::start(1_000);
    load(&demo);
    // The trail's writer counts a group after its answers have left.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let wrong = miscounted(&request("GET", "/metrics").send(demo.ops).text());
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{wrong:?}");
    }
}

#[test]
fn every_alert_says_what_to_do_and_is_tested_both_ways() {
    let rules = yaml(include_str!("../config/alerts.yml"));
    let tests = yaml(include_str!("../config/alerts.test.yml"));
    let groups = rules["groups"].as_array().expect("groups");
    let alerts: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    let cases: Vec<&Value> = tests["tests"]
        .as_array()
        .expect("tests")
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().expect("cases"))
        .collect();
    for alert in alerts {
        let name = alert["alert"].as_str().expect("a name");
        let runbook = alert["annotations"]["runbook"].as_str().unwrap_or_default();
        assert!(runbook.len() > 40 && !runbook.contains('\n'), "{name} needs a runbook line");
        let of_it = cases.iter().filter(|case| case["alertname"] == json!(name));
        let (fires, rests): (Vec<&&Value>, Vec<&&Value>) =
            of_it.partition(|case| case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()));
        assert!(!fires.is_empty() && !rests.is_empty(), "{name} is not tested both ways");
    }
}

#[test]
fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a time-out");
    let heard = || {
        let mut text = [0; 64];
        let length = socket.recv(&mut text).expect("a word in time");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let path = path.to_str().expect("a path");
    let mut demo = Demo::start_with(10, &[("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "100000")]);
    assert_eq!(heard(), "READY=1");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    let until = |word: &str| while heard() != word {};
    demo.signal(rustix::process::Signal::HUP);
    until("RELOADING=1");
    until("READY=1");
    demo.signal(rustix::process::Signal::TERM);
    until("STOPPING=1");
    assert!(demo.ended().success());
}
