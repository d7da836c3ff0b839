//! The register's vocabulary: sequence, stamp, channel, kind, registrant and
//! what an office writes down about a filing.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::limits::NAME_BYTES_MAX;

/// The place of an event in the register's one order, from 1 up without gaps;
/// 0 stands for "before the first event".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The sequence with this value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A moment that an event can have: a whole second from 1970-01-01T00:00:00Z to
/// 2106-02-07T06:28:15Z, four bytes in memory and on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u32);

impl Stamp {
    /// The stamp with this count of seconds since 1970.
    pub(super) const fn from_seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970.
    pub(super) const fn seconds(self) -> u32 {
        self.0
    }

    /// The moment.
    #[must_use]
    pub const fn moment(self) -> Moment {
        Moment::from_unix_seconds(self.0 as i64)
    }

    /// This many seconds later; stays at the last stamp that there is.
    pub(super) const fn plus_seconds(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// The moment lies outside of what an event can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideOfStamps;

impl fmt::Display for OutsideOfStamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event lies between 1970-01-01T00:00:00Z and 2106-02-07T06:28:15Z")
    }
}

impl std::error::Error for OutsideOfStamps {}

impl TryFrom<Moment> for Stamp {
    type Error = OutsideOfStamps;

    fn try_from(moment: Moment) -> Result<Self, OutsideOfStamps> {
        u32::try_from(moment.unix_seconds()).map(Self).map_err(|_| OutsideOfStamps)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.moment(), f)
    }
}

/// A closed list of words with one byte each on disk and one name in texts.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in API answers and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The one with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.name() == name)
            }

            /// The number that stands for it on disk.
            pub(super) const fn code(self) -> u8 {
                match self { $(Self::$variant => $code),+ }
            }

            /// The one with this number.
            pub(super) const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }

        // By hand: a derived reader takes `{"word": null}` as well.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::from_name(&text).ok_or_else(|| serde::de::Error::custom("a word that is not known"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words! {
    /// What an event does to a number.
    EventKind {
        /// zastrzeżenie
        Reservation = 0 => "reservation",
        /// cofnięcie zastrzeżenia
        Withdrawal = 1 => "withdrawal",
        /// The person got another number; no influence on what is reserved (art. 23d(6)).
        Renumbering = 2 => "renumbering",
    }
}

words! {
    /// The way a change came in.
    Channel {
        /// The person's own e-service (art. 23d(1)).
        EService = 0 => "e-service",
        /// Any gmina's office.
        Gmina = 1 => "gmina",
        /// A bank, for its client.
        Bank = 2 => "bank",
        /// A cooperative savings and credit union (SKOK).
        Skok = 3 => "skok",
        /// The designated post operator.
        Post = 4 => "post",
        /// Ex officio: the identity card was invalidated after loss or suspected misuse.
        IdCardRegister = 5 => "id-card-register",
        /// Ex officio: death.
        PeselRegister = 6 => "pesel-register",
    }
}

impl Channel {
    /// Does the change come from an office's own register (z urzędu), not from
    /// a person's filing?
    #[must_use]
    pub const fn is_ex_officio(self) -> bool {
        matches!(self, Self::IdCardRegister | Self::PeselRegister)
    }
}

words! {
    /// In whose name a filing is made.
    Applicant {
        /// The person.
        Own = 1 => "self",
        /// opiekun
        Guardian = 2 => "guardian",
        /// kurator
        Curator = 3 => "curator",
        /// pełnomocnik
        Proxy = 4 => "proxy",
    }
}

words! {
    /// Why a person cannot come, so that a proxy may.
    Obstacle {
        /// choroba
        Illness = 1 => "illness",
        /// niepełnosprawność
        Disability = 2 => "disability",
        /// inna przeszkoda nie do pokonania
        Other = 3 => "other",
    }
}

words! {
    /// The kind of document that the office saw; never its number.
    DocumentSeen {
        /// dowód osobisty
        IdCard = 1 => "id-card",
        /// paszport
        Passport = 2 => "passport",
        /// dokument podróży
        TravelDocument = 3 => "travel-document",
        /// inny
        Other = 4 => "other",
        /// Nothing was shown.
        None = 5 => "none",
    }
}

/// Who registered a change (podmiot rejestrujący): 1 to [`NAME_BYTES_MAX`] bytes
/// without control characters, no white space at its ends. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registrant(Arc<str>);

/// The text cannot name a registrant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARegistrant;

impl fmt::Display for NotARegistrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a registrant has 1 to {NAME_BYTES_MAX} bytes, no control characters and no white space at its ends"
        )
    }
}

impl std::error::Error for NotARegistrant {}

impl Registrant {
    /// Reads a registrant's name.
    ///
    /// # Errors
    /// [`NotARegistrant`] when it is empty, too long, has a control character, or
    /// begins or ends with white space.
    pub fn new(text: &str) -> Result<Self, NotARegistrant> {
        if text.trim() == text { Self::stored(text) } else { Err(NotARegistrant) }
    }

    /// Reads one that is on record: white space at its ends was taken once, and what
    /// was told of it stays true.
    pub(super) fn stored(text: &str) -> Result<Self, NotARegistrant> {
        let fits = !text.trim().is_empty()
            && text.len() <= NAME_BYTES_MAX
            && !text.chars().any(|character| character.is_control());
        if fits { Ok(Self(text.into())) } else { Err(NotARegistrant) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Registrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Registrant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Registrant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_one_name_and_one_code() {
        for channel in Channel::ALL {
            assert_eq!(Channel::from_code(channel.code()), Some(*channel));
            assert_eq!(Channel::from_name(channel.name()), Some(*channel));
            let json = serde_json::to_string(channel).expect("a word");
            assert_eq!(json, format!("\"{channel}\""));
            assert_eq!(serde_json::from_str::<Channel>(&json).expect("a word"), *channel);
        }
        assert_eq!(serde_json::from_str::<Applicant>("\"self\"").expect("a word"), Applicant::Own);
        assert!(serde_json::from_str::<Applicant>(r#"{"self":null}"#).is_err());
        assert!(serde_json::from_str::<Applicant>("\"nobody\"").is_err());
        assert_eq!(Channel::from_code(7), None);
    }

    #[test]
    fn registrants_are_short_and_visible() {
        assert!(Registrant::new("Gmina Gródek nad Łąką").is_ok());
        for bad in ["", "  ", "a\nb", "a\u{7f}", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(Registrant::new(bad), Err(NotARegistrant));
        }
        assert!(serde_json::from_str::<Registrant>("\"\\u0000\"").is_err());
        for spaced in [" Bank", "Bank ", "Bank\u{a0}"] {
            assert_eq!(Registrant::new(spaced), Err(NotARegistrant));
            assert_eq!(Registrant::stored(spaced).expect("taken once").as_str(), spaced);
        }
    }

    #[test]
    fn stamps_end_in_2106() {
        let last = Moment::parse("2106-02-07T06:28:15Z").expect("a moment");
        assert_eq!(Stamp::try_from(last).map(Stamp::moment), Ok(last));
        for outside in ["2106-02-07T06:28:16Z", "1969-12-31T23:59:59Z"] {
            assert_eq!(Stamp::try_from(Moment::parse(outside).expect("a moment")), Err(OutsideOfStamps));
        }
    }
}
