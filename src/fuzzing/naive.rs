//! The same readings done slowly: JSON as a list of its fields, rules one by one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::clock::Moment;

/// What a question says.
#[derive(Debug)]
pub(super) enum Question {
    Malformed,
    NoPesel,
    Asked { pesel: String, at: Option<Moment>, reference: Option<String> },
}

/// Eleven digits, a date that the calendar has, a check digit that makes the
/// weighted sum a multiple of ten.
pub(super) fn is_pesel(text: &[u8]) -> bool {
    if text.len() != 11 || !text.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let digit = |at: usize| i32::from(text[at] - b'0');
    let (year, month, day) = (digit(0) * 10 + digit(1), digit(2) * 10 + digit(3), digit(4) * 10 + digit(5));
    let (century, month) = match month {
        81..=92 => (1800, month - 80),
        1..=12 => (1900, month),
        21..=32 => (2000, month - 20),
        41..=52 => (2100, month - 40),
        61..=72 => (2200, month - 60),
        _ => return false,
    };
    let date = jiff::civil::Date::new((century + year) as i16, month as i8, day as i8);
    let weights = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1];
    let sum: i32 = weights.iter().enumerate().map(|(at, weight)| digit(at) * weight).sum();
    date.is_ok() && sum % 10 == 0
}

/// A JSON object as its fields in order, doubles included.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The value of the first field and the terms, if the object has just these.
fn read(body: &[u8], first: &str) -> Option<(Value, Option<Moment>, Option<String>)> {
    let Fields(fields) = serde_json::from_slice(body).ok()?;
    let known = |name: &str| name == first || name == "at" || name == "reference";
    let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let distinct = names.windows(2).all(|pair| pair[0] != pair[1]);
    if !distinct || !names.iter().all(|name| known(name)) {
        return None;
    }
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let text = |wanted: &str| match field(wanted) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone())),
        Some(_) => None,
    };
    let at = match text("at")? {
        Some(text) => Some(Moment::parse(&text).ok()?),
        None => None,
    };
    let reference = text("reference")?;
    let fits = |text: &String| text.chars().count() <= 64 && !text.chars().any(char::is_control);
    if !reference.as_ref().is_none_or(fits) {
        return None;
    }
    Some((field(first)?.clone(), at, reference))
}

pub(super) fn question(body: &[u8]) -> Question {
    match read(body, "pesel") {
        Some((Value::String(pesel), at, reference)) => match is_pesel(pesel.as_bytes()) {
            true => Question::Asked { pesel, at, reference },
            false => Question::NoPesel,
        },
        _ => Question::Malformed,
    }
}

/// The texts, the moment and the reference of a batch.
pub(super) type Batch = (Vec<String>, Option<Moment>, Option<String>);

pub(super) fn batch(body: &[u8]) -> Option<Batch> {
    let (Value::Array(items), at, reference) = read(body, "pesels")? else { return None };
    let texts = items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    Some((texts, at, reference))
}

/// A line is an object as above, or a string.
pub(super) fn line(line: &[u8]) -> Question {
    match serde_json::from_slice(line) {
        Ok(Value::String(pesel)) if is_pesel(pesel.as_bytes()) => {
            Question::Asked { pesel, at: None, reference: None }
        }
        Ok(Value::String(_)) => Question::NoPesel,
        _ => question(line),
    }
}
