use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, Database, StorageBackend, TableDefinition};

use super::limiter::DayUsage;
use super::store::Store;
use super::testing::{cells, limits, moment, shown, test_world, wait, world_over};
use super::time::{LimiterTime, Ticks};
use super::*;
use crate::clock::Clock;
use crate::environment::Environment;

fn fresh_limiter(usage: Option<DayUsage>) -> Arc<KeyLimiter> {
    let time = LimiterTime::new(Clock::system(), Ticks::system());
    Arc::new(KeyLimiter::new(Arc::new(time), usage))
}

#[test]
fn whatever_was_answered_is_there_after_a_crash() {
    let world = test_world();
    let crashed = tempfile::tempdir().expect("temporary directory");
    let mut ids = Vec::new();
    for step in 0..30u32 {
        match step % 3 {
            0 => ids.push(world.issue(world.new_key(&["127.0.0.1"])).0.id()),
            1 => {
                let id = ids[ids.len() - 1];
                wait(world.writer.set_limits(id, limits(step, step, 9))).expect("changed");
            }
            _ => drop(wait(world.writer.deactivate_key(ids[ids.len() - 1])).expect("deactivated")),
        }
        // The file as a process that dies now would leave it.
        let image = crashed.path().join(format!("{step}.redb"));
        std::fs::copy(world.path(), &image).expect("copied");
        let store = Store::open(&image, Environment::Test).expect("opens after a crash");
        let directory = store.load(|_, usage| fresh_limiter(usage)).expect("loads");
        let list = |directory: &Directory| directory.keys().map(|key| shown(key)).collect::<Vec<_>>();
        assert_eq!(list(&directory), list(&world.reader.load()), "step {step}");
    }
}

#[test]
fn a_store_of_another_environment_or_format_is_refused() {
    let world = test_world();
    let path = world.path();
    drop(world.thread);
    assert!(
        matches!(Store::open(&path, Environment::Production), Err(OpenError::OtherEnvironment(found)) if found == "test")
    );
    put(&path, "settings", "format", "2");
    assert!(
        matches!(Store::open(&path, Environment::Test), Err(OpenError::UnknownFormat(found)) if found == "2")
    );
    put(&path, "settings", "format", "1");
    assert!(Store::open(&path, Environment::Test).is_ok());
}

#[test]
fn a_damaged_record_is_named() {
    let world = test_world();
    let (record, _) = world.issue(world.new_key(&["127.0.0.1"]));
    let path = world.path();
    drop(world.thread);
    let other = r#"{"id":"bbbbbbbbbb","sha256":"00","institution":{"name":"x"},"system":"x","addresses":[],"limits":{"per_second":1,"burst":1,"per_day":1},"created_at":"2026-11-21T11:00:00Z"}"#;
    for (table, key, text) in [
        ("keys", record.id().as_str(), "{}"),
        ("keys", record.id().as_str(), other),
        ("keys", "bbbbbbbbbb", other),
        ("tokens", "bbbbbbbbbb", r#"{"id":"bbbbbbbbbb","roles":[]}"#),
        ("usage", record.id().as_str(), r#"{"day":"yesterday","numbers":1}"#),
    ] {
        let kept = std::fs::read(&path).expect("file");
        put(&path, table, key, text);
        let store = Store::open(&path, Environment::Test).expect("opens");
        let loaded = store.load(|_, usage| fresh_limiter(usage));
        match loaded {
            Err(OpenError::Damaged { table: found, record, .. }) => {
                assert_eq!((found, record.as_str()), (table, key));
            }
            other => panic!("{other:?}"),
        }
        drop(store);
        std::fs::write(&path, kept).expect("restored");
    }
}

/// Writes a text past the store's own code.
fn put(path: &std::path::Path, table: &str, key: &str, text: &str) {
    let database = Database::open(path).expect("opens");
    let writing = database.begin_write().expect("transaction");
    {
        let mut table = writing.open_table(TableDefinition::<&str, &str>::new(table)).expect("table");
        table.insert(key, text).expect("inserted");
    }
    writing.commit().expect("committed");
}

/// A file that fails every write and sync as long as it is told to.
#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    broken: Arc<AtomicBool>,
    /// Panics instead, as redb does on a file that was altered behind its back.
    panics: bool,
}

impl Faulty {
    fn judge(&self) -> Result<(), std::io::Error> {
        let fails = self.broken.load(Ordering::SeqCst) && !self.panics;
        if fails { Err(std::io::Error::other("disk full")) } else { Ok(()) }
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.judge()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.judge()?;
        // Where redb holds no lock of its own, as in reading what makes no sense.
        assert!(!self.broken.load(Ordering::SeqCst), "redb makes no sense of it");
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.judge()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

#[test]
fn nothing_changes_while_the_store_fails_and_it_recovers() {
    fails_and_recovers(false);
}

#[test]
fn a_store_that_panics_is_one_that_fails() {
    fails_and_recovers(true);
}

fn fails_and_recovers(panics: bool) {
    let broken = Arc::new(AtomicBool::new(false));
    let fault = Arc::clone(&broken);
    let world = world_over(move |path| {
        let mut options = std::fs::OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(OpenError::Io)?;
        let file = FileBackend::new(file).expect("backend");
        Store::over(Faulty { file, broken: Arc::clone(&fault), panics }, Environment::Test)
    });
    let (record, _) = world.issue(world.new_key(&["127.0.0.1"]));
    record.charge(cells(100)).expect("within");
    broken.store(true, Ordering::SeqCst);
    world.hand.set(moment("2026-11-21T12:00:00Z"));
    let unavailable = Some(AccessError::Unavailable { since: moment("2026-11-21T12:00:00Z") });
    assert_eq!(wait(world.writer.issue_key(world.new_key(&["127.0.0.1"]), None)).err(), unavailable);
    world.hand.set(moment("2026-11-21T12:30:00Z"));
    assert_eq!(wait(world.writer.set_limits(record.id(), limits(1, 1, 1))).err(), unavailable);
    assert_eq!(wait(world.writer.save_usage()).err(), unavailable);
    assert_eq!(world.writer.unavailable_since(), Some(moment("2026-11-21T12:00:00Z")));
    {
        let directory = world.reader.load();
        assert_eq!(directory.key_count(), 1);
        assert_eq!(directory.key(&record.id()).map(|key| *key.limits()), Some(*record.limits()));
    }
    broken.store(false, Ordering::SeqCst);
    let changed = wait(world.writer.set_limits(record.id(), limits(10, 200, 500))).expect("recovered");
    assert_eq!(changed.limits_view().day_remaining, 400, "the budget is the same one");
    assert_eq!(world.writer.unavailable_since(), None);
}
