//! The power goes at every moment of a run, and takes any part of what was not
//! synced with it.

use super::simulated::{Image, Kept, Operation, SimulatedDisk, after_power_cut};
use super::support::{Machine, config, finished, ordinal, record, told, verification};
use crate::audit::check::check_disk;
use crate::audit::dump::{DumpFilter, dump_disk};
use crate::audit::segment::segment_name;
use crate::audit::{Ending, Item, Receipt};

/// A receipt, the number it is about, and how many operations the disk had done
/// when it was given.
struct Given {
    after: usize,
    receipt: Receipt,
    value: u32,
}

struct Run {
    start: Image,
    log: Vec<Operation>,
    given: Vec<Given>,
}

/// Ticks of one and of several records, a batch longer than a sector, changes
/// of segment, a close.
fn run(start: Image, ticks: u32) -> Run {
    let disk = SimulatedDisk::with(start.clone());
    let mut machine = Machine::start(&disk).expect("a sound trail");
    let mut given = Vec::new();
    for tick in 0..ticks {
        let mut pending = Vec::new();
        for nth in 0..=tick % 3 {
            let value = 10 * tick + nth;
            pending.push((value, record(&machine.recorder, value).expect("taken")));
        }
        if tick % 4 == 3 {
            let value = 10 * tick + 9;
            let items = (0..120).map(|_| Item::verified(ordinal(value), told(value)));
            let batch = machine.recorder.record_batch(&verification(), items);
            pending.push((value, batch.expect("taken")));
        }
        machine.turn().expect("no fault");
        let after = disk.operations();
        given.extend(pending.into_iter().map(|(value, pending)| {
            let receipt = finished(pending).expect("durable");
            Given { after, receipt, value }
        }));
    }
    machine.close();
    Run { start, log: disk.log(), given }
}

/// A start on what is left must succeed, know every receipt given before, go on,
/// and leave a sound trail.
fn recovers(run: &Run, image: Image, operations: usize, what: &str) -> SimulatedDisk {
    let disk = SimulatedDisk::with(image);
    let mut machine = match Machine::start(&disk) {
        Ok(machine) => machine,
        Err(error) => panic!("{what}: {error}"),
    };
    let trail = machine.trail();
    for given in run.given.iter().filter(|given| given.after <= operations) {
        let found = trail.find(given.receipt.verification_id()).expect("readable");
        let found = found.unwrap_or_else(|| panic!("{what}: {} is lost", given.value));
        assert_eq!(found.verification_id, given.receipt.verification_id());
        let expected = Item::verified(ordinal(given.value), told(given.value));
        assert!(found.items[0] == expected, "{what}: another answer");
    }
    machine.record(1_000_000).expect("durable");
    machine.close();
    // The check also holds the sequences to be without gap or double.
    let report = check_disk(&disk).unwrap_or_else(|damage| panic!("{what}: {damage}"));
    assert!(matches!(report.ending, Ending::Closed { .. }), "{what}: {:?}", report.ending);
    disk
}

/// Every cut after `operations` of a run, in sectors of this size.
fn cuts(run: &Run, operations: usize, sector_bytes: usize) -> Vec<(Kept, bool)> {
    let (_, unsynced) = after_power_cut(&run.start, &run.log, operations, sector_bytes, Kept::None, true);
    // Only the zeros of a new segment are that many; they differ in nothing but
    // their length.
    let step = if unsynced > 1000 { 97 } else { 1 };
    let mut kept: Vec<Kept> = (0..=unsynced).step_by(step).map(Kept::First).collect();
    if sector_bytes > 1 {
        kept.extend((0..unsynced).map(Kept::AllBut));
        let spread = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(operations as u64 + 1);
        kept.extend([Kept::None, Kept::Mask(spread), Kept::Mask(!spread)]);
    }
    kept.into_iter().flat_map(|kept| [(kept, true), (kept, false)]).collect()
}

fn every_cut(run: &Run, sector_bytes: usize) -> usize {
    let mut images = 0;
    for operations in 0..=run.log.len() {
        for (kept, keep_names) in cuts(run, operations, sector_bytes) {
            let what = format!("cut after {operations}, {kept:?}, names kept: {keep_names}");
            let (image, _) =
                after_power_cut(&run.start, &run.log, operations, sector_bytes, kept, keep_names);
            recovers(run, image, operations, &what);
            images += 1;
        }
    }
    images
}

#[test]
fn no_receipt_is_lost_wherever_the_power_goes() {
    let first = run(Image::new(), 24);
    assert!(first.log.iter().filter(|op| matches!(op, Operation::Rename { .. })).count() >= 4);
    let images = every_cut(&first, 512);
    assert!(images > 1_000, "{images}");
}

#[test]
fn nor_between_any_two_bytes() {
    every_cut(&run(Image::new(), 2), 1);
}

/// The power goes again while the start after the first cut is at work.
#[test]
fn a_start_may_be_cut_off_itself() {
    let (first, mut tails) = (run(Image::new(), 9), 0);
    for operations in (0..=first.log.len()).step_by(3) {
        let kept = Kept::Mask(0x5555_5555_5555_5555);
        let (image, _) = after_power_cut(&first.start, &first.log, operations, 512, kept, true);
        let second = recovers(&first, image.clone(), operations, "first cut");
        let (log, recovered) = (second.log(), second.image());
        for again in 0..log.len() {
            let kept = Kept::First(again % 3);
            let (image, _) = after_power_cut(&image, &log, again, 512, kept, again % 2 == 0);
            tails += assert_tails_are_kept(&recovered, &image, again);
            recovers(&first, image, operations, &format!("cut after {operations}, then after {again}"));
        }
    }
    assert!(tails > 0, "nothing was torn");
}

/// What a recovery has set aside is, after a cut in its middle, either still in its
/// segment or whole in a file of its own; how many tails there are.
fn assert_tails_are_kept(recovered: &Image, cut: &Image, again: usize) -> usize {
    let set_aside: Vec<_> = recovered.iter().filter(|(name, _)| name.starts_with("torn-")).collect();
    for (name, tail) in &set_aside {
        let mut place = name.trim_end_matches(".bin").split('-').skip(1).map(|number| number.parse::<u64>());
        let (Some(Ok(segment)), Some(Ok(offset))) = (place.next(), place.next()) else { panic!("{name}") };
        let in_segment = cut
            .get(&segment_name(segment))
            .and_then(|bytes| bytes.get(offset as usize..offset as usize + tail.len()));
        let is_aside = cut.iter().any(|(other, bytes)| other.starts_with("torn-") && bytes == *tail);
        assert!(is_aside || in_segment == Some(&tail[..]), "{name} is nowhere after {again}");
    }
    set_aside.len()
}

/// Runs follow each other: sequence and chain go on, every answer stays.
#[test]
fn runs_continue_each_other() {
    let first = run(Image::new(), 6);
    let disk = SimulatedDisk::with(first.start.clone());
    let mut values = Vec::new();
    for nth in 0..5 {
        let mut machine =
            Machine::start_with(&disk, &config(1024 + 512 * nth), 1_795_000_000).expect("sound");
        assert_eq!(machine.recovered.found.closed_cleanly, nth % 2 == 0);
        for value in 0..7 {
            let value = nth as u32 * 100 + value;
            machine.record(value).expect("durable");
            values.push(ordinal(value).pesel().digits().to_owned());
        }
        if nth % 2 == 1 {
            machine.close();
        }
    }
    let report = check_disk(&disk).expect("sound");
    assert_eq!((report.runs, report.verifications), (5, 35));
    let mut dumped = Vec::new();
    dump_disk(&disk, &mut dumped, &DumpFilter::default()).expect("sound");
    let dumped: Vec<String> = dumped
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("JSON"))
        .map(|line| line["pesel"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(dumped, values);
}
