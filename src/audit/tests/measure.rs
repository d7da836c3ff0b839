//! Figures, for a quiet machine.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::support::{ordinal, record, told, verification};
use super::threads::runtime;
use crate::audit::codec::encode_verification;
use crate::audit::id::id_tail;
use crate::audit::{Durability, Item, LocalRecorder, Shape, TrailConfig, open};
use crate::clock::Clock;
use crate::environment::Environment;

/// Processor time of the whole process, in steps of ten milliseconds.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<u64> = stat.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    Duration::from_millis((fields[13] + fields[14]) * 10)
}

fn closed_loop(durability: Durability, tasks: u32) -> (f64, f64) {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let config = TrailConfig {
        dir: dir.path().join("trail"),
        durability,
        segment_bytes: 64 * 1024 * 1024,
        pending_bytes_max: 16 * 1024 * 1024,
        start_check_bytes: 1 << 30,
    };
    let (trail, thread, _) = open(config, Clock::system(), "0.1.0", Environment::Test).expect("opened");
    let receipts = Rc::new(Cell::new(0u64));
    let count = Rc::clone(&receipts);
    let (took, used) = runtime().block_on(async move {
        let recorder = LocalRecorder::new(trail.recorder()).expect("randomness");
        let pump = recorder.clone();
        tokio::task::spawn_local(async move { pump.pump().await });
        let until = Instant::now() + Duration::from_secs(4);
        let (began, used) = (Instant::now(), processor_time());
        let handles: Vec<_> = (0..tasks)
            .map(|task| {
                let (recorder, receipts) = (recorder.clone(), Rc::clone(&count));
                tokio::task::spawn_local(async move {
                    while Instant::now() < until {
                        record(&recorder, task).expect("taken").await.expect("durable");
                        receipts.set(receipts.get() + 1);
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.await.expect("no panic");
        }
        (began.elapsed(), processor_time() - used)
    });
    thread.close().expect("closed");
    let receipts = receipts.get() as f64;
    (receipts / took.as_secs_f64(), used.as_secs_f64() * 1e9 / receipts)
}

#[test]
#[ignore = "figures: taskset -c 1 cargo test --release --lib -- --ignored --nocapture audit::tests::measure"]
#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn receipts_per_second() {
    let mut out = Vec::with_capacity(1 << 10);
    let item = Item::verified(ordinal(4), told(4));
    let rounds = 5_000_000u32;
    let began = Instant::now();
    for round in 0..rounds {
        out.clear();
        let tail = id_tail(u64::from(round), 2);
        encode_verification(&mut out, &tail, Shape::Single, &verification(), [item]).expect("within limits");
        std::hint::black_box(&out);
    }
    println!("encode: {:.1} ns, {} bytes", began.elapsed().as_nanos() as f64 / f64::from(rounds), out.len());
    for durability in [Durability::Flush, Durability::Write] {
        for tasks in [1, 64, 256] {
            let (rate, nanos) = closed_loop(durability, tasks);
            println!(
                "{durability:?}, {tasks} tasks: {rate:.0} receipts/s, {nanos:.0} ns of processor time each"
            );
        }
    }
}

#[test]
#[ignore = "figures: cargo test --release --lib -- --ignored --nocapture audit::tests::measure"]
#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn look_ups() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let config = TrailConfig {
        dir: dir.path().join("trail"),
        durability: Durability::Write,
        segment_bytes: 16 * 1024 * 1024,
        pending_bytes_max: 16 * 1024 * 1024,
        start_check_bytes: 1 << 30,
    };
    let (trail, thread, _) =
        open(config.clone(), Clock::system(), "0.1.0", Environment::Test).expect("opened");
    let finder = trail.clone();
    runtime().block_on(async move {
        let recorder = LocalRecorder::new(trail.recorder()).expect("randomness");
        let pump = recorder.clone();
        tokio::task::spawn_local(async move { pump.pump().await });
        let mut ids = Vec::new();
        while trail.status().segment < 4 {
            ids.push(record(&recorder, 1).expect("taken").await.expect("durable").verification_id());
        }
        let step = ids.len() / 50;
        let mut slowest = Duration::ZERO;
        let began = Instant::now();
        for id in ids.iter().step_by(step) {
            let one = Instant::now();
            assert!(finder.find(*id).expect("readable").is_some());
            slowest = slowest.max(one.elapsed());
        }
        let mean = began.elapsed() / 51;
        println!("find, segments of 16 MiB, groups of one record: mean {mean:?}, slowest {slowest:?}");
    });
    thread.close().expect("closed");
    let began = Instant::now();
    let report = crate::audit::check(&config.dir, &|| false).expect("sound");
    println!("check: {} records, 4 segments of 16 MiB in {:?}", report.records, began.elapsed());
}
