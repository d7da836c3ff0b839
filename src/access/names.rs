//! The words of an access record: who an institution is, what its system is
//! called. Each can be made only by reading it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_BYTES_MAX;

/// Why a word of a record was refused; the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadWord {
    /// A name is empty, longer than [`NAME_BYTES_MAX`] bytes, begins or ends with
    /// white space, or holds a control character.
    Name,
    /// A REGON has 9 or 14 digits and a check digit.
    Regon,
    /// A KRS number has 10 digits.
    Krs,
    /// A channel is named in kebab-case, e.g. `id-card-register`.
    Channel,
    /// The TERYT code of a gmina has 7 digits.
    Teryt,
}

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "a name has 1 to 200 bytes, no control characters and no white space at its ends",
            Self::Regon => "a REGON has 9 or 14 digits, the last of them a check digit",
            Self::Krs => "a KRS number has 10 digits",
            Self::Channel => "a channel is named in kebab-case, such as id-card-register",
            Self::Teryt => "the TERYT code of a gmina has 7 digits",
        })
    }
}

impl std::error::Error for BadWord {}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $bad:expr, $holds:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Reads the word.
            ///
            /// # Errors
            /// The [`BadWord`] that names the rule broken.
            pub fn parse(text: &str) -> Result<Self, BadWord> {
                let holds: fn(&str) -> bool = $holds;
                if holds(text) { Ok(Self(text.into())) } else { Err($bad) }
            }

            /// The word as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadWord;

            fn try_from(text: String) -> Result<Self, BadWord> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.0.into()
            }
        }
    };
}

word!(
    /// A name that people gave: of an institution, a system, a registrant, a
    /// token; 1 to [`NAME_BYTES_MAX`] bytes without control characters.
    Name,
    BadWord::Name,
    |text| {
        !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && text.trim() == text
            && !text.chars().any(char::is_control)
    }
);

word!(
    /// A REGON, the statistical number of a body: 9 digits, or 14 for a local
    /// unit, each with its check digit.
    Regon,
    BadWord::Regon,
    regon_holds
);

word!(
    /// The number of a body in the National Court Register (KRS): 10 digits.
    Krs,
    BadWord::Krs,
    |text| text.len() == 10 && all_digits(text)
);

word!(
    /// The channel that a source's token is bound to, in kebab-case. Which
    /// channels there are is the register's business.
    ChannelName,
    BadWord::Channel,
    |text| {
        text.len() <= 64
            && text.split('-').all(|part| {
                !part.is_empty() && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            })
    }
);

word!(
    /// The TERYT code of a gmina: 7 digits.
    Teryt,
    BadWord::Teryt,
    |text| text.len() == 7 && all_digits(text)
);

/// An institution (podmiot): its name, its REGON and its KRS number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Institution {
    /// As on its application.
    pub name: Name,
    /// Absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regon: Option<Regon>,
    /// Absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub krs: Option<Krs>,
}

impl Institution {
    /// Whether both are one body: by REGON where both have one, else by KRS where
    /// both have one. A name alone says so only where neither has a number: two
    /// bodies may share a name, and one body may change its.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        let has_number = |one: &Self| one.regon.is_some() || one.krs.is_some();
        match (&self.regon, &other.regon, &self.krs, &other.krs) {
            (Some(one), Some(another), ..) => one == another,
            (.., Some(one), Some(another)) => one == another,
            _ => !has_number(self) && !has_number(other) && self.name == other.name,
        }
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit())
}

/// Weights and check digits as the Statistical Office (GUS) publishes them.
fn regon_holds(text: &str) -> bool {
    const SHORT: [u32; 8] = [8, 9, 2, 3, 4, 5, 6, 7];
    const LONG: [u32; 13] = [2, 4, 8, 5, 0, 9, 7, 3, 6, 1, 2, 4, 8];
    let checks = |digits: &[u8], weights: &[u32]| {
        let sum: u32 =
            digits.iter().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
        sum % 11 % 10 == u32::from(digits[weights.len()] - b'0')
    };
    let digits = text.as_bytes();
    all_digits(text)
        && match digits.len() {
            9 => checks(digits, &SHORT),
            14 => checks(&digits[..9], &SHORT) && checks(digits, &LONG),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        for good in ["Bank Spółdzielczy w Łodzi", "x", &"ż".repeat(100)] {
            assert_eq!(Name::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", " ", " Bank", "Bank ", "a\nb", "a\u{0}b", "a\u{85}b", &"ż".repeat(101)] {
            assert_eq!(Name::parse(bad), Err(BadWord::Name), "{bad:?}");
        }
    }

    #[test]
    fn regon_and_krs_are_checked() {
        // 123456785 and 12345678512347 are the worked examples of the rule.
        for good in ["123456785", "12345678512347", "000331501"] {
            assert!(Regon::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "123456784", "12345678512346", "1234567851234", "12345678x", "１２３４５６７８５"]
        {
            assert_eq!(Regon::parse(bad), Err(BadWord::Regon), "{bad}");
        }
        assert!(Krs::parse("0000012345").is_ok());
        assert_eq!(Krs::parse("12345"), Err(BadWord::Krs));
    }

    #[test]
    fn channels_are_kebab_case() {
        for good in ["gmina", "e-service", "id-card-register"] {
            assert!(ChannelName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-", "Gmina", "e--service", "e_service", "e-", &"a".repeat(65)] {
            assert_eq!(ChannelName::parse(bad), Err(BadWord::Channel), "{bad}");
        }
    }

    #[test]
    fn an_institution_is_read_strictly() {
        let read = |text| serde_json::from_str::<Institution>(text);
        assert!(read(r#"{"name":"Bank","regon":"123456785"}"#).is_ok());
        assert!(read(r#"{"name":"Bank","regon":"123456784"}"#).is_err());
        assert!(read(r#"{"name":"Bank","nip":"1"}"#).is_err());
    }

    #[test]
    fn a_name_makes_nobody_the_same_where_there_are_numbers() {
        let of = |name, regon: Option<&str>, krs: Option<&str>| Institution {
            name: Name::parse(name).expect("a name"),
            regon: regon.map(|text| Regon::parse(text).expect("a REGON")),
            krs: krs.map(|text| Krs::parse(text).expect("a KRS")),
        };
        const REGON: [Option<&str>; 3] = [None, Some("123456785"), Some("000331501")];
        const KRS: [Option<&str>; 3] = [None, Some("0000012345"), Some("0000054321")];
        let bare = of("Bank", None, None);
        let cases = [
            (bare.clone(), of("Bank", None, None), true),
            (bare.clone(), of("Inny", None, None), false),
            (bare.clone(), of("Bank", REGON[1], None), false),
            (bare, of("Bank", None, KRS[1]), false),
            (of("Bank", REGON[1], None), of("Bank po zmianie", REGON[1], KRS[1]), true),
            (of("Bank", REGON[1], KRS[1]), of("Bank", REGON[2], KRS[1]), false),
            (of("Bank", REGON[1], KRS[1]), of("Inny", None, KRS[1]), true),
            (of("Bank", None, KRS[1]), of("Bank", None, KRS[2]), false),
            (of("Bank", REGON[1], None), of("Bank", None, KRS[1]), false),
        ];
        for (one, another, same) in cases {
            assert_eq!(one.is_same_as(&another), same, "{one:?} {another:?}");
            assert_eq!(another.is_same_as(&one), same, "{another:?} {one:?}");
        }
    }
}
