//! Every single bit of a trail matters.

use super::simulated::SimulatedDisk;
use super::support::{Machine, config};
use crate::audit::check::check_disk;
use crate::audit::segment::segment_name;
use crate::audit::{Ending, OpenError, ReadError};

/// A cleanly closed trail of three segments and a prepared one.
fn trail() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start_with(&disk, &config(1024), 1_795_000_000).expect("new");
    for value in 0..9 {
        machine.record(value).expect("durable");
    }
    machine.close();
    let report = check_disk(&disk).expect("sound");
    assert!(matches!(report.ending, Ending::Closed { .. }));
    assert_eq!((report.segments, report.verifications, report.numbers, report.runs), (3, 9, 9, 1));
    disk
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let disk = trail();
    let mut torn = 0;
    let mut damaged = 0;
    for (name, bytes) in disk.image() {
        for bit in 0..bytes.len() * 8 {
            disk.flip(&name, bit);
            match check_disk(&disk) {
                Err(ReadError::Damage(_)) => damaged += 1,
                Ok(report) if matches!(report.ending, Ending::TornTail(_)) => torn += 1,
                other => panic!("bit {bit} of {name}: {other:?}"),
            }
            disk.flip(&name, bit);
        }
    }
    assert!(check_disk(&disk).expect("sound").is_intact());
    assert!(damaged > 0 && torn > 0, "{damaged} {torn}");
}

#[test]
fn damage_in_the_middle_refuses_to_start_and_names_the_place() {
    let disk = trail();
    let image = disk.image();
    let mut places = 0;
    for number in 1..=3u64 {
        let name = segment_name(number);
        for byte in (0..1024).step_by(5) {
            let disk = SimulatedDisk::with(image.clone());
            disk.flip(&name, byte * 8 + 3);
            let checked = check_disk(&disk);
            match (Machine::start(&disk), checked) {
                (Err(OpenError::Read(ReadError::Damage(started))), Err(ReadError::Damage(checked))) => {
                    assert_eq!(started, checked);
                    assert!(started.file.ends_with(&name), "{started}");
                    let distance = started.offset.abs_diff(byte as u64);
                    assert!(distance <= 1024, "byte {byte}: {started}");
                    // Nothing is written where nobody knows what is true.
                    assert_eq!(disk.operations(), 0);
                    places += 1;
                }
                (Ok(machine), Ok(report)) => {
                    assert!(matches!(report.ending, Ending::TornTail(_)), "byte {byte} of {number}");
                    assert!(machine.recovered.found.torn.is_some());
                    assert_eq!(number, 3, "byte {byte}");
                }
                (started, checked) => panic!("byte {byte} of {number}: {:?} {checked:?}", started.err()),
            }
        }
    }
    assert!(places > 400, "{places}");
}

#[test]
fn missing_and_swapped_segments_are_found() {
    let image = trail().image();
    let damaged = |image| {
        let disk = SimulatedDisk::with(image);
        assert!(Machine::start(&disk).is_err());
        match check_disk(&disk) {
            Err(ReadError::Damage(damage)) => damage.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for number in 1..=2 {
        let mut image = image.clone();
        image.remove(&segment_name(number));
        assert!(damaged(image).contains("missing"));
    }
    let mut swapped = image.clone();
    let (one, two) = (image[&segment_name(1)].clone(), image[&segment_name(2)].clone());
    swapped.insert(segment_name(1), two.clone());
    swapped.insert(segment_name(2), one);
    damaged(swapped);
    let mut doubled = image.clone();
    doubled.insert(segment_name(3), two);
    damaged(doubled);
    let mut longer = image.clone();
    longer.entry(segment_name(2)).and_modify(|bytes| bytes.push(0));
    damaged(longer);
    let mut zeroed = image;
    zeroed.entry(segment_name(3)).and_modify(|bytes| bytes.fill(0));
    damaged(zeroed);
}

/// Older segments are judged by their headers and links alone at the start.
#[test]
fn a_start_need_not_read_everything() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start_with(&disk, &config(1024), 1_795_000_000).expect("new");
    for value in 0..40 {
        machine.record(value).expect("durable");
    }
    machine.close();
    let partly = crate::audit::TrailConfig { start_check_bytes: 4096, ..config(1024) };
    let image = disk.image();
    // A record of an old segment: for the check to find.
    disk.flip(&segment_name(2), 300 * 8);
    assert!(Machine::start_with(&SimulatedDisk::with(disk.image()), &partly, 1_795_000_000).is_ok());
    assert!(check_disk(&disk).is_err());
    // A header, or the chain value that the next header takes up: not passed.
    let chain_at = {
        let next = &image[&segment_name(3)];
        u64::from_le_bytes(next[56..64].try_into().expect("eight bytes")) as usize - 10
    };
    for byte in [20, 40, 70, chain_at] {
        let disk = SimulatedDisk::with(image.clone());
        disk.flip(&segment_name(2), byte * 8);
        assert!(Machine::start_with(&disk, &partly, 1_795_000_000).is_err(), "byte {byte}");
    }
}
