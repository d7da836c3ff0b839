//! Histories continued in haste: read as if they were in their places, wherever
//! they are.

use super::super::event::Filing;
use super::super::snapshot::SnapshotHead;
use super::super::store::{Appending, Loaded, OpenMode, RegisterImport, Store};
use super::*;

const PEOPLE: u32 = 40;

fn event(n: u32, kind: EventKind, seconds: i64, again: Option<i64>) -> Event {
    let stamp = |seconds| Stamp::try_from(moment(seconds)).expect("in range");
    Event {
        ordinal: person(n),
        at: stamp(seconds),
        kind,
        channel: Channel::EService,
        registrant: registrant(),
        filing: Filing::NONE,
        reserve_again_at: again.map(stamp),
        scheduled_by: None,
        renumbered_to: None,
    }
}

/// A store without its writer, and every event that was put into it.
struct Bare {
    path: std::path::PathBuf,
    loaded: Loaded,
    events: Vec<StoredEvent>,
}

impl Bare {
    fn open(path: &Path, events: Vec<StoredEvent>) -> Self {
        let loaded =
            Store::open(file_opener(path.to_owned(), CACHE_BYTES), OpenMode::CreateIfMissing, moment(0))
                .expect("it opens");
        Self { path: path.to_owned(), loaded, events }
    }

    fn reopen(self) -> Self {
        let Self { path, loaded, events } = self;
        drop(loaded);
        Self::open(&path, events)
    }

    /// Appends these in one transaction, of which so many were expected by the clock.
    fn append(&mut self, due: usize, events: impl IntoIterator<Item = Event>) {
        let Loaded { store, head, snapshot, .. } = &mut self.loaded;
        let txn = store.begin().expect("a transaction");
        let mut appending = Appending::begin(&txn, *head, snapshot).expect("tables");
        appending.expect_due(due).expect("readable");
        for event in events {
            let record = appending.record(event.ordinal).expect("readable");
            self.events.push(appending.append(record, event).expect("appended"));
        }
        let appended = appending.finish(Stamp::from_seconds(0), None).expect("written");
        txn.commit().expect("durable");
        let next = SnapshotHead { sequence: appended.head.sequence, as_of: appended.head.as_of };
        (*snapshot, *head) = (snapshot.apply(appended.changes, moment(0), next), appended.head);
        assert_eq!(appended.backlog, self.backlog());
    }

    fn backlog(&self) -> u64 {
        self.loaded.store.handle().backlog().expect("readable")
    }

    /// Whatever reads a history finds all of it, and so does a backup.
    fn read_all(&self) {
        let store = self.loaded.store.handle();
        for n in 0..PEOPLE {
            let expected: Vec<_> =
                self.events.iter().filter(|event| event.event().ordinal() == person(n)).cloned().collect();
            let (record, events) = store.events_of(person(n)).expect("readable");
            assert_eq!(events, expected, "person {n}");
            let sequences = expected.iter().map(StoredEvent::sequence);
            assert!(record.events().iter().map(|event| event.sequence).eq(sequences), "person {n}");
            let expected = states_of(&expected).remove(&person(n)).unwrap_or(State::Absent);
            let last = Sequence::new(self.events.len() as u64);
            let record = store.record(person(n)).expect("readable");
            assert_eq!(record.state_at(moment(1_000_000), last), expected, "person {n}");
        }
        let mut import = RegisterImport::judging();
        let export = store.export().expect("readable");
        export.each_chunk(&mut |chunk| import.chunk(chunk)).expect("what a backup takes");
        assert_eq!(import.finish().expect("whole").reserved, self.loaded.snapshot.reserved_count());
    }

    /// ... and so does a start.
    fn check(self) -> Self {
        self.read_all();
        let backlog = self.backlog();
        let reopened = self.reopen();
        let states: BTreeMap<_, _> = reopened.loaded.snapshot.iter().collect();
        assert_eq!(states, states_of(&reopened.events));
        assert_eq!(reopened.backlog(), backlog, "a start leaves it");
        reopened
    }
}

#[test]
fn histories_are_whole_wherever_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut bare = Bare::open(&dir.path().join("register.redb"), Vec::new());
    let all = |kind, seconds, again| (0..PEOPLE).map(move |n| event(n, kind, seconds, again));
    bare.append(0, all(EventKind::Reservation, 10, None));
    bare.append(0, all(EventKind::Withdrawal, 20, Some(5_000)));
    assert_eq!(bare.backlog(), 0);
    // Every second one falls due.
    let due = (0..PEOPLE).step_by(2).map(|n| event(n, EventKind::Reservation, 5_000, None));
    bare.append(PEOPLE as usize / 2, due);
    assert_eq!(bare.backlog(), u64::from(PEOPLE) / 2);
    bare = bare.check();
    // A command about one that waits takes its history to its place.
    bare.append(0, [event(4, EventKind::Withdrawal, 6_000, Some(9_000))]);
    assert_eq!(bare.backlog(), u64::from(PEOPLE) / 2 - 1);
    bare = bare.check();
    // It falls due again beside others, one of which was never reserved.
    let due = [4, 1, 3, PEOPLE - 1].map(|n| event(n, EventKind::Reservation, 9_000, None));
    bare.append(4, due.into_iter().chain([event(PEOPLE, EventKind::Reservation, 9_000, None)]));
    assert_eq!(bare.backlog(), u64::from(PEOPLE) / 2 + 3, "a new history has its place at once");
    bare = bare.check();
    let mut left = bare.backlog();
    while left > 0 {
        let after = bare.loaded.store.settle_histories(5).expect("written");
        assert_eq!(after, left.saturating_sub(5));
        left = after;
        bare = bare.check();
    }
    assert_eq!(bare.loaded.store.settle_histories(5).expect("nothing to write"), 0);
}

/// The clock brings many at once, the writer settles them by itself; what falls due
/// while it does is not late.
#[test]
fn the_writer_settles_what_the_clock_brought() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("register.redb");
    let opened = Opened::at(&path);
    for n in 0..PEOPLE {
        opened.submit(reserve(person(n))).expect("allowed");
        let end = if n % 4 == 0 { 4_000 } else { 3_600 };
        opened.submit(withdraw_until(person(n), end)).expect("allowed");
    }
    for (seconds, due) in [(3_600, 1), (4_000, 0)] {
        opened.hand.set(moment(seconds));
        until(|| opened.reader.snapshot().state(person(due)).is_reserved());
        assert_eq!(opened.states(), states_of(&opened.all_events()));
        for n in 0..PEOPLE {
            let entry = opened.reader.entry(person(n)).expect("readable");
            assert_eq!(entry.state(), opened.reader.snapshot().state(person(n)));
        }
    }
    until(|| opened.reader.backlog() == 0);
    opened.stop();
    let opened = Opened::at(&path);
    assert_eq!(opened.reader.snapshot().reserved_count(), u64::from(PEOPLE));
    assert_eq!(opened.states(), states_of(&opened.all_events()));
}
