//! Questions as they arrive: JSON bodies and NDJSON lines, read strictly.
//!
//! What a parser says of bad input is never passed on as it is: serde quotes
//! the value it stumbled over, and that value may be somebody's number.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{self, Visitor};

use crate::clock::Moment;
use crate::http::problem::{Code, Problem};
use crate::limits::{BATCH_NUMBERS_MAX, REFERENCE_CHARS_MAX};
use crate::pesel::{Pesel, PeselError};

/// The question of `POST /v1/verify`.
#[derive(Debug)]
pub(crate) struct Single<'a> {
    pub(crate) pesel: Pesel,
    pub(crate) terms: Terms<'a>,
}

/// What a question says beyond the number.
#[derive(Debug, Default)]
pub(crate) struct Terms<'a> {
    /// `None` means now.
    pub(crate) at: Option<Moment>,
    pub(crate) reference: Option<Cow<'a, str>>,
}

/// The question of `POST /v1/verify/batch` as JSON: each text beside what it is.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) numbers: Vec<(Cow<'a, str>, Result<Pesel, PeselError>)>,
    pub(crate) terms: Terms<'a>,
}

/// Why a line of a stream is refused; the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineError {
    Malformed,
    Pesel(PeselError),
}

/// Reads a single question.
pub(crate) fn single(body: &[u8]) -> Result<Single<'_>, Problem> {
    is_object(body, EXPECTED_SINGLE)?;
    let raw: RawSingle<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(&error, EXPECTED_SINGLE))?;
    let terms = terms(raw.at, raw.reference).map_err(|why| Problem::new(Code::MalformedRequest, why))?;
    let pesel = Pesel::parse(raw.pesel.0.as_bytes()).map_err(Problem::invalid_pesel)?;
    Ok(Single { pesel, terms })
}

/// Reads a JSON batch.
pub(crate) fn batch(body: &[u8]) -> Result<Batch<'_>, Problem> {
    is_object(body, EXPECTED_BATCH)?;
    let raw: RawBatch<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(&error, EXPECTED_BATCH))?;
    let terms = terms(raw.at, raw.reference).map_err(|why| Problem::new(Code::MalformedRequest, why))?;
    if raw.pesels.is_empty() {
        return Err(Problem::new(Code::MalformedRequest, "`pesels` is empty"));
    }
    if raw.pesels.len() > BATCH_NUMBERS_MAX {
        return Err(Problem::new(
            Code::ContentTooLarge,
            format!("at most {BATCH_NUMBERS_MAX} numbers in a batch"),
        )
        .with("numbers_max", BATCH_NUMBERS_MAX));
    }
    let numbers = raw
        .pesels
        .into_iter()
        .map(|text| {
            let pesel = Pesel::parse(text.0.as_bytes());
            (text.0, pesel)
        })
        .collect();
    Ok(Batch { numbers, terms })
}

/// Reads one line of a stream: `"44851401353"` or an object as in `single`.
pub(crate) fn line(line: &[u8]) -> Result<Single<'_>, LineError> {
    // The common line is a bare string of eleven digits: thirteen bytes.
    if let [b'"', digits @ .., b'"'] = line
        && digits.len() == 11
        && let Ok(pesel) = Pesel::parse(digits)
    {
        return Ok(Single { pesel, terms: Terms::default() });
    }
    if line.trim_ascii_start().first() == Some(&b'{') {
        let raw: RawSingle<'_> = serde_json::from_slice(line).map_err(|_| LineError::Malformed)?;
        let terms = terms(raw.at, raw.reference).map_err(|_| LineError::Malformed)?;
        let pesel = Pesel::parse(raw.pesel.0.as_bytes()).map_err(LineError::Pesel)?;
        return Ok(Single { pesel, terms });
    }
    let text: Text<'_> = serde_json::from_slice(line).map_err(|_| LineError::Malformed)?;
    let pesel = Pesel::parse(text.0.as_bytes()).map_err(LineError::Pesel)?;
    Ok(Single { pesel, terms: Terms::default() })
}

/// Derived readers take an array of the fields in their order as well, which the
/// contract does not have.
pub(crate) fn is_object(body: &[u8], expected: &str) -> Result<(), Problem> {
    match body.trim_ascii_start().first() {
        Some(b'{') | None => Ok(()),
        Some(_) => Err(Problem::new(Code::MalformedRequest, format!("not a JSON object; {expected}"))),
    }
}

const EXPECTED_SINGLE: &str = r#"expected {"pesel": string, "at"?: RFC 3339 moment, "reference"?: string}"#;
const EXPECTED_BATCH: &str =
    r#"expected {"pesels": [string, …], "at"?: RFC 3339 moment, "reference"?: string}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSingle<'a> {
    #[serde(borrow)]
    pesel: Text<'a>,
    #[serde(borrow)]
    at: Option<Text<'a>>,
    #[serde(borrow)]
    reference: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    pesels: Vec<Text<'a>>,
    #[serde(borrow)]
    at: Option<Text<'a>>,
    #[serde(borrow)]
    reference: Option<Text<'a>>,
}

/// A string, borrowed where it has no escapes (serde's own `Cow` copies inside
/// an `Option` or a `Vec`).
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

fn terms<'a>(at: Option<Text<'a>>, reference: Option<Text<'a>>) -> Result<Terms<'a>, &'static str> {
    let at = match at {
        Some(text) => Some(
            Moment::parse(&text.0)
                .map_err(|_| "`at` is no RFC 3339 moment such as 2026-11-01T12:00:00+01:00")?,
        ),
        None => None,
    };
    let reference = reference.map(|text| text.0);
    if let Some(text) = &reference {
        if text.chars().count() > REFERENCE_CHARS_MAX {
            return Err("`reference` is longer than 64 characters");
        }
        if text.chars().any(char::is_control) {
            return Err("`reference` has control characters");
        }
    }
    Ok(Terms { at, reference })
}

/// Says where the JSON went wrong without repeating any of it.
pub(crate) fn malformed(error: &serde_json::Error, expected: &str) -> Problem {
    let place = format!("line {}, column {}", error.line(), error.column());
    let text = error.to_string();
    // These two messages name a field of ours, nothing of the caller's.
    let known = ["missing field `", "duplicate field `"].into_iter().find(|known| text.starts_with(known));
    let why = match known {
        Some(_) => text.split(" at line").next().unwrap_or_default().to_owned(),
        None if error.is_data() => "an unknown field or a value of the wrong type".to_owned(),
        None if error.is_eof() => "the JSON ends too early".to_owned(),
        None => "not JSON in UTF-8".to_owned(),
    };
    Problem::new(Code::MalformedRequest, format!("{why} ({place}); {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: &str = "44851401353";

    fn code(body: &str) -> Code {
        single(body.as_bytes()).map(|_| ()).expect_err(body).code()
    }

    #[test]
    fn a_single_question_is_read() {
        let body =
            format!(r#"{{"pesel":"{NUMBER}","at":"2026-11-01T12:00:00+01:00","reference":"umowa \u0142"}}"#);
        let asked = single(body.as_bytes()).expect("well-formed");
        assert_eq!(asked.pesel.digits(), NUMBER);
        assert_eq!(asked.terms.at.map(|at| at.to_string()).as_deref(), Some("2026-11-01T11:00:00Z"));
        assert_eq!(asked.terms.reference.as_deref(), Some("umowa ł"));
        let escaped = single(br#"{"pesel":"\u00344851401353"}"#).expect("escapes are JSON");
        assert_eq!(escaped.pesel.digits(), NUMBER);
    }

    #[test]
    fn strictness() {
        for body in [
            "",
            "{",
            "[]",
            "{}",
            "null",
            "\u{feff}{}",
            r#"{"pesel":44851401353}"#,
            r#"["44851401353",null,null]"#,
            r#"{"pesel":"44851401353","x":1}"#,
            r#"{"pesel":"44851401353","pesel":"44851401353"}"#,
            r#"{"pesel":"44851401353"} x"#,
            r#"{"pesel":"44851401353","at":1}"#,
            r#"{"pesel":"44851401353","at":"yesterday"}"#,
            r#"{"pesel":"44851401353","reference":"a\nb"}"#,
        ] {
            assert_eq!(code(body), Code::MalformedRequest, "{body}");
        }
        assert_eq!(code(r#"{"pesel":"44851401358"}"#), Code::InvalidPesel);
        let long = format!(r#"{{"pesel":"{NUMBER}","reference":"{}"}}"#, "ż".repeat(65));
        assert_eq!(code(&long), Code::MalformedRequest);
    }

    #[test]
    fn no_refusal_repeats_the_input() {
        for body in [
            format!(r#"{{"pesel":{NUMBER}}}"#),
            format!(r#"{{"{NUMBER}":1}}"#),
            format!(r#"{{"pesel":"{NUMBER}","at":"{NUMBER}"}}"#),
            format!(r#"{{"pesel":["{NUMBER}"]}}"#),
            r#"{"pesel":"44851401358"}"#.to_owned(),
        ] {
            let problem = single(body.as_bytes()).map(|_| ()).expect_err(&body);
            let document = String::from_utf8(problem.document("r")).expect("text");
            assert!(!document.contains("4485140135"), "{document}");
        }
    }

    #[test]
    fn lines_are_strings_or_objects() {
        assert!(line(br#""44851401353""#).is_ok());
        assert!(line(br#" "44851401353" "#).is_ok());
        assert!(line(br#" {"pesel":"44851401353"}"#).is_ok());
        assert!(line(br#"{"pesel":"44851401353","reference":"r"}"#).is_ok());
        assert_eq!(line(br#""44851401358""#).map(|_| ()), Err(LineError::Pesel(PeselError::Checksum)));
        assert_eq!(line(br#""x""#).map(|_| ()), Err(LineError::Pesel(PeselError::Length)));
        for bad in [&b"44851401353"[..], b"", b"{", b"[]", b"\xFF", br#""44851401353","#] {
            assert_eq!(line(bad).map(|_| ()), Err(LineError::Malformed));
        }
    }

    #[test]
    fn a_batch_keeps_order_and_texts() {
        let asked = batch(br#"{"pesels":["44851401353","x"]}"#).expect("well-formed");
        assert_eq!(asked.numbers[0].1.map(|p| p.digits().to_owned()), Ok(NUMBER.to_owned()));
        assert_eq!((asked.numbers[1].0.as_ref(), asked.numbers[1].1), ("x", Err(PeselError::Length)));
        assert!(batch(br#"[["44851401353"],null,null]"#).is_err());
        assert_eq!(batch(br#"{"pesels":[]}"#).map(|_| ()).expect_err("empty").code(), Code::MalformedRequest);
        let many = format!(r#"{{"pesels":[{}]}}"#, vec!["\"x\""; 1001].join(","));
        assert_eq!(batch(many.as_bytes()).map(|_| ()).expect_err("many").code(), Code::ContentTooLarge);
    }
}
