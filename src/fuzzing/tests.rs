//! Replays the seed corpora, crashes of earlier runs among them.

use std::path::PathBuf;

use super::*;

type Property = fn(&[u8]);

/// Every property by the name of its fuzz target.
const PROPERTIES: &[(&str, Property)] = &[
    ("number", number),
    ("single", single),
    ("batch", batch),
    ("stream", stream),
    ("key", key),
    ("trail", trail),
    ("configuration", configuration),
    ("proxy", proxy),
    ("snapshot", snapshot),
    ("backup", backup),
    ("rows", rows),
];

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(dir: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let name =
        |entry: std::fs::DirEntry| entry.path().file_stem().expect("a name").to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_seeds_hold() {
    for (name, property) in PROPERTIES {
        let dir = fuzz_dir().join("seeds").join(name);
        let mut seeds = 0;
        for entry in std::fs::read_dir(dir).expect(name) {
            let seed = std::fs::read(entry.expect("an entry").path()).expect("readable");
            property(&seed);
            // A seed's neighbours: cut short, and each byte another one.
            for at in 0..seed.len().min(256) {
                property(&seed[..at]);
                let mut other = seed.clone();
                for value in [0, b'"', b'0', b'\n', 0xFF] {
                    other[at] = value;
                    property(&other);
                }
            }
            seeds += 1;
        }
        assert!(seeds >= 3, "{name} has {seeds} seeds");
    }
}

#[test]
fn every_property_has_a_target_and_seeds() {
    let mut properties: Vec<_> = PROPERTIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    properties.sort_unstable();
    assert_eq!(names(fuzz_dir().join("fuzz_targets")), properties);
    assert_eq!(names(fuzz_dir().join("seeds")), properties);
}

/// A property that takes everything for malformed would hold as well.
#[test]
fn the_naive_reader_reads() {
    assert!(matches!(
        naive::question(br#"{"pesel":"44851401353","at":"2026-11-01T12:00:00+01:00","reference":"r"}"#),
        Question::Asked { at: Some(_), reference: Some(_), .. }
    ));
    assert!(matches!(naive::question(br#"{"pesel":"44851401358"}"#), Question::NoPesel));
    assert!(matches!(naive::question(br#"{"pesel":"44851401353","pesel":"1"}"#), Question::Malformed));
    assert!(matches!(naive::line(br#""44851401353""#), Question::Asked { .. }));
    assert!(naive::batch(br#"{"pesels":["x"]}"#).is_some());
    assert!(naive::is_pesel(b"22822222220") && !naive::is_pesel(b"99022900014"));
}
