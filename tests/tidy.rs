//! Invariants of absence: what must not be found where.
//!
//! Lints cannot see who imports whom; this reads the sources as text. A rule is
//! a place, a word, and the reason that stands in the failure.

use std::fs;
use std::path::{Path, PathBuf};

use peselgate::pesel::Pesel;

/// Every Rust file below `src`, with its path from there and its code: comment
/// lines left out, and everything from the file's test module on.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("readable");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            (name, code.join("\n"))
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    collect_all(dir, files);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
}

fn collect_all(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            // What tools leave below a folder is not the project's.
            if !path.ends_with("target") && !path.ends_with("__pycache__") {
                collect_all(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

/// Fails with every file below `place` (but not below `except`) that has one of
/// the words.
fn absent(place: &str, except: &[&str], words: &[&str], why: &str) {
    let mut found = Vec::new();
    for (name, code) in sources() {
        let is_test = name.contains("test");
        if is_test || !name.starts_with(place) || except.iter().any(|except| name.starts_with(except)) {
            continue;
        }
        found.extend(words.iter().filter(|word| code.contains(*word)).map(|word| format!("{name}: {word}")));
    }
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

#[test]
fn stores_know_no_edge() {
    for room in ["register/", "access/"] {
        absent(
            room,
            &[],
            &["crate::http", "crate::gate", "crate::audit", "crate::config", "crate::app", "crate::cli"],
            "the register and the access room point downwards only",
        );
    }
    absent(
        "audit/",
        &[],
        &["crate::http", "crate::gate", "crate::config", "crate::register", "crate::access"],
        "the trail knows what it records, nobody else",
    );
    absent(
        "gate/",
        &[],
        &["crate::http", "crate::audit", "crate::config", "crate::register"],
        "the gate asks the directory alone",
    );
}

#[test]
fn the_verification_plane_holds_no_writer() {
    for place in ["http/verify", "http/plane", "gate/", "query.rs"] {
        absent(place, &[], &["Commander", "AccessWriter"], "what answers the public cannot change anything");
    }
}

#[test]
fn the_answer_is_pure() {
    absent(
        "query.rs",
        &[],
        &["tokio", "Clock", "async ", "std::io", "std::fs"],
        "an answer has no runtime, clock or I/O",
    );
    absent("register/law.rs", &[], &["tokio", "Clock", "async ", "redb"], "the law is a pure function");
}

#[test]
fn the_system_clock_is_read_in_one_room() {
    absent(
        "",
        &["clock.rs", "cli/"],
        &["SystemTime", "Timestamp::now", "Zoned::now"],
        "ask `clock` for the time",
    );
}

#[test]
fn status_codes_live_at_the_edge() {
    absent(
        "",
        // The composition root names the planes that it builds, the fuzz properties
        // the parsers that they hold, no more.
        &["http/", "cli/", "app/", "fuzzing/"],
        &["StatusCode", "http::"],
        "HTTP is known under http/, and to its clients",
    );
    absent("app/", &[], &["StatusCode", " http::"], "the composition root knows planes, not HTTP");
}

#[test]
fn a_proxys_word_is_taken_in_one_place() {
    absent(
        "",
        &["gate/peer.rs", "http/plane/connection.rs"],
        &["from_proxy_header"],
        "a peer is what the socket says, but for a trusted proxy's header",
    );
    absent("", &[], &["x-forwarded-for", "X-Forwarded-For", "FORWARDED"], "nobody asks a client who it is");
}

#[test]
fn no_lock_is_on_the_read_path() {
    absent("http/verify", &[], &["Mutex", "RwLock"], "the read path takes no lock");
    absent("http/plane", &[], &["Mutex", "RwLock"], "the read path takes no lock");
    absent("gate/", &[], &["Mutex", "RwLock"], "the read path takes no lock");
    absent("query.rs", &[], &["Mutex", "RwLock"], "the read path takes no lock");
}

#[test]
fn numbers_and_secrets_have_no_display() {
    absent(
        "",
        &[],
        &[
            "Display for Pesel {",
            "Display for Ordinal",
            "Display for PlainCredential",
            "Display for Presented",
        ],
        "a number or a secret never reaches text by accident",
    );
}

#[test]
fn nothing_is_unsafe() {
    absent("", &[], &["unsafe {", "unsafe fn", "unsafe impl"], "the crate forbids it");
}

/// A room that has grown past this asks to be two; what is over it now is named
/// here with its reason, so that nothing joins it unseen.
#[test]
fn files_stay_small() {
    const LINES_MAX: usize = 400;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let long: Vec<_> = files
        .iter()
        .map(|path| (path, fs::read_to_string(path).expect("readable").lines().count()))
        .filter(|(path, lines)| *lines > LINES_MAX && !path.to_string_lossy().contains("test"))
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

/// Numbers in the project's files are of people born 1800-1899, who are nobody
/// alive; but for those that publications show, in the tests that need them.
#[test]
fn numbers_are_nobodys() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let published = ["src/pesel.rs", "tests/gateway/contract.rs"].map(|name| root.join(name));
    let mut files = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for dir in ["src", "tests", "benches", "config", "fuzz/seeds", "fuzz/fuzz_targets"] {
        collect_all(&root.join(dir), &mut files);
    }
    assert!(files.len() > 300, "only {} files are found", files.len());
    let mut found = Vec::new();
    // A lock file is digests, in which any digits stand.
    let written = |file: &&PathBuf| !published.contains(file) && !file.ends_with("Cargo.lock");
    for file in files.iter().filter(written) {
        let bytes = fs::read(file).expect("readable");
        let words = bytes.split(|byte| !byte.is_ascii_digit()).filter(|word| word.len() == 11);
        if words.filter_map(|word| Pesel::parse(word).ok()).any(|pesel| !born_before_1900(&pesel)) {
            found.push(file.display().to_string());
        }
    }
    assert!(found.is_empty(), "numbers of people born after 1899:\n{}", found.join("\n"));
}

/// By the month, of which those of the nineteenth century alone are beyond 80.
fn born_before_1900(pesel: &Pesel) -> bool {
    pesel.digits().as_bytes()[2] >= b'8'
}
