//! Files cut short, and tails that are no group.

use super::simulated::{SimulatedDisk, file_path};
use super::support::{Machine, SEGMENT_BYTES};
use crate::audit::check::{check_beside, check_disk};
use crate::audit::dump::{DumpFilter, dump_disk};
use crate::audit::segment::segment_name;
use crate::audit::{Ending, OpenError, ReadError, Recovered, TornTail};

/// A trail that was not closed, its last segment holding a few groups; and the
/// number of that segment.
fn trail() -> (SimulatedDisk, u64) {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    for value in 0..14 {
        machine.record(value).expect("durable");
    }
    let segment = machine.trail().status().segment;
    assert_eq!(segment, 2);
    (disk, segment)
}

#[test]
fn a_tail_cut_at_any_length_starts() {
    let (disk, segment) = trail();
    let image = disk.image();
    let name = segment_name(segment);
    for (spare, step) in [(true, 1), (false, 13)] {
        for length in (0..SEGMENT_BYTES as usize).step_by(step) {
            let mut image = image.clone();
            image.entry(name.clone()).and_modify(|bytes| bytes.truncate(length));
            if !spare {
                image.remove(&segment_name(segment + 1));
            }
            let disk = SimulatedDisk::with(image);
            let torn = match check_disk(&disk).map(|report| report.ending) {
                Ok(Ending::TornTail(torn)) => torn,
                other => panic!("{length}: {other:?}"),
            };
            assert_eq!(torn.file, file_path(&name));
            let mut machine = Machine::start(&disk).unwrap_or_else(|error| panic!("{length}: {error}"));
            let Recovered { found, kept } = machine.recovered.clone();
            assert_eq!(found.torn.as_ref(), Some(&torn));
            let kept = kept.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned());
            assert_eq!(kept.is_some(), torn.bytes > 0, "{length}");
            if let Some(kept) = kept {
                assert_eq!(kept, format!("torn-{segment}-{}.bin", torn.offset));
                assert_eq!(disk.image()[&kept].len() as u64, torn.bytes);
            }
            machine.record(99).expect("durable");
            machine.close();
            let report = check_disk(&disk).expect("sound");
            assert!(matches!(report.ending, Ending::Closed { .. }));
            assert_eq!(report.recovered_bytes, torn.bytes);
        }
    }
}

#[test]
fn what_follows_the_last_group_is_set_aside() {
    let (disk, segment) = trail();
    let name = segment_name(segment);
    disk.tamper(&name, |bytes| bytes[1800..1803].copy_from_slice(&[1, 0, 2]));
    let mut before = Vec::new();
    let dumped = dump_disk(&disk, &mut before, &DumpFilter::default()).expect("readable");
    let torn: TornTail = dumped.torn.expect("a note");
    assert_eq!(dumped.lines, 14);
    assert_eq!(torn.offset + torn.bytes, 1803);
    let machine = Machine::start(&disk).expect("recoverable");
    assert_eq!(machine.recovered.found.torn, Some(torn.clone()));
    machine.close();
    let kept = disk.image()[&format!("torn-{segment}-{}.bin", torn.offset)].clone();
    assert_eq!(kept[kept.len() - 3..], [1, 0, 2]);
    let mut after = Vec::new();
    let dumped = dump_disk(&disk, &mut after, &DumpFilter::default()).expect("readable");
    assert_eq!((dumped.torn, after), (None, before));
}

/// A sound group after the damage was durable once: it is no torn tail.
#[test]
fn a_later_group_makes_a_torn_tail_damage() {
    let (disk, segment) = trail();
    let name = segment_name(segment);
    let magic = crate::audit::segment::GROUP_MAGIC;
    let image = disk.image();
    let groups: Vec<usize> = memchr::memmem::find_iter(&image[&name], &magic).collect();
    assert!(groups.len() >= 3);
    let middle = groups[groups.len() - 2];
    disk.tamper(&name, |bytes| bytes[middle..groups[groups.len() - 1]].fill(0));
    match Machine::start(&disk).err() {
        Some(OpenError::Read(ReadError::Damage(damage))) => {
            assert_eq!(damage.file, file_path(&name));
            assert_eq!(damage.offset, middle as u64);
        }
        other => panic!("{other:?}"),
    }
    // The same in an earlier segment, where nothing may be torn at all.
    let disk = SimulatedDisk::with(image);
    disk.tamper(&segment_name(1), |bytes| bytes[1500..].fill(0));
    assert!(matches!(Machine::start(&disk).err(), Some(OpenError::Read(ReadError::Damage(_)))));
}

/// What a gateway is writing is looked at again; what stays as it is, is torn.
#[test]
fn a_group_in_the_making_is_no_torn_tail() {
    let (disk, segment) = trail();
    let image = disk.image();
    let name = segment_name(segment);
    let magic = crate::audit::segment::GROUP_MAGIC;
    let groups: Vec<usize> = memchr::memmem::find_iter(&image[&name], &magic).collect();
    // As far as a writer has come: half of this group, nothing after it.
    let written_to = |group: usize| {
        let mut image = image.clone();
        let half = groups[group] + 40;
        image.entry(name.clone()).and_modify(|bytes| bytes[half..].fill(0));
        image
    };
    let last = groups.len() - 1;
    let ending = |from: usize, then: &dyn Fn(&SimulatedDisk, u32) -> bool| {
        let disk = SimulatedDisk::with(written_to(from));
        let asked = std::cell::Cell::new(0);
        let report = check_beside(&disk, &|| {
            asked.set(asked.get() + 1);
            then(&disk, asked.get())
        });
        (report.expect("readable").ending, asked.get())
    };
    let becomes = |disk: &SimulatedDisk, image: &std::collections::BTreeMap<String, Vec<u8>>| {
        disk.tamper(&name, |bytes| bytes.copy_from_slice(&image[&name]));
    };
    let (finished, _) = ending(last, &|disk, _| {
        becomes(disk, &image);
        true
    });
    assert_eq!(finished, Ending::Open);
    let (moved, _) = ending(last - 1, &|disk, _| {
        becomes(disk, &written_to(last));
        true
    });
    assert_eq!(moved, Ending::InTheMaking);
    let (stayed, asked) = ending(last, &|_, _| true);
    assert!(matches!(stayed, Ending::TornTail(_)), "{stayed:?}");
    assert_eq!(asked, 4);
    let (nobody_writes, asked) = ending(last, &|_, _| false);
    assert!(matches!(nobody_writes, Ending::TornTail(_)), "{nobody_writes:?}");
    assert_eq!(asked, 1);
}

/// Nobody can plant a group inside a record, see the format's specification.
#[test]
fn callers_cannot_write_the_magic() {
    let magic = crate::audit::segment::GROUP_MAGIC;
    assert!(magic.iter().all(|byte| *byte >= 0xF5), "such bytes never stand in UTF-8");
    // A verified item leaves a caller at most the ordinal's three lower bytes in
    // a row, a moment its four lower ones; the highest byte of each is small.
    let ordinal = (crate::pesel::ORDINALS - 1).to_le_bytes();
    assert!(ordinal[3] < 0xF5);
    let span = 253_402_300_799i64 + 62_135_596_800;
    assert!(span.to_le_bytes()[4] < 0xF5);
}
