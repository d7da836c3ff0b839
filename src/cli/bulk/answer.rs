//! One line of a stream's answer. A scanner for the one shape that the gateway
//! writes for a valid number, and serde for everything else; both read the same.

use std::borrow::Cow;

use serde::Deserialize;

/// Text of an answer, as bytes: it goes to a file as it is.
pub(super) type Text<'a> = Cow<'a, [u8]>;

/// A line of the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// The answer to one row of this stream.
    Row { index: u64, outcome: Outcome<'a> },
    /// The stream ends here, unfinished.
    End { code: String, detail: String, retry_after_s: Option<u64> },
}

/// What became of one row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    Verified(Verdict<'a>),
    /// No answer for this row, with the code of the reason.
    Wrong(Text<'a>),
}

/// The answer about one number.
#[derive(PartialEq, Eq)]
pub(super) struct Verdict<'a> {
    pub(super) pesel: Text<'a>,
    pub(super) reserved: bool,
    pub(super) reserved_at: Option<Text<'a>>,
    pub(super) withdrawn_at: Option<Text<'a>>,
    pub(super) verification_id: Text<'a>,
}

impl std::fmt::Debug for Verdict<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verdict(redacted)")
    }
}

/// The line is no answer. It is not kept: it may hold a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoAnswer;

/// Characters of an RFC 3339 moment in UTC with whole seconds.
const MOMENT_CHARS: usize = 20;
/// Characters of a UUID.
const UUID_CHARS: usize = 36;
/// Digits of an index: a stream has a million lines.
const INDEX_DIGITS_MAX: usize = 8;

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Result<Line<'_>, NoAnswer> {
    match scan(line) {
        Some(line) => Ok(line),
        None => read_any(line),
    }
}

/// `{"index":N,"pesel":"…","reserved":B[,"reserved_at":"…"][,"withdrawn_at":"…"],"verification_id":"…"}`
/// without a space; `None` for any other shape.
fn scan(line: &[u8]) -> Option<Line<'_>> {
    let rest = line.strip_prefix(b"{\"index\":")?;
    let (index, rest) = number(rest)?;
    let rest = rest.strip_prefix(b",\"pesel\":\"")?;
    let (pesel, rest) = text(rest, 11, |c| c.is_ascii_digit())?;
    let rest = rest.strip_prefix(b",\"reserved\":")?;
    let (reserved, rest) = match rest.strip_prefix(b"false") {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix(b"true")?),
    };
    let (reserved_at, rest) = moment(rest, b",\"reserved_at\":\"")?;
    let (withdrawn_at, rest) = moment(rest, b",\"withdrawn_at\":\"")?;
    let rest = rest.strip_prefix(b",\"verification_id\":\"")?;
    let (verification_id, rest) = text(rest, UUID_CHARS, |c| c.is_ascii_hexdigit() || c == b'-')?;
    if rest != b"}" {
        return None;
    }
    let verdict = Verdict {
        pesel: Cow::Borrowed(pesel),
        reserved,
        reserved_at,
        withdrawn_at,
        verification_id: Cow::Borrowed(verification_id),
    };
    Some(Line::Row { index, outcome: Outcome::Verified(verdict) })
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take(INDEX_DIGITS_MAX + 1).position(|c| !c.is_ascii_digit())?;
    let (digits, rest) = bytes.split_at(length);
    // JSON knows no leading zeros.
    if digits.is_empty() || (digits.len() > 1 && digits[0] == b'0') {
        return None;
    }
    Some((digits.iter().fold(0, |n, c| n * 10 + u64::from(c - b'0')), rest))
}

/// A text of so many characters, all of this kind, and what is behind its quote.
fn text(bytes: &[u8], length: usize, is_fit: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(length)?;
    let rest = rest.strip_prefix(b"\"")?;
    // No early end: this way the compiler may look at many at once.
    let fits = text.iter().fold(true, |fits, c| fits & is_fit(*c));
    fits.then_some((text, rest))
}

/// An optional moment; `None` when the name is there and the moment is not.
fn moment<'a>(bytes: &'a [u8], name: &[u8]) -> Option<(Option<Text<'a>>, &'a [u8])> {
    let Some(rest) = bytes.strip_prefix(name) else { return Some((None, bytes)) };
    let (moment, rest) =
        text(rest, MOMENT_CHARS, |c| c.is_ascii_digit() || matches!(c, b'-' | b':' | b'T' | b'Z'))?;
    Some((Some(Cow::Borrowed(moment)), rest))
}

/// Reads a line of any shape.
fn read_any(line: &[u8]) -> Result<Line<'static>, NoAnswer> {
    #[derive(Deserialize)]
    struct Mirror {
        index: Option<u64>,
        pesel: Option<String>,
        reserved: Option<bool>,
        reserved_at: Option<String>,
        withdrawn_at: Option<String>,
        verification_id: Option<String>,
        error: Option<String>,
        detail: Option<String>,
        retry_after: Option<u64>,
    }
    let owned = |text: String| Text::Owned(text.into_bytes());
    let mirror: Mirror = serde_json::from_slice(line).map_err(|_| NoAnswer)?;
    match mirror {
        Mirror { index: None, error: Some(code), detail, retry_after, .. } => {
            Ok(Line::End { code, detail: detail.unwrap_or_default(), retry_after_s: retry_after })
        }
        Mirror { index: Some(index), error: Some(error), .. } => {
            Ok(Line::Row { index, outcome: Outcome::Wrong(owned(error)) })
        }
        Mirror {
            index: Some(index),
            pesel: Some(pesel),
            reserved: Some(reserved),
            reserved_at,
            withdrawn_at,
            verification_id: Some(verification_id),
            ..
        } => {
            let verdict = Verdict {
                pesel: owned(pesel),
                reserved,
                reserved_at: reserved_at.map(owned),
                withdrawn_at: withdrawn_at.map(owned),
                verification_id: owned(verification_id),
            };
            Ok(Line::Row { index, outcome: Outcome::Verified(verdict) })
        }
        _ => Err(NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "01936f5e-7c1a-7e6b-8f00-0123456789ab";

    /// The shape the gateway writes.
    fn written(index: u64, pesel: &str, reserved: bool, at: Option<&str>, withdrawn: Option<&str>) -> String {
        let field =
            |name: &str, value: Option<&str>| value.map_or(String::new(), |v| format!(",\"{name}\":\"{v}\""));
        format!(
            "{{\"index\":{index},\"pesel\":\"{pesel}\",\"reserved\":{reserved}{}{},\"verification_id\":\"{ID}\"}}",
            field("reserved_at", at),
            field("withdrawn_at", withdrawn)
        )
    }

    #[test]
    fn the_written_shapes_are_scanned() {
        let moment = Some("2026-10-02T08:15:30Z");
        for (at, withdrawn) in [(None, None), (moment, None), (moment, moment), (None, moment)] {
            for reserved in [true, false] {
                let line = written(999_999, "44851401353", reserved, at, withdrawn);
                let scanned = scan(line.as_bytes()).expect("scanned");
                assert_eq!(Ok(scanned), read_any(line.as_bytes()), "{line}");
            }
        }
    }

    #[test]
    fn other_shapes_are_read_too() {
        let first = br#"{"index":0,"pesel":"44851401353","reserved":false,"verification_id":"x","register":{"sequence":1,"as_of":"2026-10-02T08:15:30Z"},"answered_at":"y","at":"z"}"#;
        assert!(scan(first).is_none());
        assert!(matches!(read(first), Ok(Line::Row { index: 0, outcome: Outcome::Verified(_) })));
        let wrong = br#"{"index":1,"error":"invalid-pesel","reason":"checksum"}"#;
        assert_eq!(
            read(wrong),
            Ok(Line::Row { index: 1, outcome: Outcome::Wrong(Cow::Borrowed(b"invalid-pesel")) })
        );
        let end = br#"{"error":"draining","detail":"later","retry_after":3}"#;
        let expected = Line::End { code: "draining".into(), detail: "later".into(), retry_after_s: Some(3) };
        assert_eq!(read(end), Ok(expected));
        for nothing in [&b"{}"[..], b"", b"[]", b"{\"index\":1}", b"{\"index\":1,\"reserved\":true}", b"\xFF"]
        {
            assert_eq!(read(nothing), Err(NoAnswer));
        }
    }

    /// Whatever the scanner takes, serde reads the same; it never takes what is
    /// no JSON.
    fn agree(line: &[u8]) {
        if let Some(scanned) = scan(line) {
            assert_eq!(Ok(scanned), read_any(line), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn every_single_change_is_read_alike() {
        let line =
            written(17, "44851401353", true, Some("2026-10-02T08:15:30Z"), Some("2026-10-02T08:15:31Z"));
        for at in 0..line.len() {
            for byte in 0..=255 {
                let mut changed = line.clone().into_bytes();
                changed[at] = byte;
                agree(&changed);
                changed.truncate(at);
                agree(&changed);
                changed.extend_from_slice(&line.as_bytes()[(at + 2).min(line.len())..]);
                agree(&changed);
            }
            let mut longer = line.clone().into_bytes();
            longer.insert(at, b'0');
            agree(&longer);
        }
        for index in ["00", "07", "-1", "1.0", "1e3", "123456789", "99999999999999999999", ""] {
            agree(line.replacen("17", index, 1).as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_row_is_scanned_as_serde_reads_it(
            index in 0u64..20_000_000,
            pesel in "[0-9]{11}",
            reserved: bool,
            at in proptest::option::of("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"),
            withdrawn in proptest::option::of("[0-9TZ:-]{20}"),
        ) {
            let line = written(index, &pesel, reserved, at.as_deref(), withdrawn.as_deref());
            prop_assert!(scan(line.as_bytes()).is_some());
            agree(line.as_bytes());
        }
    }
}
