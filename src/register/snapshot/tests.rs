//! The snapshot against a map of lists of events.

use std::collections::BTreeMap;

use super::super::entry::Phase;
use super::super::words::{EventKind, Stamp};
use super::*;

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % u64::from(bound)) as u32
    }
}

fn head(sequence: u64) -> SnapshotHead {
    SnapshotHead { sequence: Sequence::new(sequence), as_of: Moment::from_unix_seconds(0) }
}

fn empty() -> Snapshot {
    Builder::new(NOW).finish(head(0))
}

/// What is known of a number, and since when.
type Known = (Events, Entry, Moment);
type Events = Vec<(EventKind, Stamp)>;

const NOW: Moment = Moment::from_unix_seconds(0);

/// The state by the definition: all events up to the moment, in order.
fn naive(events: &[(EventKind, Stamp)], at: Moment) -> State {
    let mut state = State::Absent;
    for (kind, stamp) in events.iter().filter(|(_, stamp)| stamp.moment() <= at) {
        let moment = stamp.moment();
        state = match (kind, state) {
            (EventKind::Reservation, State::Reserved { .. }) => state,
            (EventKind::Reservation, _) => State::Reserved { reserved_at: moment },
            (EventKind::Withdrawal, State::Reserved { reserved_at }) => {
                State::Withdrawn { reserved_at, withdrawn_at: moment }
            }
            (EventKind::Withdrawal | EventKind::Renumbering, _) => state,
        };
    }
    state
}

/// One random event that the history of the number allows.
fn grow(events: &mut Events, entry: &mut Entry, rng: &mut Rng) {
    let last = events.last().map_or(1_000, |(_, at)| at.seconds());
    // Often the same second, to try the order within it.
    let at = Stamp::from_seconds(last + rng.below(3));
    let reserved = matches!(entry.phase(), Phase::Reserved { .. });
    let kind = if reserved && rng.below(4) > 0 { EventKind::Withdrawal } else { EventKind::Reservation };
    let is_temporary = kind == EventKind::Withdrawal && rng.below(2) == 0;
    entry.apply(kind, at, is_temporary.then(|| at.plus_seconds(1 + rng.below(3))));
    events.push((kind, at));
}

fn check(snapshot: &Snapshot, model: &BTreeMap<Ordinal, Known>) {
    let end = Moment::from_unix_seconds(i64::from(u32::MAX));
    let expected: Vec<_> =
        model.iter().map(|(ordinal, (events, ..))| (*ordinal, naive(events, end))).collect();
    assert!(snapshot.iter().eq(expected.iter().copied()));
    let reserved: Vec<_> = expected
        .iter()
        .filter(|(_, state)| state.is_reserved())
        .map(|(ordinal, _)| ordinal.value())
        .collect();
    assert!(snapshot.to_roaring().iter().eq(reserved.iter().copied()));
    assert_eq!(snapshot.reserved_count(), reserved.len() as u64);
    assert_eq!(snapshot.entry_count(), expected.len() as u64);
    let bytes: usize = snapshot.pages().map(|(_, page)| page.heap_bytes()).sum();
    assert_eq!(snapshot.counts.page_bytes, bytes);
    for (ordinal, (events, entry, told_at)) in model {
        let end = entry.re_reservation_at().map(Stamp::moment);
        let since = end.max(end.map(|_| *told_at));
        for shift in -1..=3 {
            for (_, stamp) in events {
                let at = Moment::from_unix_seconds(i64::from(stamp.seconds()) + shift);
                assert_eq!(snapshot.overdue(*ordinal, at), since.filter(|_| end <= Some(at)));
                let expected = naive(events, at);
                match snapshot.state_at(*ordinal, at) {
                    AsOf::Known(state) => assert_eq!(state, expected),
                    // Only where an earlier reservation makes memory not enough.
                    AsOf::History => assert!(events.len() > 2),
                }
            }
        }
    }
}

/// Every number of a page or two, strewn ones, and the edges.
fn pick(rng: &mut Rng) -> Ordinal {
    let value = match rng.below(10) {
        0 => rng.below(ORDINALS),
        1 => [0, 65_535, 65_536, ORDINALS - 1, 8_388_607, 8_388_608][rng.below(6) as usize],
        2..=4 => (3 << 16) + rng.below(700),
        _ => (7 << 16) + rng.below(1_500),
    };
    Ordinal::new(value).expect("in range")
}

#[test]
fn snapshots_agree_with_a_naive_model_under_random_batches() {
    let mut rng = Rng(0x5EED_1234_5678_9ABC);
    let mut model: BTreeMap<Ordinal, Known> = BTreeMap::new();
    let mut snapshot = empty();
    let mut was = (false, false);
    for round in 1..=60 {
        let mut changes = Vec::new();
        // Some of their ends have passed by then.
        let told_at = Moment::from_unix_seconds(1_000 + i64::from(rng.below(12)));
        for _ in 0..1 + rng.below(400) {
            let ordinal = pick(&mut rng);
            let (events, entry, known_since) =
                model.entry(ordinal).or_insert((Vec::new(), Entry::ABSENT, told_at));
            grow(events, entry, &mut rng);
            *known_since = told_at;
            changes.push((ordinal, *entry));
        }
        let next = snapshot.apply(changes, told_at, head(round));
        assert_eq!(snapshot.sequence(), Sequence::new(round - 1), "the old one stays");
        snapshot = next;
        let dense = snapshot.pages().any(|(_, page)| page.is_dense());
        was = (was.0 || !dense, was.1 || dense);
        if round % 10 == 0 {
            check(&snapshot, &model);
        }
    }
    assert_eq!(was, (true, true), "pages were sparse and dense");
    let mut builder = Builder::new(NOW);
    for (ordinal, (_, entry, _)) in &model {
        builder.push(*ordinal, entry).expect("in order");
    }
    let built = builder.finish(head(60));
    assert!(built.iter().eq(snapshot.iter()), "built whole or in steps, it is the same");
    assert_eq!(built.counts, snapshot.counts);
}

#[test]
fn a_page_gets_dense_and_sparse_again_at_the_threshold() {
    let mut snapshot = empty();
    let count = page::DENSE_FROM as u32 + 2;
    let mut entries = vec![Entry::ABSENT; count as usize];
    let ordinal = |index: u32| Ordinal::new(index * 97).expect("in range");
    for step in 0..count * 2 {
        let index = step % count;
        let kind = if step < count { EventKind::Reservation } else { EventKind::Withdrawal };
        entries[index as usize].apply(kind, Stamp::from_seconds(step), None);
        snapshot =
            snapshot.apply(vec![(ordinal(index), entries[index as usize])], NOW, head(u64::from(step)));
        let reserved = if step < count { step + 1 } else { count * 2 - step - 1 };
        assert_eq!(snapshot.reserved_count(), u64::from(reserved));
        let dense = snapshot.pages().any(|(_, page)| page.is_dense());
        assert_eq!(dense, reserved as usize >= page::DENSE_FROM);
        if step % 64 == 0 || (509..516).contains(&reserved) {
            for (index, entry) in entries.iter().enumerate() {
                assert_eq!(snapshot.state(ordinal(index as u32)), entry.state());
            }
        }
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let mut entry = Entry::ABSENT;
    entry.apply(EventKind::Reservation, Stamp::from_seconds(1), None);
    let mut builder = Builder::new(NOW);
    let ordinal = |value| Ordinal::new(value).expect("in range");
    builder.push(ordinal(5), &entry).expect("first");
    assert_eq!(builder.push(ordinal(5), &entry), Err(build::OutOfOrder));
    assert_eq!(builder.push(ordinal(4), &entry), Err(build::OutOfOrder));
}
