mod world;

use std::path::Path;

use super::frame::{FrameWriter, Kind};
use super::restore::fits;
use super::*;
use crate::audit::CheckReport;
use crate::datadir::{DataDir, DemoFacts};
use crate::register::{Change, RegisterHeld};

use world::*;

/// Looks at the frames and the digest alone.
struct Nobody;

impl Content for Nobody {}

fn judge(archive: &[u8]) -> Result<Held, BackupError> {
    let mut restoring = Restoring::judging();
    let received = read(archive, &mut restoring)?;
    restoring.finish(&received)
}

/// The frames of an archive by the specification alone: kind and content.
fn frames(archive: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(archive[at..at + 4].try_into().expect("four bytes"));
    let (mut at, mut frames) = (16, Vec::new());
    while at < archive.len() {
        let length = word(at + 4) as usize;
        frames.push((word(at), archive[at + 12..at + 12 + length].to_vec()));
        at += 12 + length;
    }
    assert_eq!(at, archive.len());
    frames
}

const KINDS: [Kind; 6] =
    [Kind::Manifest, Kind::Register, Kind::Access, Kind::Segment, Kind::Trail, Kind::End];

/// An archive of these frames, its digest made anew.
fn assembled(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let (mut writer, mut archive) = FrameWriter::begin();
    for (kind, content) in frames.iter().filter(|(kind, _)| *kind != 6) {
        archive.extend(writer.frame(KINDS[*kind as usize - 1], content));
    }
    archive.extend(writer.end().0);
    archive
}

#[test]
fn a_restored_directory_is_what_was_backed_up() {
    let world = World::full();
    let archive = world.archive();
    let held = judge(&archive).expect("whole");
    assert_eq!((held.sequence, held.reserved, held.entries), (26, 15, 20));
    assert_eq!((held.keys, held.tokens), (1, 2));
    assert_eq!(held.bytes, archive.len() as u64);
    assert!(held.trail_segments > 1 && held.trail_records == 17 + held.trail_segments - 1, "{held:?}");
    let parts = frames(&archive);
    let tables = |kind| {
        let of_kind = parts.iter().filter(move |(found, _)| *found == kind);
        of_kind.map(|(_, chunk)| chunk[1]).collect::<Vec<_>>()
    };
    assert_eq!(tables(2), [1, 2, 3, 4, 5, 6, 7, 8], "every table of the register has rows here");
    assert_eq!(tables(3), [1, 2, 3, 5, 6], "and of access, but for usage");

    let place = tempfile::tempdir().expect("a directory");
    let data = DataDir::lock(place.path()).expect("free");
    let mut restoring = Restoring::into_new(&data);
    let received = read(archive.as_slice(), &mut restoring).expect("whole");
    assert_eq!(restoring.finish(&received).expect("restored"), held);
    for segment in 1..=held.trail_segments {
        let file = format!("trail/{segment:020}.seg");
        let of = |dir: &Path| std::fs::read(dir.join(&file)).expect("a segment");
        assert_eq!(of(place.path()), of(world.dir.path()), "{file}");
    }
    let facts = DemoFacts::read(&data.demo()).expect("readable");
    assert_eq!(facts, Some(DemoFacts { reserved: 20, seed: 7 }));
    // Started again and backed up again, the stores give the same rows.
    let again = frames(&World::in_dir(place).archive());
    let rows = |frames: &[(u32, Vec<u8>)]| -> Vec<(u32, Vec<u8>)> {
        frames.iter().filter(|(kind, _)| matches!(kind, 2 | 3)).cloned().collect()
    };
    assert_eq!(rows(&again), rows(&parts));
}

#[test]
fn every_cut_and_every_flipped_byte_is_refused() {
    let archive = World::full().archive();
    read(archive.as_slice(), &mut Nobody).expect("whole");
    for length in 0..archive.len() {
        let error = read(&archive[..length], &mut Nobody).expect_err("cut");
        assert!(
            matches!(error, BackupError::EndsEarly { at, .. } if at == length as u64),
            "{length}: {error}"
        );
    }
    let mut flipped = archive.clone();
    for place in 0..archive.len() {
        for mask in [1, 0x80] {
            flipped[place] ^= mask;
            assert!(read(flipped.as_slice(), &mut Nobody).is_err(), "byte {place}");
            flipped[place] = archive[place];
        }
    }
    flipped.push(0);
    assert!(read(flipped.as_slice(), &mut Nobody).is_err(), "something follows");
    assert!(matches!(read(&b"PK\x03\x04 something else"[..], &mut Nobody), Err(BackupError::NotABackup)));
}

/// Frames that fit, and a closing frame of another archive.
#[test]
fn the_digest_of_the_whole_counts() {
    let parts = frames(&World::full().archive());
    let (end, others) = parts.split_last().expect("frames");
    for (place, is_good) in [(None, true), (Some(0), false), (Some(8), false), (Some(39), false)] {
        let (mut writer, mut archive) = FrameWriter::begin();
        for (kind, content) in others {
            archive.extend(writer.frame(KINDS[*kind as usize - 1], content));
        }
        let mut content = end.1.clone();
        place.into_iter().for_each(|place: usize| content[place] ^= 1);
        archive.extend(writer.frame(Kind::End, &content));
        assert_eq!(read(archive.as_slice(), &mut Nobody).is_ok(), is_good, "{place:?}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let world = World::full();
    let pieces = world.pieces();
    let mut seen: Vec<String> = Vec::new();
    for count in 0..pieces.len() {
        let error = read(pieces[..count].concat().as_slice(), &mut Nobody).expect_err("cut").to_string();
        let missing = error.split("missing: ").nth(1).expect("named").to_owned();
        if seen.last() != Some(&missing) {
            seen.push(missing);
        }
    }
    let begins: Vec<&str> = seen.iter().map(|missing| missing.split(',').next().expect("one")).collect();
    assert_eq!(
        begins,
        [
            "everything",
            "the register",
            "the rest of the register",
            "the rest of the keys and tokens",
            "the rest of the trail"
        ]
    );
}

/// Frames that fit by themselves, put together wrongly: the parts must notice.
#[test]
fn parts_that_do_not_hold_together_are_refused() {
    let parts = frames(&World::full().archive());
    judge(&assembled(&parts)).expect("the same again");
    for nth in 0..parts.len() - 1 {
        // Rows that nothing else names can be missed by the digest alone.
        let is_named = match parts[nth].0 {
            2 => parts[nth].1[1] <= 3,
            3 => parts[nth].1[1] == 1,
            _ => true,
        };
        let mut others = parts.clone();
        others.remove(nth);
        assert!(!is_named || judge(&assembled(&others)).is_err(), "without frame {nth}");
        let mut twice = parts.clone();
        twice.insert(nth, parts[nth].clone());
        assert!(judge(&assembled(&twice)).is_err(), "frame {nth} twice");
        let mut swapped = parts.clone();
        swapped.swap(nth, nth + 1);
        if nth + 2 < parts.len() {
            assert!(judge(&assembled(&swapped)).is_err(), "frame {nth} after the next");
        }
    }
    for (of, to) in [(r#""sequence":26"#, r#""sequence":27"#), ("test", "production"), ("{", "{\"x\":1,")] {
        let mut other = parts.clone();
        let text = String::from_utf8(other[0].1.clone()).expect("text").replacen(of, to, 1);
        assert_ne!(text.as_bytes(), parts[0].1.as_slice());
        other[0].1 = text.into_bytes();
        assert!(judge(&assembled(&other)).is_err(), "{to}");
    }
}

#[test]
fn an_answer_may_name_no_event_beyond_the_register() {
    let world = World::full();
    let manifest = world.begin().expect("begun").manifest().clone();
    let said = manifest.register;
    let held = RegisterHeld {
        sequence: crate::register::Sequence::new(said.sequence),
        as_of: said.as_of,
        hash: crate::register::ChainHash::genesis(),
        reserved: said.reserved,
        entries: said.entries,
    };
    let (segments, records) = (manifest.trail.segments, manifest.trail.records);
    for (named, is_good) in [(0, true), (said.sequence, true), (said.sequence + 1, false)] {
        let trail = CheckReport { segments, records, register_sequence_max: named, ..CheckReport::default() };
        assert_eq!(fits(&manifest, &held, &trail).is_ok(), is_good, "{named}");
    }
}

#[test]
fn there_is_one_at_a_time_and_whoever_goes_leaves_the_place() {
    let world = World::full();
    let pieces = world.pieces().len();
    let first = world.begin().expect("begun");
    assert!(matches!(world.begin(), Err(NotBegun::Running)));
    drop(first);
    for taken in 0..pieces {
        let mut given = Vec::new();
        let written = world.begin().expect("the place is free").write(&mut |piece| {
            if given.len() == taken {
                return Err(Gone);
            }
            given.push(match piece {
                Piece::Middle(bytes) | Piece::Last(bytes) => bytes,
            });
            Ok(())
        });
        assert!(matches!(written, Err(WriteError::Gone)));
        assert!(matches!(read(given.concat().as_slice(), &mut Nobody), Err(BackupError::EndsEarly { .. })));
    }
    // The place is free when the last piece is on its way, not later.
    let backup = world.begin().expect("begun");
    let written = backup.write(&mut |piece| {
        if matches!(piece, Piece::Last(_)) {
            assert!(world.begin().is_ok());
        }
        Ok(())
    });
    assert!(written.is_ok());
}

/// The writers go on; the backup holds what was there when it began.
#[test]
fn changes_meanwhile_are_not_in_it() {
    let world = World::full();
    let backup = world.begin().expect("begun");
    for person in 30..40 {
        world.submit(person, Change::Reservation, false);
    }
    let mut archive = Vec::new();
    let written = backup.write(&mut |piece| {
        archive.extend(match piece {
            Piece::Middle(bytes) | Piece::Last(bytes) => bytes,
        });
        Ok(())
    });
    written.expect("written");
    assert_eq!(judge(&archive).expect("whole").sequence, 26);
    assert_eq!(judge(&world.archive()).expect("whole").sequence, 36);
}

/// The seeds of the fuzz targets `backup`, `rows` and `snapshot`, of fictional
/// numbers and of credentials that open nothing.
#[test]
#[ignore = "writes fuzz/seeds anew: cargo test --lib the_seeds_are_written -- --ignored"]
fn the_seeds_are_written() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let write = |name: &str, bytes: &[u8]| {
        let file = seeds.join(name);
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        std::fs::write(file, bytes).expect("written");
    };
    let world = World::full();
    let parts = frames(&world.archive());
    let length = |content: &[u8]| u16::try_from(content.len()).expect("short").to_le_bytes();
    let script = |parts: &[(u32, Vec<u8>)]| {
        let frame =
            |(kind, content): &(u32, Vec<u8>)| [&[*kind as u8 - 1][..], &length(content), content].concat();
        parts.iter().filter(|(kind, _)| *kind != 6).map(frame).collect::<Vec<_>>().concat()
    };
    let rows = |wanted: u32| {
        let chunk = |(_, content): &(u32, Vec<u8>)| [&length(content)[..], content].concat();
        parts.iter().filter(|(kind, _)| *kind == wanted).map(chunk).collect::<Vec<_>>().concat()
    };
    write("backup/whole", &world.archive());
    write("backup/frames", &script(&parts));
    write("backup/out-of-order", &script(&parts.iter().rev().cloned().collect::<Vec<_>>()));
    write("rows/register", &rows(2));
    write("rows/access", &rows(3));
    write("rows/both", &[rows(2), rows(3)].concat());
    let set = |ordinals: Vec<u32>| crate::register::ExchangedSet {
        sequence: crate::register::Sequence::new(77),
        as_of: moment(0),
        ordinals: ordinals.into_iter().collect(),
    };
    let many = set((0..5_000).map(|nth| nth * 2).chain([70_000]).collect());
    for (name, set) in
        [("few", set(vec![0, 1, 65_535, 65_536, 1_826_209_999])), ("none", set(vec![])), ("many", many)]
    {
        let file = set.to_bytes();
        write(&format!("snapshot/{name}"), &file);
        write(&format!("snapshot/{name}-unframed"), &[&file[12..28], &file[76..]].concat());
    }
    let runs = data_encoding::HEXLOWER.decode(b"3b300100030000630001000900010064006300010000000900");
    write("snapshot/runs-unframed", &[&[7; 4][..], &[0; 12], &runs.expect("hex")].concat());
}
