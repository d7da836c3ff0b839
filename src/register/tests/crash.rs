//! Commands, imports and the clock, with the disk failing and the power going at
//! random: acknowledged is found, nothing is doubled, the chain holds.

use std::collections::{BTreeMap, HashSet};

use super::disk::{Disk, Left};
use super::*;

/// What the caller was told.
#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<Sequence, StoredEvent>,
    /// Numbers of chunks that were acknowledged.
    imported: Vec<Ordinal>,
}

/// A few commands and a chunk at this moment, until the disk fails.
fn work(opened: &Opened, rng: &mut Rng, told: &mut Told, now: i64, round: u32) -> Result<(), CommandError> {
    let submissions = (0..1 + rng.below(12)).map(|_| {
        let number = person(rng.below(60));
        match rng.below(5) {
            0..=1 => reserve(number),
            2 => withdraw(number),
            _ => withdraw_until(number, now + 1_800 + i64::from(rng.below(3_000))),
        }
    });
    for outcome in opened.submit_all(submissions.collect()) {
        match outcome {
            Ok(outcome) => {
                told.acknowledged.insert(outcome.event().sequence(), outcome.event().clone());
            }
            Err(CommandError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let numbers: Vec<_> = (0..20).map(|n| person(1_000 + round * 20 + n)).collect();
    let lines = numbers.iter().map(|number| line(*number, EventKind::Reservation, -5, Channel::Bank));
    opened.import(lines.collect())?;
    told.imported.extend(numbers);
    Ok(())
}

/// What must hold of whatever is found; gives back all events.
fn check(opened: &Opened, told: &Told, now: i64, context: &str) -> Vec<StoredEvent> {
    let events = opened.all_events();
    assert!(events.len() < crate::limits::EVENTS_PAGE_MAX, "one page has them all");
    for (sequence, event) in &told.acknowledged {
        assert_eq!(events.get(sequence.value() as usize - 1), Some(event), "{context}: {sequence}");
    }
    assert_eq!(opened.states(), states_of(&events), "{context}");
    let report = opened.reader.verify_chain().unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(report.last.value(), events.len() as u64, "{context}");
    let mut ended = HashSet::new();
    let mut waiting = BTreeMap::new();
    for event in &events {
        let (sequence, event) = (event.sequence(), event.event());
        if let Some(withdrawal) = event.scheduled_by() {
            assert!(ended.insert(withdrawal), "{context}: {withdrawal} ended twice");
            assert_eq!(waiting.get(&event.ordinal()), Some(&(withdrawal, event.moment())), "{context}");
        }
        match event.reserve_again_at() {
            Some(again_at) => waiting.insert(event.ordinal(), (sequence, again_at)),
            None => waiting.remove(&event.ordinal()),
        };
    }
    assert!(waiting.values().all(|(_, at)| *at > moment(now)), "{context}: one is overdue");
    let mut of_import = HashSet::new();
    for event in events.iter().map(StoredEvent::event).filter(|event| event.channel() == Channel::Bank) {
        assert!(of_import.insert(event.ordinal()), "{context}: a line counts twice");
    }
    assert!(told.imported.iter().all(|number| of_import.contains(number)), "{context}");
    assert_eq!(of_import.len() % 20, 0, "{context}: part of a chunk");
    events
}

#[test]
fn acknowledged_is_found_and_nothing_doubled_wherever_it_breaks() {
    let mut rng = Rng(0x0FEE_D5EE_D0DD_BA11);
    let mut disk = Disk::default();
    let mut told = Told::default();
    let mut durable: Vec<StoredEvent> = Vec::new();
    let (mut now, mut broken) = (0, 0);
    for round in 0..100 {
        let context = format!("round {round}");
        now += i64::from(rng.below(1_500));
        let opened =
            Opened::with_clock(disk.opener(), now).unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = check(&opened, &told, now, &context);
        assert_eq!(found.get(..durable.len()), Some(&durable[..]), "{context}: what was found stays");
        durable = found;
        disk.fail_from(disk.operations() + u64::from(rng.below(250)));
        let mut steps = 0..6;
        let failed = steps.find_map(|_| {
            now += i64::from(rng.below(1_500));
            opened.hand.set(moment(now));
            work(&opened, &mut rng, &mut told, now, round).err()
        });
        if let Some(error) = failed {
            assert!(matches!(error, CommandError::Unavailable { .. }), "{context}: {error}");
            broken += 1;
        }
        let left = [Left::Nothing, Left::Everything, Left::EverySecond][rng.below(3) as usize];
        if rng.below(3) == 0 {
            // The disk heals while the writer runs; the chunk is sent again.
            disk.heal();
            until(|| *opened.commander.health() == Health::Ok);
            until(|| work(&opened, &mut rng, &mut told, now, round).is_ok());
            check(&opened, &told, now, &format!("{context}, healed"));
        }
        disk = disk.after_power_loss(left);
    }
    assert!(broken > 30, "{broken} rounds broke");
    let scheduled = durable.iter().filter(|event| event.event().scheduled_by().is_some()).count();
    assert!(scheduled > 100, "{scheduled} by the clock");
}
