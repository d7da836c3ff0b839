//! Re-reservations made ready before their second, so that nothing has to be read
//! in it: what a temporary withdrawal left lies strewn over the whole file.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::super::event::{Event, StoredEvent};
use super::super::law::reserve_again;
use super::super::schedule::{Due, NEAR_SECONDS, Schedule};
use super::super::snapshot::Changed;
use super::super::store::{Record, StoreError, StoreHandle};
use super::super::words::{Sequence, Stamp};
use super::run::Ledger;
use crate::limits::SCHEDULED_PREPARED_MAX;
use crate::pesel::Ordinal;

/// How long one turn of making ready may keep the writer from commands.
const TURN: Duration = Duration::from_millis(4);
/// The pause between two turns.
const PAUSE: Duration = Duration::from_millis(16);
/// The pause after a turn that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Numbers read before the time is looked at again.
const AT_ONCE: usize = 32;

/// A re-reservation to be appended, and the history that it continues.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) record: Record,
    pub(super) event: Event,
}

/// What is ready. It follows every change of the register: what is in it is what a
/// reading in the next transaction would give.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    ready: HashMap<Ordinal, Ready>,
    /// Before it everything is ready or never will be.
    from: Option<Due>,
    turn_at: Option<Instant>,
}

impl Prepared {
    /// What is ready for this second of the number.
    pub(super) fn get(&self, due: &Due) -> Option<&Ready> {
        self.ready.get(&due.ordinal).filter(|ready| ready.event.at == due.at)
    }

    /// Makes some of what is due soon after `now` ready, if it is time for a turn.
    pub(super) fn turn(
        &mut self,
        schedule: &Schedule<Ledger>,
        store: &StoreHandle,
        now: Stamp,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        if self.turn_at.is_some_and(|at| begun < at) {
            return Ok(());
        }
        while begun.elapsed() < TURN && self.ready.len() < SCHEDULED_PREPARED_MAX {
            let next = schedule.between(self.from, now.plus_seconds(NEAR_SECONDS), AT_ONCE);
            let Some(last) = next.last() else { break };
            let (last, before) = (*last, self.ready.len());
            let missing: Vec<Due> = next.into_iter().filter(|due| self.get(due).is_none()).collect();
            let records = missing.iter().map(|due| store.record(due.ordinal)).collect::<Result<_, _>>()?;
            let made = ready(records, |sequences| store.events_by_sequence(sequences))?;
            self.ready.extend(made.into_iter().map(|ready| (ready.record.ordinal(), ready)));
            let is_at_its_end = self.from == Some(last) && self.ready.len() == before;
            self.from = Some(last);
            if is_at_its_end {
                break;
            }
        }
        self.turn_at = Some(Instant::now() + PAUSE);
        Ok(())
    }

    /// Follows entries that have changed.
    pub(super) fn follow(&mut self, changes: &[Changed]) {
        for (ordinal, entry) in changes {
            self.ready.remove(ordinal);
            let due = entry.re_reservation_at().map(|at| Due { at, ordinal: *ordinal });
            if let Some(due) = due {
                self.from = self.from.map(|from| from.min(due));
            }
        }
    }

    /// Nothing is ready any more, and for a while nothing is read: a store that
    /// cannot be read is not asked fifty times a second.
    pub(super) fn give_up(&mut self) {
        *self = Self { turn_at: Some(Instant::now() + PAUSE_AFTER_FAILURE), ..Self::default() };
    }
}

/// The re-reservations of these histories, in the order of the withdrawals that
/// they end; a history without such a withdrawal has none.
pub(super) fn ready(
    records: Vec<Record>,
    events_of: impl FnOnce(&[Sequence]) -> Result<Vec<StoredEvent>, StoreError>,
) -> Result<Vec<Ready>, StoreError> {
    let mut waiting: Vec<(Sequence, Record)> = records
        .into_iter()
        .filter_map(|record| record.pending_withdrawal().map(|withdrawal| (withdrawal, record)))
        .collect();
    // By sequence, so that a row of many withdrawals is read once.
    waiting.sort_unstable_by_key(|(withdrawal, _)| *withdrawal);
    let sequences: Vec<Sequence> = waiting.iter().map(|(withdrawal, _)| *withdrawal).collect();
    let withdrawals = events_of(&sequences)?;
    let made = waiting.into_iter().zip(&withdrawals).filter_map(|((_, record), withdrawal)| {
        reserve_again(record.entry(), withdrawal).map(|event| Ready { record, event })
    });
    Ok(made.collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::event::Filing;
    use super::super::super::store::{Appending, Loaded, OpenMode, Store, file_opener};
    use super::super::super::words::{Channel, EventKind, Registrant};
    use super::*;
    use crate::clock::Moment;

    const PEOPLE: u32 = 100;
    const END: u32 = 5_000;

    fn number(n: u32) -> Ordinal {
        Ordinal::new(200_000_000 + n * 70_001).expect("in range")
    }

    fn due(n: u32, at: u32) -> Due {
        Due { at: Stamp::from_seconds(at), ordinal: number(n) }
    }

    fn event(n: u32, kind: EventKind, at: u32, again: Option<u32>) -> Event {
        Event {
            ordinal: number(n),
            at: Stamp::from_seconds(at),
            kind,
            channel: Channel::EService,
            registrant: Registrant::new("e-usługa").expect("a name"),
            filing: Filing::NONE,
            reserve_again_at: again.map(Stamp::from_seconds),
            scheduled_by: None,
            renumbered_to: None,
        }
    }

    /// Everybody reserved, then withdrawn until about the same second.
    fn withdrawn(path: &std::path::Path) -> (Store, Schedule<Ledger>) {
        let now = Moment::from_unix_seconds(0);
        let Loaded { store, head, snapshot, .. } =
            Store::open(file_opener(path.to_owned(), 1 << 20), OpenMode::CreateIfMissing, now)
                .expect("it opens");
        let txn = store.begin().expect("a transaction");
        let mut appending = Appending::begin(&txn, head, &snapshot).expect("tables");
        for (kind, at) in [(EventKind::Reservation, 10), (EventKind::Withdrawal, 20)] {
            for n in 0..PEOPLE {
                let record = appending.record(number(n)).expect("readable");
                let again = (kind == EventKind::Withdrawal).then_some(END + n % 3);
                appending.append(record, event(n, kind, at, again)).expect("appended");
            }
        }
        let changes = appending.finish(Stamp::from_seconds(20), None).expect("written").changes;
        txn.commit().expect("durable");
        let mut schedule = Schedule::default();
        schedule.follow(&changes);
        (store, schedule)
    }

    /// Turns until so many are ready.
    fn make_ready(
        prepared: &mut Prepared,
        schedule: &Schedule<Ledger>,
        store: &Store,
        now: u32,
        wanted: usize,
    ) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while prepared.ready.len() < wanted {
            assert!(Instant::now() < deadline, "{} are ready", prepared.ready.len());
            prepared.turn(schedule, &store.handle(), Stamp::from_seconds(now)).expect("readable");
        }
    }

    #[test]
    fn what_is_due_soon_is_ready_as_a_reading_would_give_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, schedule) = withdrawn(&dir.path().join("register.redb"));
        let mut prepared = Prepared::default();
        let early = Stamp::from_seconds(END - NEAR_SECONDS - 1);
        prepared.turn(&schedule, &store.handle(), early).expect("readable");
        assert_eq!(prepared.ready.len(), 0, "nothing is due soon");
        let of_first_second = PEOPLE.div_ceil(3) as usize;
        make_ready(&mut prepared, &schedule, &store, END - NEAR_SECONDS, of_first_second);
        assert_eq!(prepared.ready.len(), of_first_second);
        make_ready(&mut prepared, &schedule, &store, END, PEOPLE as usize);
        for due in schedule.due(Stamp::from_seconds(END + 9), usize::MAX) {
            let record = store.handle().record(due.ordinal).expect("readable");
            let read = ready(vec![record], |sequences| store.handle().events_by_sequence(sequences));
            let read = read.expect("readable").remove(0);
            let ready = prepared.get(&due).expect("ready");
            assert_eq!((&ready.event, ready.record.events()), (&read.event, read.record.events()));
            assert_eq!(ready.event.at, due.at);
        }
        assert!(prepared.get(&due(1, END)).is_none(), "only in its own second");
        // A store that failed is left alone for a while.
        prepared.give_up();
        prepared.turn(&schedule, &store.handle(), Stamp::from_seconds(END)).expect("not read");
        assert_eq!(prepared.ready.len(), 0);
    }

    #[test]
    fn what_changes_is_not_ready_any_more_and_is_made_ready_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, mut schedule) = withdrawn(&dir.path().join("register.redb"));
        let mut prepared = Prepared::default();
        make_ready(&mut prepared, &schedule, &store, END, PEOPLE as usize);
        let entry_of = |prepared: &Prepared, n| *prepared.ready[&number(n)].record.entry();
        let mut brought_forward = entry_of(&prepared, 0);
        brought_forward.apply(EventKind::Reservation, Stamp::from_seconds(30), None);
        let mut withdrawn_again = entry_of(&prepared, 3);
        withdrawn_again.apply(EventKind::Reservation, Stamp::from_seconds(40), None);
        let earlier = Stamp::from_seconds(END - 100);
        withdrawn_again.apply(EventKind::Withdrawal, Stamp::from_seconds(50), Some(earlier));
        let changes = [(number(0), brought_forward), (number(3), withdrawn_again)];
        schedule.follow(&changes);
        prepared.follow(&changes);
        assert!(prepared.get(&due(0, END)).is_none() && prepared.get(&due(3, END)).is_none());
        // Due before all that is ready, and not passed over.
        let next = schedule.between(prepared.from, Stamp::from_seconds(END), 1);
        assert_eq!(next, [due(3, END - 100)]);
    }
}
