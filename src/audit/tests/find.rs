//! Looking verifications up by their identifiers.

use super::simulated::SimulatedDisk;
use super::support::{Machine, START, config, ordinal};
use crate::audit::{Item, ReadError, VerificationId};
use crate::clock::Moment;

#[test]
fn every_receipt_is_found_although_the_clock_goes_back_and_forth() {
    let disk = SimulatedDisk::new();
    let mut given: Vec<(VerificationId, u32)> = Vec::new();
    let mut value = 0;
    // Forwards, back, standing still, over restarts, over many segments.
    for base in [0, 1_000, -5_000, 1_001, 0] {
        let mut machine = Machine::start_with(&disk, &config(2048), START + base).expect("sound");
        for step in [0, 0, 0, 1, 2, -3600, 0, 5, 86_400, 86_400, 3, 4] {
            machine.hand.set(Moment::from_unix_seconds(START + base + step));
            for _ in 0..2 {
                let id = machine.record(value).expect("durable").verification_id();
                assert!(given.last().is_none_or(|(last, _)| last.stamp_ms() <= id.stamp_ms()));
                given.push((id, value));
                value += 1;
            }
        }
        let trail = machine.trail();
        assert!(trail.status().segment > 1);
        for (id, value) in &given {
            let found = trail.find(*id).expect("readable").expect("found");
            assert_eq!(found.verification_id, *id);
            let Item::Verified { ordinal: found, .. } = found.items[0] else { panic!("refused") };
            assert!(found == ordinal(*value));
        }
        // Nobody has these: at the same times, long before, long after.
        for (id, _) in &given {
            let mut bytes = *id.as_bytes();
            bytes[15] ^= 1;
            let other = VerificationId::from_bytes(bytes).expect("an id");
            assert_eq!(trail.find(other).expect("readable"), None);
        }
        for stamp_ms in [0, 1, START as u64 * 2000] {
            let other = VerificationId::from_parts(stamp_ms, &crate::audit::id::id_tail(1, 2));
            assert_eq!(trail.find(other).expect("readable"), None);
        }
        if base != 1_000 {
            machine.close();
        }
    }
}

#[test]
fn what_is_damaged_is_not_returned() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start_with(&disk, &config(1 << 16), START).expect("new");
    let id = machine.record(77).expect("durable").verification_id();
    let name = crate::audit::segment::segment_name(1);
    let image = disk.image();
    let place = memchr::memmem::find(&image[&name], id.as_bytes()).expect("the record");
    disk.flip(&name, (place + 30) * 8);
    assert!(matches!(machine.trail().find(id), Err(ReadError::Damage(_))));
}
