//! A trail that somebody changed is not written on; one that was cut off is.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::harness::{Demo, Home, err, wait_for};
use crate::load::Load;

/// A closed trail of some twenty groups, and what was told.
fn trail() -> (Home, Vec<String>) {
    let demo = Demo::new(1_000);
    let mut caller = demo.caller();
    let numbers = demo.numbers("reserved.csv");
    let told = numbers.iter().take(20).map(|pesel| {
        caller.verify(pesel).good()["verification_id"].as_str().expect("an identifier").to_owned()
    });
    let told = told.collect();
    (demo.stop(), told)
}

/// The segment in use, and where its last byte that is not zero lies.
fn content(home: &Home) -> (std::path::PathBuf, Vec<u8>, usize) {
    let segment = home.segments().remove(0);
    let bytes = fs::read(&segment).expect("a segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("content");
    (segment, bytes, end)
}

fn ids(home: &Home) -> Vec<String> {
    let dump = home.audit("dump");
    assert_eq!(dump.status.code(), Some(0), "{}", err(&dump));
    ids_in(&dump.stdout)
}

fn ids_in(dump: &[u8]) -> Vec<String> {
    let lines = crate::client::json_lines(dump);
    lines.iter().map(|line| line["verification_id"].as_str().expect("an identifier").to_owned()).collect()
}

#[test]
fn a_flipped_byte_in_the_middle_refuses_to_start_and_says_where() {
    let (home, told) = trail();
    assert_eq!(ids(&home), told);
    let (segment, sound, end) = content(&home);
    // A header, a group's head, records, chain values: wherever it is hit.
    for place in [70, 130, 200, end / 3, end / 2, end / 2 + 7] {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        fs::write(&segment, &bytes).expect("written");
        let refused = home.command(&[]).output().expect("an end");
        assert_eq!(refused.status.code(), Some(2), "byte {place} of {end}");
        assert_names_the_place(&err(&refused), &segment, place, end);
        let (status, said) = home.check();
        assert_eq!(status, Some(1), "{said}");
        assert!(said.starts_with("damaged"), "{said}");
        assert_names_the_place(&said, &segment, place, end);
        // A dump as well: what was sound is on its standard output, this is not.
        let dump = home.audit("dump");
        assert_eq!(dump.status.code(), Some(1), "{}", err(&dump));
        assert_names_the_place(&err(&dump), &segment, place, end);
        assert_eq!(fs::read(&segment).expect("a segment"), bytes, "nobody touched it");
    }
    fs::write(&segment, &sound).expect("written");
    assert_eq!(home.check().0, Some(0));
    let home = home.start(&[]).stop();
    assert_eq!(ids(&home), told);
}

/// File and offset; the offset is that of the group or record hit, never after it.
fn assert_names_the_place(said: &str, segment: &Path, place: usize, end: usize) {
    assert!(said.contains(&*segment.to_string_lossy()), "{said}");
    let offset = said.split("at byte ").nth(1).and_then(|rest| rest.split(':').next());
    let offset: usize =
        offset.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no offset: {said}"));
    assert!(offset <= place.max(offset.min(end)) && offset < end, "{offset} for {place}: {said}");
}

#[test]
fn a_cut_off_tail_is_set_aside() {
    let (home, told) = trail();
    let (segment, sound, end) = content(&home);
    // The last byte of the closing record's chain value, and all after it.
    let file = fs::OpenOptions::new().write(true).open(&segment).expect("a segment");
    file.set_len(end as u64 - 4).expect("cut");
    let (status, said) = home.check();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("torn"), "{said}");
    let dump = home.audit("dump");
    assert_eq!(dump.status.code(), Some(1), "{}", err(&dump));
    assert!(err(&dump).contains("no sound group"), "{}", err(&dump));
    assert_eq!(ids_in(&dump.stdout), told, "the answers were before it");
    let demo = home.start(&[]);
    let pesel = &demo.numbers("reserved.csv")[100];
    let more = demo.caller().verify(pesel).good()["verification_id"].as_str().expect("one").to_owned();
    assert!(demo.instance.stderr().contains("torn"), "{}", demo.instance.stderr());
    let home = demo.stop();
    let mut expected = told;
    expected.push(more);
    assert_eq!(ids(&home), expected);
    let (status, said) = home.check();
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(fs::metadata(&segment).expect("a segment").len(), sound.len() as u64, "as long as before");
    // What was cut away is kept beside it.
    let kept = fs::read_dir(home.data().join("trail")).expect("a trail");
    let kept = kept.filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("torn-"))
    });
    assert_eq!(kept.count(), 1);
}

/// A segment taken away, or one of another trail put in its place.
#[test]
fn a_missing_or_foreign_segment_is_noticed() {
    let (home, _) = trail();
    let home = home.start(&[]).stop();
    let first = home.segments().remove(0);
    let (other, _) = trail();
    let sound = fs::read(&first).expect("a segment");
    // A foreign trail is sound in itself; cut in the middle it is only half of one.
    let (_, foreign, end) = content(&other);
    let mut mixed = sound.clone();
    mixed[end / 2..end].copy_from_slice(&foreign[end / 2..end]);
    fs::write(&first, mixed).expect("written");
    assert_eq!(home.check().0, Some(1));
    assert_eq!(home.command(&[]).output().expect("an end").status.code(), Some(2));
    fs::write(&first, sound).expect("written");
    assert_eq!(home.check().0, Some(0));
}

/// "Holds none" is said of a directory that could be looked at alone.
#[test]
fn a_trail_that_cannot_be_looked_at_is_not_called_none() {
    let home = Home::new();
    fs::create_dir(home.data()).expect("made");
    let (status, said) = home.check();
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("holds no trail"), "{said}");
    // Refuses root as well, as a directory without the right to it refuses others.
    std::os::unix::fs::symlink("trail", home.data().join("trail")).expect("made");
    for command in ["check", "dump"] {
        let refused = home.audit(command);
        assert_eq!(refused.status.code(), Some(2));
        let said = err(&refused);
        assert!(said.contains("symbolic links") && !said.contains("holds no"), "{said}");
    }
}

/// A check beside a gateway that writes sees groups in the making, no damage.
#[test]
fn a_check_beside_a_live_gateway_finds_nothing_torn() {
    let demo = Demo::new(1_000);
    let numbers = Arc::new(demo.numbers("reserved.csv"));
    let load = Load::start(demo.instance.verification, &demo.key(), &numbers, 3);
    for _ in 0..10 {
        let before = load.answered();
        let (status, text) = demo.home().check();
        assert_eq!(status, Some(0), "{text}");
        wait_for("more answers", || (load.answered() > before).then_some(()));
    }
    demo.stop();
    assert!(!load.told().is_empty());
}
