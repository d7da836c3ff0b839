//! A stream's lines: cut, read, and as the trail keeps them.

use crate::audit::{Item, Refusal};
use crate::clock::Moment;
use crate::http::verify::render::LineRefusal;
use crate::http::verify::{ask, told};
use crate::limits::STREAM_LINE_BYTES_MAX;
use crate::pesel::Pesel;
use crate::query::{Answer, Query};

/// What stands for a line over the bound: no JSON, so refused as unreadable.
pub(super) const TOO_LONG: &[u8] = b"!too long\n";

/// One line as asked.
pub(super) struct Line {
    pub(super) pesel: Option<Pesel>,
    pub(super) query: Result<Query, LineRefusal>,
    /// The moment that it named.
    pub(super) at: Option<Moment>,
    reference: Option<Box<str>>,
}

impl Line {
    /// What the trail keeps of it.
    pub(super) fn item<'a>(&'a self, result: &Result<Answer, LineRefusal>) -> Item<&'a str> {
        match (result, &self.query) {
            (Ok(answer), Ok(query)) => Item::Verified {
                ordinal: query.ordinal(),
                told: told(answer),
                asked_at: self.at,
                reference: self.reference.as_deref(),
            },
            (Err(refusal), _) | (_, Err(refusal)) => Item::Refused(match refusal {
                LineRefusal::Line(ask::LineError::Pesel(error)) => Refusal::InvalidPesel(*error),
                LineRefusal::Line(ask::LineError::Malformed) => Refusal::MalformedLine,
                LineRefusal::FutureMoment => Refusal::FutureMoment,
                LineRefusal::Unknown(_) => Refusal::RegisterUnavailable,
            }),
        }
    }
}

/// The lines of a chunk; blank ones are none.
pub(super) fn read_lines(lines: &[u8], now: Moment) -> Vec<Line> {
    let mut asked = Vec::with_capacity(lines.len() / 14 + 1);
    let mut rest = lines;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        // A line over the bound is refused whether it came in pieces or in one.
        let line = if end > STREAM_LINE_BYTES_MAX { TOO_LONG } else { &rest[..end] };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        rest = rest.get(end + 1..).unwrap_or_default();
        // A blank line asks nothing and has no index.
        if !line.trim_ascii().is_empty() {
            asked.push(read_line(line, now));
        }
    }
    asked
}

fn read_line(line: &[u8], now: Moment) -> Line {
    match ask::line(line) {
        Ok(single) => Line {
            query: Query::new(single.pesel.ordinal(), single.terms.at, now)
                .map_err(|_| LineRefusal::FutureMoment),
            pesel: Some(single.pesel),
            at: single.terms.at,
            reference: single.terms.reference.map(|text| text.into_owned().into_boxed_str()),
        },
        Err(error) => Line { pesel: None, query: Err(LineRefusal::Line(error)), at: None, reference: None },
    }
}

/// What each line of a chunk says, in words: the number with its terms, or the
/// code of its refusal.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_for_fuzzing(lines: &[u8], now: Moment) -> Vec<String> {
    let words = |line: &Line| match (&line.query, &line.pesel) {
        (Err(LineRefusal::Line(ask::LineError::Malformed)), _) => "malformed-request".to_owned(),
        (Err(LineRefusal::Line(ask::LineError::Pesel(_))), _) => "invalid-pesel".to_owned(),
        (Err(LineRefusal::FutureMoment), _) => "future-moment".to_owned(),
        (Err(LineRefusal::Unknown(_)), _) => unreachable!("nothing was asked yet"),
        (Ok(_), pesel) => format!(
            "{} {:?} {:?}",
            pesel.map_or_else(String::new, |pesel| pesel.digits().to_owned()),
            line.at,
            line.reference
        ),
    };
    read_lines(lines, now).iter().map(words).collect()
}
