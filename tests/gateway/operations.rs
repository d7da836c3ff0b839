//! The operations plane in the life of an instance.

use std::fs;
use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::json;

use crate::client::{Connection, longest_digits};
use crate::harness::{Demo, Home, Instance, skipped, wait_for};
use crate::stream::Stream;
use crate::windows::RawHttp2;

#[test]
fn every_promised_metric_is_there_and_none_tells_an_address() {
    let demo = Demo::shared();
    let mut caller = demo.caller();
    caller.verify(&demo.numbers("free.csv")[0]).good();
    caller.verify("x").code();
    let reply = demo.instance.ask_ops("/metrics");
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").is_some_and(|media| media.starts_with("text/plain; version=0.0.4")));
    let text = reply.text();
    for name in [
        "peselgate_verifications_total{outcome=\"reserved\"}",
        "peselgate_verifications_total{outcome=\"not-reserved\"}",
        "peselgate_verifications_total{outcome=\"refused\"}",
        "peselgate_refusals_total{code=\"invalid-pesel\"}",
        "peselgate_handler_panics_total 0",
        "peselgate_decision_seconds_bucket",
        "peselgate_answer_seconds_bucket",
        "peselgate_connections ",
        "peselgate_connections_accepted_total ",
        "peselgate_register_sequence ",
        "peselgate_register_age_seconds ",
        "peselgate_register_entries ",
        "peselgate_register_snapshot_bytes ",
        "peselgate_keys ",
        "peselgate_ready 1",
        "peselgate_audit_durability_info{durability=\"flush\"} 1",
        "peselgate_build_info{version=",
        "peselgate_connections_max ",
        "peselgate_reloads_total{outcome=\"failed\"} 0",
        "peselgate_refusals_total{code=\"overloaded\"} 0",
        "peselgate_trail_records_total ",
        "peselgate_trail_sync_seconds",
        "process_resident_memory_bytes ",
        "process_open_fds ",
    ] {
        assert!(text.contains(name), "{name} is missing:\n{text}");
    }
    // Whatever is shown is said to be of a type, and is no person or machine.
    let mut typed: Vec<&str> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.push(rest.split(' ').next().expect("a name"));
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let name = line.split(['{', ' ']).next().expect("a name");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(typed.contains(&name) || family.is_some_and(|family| typed.contains(&family)), "{line}");
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.split('}').next().unwrap_or_default());
        assert!(longest_digits(labels.as_bytes()) < 11, "{line}");
    }
    assert!(!text.contains("127.0.0.") && !text.contains("pg_test_"));
}

#[test]
fn counters_count_what_happened() {
    let demo = Demo::new(1_000);
    let count = |name: &str| -> f64 {
        let text = demo.instance.metrics();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    let mut caller = demo.caller();
    let (reserved, free) = (demo.numbers("reserved.csv"), demo.numbers("free.csv"));
    for pesel in &reserved[..7] {
        caller.verify(pesel).good();
    }
    let mixed = [&free[..5], &reserved[..2], &["x".to_owned()]].concat();
    caller.post("/v1/verify/batch", &serde_json::json!({ "pesels": mixed })).good();
    let lines: String = free[..10].iter().map(|pesel| format!("\"{pesel}\"\n")).collect();
    caller.stream(&lines);
    caller.verify("44051401358").code();
    assert_eq!(count("peselgate_verifications_total{outcome=\"reserved\"}"), 9.0);
    assert_eq!(count("peselgate_verifications_total{outcome=\"not-reserved\"}"), 15.0);
    assert_eq!(count("peselgate_verifications_total{outcome=\"refused\"}"), 1.0);
    assert_eq!(count("peselgate_refusals_total{code=\"invalid-pesel\"}"), 1.0);
    assert_eq!(count("peselgate_register_sequence "), 1_000.0);
    assert_eq!(count("peselgate_connections "), 1.0);
    demo.stop();
}

/// A core would hold numbers; a huge page would keep 2 MiB for one buffer.
#[test]
fn the_process_leaves_no_core_and_takes_no_huge_pages() {
    let demo = Demo::new(1_000);
    let process = format!("/proc/{}", demo.instance.pid().as_raw_nonzero());
    let (Ok(limits), Ok(status)) =
        (fs::read_to_string(format!("{process}/limits")), fs::read_to_string(format!("{process}/status")))
    else {
        return skipped("no /proc");
    };
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit of cores");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // Linux tells it since 5.0.
    if let Some(huge) = status.lines().find_map(|line| line.strip_prefix("THP_enabled:")) {
        assert_eq!(huge.trim(), "0");
    }
    demo.stop();
}

/// The listening sockets of a process, as the kernel tells them.
fn listening(instance: &Instance) -> Option<Vec<SocketAddr>> {
    let pid = instance.pid().as_raw_nonzero();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        inodes.extend(
            target.strip_prefix("socket:[").and_then(|rest| Some(rest.strip_suffix(']')?.to_owned())),
        );
    }
    let lines = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours =
            fields.get(3) == Some(&"0A") && inodes.iter().any(|inode| fields.get(9) == Some(&&**inode));
        let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        is_ours.then(|| SocketAddr::from(([127, 0, 0, 1], port)))
    });
    Some(lines.collect())
}

/// Not ready while it starts; alive all the time.
#[test]
fn an_instance_that_starts_is_alive_and_not_ready() {
    if !std::path::Path::new("/proc/self/net/tcp").exists() {
        return skipped("no /proc");
    }
    let mut home = Demo::new(20_000).stop();
    // The window is short; a start that was missed is tried again.
    for _ in 0..200 {
        let command = home.command(&[]);
        let mut instance = Instance::spawn(command, home.path());
        let ops = wait_for("a listening socket", || listening(&instance)?.first().copied());
        let ask = |path: &str| {
            let mut connection = Connection::open(ops).ok()?;
            connection.request("GET", path, &[("connection", "close")], None).ok()
        };
        let seen = ask("/readyz").map(|ready| (ready.status, ready.text(), ask("/livez"), ask("/metrics")));
        instance.wait_until_ready();
        instance.stop();
        home = home.start(&[]).stop();
        let Some((503, text, Some(alive), Some(metrics))) = seen else { continue };
        assert!(text.contains("starting"), "{text}");
        assert_eq!((alive.status, alive.text().as_str()), (200, "ok\n"));
        assert_eq!(metrics.status, 200);
        return;
    }
    panic!("ready or silent at every start");
}

/// While it drains: not ready, still alive, what is under way goes on, and a stream
/// that waits for its next line is told.
#[test]
fn an_instance_that_drains_is_alive_and_not_ready() {
    let demo = Demo::new(1_000);
    assert_eq!(demo.instance.ask_ops("/readyz").status, 200);
    assert_eq!(demo.instance.ask_ops("/livez").status, 200);
    // An answer that nobody has room for keeps the drain from its end.
    let mut unread = RawHttp2::open(demo.instance.verification, 0);
    unread.ask("/openapi.yaml");
    unread.wait_for_head();
    let mut stream = Stream::open(&demo, &demo.key());
    stream.send(&format!("\"{}\"\n", demo.numbers("free.csv")[0]));
    stream.line().expect("an answer line");

    demo.instance.signal(Signal::TERM);
    let ready = wait_for("the drain", || {
        let ready = demo.instance.ask_ops("/readyz");
        (ready.status == 503).then_some(ready)
    });
    assert!(ready.text().contains("draining"), "{}", ready.text());
    assert_eq!(demo.instance.ask_ops("/livez").status, 200);
    wait_for("a closed door", || Connection::open(demo.instance.verification).is_err().then_some(()));
    let last = stream.line().expect("a last line");
    assert_eq!((&last["error"], &last["retry_after"]), (&json!("draining"), &json!(2)));
    assert_eq!(stream.line(), None);
    assert_eq!(demo.instance.ask_ops("/livez").status, 200, "an answer is not read yet");

    drop(unread);
    let (mut instance, home): (Instance, Home) = demo.parts();
    assert!(instance.ended().success(), "{}", instance.stderr());
    assert!(!instance.stderr().contains("deadline"), "{}", instance.stderr());
    assert_eq!(home.dump().len(), 1);
}
