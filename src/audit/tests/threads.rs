//! The real thing: files, threads, runtimes.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::support::{START, config, ordinal, record, told, verification};
use crate::audit::{
    Durability, Ending, Item, LocalRecorder, RecordRefused, Recorder, Trail, TrailConfig, TrailHealth, check,
    dump, open,
};
use crate::clock::Clock;
use crate::environment::Environment;
use crate::limits::TRAIL_PENDING_RECORDS_MAX;

fn real_config(dir: &Path) -> TrailConfig {
    TrailConfig { dir: dir.join("trail"), pending_bytes_max: 1 << 20, ..config(64 * 1024) }
}

pub(super) fn runtime() -> tokio::runtime::LocalRuntime {
    tokio::runtime::Builder::new_current_thread().build_local(Default::default()).expect("a runtime")
}

/// One worker: `tasks` requests in flight, `rounds` of them each.
fn worker(recorder: Recorder, first: u32, tasks: u32, rounds: u32) -> Vec<String> {
    let runtime = runtime();
    runtime.block_on(async move {
        let recorder = LocalRecorder::new(recorder).expect("randomness");
        let pump = recorder.clone();
        let pump = tokio::task::spawn_local(async move { pump.pump().await });
        let mut handles = Vec::new();
        for task in 0..tasks {
            let recorder = recorder.clone();
            handles.push(tokio::task::spawn_local(async move {
                let mut ids = Vec::new();
                for round in 0..rounds {
                    let value = first + task * rounds + round;
                    let receipt = record(&recorder, value).expect("taken").await.expect("durable");
                    ids.push(receipt.verification_id().to_string());
                }
                ids
            }));
        }
        let mut ids = Vec::new();
        for handle in handles {
            ids.extend(handle.await.expect("no panic"));
        }
        pump.abort();
        ids
    })
}

fn dumped_ids(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    dump(dir, &mut lines, &Default::default()).expect("sound");
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("JSON"))
        .map(|line| line["verification_id"].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn workers_record_at_once_and_the_dump_has_it_all() {
    let dir = tempfile::tempdir().expect("a directory");
    for durability in [Durability::Flush, Durability::Write] {
        let config = TrailConfig { durability, ..real_config(dir.path()) };
        let (trail, thread, _) =
            open(config.clone(), Clock::system(), "0.1.0", Environment::Test).expect("opened");
        let before: BTreeSet<String> = dumped_ids(&config.dir).into_iter().collect();
        let workers: Vec<_> = (0..3)
            .map(|nth| {
                let recorder = trail.recorder();
                std::thread::spawn(move || worker(recorder, nth * 10_000, 8, 40))
            })
            .collect();
        // A dump beside the live writer sees a sound beginning of it all.
        while workers.iter().any(|worker| !worker.is_finished()) {
            dumped_ids(&config.dir);
        }
        let given: Vec<String> =
            workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect();
        let status = trail.status();
        assert_eq!(status.pending_bytes, 0);
        assert_eq!(trail.health(), TrailHealth::Writable);
        assert!(status.segment >= 2);
        thread.close().expect("closed");
        let mut expected = before;
        expected.extend(given.iter().cloned());
        let all = dumped_ids(&config.dir);
        assert_eq!(all.len(), expected.len());
        assert!(all.into_iter().collect::<BTreeSet<_>>() == expected);
    }
    let report = check(&real_config(dir.path()).dir, &|| false).expect("sound");
    assert!(matches!(report.ending, Ending::Closed { .. }));
    assert_eq!((report.runs, report.verifications), (2, 2 * 3 * 8 * 40));
    for entry in std::fs::read_dir(dir.path().join("trail")).expect("a directory") {
        let mode = entry.expect("an entry").metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mode = std::fs::metadata(dir.path().join("trail")).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn after_the_close_nothing_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (trail, thread, recovered) =
        open(real_config(dir.path()), Clock::system(), "0.1.0", Environment::Test).expect("opened");
    assert!(recovered.found.closed_cleanly && recovered.found.torn.is_none());
    let recorder = LocalRecorder::new(trail.recorder()).expect("randomness");
    let staged = record(&recorder, 1).expect("taken");
    thread.close().expect("closed");
    assert!(matches!(record(&recorder, 2), Err(RecordRefused::Unavailable { .. })));
    // What was staged but never handed over is refused, not forgotten.
    runtime().block_on(async {
        let pump = recorder.clone();
        tokio::task::spawn_local(async move { pump.pump().await });
        assert!(staged.await.is_err());
    });
    assert!(matches!(trail.health(), TrailHealth::Failed { .. }));
}

/// Requests do not pile up before the trail: what is over the bound is refused at
/// once, whatever it would take in bytes, and taken again when there is room.
#[test]
fn so_many_records_of_a_worker_wait_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let (trail, thread, _) =
        open(real_config(dir.path()), Clock::system(), "0.1.0", Environment::Test).expect("opened");
    let recorder = LocalRecorder::new(trail.recorder()).expect("randomness");
    let taken: Vec<_> =
        (0..TRAIL_PENDING_RECORDS_MAX as u32).map(|value| record(&recorder, value).expect("taken")).collect();
    assert!(matches!(record(&recorder, 1), Err(RecordRefused::Overloaded)));
    // Another worker has places of its own.
    let other = LocalRecorder::new(trail.recorder()).expect("randomness");
    drop(record(&other, 1).expect("taken"));
    runtime().block_on(async {
        let pump = recorder.clone();
        let pump = tokio::task::spawn_local(async move { pump.pump().await });
        for pending in taken {
            pending.await.expect("durable");
        }
        record(&recorder, 2).expect("room again").await.expect("durable");
        pump.abort();
    });
    thread.close().expect("closed");
}

#[test]
fn a_dropped_trail_is_open_and_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = |trail: &Trail| worker(trail.recorder(), 0, 1, 1).remove(0);
    let (trail, thread, _) =
        open(real_config(dir.path()), Clock::system(), "0.1.0", Environment::Test).expect("opened");
    let first = opened(&trail);
    drop(thread);
    assert_eq!(check(&real_config(dir.path()).dir, &|| false).expect("sound").ending, Ending::Open);
    let (trail, thread, recovered) =
        open(real_config(dir.path()), Clock::system(), "0.1.0", Environment::Test).expect("opened");
    assert!(!recovered.found.closed_cleanly);
    assert_eq!(recovered.found.records, 2);
    let second = opened(&trail);
    thread.close().expect("closed");
    assert_eq!(dumped_ids(&real_config(dir.path()).dir), [first, second]);
}

/// The dump's lines hold the contract's keys, and nothing else.
#[test]
fn a_line_of_the_dump_is_as_the_contract_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = real_config(dir.path());
    let (trail, thread, _) =
        open(config.clone(), Clock::system(), "0.1.0", Environment::Test).expect("opened");
    let recorder = LocalRecorder::new(trail.recorder()).expect("randomness");
    let at = crate::clock::Moment::from_unix_seconds(START - 7);
    let items = [
        Item::verified(ordinal(4), told(4)),
        Item::Refused(crate::audit::Refusal::MalformedLine),
        Item::Verified { ordinal: ordinal(5), told: told(5), asked_at: Some(at), reference: Some("ż\"1") },
    ];
    runtime().block_on(async {
        let pump = recorder.clone();
        tokio::task::spawn_local(async move { pump.pump().await });
        recorder.record_chunk(&verification(), 40, items).expect("taken").await.expect("durable");
    });
    thread.close().expect("closed");
    let mut bytes = Vec::new();
    let dumped = dump(&config.dir, &mut bytes, &Default::default()).expect("sound");
    assert_eq!((dumped.lines, dumped.torn), (2, None));
    let text = String::from_utf8(bytes).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let id = &lines[0][20..56];
    let first = format!(
        r#"{{"verification_id":"{id}","index":40,"answered_at":"2026-11-18T11:06:40Z","at":"2026-11-18T11:06:40Z","key_id":"abcdefgh23","institution":"Bank Spółdzielczy","address":"127.0.0.1","pesel":"{}","reserved":true,"reserved_at":"2026-11-18T10:50:00Z","register_sequence":7,"reference":null}}"#,
        ordinal(4).pesel().digits(),
    );
    assert_eq!(lines[0], first);
    assert!(lines[1].contains(r#""index":42,"#) && lines[1].contains(r#""at":"2026-11-18T11:06:33Z""#));
    assert!(lines[1].ends_with(r#""reserved":false,"register_sequence":7,"reference":"ż\"1"}"#));
    let only = crate::audit::DumpFilter { ordinal: Some(ordinal(5)), ..Default::default() };
    assert_eq!(dump(&config.dir, std::io::sink(), &only).expect("sound").lines, 1);
}
