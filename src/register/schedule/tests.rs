//! The schedule, and its holds against the definition of what waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::entry::Entry;
use super::super::words::EventKind;
use super::*;
use crate::limits::IMPORT_ENDS_HELD_SECONDS;

/// An import of a test: has all of it been sent?
#[derive(Debug, Default)]
struct Sent(AtomicBool);

impl Import for Sent {
    fn is_complete(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn ordinal(value: u32) -> Ordinal {
    Ordinal::new(value).expect("in range")
}

fn due(at: u32, number: u32) -> Due {
    Due { at: Stamp::from_seconds(at), ordinal: ordinal(number) }
}

fn withdrawn(until: Option<u32>) -> Entry {
    let mut entry = Entry::ABSENT;
    entry.apply(EventKind::Reservation, Stamp::from_seconds(1), None);
    entry.apply(EventKind::Withdrawal, Stamp::from_seconds(2), until.map(Stamp::from_seconds));
    entry
}

#[test]
fn due_ones_come_in_the_order_of_moments_then_numbers() {
    let schedule = Schedule::<Sent>::of([due(30, 1), due(20, 9), due(20, 3), due(40, 2)]);
    let at = |now, max| schedule.due(Stamp::from_seconds(now), max);
    assert_eq!(at(19, 9), []);
    assert_eq!(at(20, 9), [due(20, 3), due(20, 9)]);
    assert_eq!(at(35, 2), [due(20, 3), due(20, 9)]);
    assert_eq!(at(99, 9), [due(20, 3), due(20, 9), due(30, 1), due(40, 2)]);
}

#[test]
fn an_entry_has_one_line_and_its_last_word_counts() {
    let mut schedule = Schedule::<Sent>::of([due(30, 1), due(30, 2)]);
    schedule.follow(&[(ordinal(1), withdrawn(None)), (ordinal(2), withdrawn(Some(50)))]);
    assert_eq!(schedule.due(Stamp::from_seconds(99), 9), [due(50, 2)]);
    schedule.follow(&[(ordinal(2), withdrawn(Some(60))), (ordinal(2), withdrawn(Some(70)))]);
    assert_eq!(schedule.due(Stamp::from_seconds(99), 9), [due(70, 2)]);
    schedule.settle(&[due(70, 2), due(1, 7)]);
    assert_eq!((schedule.len(), schedule.of_number.len()), (0, 0));
}

#[test]
fn the_wait_ends_at_the_second_and_never_sleeps_through_a_set_clock() {
    let schedule = Schedule::<Sent>::of([due(1_000, 1)]);
    let now = Instant::now();
    let wait = |millis| schedule.wait(millis, now).expect("something waits");
    assert_eq!(wait(0), TICK_FAR);
    assert_eq!(wait(1_000_000 - 300_001), TICK_FAR);
    assert_eq!(wait(1_000_000 - 300_000), TICK_NEAR);
    assert_eq!(wait(999_995), Duration::from_millis(5));
    assert_eq!(wait(1_000_000), Duration::ZERO);
    assert_eq!(wait(9_000_000), Duration::ZERO);
    assert_eq!(Schedule::<Sent>::default().wait(0, now), None);
}

#[test]
fn an_end_waits_for_its_import_and_for_a_while_when_that_broke_off() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let held = u64::from(IMPORT_ENDS_HELD_SECONDS);
    let mut schedule = Schedule::of([due(40, 1), due(50, 2), due(60, 3), due(70, 4)]);
    let free = |schedule: &Schedule<Sent>| {
        let due = schedule.due(Stamp::from_seconds(99), 9);
        due.iter().map(|due| due.ordinal.value()).collect::<Vec<_>>()
    };
    let (whole, broken) = (Arc::new(Sent::default()), Arc::new(Sent::default()));
    schedule.told(&whole, [due(40, 1), due(50, 3), due(60, 9)]);
    schedule.told(&broken, [due(50, 2)]);
    assert_eq!(free(&schedule), [3, 4], "of the third it told another end");
    assert_eq!(schedule.len(), 4);
    // The clock is days before the first end that is free; imports are looked at.
    assert_eq!(schedule.wait(-1_000_000_000, start), Some(Duration::from_millis(50)));
    drop(broken);
    whole.0.store(true, Ordering::Relaxed);
    schedule.release(start);
    assert_eq!(free(&schedule), [1, 3, 4]);
    schedule.hold_interrupted(Some(&RoaringBitmap::from([2, 4, 8])), after(60));
    for (now, expected) in
        [(held - 1, &[1, 3][..]), (held, &[1, 2, 3]), (held + 59, &[1, 2, 3]), (held + 60, &[1, 2, 3, 4])]
    {
        schedule.release(after(now));
        assert_eq!(free(&schedule), expected, "after {now} s");
    }
    schedule.hold_interrupted(None, start);
    assert_eq!((free(&schedule).len(), schedule.held().len(), schedule.len()), (0, 4, 4));
    // What is filed is no matter of an import.
    schedule.follow(&[(ordinal(1), withdrawn(Some(45))), (ordinal(2), withdrawn(None))]);
    assert_eq!((free(&schedule), schedule.len()), (vec![1], 3));
}

/// An import as the definition sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    UnderWay,
    Complete,
    BrokenOff(Instant),
}

/// Ends and who told them, in order; nothing else is kept.
#[derive(Default)]
struct Definition {
    fates: Vec<Fate>,
    numbers: BTreeMap<u32, (u32, Vec<usize>)>,
}

impl Definition {
    /// Waits it for one that is under way, or for the last one that told it, should that
    /// have broken off a short while ago?
    fn is_held(&self, told: &[usize], now: Instant) -> bool {
        let held = Duration::from_secs(u64::from(IMPORT_ENDS_HELD_SECONDS));
        let may_be_sent_again = |import: &usize| match self.fates[*import] {
            Fate::BrokenOff(at) => now < at + held,
            Fate::UnderWay | Fate::Complete => false,
        };
        told.iter().any(|import| self.fates[*import] == Fate::UnderWay)
            || told.last().is_some_and(may_be_sent_again)
    }

    fn assert_is(&self, schedule: &Schedule<Sent>, now: Instant, context: &str) {
        let (held, free): (Vec<_>, Vec<_>) =
            self.numbers.iter().partition(|(_, (_, told))| self.is_held(told, now));
        assert!(schedule.held().iter().eq(held.iter().map(|(number, _)| **number)), "{context}");
        let mut free: Vec<_> = free.into_iter().map(|(number, (at, _))| due(*at, *number)).collect();
        free.sort_unstable();
        assert_eq!(schedule.due(Stamp::from_seconds(u32::MAX), usize::MAX), free, "{context}");
        assert_eq!(schedule.len(), self.numbers.len(), "{context}");
    }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % u64::from(bound)) as u32
    }
}

/// Imports begin, tell, tell again, break off and become complete in any order, while
/// commands overtake them, time passes and the process starts anew.
#[test]
fn what_waits_agrees_with_the_definition_however_imports_interleave() {
    let (mut held, mut left) = (0, 0);
    for seed in 1..=60 {
        let mut rng = Rng(0x5EED_0000_0000_0000 + seed);
        let mut schedule = Schedule::default();
        let mut definition = Definition::default();
        let mut imports: Vec<(usize, Arc<Sent>)> = Vec::new();
        let (mut now, mut let_go_later) = (Instant::now(), Vec::new());
        for step in 0..400 {
            let number = 1 + rng.below(12);
            match rng.below(24) {
                0..=2 => {
                    imports.push((definition.fates.len(), Arc::default()));
                    definition.fates.push(Fate::UnderWay);
                }
                3..=15 if !imports.is_empty() => {
                    let (id, import) = &imports[rng.below(imports.len() as u32) as usize];
                    let known = definition.numbers.get(&number).map(|(at, _)| *at);
                    // Known, new, or not as it is known.
                    let at = known.filter(|_| rng.below(4) > 0).unwrap_or_else(|| 1 + rng.below(99));
                    if known.is_none() || rng.below(4) == 0 {
                        schedule.follow_imports(&[(ordinal(number), withdrawn(Some(at)))]);
                        definition.numbers.entry(number).or_default().0 = at;
                    }
                    schedule.told(import, [due(at, number)]);
                    if definition.numbers[&number].0 == at {
                        let told = &mut definition.numbers.get_mut(&number).expect("known").1;
                        told.push(*id);
                    }
                }
                16 => {
                    definition.numbers.remove(&number);
                    match rng.below(3) {
                        0 => schedule.follow_imports(&[(ordinal(number), withdrawn(None))]),
                        1 => schedule.follow(&[(ordinal(number), withdrawn(None))]),
                        _ => {
                            let at = 1 + rng.below(99);
                            schedule.follow(&[(ordinal(number), withdrawn(Some(at)))]);
                            definition.numbers.insert(number, (at, Vec::new()));
                        }
                    }
                }
                17..=18 if !imports.is_empty() => {
                    let (id, import) = &imports[rng.below(imports.len() as u32) as usize];
                    import.0.store(true, Ordering::Relaxed);
                    definition.fates[*id] = Fate::Complete;
                    let id = *id;
                    // Its sender may let go of it later, or before it is looked at.
                    if rng.below(2) == 0 {
                        let_go_later.push(Arc::clone(import));
                    }
                    imports.retain(|(other, _)| *other != id);
                }
                19..=20 if !imports.is_empty() => {
                    let (id, _) = imports.swap_remove(rng.below(imports.len() as u32) as usize);
                    definition.fates[id] = Fate::BrokenOff(now);
                }
                21..=22 => now += Duration::from_secs(u64::from(rng.below(400))),
                23 if rng.below(6) == 0 => {
                    let numbers = schedule.held().clone();
                    let pending = definition.numbers.iter().map(|(number, (at, _))| due(*at, *number));
                    schedule = Schedule::of(pending);
                    schedule.hold_interrupted(Some(&numbers), now);
                    // One import that broke off stands for all that were.
                    imports.clear();
                    let id = definition.fates.len();
                    definition.fates.push(Fate::BrokenOff(now));
                    for (number, (_, told)) in &mut definition.numbers {
                        *told = if numbers.contains(*number) { vec![id] } else { Vec::new() };
                    }
                }
                _ => {}
            }
            schedule.release(now);
            definition.assert_is(&schedule, now, &format!("seed {seed}, step {step}"));
            held += schedule.held().len();
            left += definition.fates.iter().filter(|fate| matches!(fate, Fate::BrokenOff(_))).count();
        }
    }
    assert!(held > 20_000 && left > 20_000, "{held} held, {left} broken off");
}
