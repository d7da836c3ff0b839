//! The real size: 7.5 million entries.

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
