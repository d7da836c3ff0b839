//! A file that was altered behind the register's back is refused, and where is said.

use std::path::PathBuf;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::*;

const BATCHES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("batches");
const HISTORY: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("history");
const SETTINGS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("settings");

fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let opened = Opened::at(&path);
    for n in 0..5 {
        opened.submit(reserve(person(n))).expect("allowed");
    }
    opened.stop();
    (dir, path)
}

fn refusal(path: &std::path::Path) -> OpenError {
    Opened::with(file_opener(path.to_owned(), 1 << 20)).err().expect("refused")
}

fn damage(path: &std::path::Path) -> Damage {
    match refusal(path) {
        OpenError::Store(StoreError::Damaged(damage)) => damage,
        other => panic!("{other}"),
    }
}

/// Changes a row, or removes it.
fn alter<K: redb::Key + 'static>(
    path: &std::path::Path,
    table: TableDefinition<'static, K, &[u8]>,
    key: K::SelfType<'static>,
    change: impl Fn(&mut Vec<u8>) -> bool,
) {
    let database = Database::open(path).expect("it opens");
    let txn = database.begin_write().expect("a transaction");
    {
        let mut table = txn.open_table(table).expect("a table");
        let mut value = table.get(&key).expect("readable").expect("there").value().to_vec();
        if change(&mut value) {
            table.insert(&key, value.as_slice()).expect("written");
        } else {
            table.remove(&key).expect("written");
        }
    }
    txn.commit().expect("committed");
}

#[test]
fn a_changed_last_row_is_refused_at_opening() {
    for byte in [0, 31, 32, 64, 80, 95] {
        let (_dir, path) = written();
        alter(&path, BATCHES, 5, |row| {
            row[byte] ^= 4;
            true
        });
        let damage = damage(&path);
        assert_eq!((damage.table, damage.sequence), ("batches", Some(Sequence::new(5))), "byte {byte}");
    }
}

#[test]
fn a_changed_row_before_is_found_by_the_chain() {
    let (_dir, path) = written();
    alter(&path, BATCHES, 3, |row| {
        let last = row.len() - 5;
        row[last] ^= 1;
        true
    });
    let opened = Opened::at(&path);
    let found = opened.reader.verify_chain();
    let Err(StoreError::Damaged(damage)) = found else { panic!("{found:?}") };
    assert_eq!((damage.table, damage.sequence), ("batches", Some(Sequence::new(3))));
    assert!(opened.reader.events(Sequence::ZERO, 10).is_err(), "nor is it listed");
    assert!(opened.reader.events(Sequence::new(3), 10).is_ok());
}

#[test]
fn a_removed_row_is_found() {
    let (_dir, path) = written();
    alter(&path, BATCHES, 3, |_| false);
    let found = Opened::at(&path).reader.verify_chain();
    let Err(StoreError::Damaged(damage)) = found else { panic!("{found:?}") };
    assert_eq!((damage.table, damage.sequence), ("batches", Some(Sequence::new(4))));
    let (_dir, path) = written();
    alter(&path, BATCHES, 5, |_| false);
    assert_eq!(damage_table(&path), "batches");
}

fn damage_table(path: &std::path::Path) -> &'static str {
    damage(path).table
}

#[test]
fn a_changed_or_removed_history_is_refused() {
    let (_dir, path) = written();
    alter(&path, HISTORY, person(2).value(), |row| {
        row[5] ^= 1;
        true
    });
    assert_eq!(damage_table(&path), "history");
    let (_dir, path) = written();
    alter(&path, HISTORY, person(2).value(), |_| false);
    assert_eq!(damage_table(&path), "history");
}

/// Whole by its checksum, and as many entries as before: only the events speak against it.
#[test]
fn a_history_that_is_not_its_events_is_found() {
    let (_dir, path) = written();
    for (byte, whole) in [(5, false), (5, true)] {
        alter(&path, HISTORY, person(2).value(), |row| {
            row[byte] ^= 1;
            let crc = crc32c::crc32c_append(crc32c::crc32c(&person(2).value().to_le_bytes()), &row[4..]);
            row[..4].copy_from_slice(&crc.to_le_bytes());
            true
        });
        let opened = Opened::at(&path);
        assert_eq!(opened.reader.verify_chain().is_ok(), whole);
        let mut import = RegisterImport::judging();
        let export = opened.reader.export().expect("readable");
        export.each_chunk(&mut |chunk| import.chunk(chunk)).expect("each row is whole");
        assert_eq!(import.finish().is_ok(), whole, "nor is it restored");
        opened.stop();
    }
}

#[test]
fn a_changed_head_is_refused() {
    for byte in 0..68 {
        let (_dir, path) = written();
        alter(&path, SETTINGS, "head", |head| {
            head[byte] ^= 1;
            true
        });
        assert_eq!(damage_table(&path), "settings", "byte {byte}");
    }
}

#[test]
fn a_head_that_is_not_the_last_event_is_refused() {
    for byte in [0, 8] {
        let (_dir, path) = written();
        alter(&path, SETTINGS, "head", |head| {
            head[byte] ^= 1;
            let (fields, checksum) = head.split_last_chunk_mut::<4>().expect("a checksum");
            *checksum = crc32c::crc32c(fields).to_le_bytes();
            true
        });
        assert_eq!(damage_table(&path), "batches", "byte {byte}");
    }
    let (_dir, path) = written();
    alter(&path, SETTINGS, "head", |_| false);
    assert_eq!(damage_table(&path), "settings");
}

#[test]
fn another_format_is_refused() {
    let (_dir, path) = written();
    alter(&path, SETTINGS, "format", |format| {
        format[0] = 9;
        true
    });
    assert!(matches!(refusal(&path), OpenError::UnknownFormat { found: 9 }));
}

#[test]
fn a_file_that_is_none_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    std::fs::write(&path, [7; 40_000]).expect("written");
    assert!(matches!(refusal(&path), OpenError::Store(_)));
    // A database of somebody else.
    std::fs::remove_file(&path).expect("removed");
    {
        let database = Database::create(&path).expect("made");
        let txn = database.begin_write().expect("a transaction");
        txn.open_table(TableDefinition::<u64, u64>::new("other")).expect("a table");
        txn.commit().expect("committed");
        assert!(database.begin_read().is_ok());
    }
    assert!(matches!(refusal(&path), OpenError::Store(_)));
}

#[test]
fn no_error_names_a_person() {
    let (_dir, path) = written();
    alter(&path, HISTORY, person(2).value(), |row| {
        row[5] ^= 1;
        true
    });
    let error = refusal(&path);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(&person(2).value().to_string()));
    let (_dir, path) = written();
    let opened = Opened::at(&path);
    let shown = format!("{:?} {:?} {:?}", opened.all_events(), opened.reader, opened.commander);
    for n in 0..5 {
        assert!(!shown.contains(&person(n).value().to_string()));
        assert!(!shown.contains(person(n).pesel().digits()));
    }
}
