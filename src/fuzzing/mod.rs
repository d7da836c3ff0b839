//! Properties of what reads foreign bytes, each a function over any bytes that
//! panics where the property does not hold.
//!
//! The fuzz targets in `fuzz/` call them, and the tests below replay the seed
//! corpora through the very same functions, so that the two cannot differ.

mod naive;
mod proxy;
mod stored;

use std::path::Path;

use data_encoding::Specification;

use crate::clock::Moment;
use crate::config::{self, Variables};
use crate::environment::Environment;
use crate::http::verify::ask::{self, Terms};
use crate::limits::BATCH_NUMBERS_MAX;
use crate::pesel::{Ordinal, Pesel};
use crate::secret::{Plane, Presented};
use naive::Question;
pub use proxy::proxy;
pub use stored::{backup, rows, snapshot};

/// A number parses as a plain reading of the rules says, and survives its
/// ordinal; an ordinal survives its number.
pub fn number(data: &[u8]) {
    let parsed = Pesel::parse(data);
    assert_eq!(parsed.is_ok(), naive::is_pesel(data));
    if let Ok(pesel) = parsed {
        assert_eq!(pesel.digit_bytes(), data);
        assert_eq!(pesel.ordinal().pesel().digit_bytes(), data);
    }
    if let Some(bytes) = data.first_chunk()
        && let Some(ordinal) = Ordinal::new(u32::from_le_bytes(*bytes))
    {
        let pesel = ordinal.pesel();
        assert!(naive::is_pesel(pesel.digit_bytes()));
        assert_eq!(pesel.ordinal().value(), ordinal.value());
    }
}

/// A single question is read as a naive reader reads it; no refusal repeats it.
pub fn single(body: &[u8]) {
    let expected = naive::question(body);
    match (ask::single(body), &expected) {
        (Ok(asked), Question::Asked { pesel, at, reference }) => {
            assert_eq!(asked.pesel.digits(), pesel);
            same_terms(&asked.terms, *at, reference.as_deref());
        }
        (Err(problem), Question::Malformed) => {
            assert_eq!(problem.code().name(), "malformed-request");
            silent(&problem.document("r"), body);
        }
        (Err(problem), Question::NoPesel) => {
            assert_eq!(problem.code().name(), "invalid-pesel");
            silent(&problem.document("r"), body);
        }
        (read, _) => panic!("read {}, expected {expected:?}", if read.is_ok() { "well" } else { "badly" }),
    }
}

/// A JSON batch is read as a naive reader reads it: order, texts and verdicts.
pub fn batch(body: &[u8]) {
    let expected = naive::batch(body);
    match (ask::batch(body), &expected) {
        (Ok(asked), Some((texts, at, reference))) => {
            assert!((1..=BATCH_NUMBERS_MAX).contains(&texts.len()));
            assert_eq!(asked.numbers.len(), texts.len());
            for ((text, number), expected) in asked.numbers.iter().zip(texts) {
                assert_eq!(text, expected);
                assert_eq!(number.is_ok(), naive::is_pesel(expected.as_bytes()));
            }
            same_terms(&asked.terms, *at, reference.as_deref());
        }
        (Err(problem), Some((texts, ..))) => {
            let code = if texts.is_empty() { "malformed-request" } else { "content-too-large" };
            assert_eq!(problem.code().name(), code);
            assert!(texts.is_empty() || texts.len() > BATCH_NUMBERS_MAX);
        }
        (Err(problem), None) => {
            assert_eq!(problem.code().name(), "malformed-request");
            silent(&problem.document("r"), body);
        }
        (Ok(_), None) => panic!("read what is malformed"),
    }
}

/// A stream's lines are cut and read as a naive reader cuts and reads them.
pub fn stream(body: &[u8]) {
    let lines: Vec<&[u8]> = body
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.trim_ascii().is_empty())
        .collect();
    let now = Moment::from_unix_seconds(1_800_000_000);
    let read = crate::http::verify::stream::read_for_fuzzing(body, now);
    assert_eq!(read.len(), lines.len());
    for (outcome, line) in read.iter().zip(lines) {
        let expected = match naive::line(line) {
            Question::Malformed => "malformed-request".to_owned(),
            Question::NoPesel => "invalid-pesel".to_owned(),
            Question::Asked { at: Some(at), .. } if at > now => "future-moment".to_owned(),
            Question::Asked { pesel, at, reference } => format!("{pesel} {at:?} {reference:?}"),
        };
        assert_eq!(*outcome, expected);
    }
}

/// A credential is what has a plane's prefix, an environment, an id and the right
/// checksum; it opens one plane, and one wrong byte makes it none.
pub fn key(data: &[u8]) {
    credential(data);
    // Nobody guesses a checksum: the same bytes with a right one.
    let mut alphabet = Specification::new();
    alphabet.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    let Ok(base32) = alphabet.encoding() else { return };
    let mut text = data.to_vec();
    text.extend_from_slice(base32.encode(&crc32c::crc32c(data).to_be_bytes()).as_bytes());
    let planes = credential(&text);
    assert!(planes <= 1, "a credential of two planes");
    if planes == 1 {
        for at in 0..text.len() {
            let mut wrong = text.clone();
            wrong[at] ^= 1;
            assert_eq!(credential(&wrong), 0, "a wrong byte at {at} is not seen");
        }
    }
}

/// How many planes take it.
fn credential(text: &[u8]) -> usize {
    let mut planes = 0;
    for (plane, prefix) in [(Plane::Verification, "pg"), (Plane::Admin, "pga")] {
        let Ok(presented) = Presented::parse(plane, text) else { continue };
        planes += 1;
        let environment = match presented.environment() {
            Environment::Test => "test",
            Environment::Production => "prod",
        };
        let head = format!("{prefix}_{environment}_{}_", presented.id());
        assert!(text.starts_with(head.as_bytes()));
        assert_eq!(text.len(), head.len() + 52 + 7);
        assert!(!format!("{presented:?}").as_bytes().windows(52).any(|window| text.ends_with(window)));
    }
    planes
}

/// Whatever decodes as a record of the trail encodes to the same bytes.
pub fn trail(data: &[u8]) {
    if let Some(again) = crate::audit::reencoded(data) {
        assert_eq!(again, data);
    }
}

/// No configuration panics; one that is taken is taken again, and what refuses
/// one is a text.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let machine = config::Machine { cores: std::num::NonZeroUsize::MIN, files: Some(1_024) };
    // Behind a line of three dashes: environment variables, one a line.
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables = Variables::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let judge = || config::judge(Path::new("fuzzed.toml"), file, &variables, &machine);
    match (judge(), judge()) {
        (Ok(first), Ok(second)) => assert_eq!(format!("{first:?}"), format!("{second:?}")),
        (Err(error), Err(_)) => assert!(!error.to_string().is_empty()),
        _ => panic!("judged differently twice"),
    }
}

fn same_terms(terms: &Terms<'_>, at: Option<Moment>, reference: Option<&str>) {
    assert_eq!(terms.at, at);
    assert_eq!(terms.reference.as_deref(), reference);
    if let Some(at) = at {
        assert_eq!(Moment::parse(&at.to_string()), Ok(at));
    }
}

/// No eleven digits of the body are in the answer.
fn silent(document: &[u8], body: &[u8]) {
    for window in body.windows(11).filter(|window| window.iter().all(u8::is_ascii_digit)) {
        assert!(!document.windows(11).any(|shown| shown == window), "a refusal repeats a number");
    }
}

#[cfg(test)]
mod tests;
