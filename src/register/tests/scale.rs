//! The real size: 7.5 million entries.

use std::time::Instant;

use super::*;
use crate::register::bulk::{BulkError, BulkLoaded};

fn load(path: &Path, count: u32) -> BulkLoaded {
    let ordinals = strewn(count);
    let reservations =
        ordinals.into_iter().map(|ordinal| (ordinal, moment(-i64::from(ordinal.value() % 9_999_991))));
    bulk_load(path, 256 << 20, moment(0), reservations, Channel::EService, &registrant()).expect("loaded")
}

/// About so many numbers, strewn evenly over the births of 1800-1899, in order.
fn strewn(count: u32) -> Vec<Ordinal> {
    let mut rng = Rng(0x1234_5678_9ABC_DEF1);
    let space = 36_524 * 10_000;
    let step = space / count;
    (0..count).map(|n| Ordinal::new(n * step + rng.below(step)).expect("in range")).collect()
}

#[test]
fn a_bulk_load_is_an_ordinary_register() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let loaded = load(&path, 25_000);
    assert_eq!(loaded, BulkLoaded { reserved: 25_000, last: Sequence::new(25_000) });
    let opened = Opened::at(&path);
    assert_eq!(opened.reader.verify_chain().expect("whole").last, loaded.last);
    let expected: Vec<_> = strewn(25_000);
    assert!(opened.reader.snapshot().iter().map(|(ordinal, _)| ordinal).eq(expected.iter().copied()));
    for ordinal in expected.iter().step_by(999) {
        let entry = opened.reader.entry(*ordinal).expect("readable");
        assert_eq!(entry.events().len(), 1);
        assert_eq!(entry.state(), opened.reader.snapshot().state(*ordinal));
    }
    opened.submit(withdraw(expected[7])).expect("allowed");
    assert_eq!(opened.reader.snapshot().reserved_count(), 24_999);
    opened.stop();
    assert_eq!(Opened::at(&path).reader.snapshot().reserved_count(), 24_999);
}

#[test]
fn a_bulk_load_wants_order_and_an_empty_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let load = |numbers: [u32; 2], path: &Path| {
        let reservations = numbers.map(|n| (person(n), moment(0)));
        bulk_load(path, 1 << 20, moment(0), reservations, Channel::EService, &registrant())
    };
    assert!(matches!(load([2, 2], &dir.path().join("other")), Err(BulkError::OutOfOrder)));
    load([1, 2], &path).expect("loaded");
    assert!(matches!(load([1, 2], &path), Err(BulkError::Store(OpenError::NotEmpty))));
}

/// Figures go into the file that `PESELGATE_FIGURES` names, if any.
fn figure(name: &str, value: impl std::fmt::Display) {
    use std::io::Write as _;
    if let Some(path) = std::env::var_os("PESELGATE_FIGURES") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.expect("a file for the figures"), "{name}: {value}").expect("written");
    }
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

#[test]
#[ignore = "7.5 million entries: PESELGATE_FIGURES=FILE cargo test --release --lib -- --ignored register::tests::scale::real_size"]
fn real_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let begun = Instant::now();
    load(&path, 7_500_000);
    figure("bulk load, s", begun.elapsed().as_secs_f64());
    figure("file, MiB", std::fs::metadata(&path).expect("there").len() >> 20);
    for _ in 0..3 {
        let before = resident_mib();
        let begun = Instant::now();
        let (clock, _) = Clock::manual(moment(0));
        let (reader, commander, thread) =
            open_with(file_opener(path.clone(), 32 << 20), clock).expect("it opens");
        figure("open to a built snapshot, s", begun.elapsed().as_secs_f64());
        figure("resident, MiB, before and after opening", format!("{before} {}", resident_mib()));
        drop(commander);
        thread.stop();
        drop(reader);
    }
    let opened = Opened::with(file_opener(path, 32 << 20)).expect("it opens");
    let snapshot = opened.reader.snapshot_owned();
    assert_eq!(snapshot.reserved_count(), 7_500_000);
    figure("snapshot, MiB", snapshot.resident_bytes() >> 20);
    look_up(&snapshot);
    drop(snapshot);
    publish(&opened);
    commands(&opened);
    let begun = Instant::now();
    opened.reader.verify_chain().expect("whole");
    figure("chain verified, s", begun.elapsed().as_secs_f64());
    figure("resident at the end, MiB", resident_mib());
}

fn look_up(snapshot: &Snapshot) {
    let members = strewn(7_500_000);
    let mut rng = Rng(99);
    let asked: Vec<Ordinal> = (0..10_000_000)
        .map(|n| match n % 4 {
            0 => members[rng.below(7_500_000) as usize],
            _ => Ordinal::new(rng.below(36_524 * 10_000)).expect("in range"),
        })
        .collect();
    for _ in 0..5 {
        let begun = Instant::now();
        let hits = asked.iter().filter(|ordinal| snapshot.state(**ordinal).is_reserved()).count();
        figure("look-up, ns", begun.elapsed().as_nanos() as f64 / 1e7);
        assert!((2_500_000..2_800_000).contains(&hits));
    }
    let begun = Instant::now();
    let sum: i64 = asked
        .iter()
        .map(|ordinal| match snapshot.state(*ordinal) {
            State::Reserved { reserved_at } => reserved_at.unix_seconds() & 1,
            _ => 0,
        })
        .sum();
    figure("look-up with moment, ns", begun.elapsed().as_nanos() as f64 / 1e7);
    assert!(sum > 0);
    let begun = Instant::now();
    let set = snapshot.to_roaring();
    figure("to roaring, s", begun.elapsed().as_secs_f64());
    assert!(set.iter().eq(members.iter().map(|ordinal| ordinal.value())));
}

fn publish(opened: &Opened) {
    let mut snapshot = opened.reader.snapshot_owned();
    let members = strewn(7_500_000);
    let mut rng = Rng(7);
    let mut entry = Entry::ABSENT;
    entry.apply(EventKind::Reservation, Stamp::try_from(moment(0)).expect("a stamp"), None);
    let head = snapshot::SnapshotHead { sequence: Sequence::new(1), as_of: moment(0) };
    for size in [1, 2_048] {
        let rounds = 2_048 / size;
        let changes: Vec<Vec<_>> = (0..rounds)
            .map(|_| (0..size).map(|_| (members[rng.below(7_500_000) as usize], entry)).collect())
            .collect();
        let begun = Instant::now();
        for change in changes {
            snapshot = std::sync::Arc::new(snapshot.apply(change, moment(0), head));
        }
        let took = begun.elapsed().as_micros() as f64 / f64::from(rounds);
        figure("apply of one batch, µs", format!("{size} changes: {took}"));
    }
}

fn commands(opened: &Opened) {
    let mut rng = Rng(5);
    let free: Vec<Ordinal> = (0..40_000)
        .map(|_| Ordinal::new(rng.below(36_524 * 10_000)).expect("in range"))
        .filter(|ordinal| !opened.reader.snapshot().state(*ordinal).is_reserved())
        .collect();
    let begun = Instant::now();
    for ordinal in &free[..500] {
        opened.submit(reserve(*ordinal)).expect("allowed");
    }
    figure("one command after the other, µs", begun.elapsed().as_micros() as f64 / 500.0);
    let begun = Instant::now();
    let recorded = opened.runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let tasks: Vec<_> = free[500..]
            .iter()
            .map(|ordinal| {
                let (commander, submission) = (opened.commander.clone(), reserve(*ordinal));
                tokio::task::spawn_local(async move {
                    loop {
                        match commander.submit(submission.clone()).await {
                            Err(CommandError::Overloaded) => tokio::task::yield_now().await,
                            other => return other.is_ok(),
                        }
                    }
                })
            })
            .collect();
        let mut recorded = 0;
        for task in tasks {
            recorded += u32::from(task.await.expect("no panic"));
        }
        recorded
    }));
    figure("commands/s, all at once", f64::from(recorded) / begun.elapsed().as_secs_f64());
}

/// In the order of their moments, so strewn over all numbers: the worst order
/// for the history.
#[test]
#[ignore = "7.5 million lines: PESELGATE_FIGURES=FILE cargo test --release --lib -- --ignored register::tests::scale::import"]
fn import_of_the_real_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let opener = file_opener(dir.path().join("register.redb"), RegisterConfig::CACHE_BYTES_DEFAULT);
    let opened = Opened::with(opener).expect("it opens");
    let mut numbers = strewn(7_500_000);
    let mut rng = Rng(77);
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, rng.below(at as u32 + 1) as usize);
    }
    let begun = Instant::now();
    opened.runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let run = opened.commander.import_run(true);
        let mut running = std::collections::VecDeque::new();
        for (index, chunk) in numbers.chunks(crate::limits::IMPORT_CHUNK_LINES).enumerate() {
            let at = index as i64 - 10_000;
            let lines =
                chunk.iter().map(|ordinal| line(*ordinal, EventKind::Reservation, at, Channel::EService));
            running.push_back(run.send(lines.collect()).await.expect("taken"));
            if running.len() == crate::limits::IMPORT_CHUNKS_PENDING_MAX {
                running.pop_front().expect("not empty").outcome().await.expect("imported");
            }
        }
        for chunk in running {
            chunk.outcome().await.expect("imported");
        }
    }));
    figure("import, s", begun.elapsed().as_secs_f64());
    figure("resident after the import, MiB", resident_mib());
    assert_eq!(opened.reader.snapshot().reserved_count(), 7_500_000);
    assert_eq!(opened.reader.verify_chain().expect("whole").last, Sequence::new(7_500_000));
}
