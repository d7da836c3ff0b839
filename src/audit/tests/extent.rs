//! The trail's bytes up to a durable place, and a trail made of them.

use super::simulated::SimulatedDisk;
use super::support::{Machine, SEGMENT_BYTES, START, config};
use crate::audit::check::check_disk;
use crate::audit::disk::Disk as _;
use crate::audit::segment::{HEADER_BYTES, SegmentHeader, segment_name};
use crate::audit::{CheckReport, ReadError, SegmentExtent, TrailConfig, TrailExtent, TrailImport, check};
use crate::clock::Moment;
use crate::environment::Environment;

type Parts = Vec<(SegmentExtent, Vec<u8>)>;

fn parts(extent: &TrailExtent, piece_bytes: usize) -> Parts {
    let segments = extent.segments().expect("readable");
    let read = |segment| {
        let mut bytes = Vec::new();
        let all = extent.each_piece(segment, piece_bytes, &mut |piece| {
            assert!(piece.len() <= piece_bytes);
            bytes.extend_from_slice(piece);
            true
        });
        assert!(all.expect("readable"));
        (segment, bytes)
    };
    segments.into_iter().map(read).collect()
}

fn take(mut import: TrailImport, parts: &Parts, piece_bytes: usize) -> Result<CheckReport, ReadError> {
    for (segment, bytes) in parts {
        import.segment(*segment)?;
        for piece in bytes.chunks(piece_bytes) {
            import.bytes(piece)?;
        }
    }
    import.finish()
}

fn judge(parts: &Parts) -> Result<CheckReport, ReadError> {
    take(TrailImport::judging(Environment::Test), parts, 300)
}

#[test]
fn an_extent_is_all_that_was_durable_and_stays_as_it_was() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    let mut extents = Vec::new();
    for value in 0..40 {
        machine.record(value).expect("durable");
        let extent = machine.trail().extent();
        let seen = parts(&extent, 100);
        extents.push((extent, seen));
    }
    assert!(extents[39].1.len() > 3, "several segments");
    for ((extent, seen), value) in extents.iter().zip(0..) {
        assert_eq!(&parts(extent, 1_000), seen, "what is durable is not written again");
        let report = judge(seen).expect("sound");
        assert_eq!(report.records, extent.records());
        assert_eq!(report.verifications, value + 1);
        assert_eq!(report.register_sequence_max, 7);
    }
    // The last extent against the walk over the whole disk.
    let (_, last) = &extents[39];
    assert_eq!(judge(last).expect("sound"), check_disk(&disk).expect("sound"));
    let stopped = extents[39].0.each_piece(last[0].0, 10, &mut |_| false);
    assert!(!stopped.expect("readable"), "a sink that takes no more is not asked again");
}

/// Also where only the newest part is verified in full, and behind runs that were
/// asked nothing.
#[test]
fn a_start_knows_the_latest_stamp_and_the_latest_event_that_an_answer_names() {
    let disk = SimulatedDisk::new();
    let machine = Machine::start(&disk).expect("new");
    assert_eq!(
        (machine.recovered.found.last_stamp, machine.recovered.found.register_sequence_max),
        (None, 0)
    );
    machine.close();
    let mut machine = Machine::start(&disk).expect("sound");
    let begun = Moment::from_unix_seconds(START);
    assert_eq!(
        (machine.recovered.found.last_stamp, machine.recovered.found.register_sequence_max),
        (Some(begun), 0)
    );
    for value in 0..40 {
        machine.hand.set(Moment::from_unix_seconds(START + i64::from(value)));
        machine.record(value).expect("durable");
    }
    machine.close();
    for _ in 0..2 {
        let newest = TrailConfig { start_check_bytes: 0, ..config(SEGMENT_BYTES) };
        let machine = Machine::start_with(&disk, &newest, START).expect("sound");
        let last = Some(Moment::from_unix_seconds(START + 39));
        assert_eq!(
            (machine.recovered.found.last_stamp, machine.recovered.found.register_sequence_max),
            (last, 7)
        );
        machine.close();
    }
}

#[test]
fn a_trail_is_made_byte_by_byte_as_it_was() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    for value in 0..20 {
        machine.record(value).expect("durable");
    }
    let parts = parts(&machine.trail().extent(), 64);
    for piece_bytes in [1, 7, 5_000] {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("trail");
        let import = TrailImport::into_new(&place, Environment::Test).expect("a directory");
        let report = take(import, &parts, piece_bytes).expect("sound");
        assert_eq!(report, check(&place, &|| false).expect("readable"));
        let image = disk.image();
        for (segment, _) in &parts {
            let name = segment_name(segment.number);
            assert_eq!(std::fs::read(place.join(&name)).expect("a file"), image[&name]);
        }
        let others = image.keys().filter(|name| !place.join(name).exists()).count();
        assert_eq!(others, 1, "the prepared segment is not part of it, everything else is");
        assert!(TrailImport::into_new(&place, Environment::Test).is_err(), "a trail is never written over");
    }
    assert!(disk.names().is_ok());
}

#[test]
fn every_flipped_byte_every_cut_and_every_wrong_order_is_found() {
    let disk = SimulatedDisk::new();
    let mut machine = Machine::start(&disk).expect("new");
    for value in 0..12 {
        machine.record(value).expect("durable");
    }
    let sound = parts(&machine.trail().extent(), 1_000);
    let records = judge(&sound).expect("sound").records;
    for nth in 0..sound.len() {
        for place in 0..sound[nth].1.len() {
            let mut flipped = sound.clone();
            flipped[nth].1[place] ^= 0x10;
            assert!(judge(&flipped).is_err(), "segment {nth} byte {place}");
        }
        for length in 0..sound[nth].1.len() {
            let mut cut = sound.clone();
            cut[nth].1.truncate(length);
            assert!(judge(&cut).is_err(), "segment {nth} cut at {length}");
            // At the end of a group of the last segment it is a shorter trail, and
            // says so; anywhere else it is none.
            cut[nth].0.bytes = length as u64;
            assert!(judge(&cut).map_or(true, |report| report.records < records), "{nth} {length}");
        }
        let mut without = sound.clone();
        without.remove(nth);
        assert!(judge(&without).map_or(true, |report| report.records < records), "without {nth}");
    }
    // Headers that are sound by themselves and do not follow.
    for change in [
        |header: &mut SegmentHeader| header.links.sequence += 1,
        |header: &mut SegmentHeader| header.links.chain[0] ^= 1,
        |header: &mut SegmentHeader| header.previous_end += 8,
        |header: &mut SegmentHeader| header.number += 1,
        |header: &mut SegmentHeader| header.segment_bytes = u64::MAX,
    ] {
        let mut other = sound.clone();
        let mut header = SegmentHeader::parse(&other[1].1).expect("sound");
        change(&mut header);
        other[1].1[..HEADER_BYTES].copy_from_slice(&header.encode());
        assert!(judge(&other).is_err());
    }
    let mut swapped = sound.clone();
    swapped.swap(0, 1);
    assert!(judge(&swapped).is_err());
    let mut longer = sound.clone();
    longer[0].1.push(0);
    assert!(judge(&longer).is_err());
    assert!(judge(&Vec::new()).is_err(), "no trail at all");
    let other = TrailImport::judging(Environment::Production);
    assert!(take(other, &sound, 300).is_err(), "of the other environment");
}
