//! Moments and the clock; the only room that reads the system's time.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A moment (chwila): a whole second of UTC, counted from 1970-01-01T00:00:00Z.
///
/// Always within the years 0001-9999, so that it has an RFC 3339 text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

/// The text is no RFC 3339 moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAMoment;

impl fmt::Display for NotAMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 moment such as 2026-11-21T21:51:42Z")
    }
}

impl std::error::Error for NotAMoment {}

/// 0001-01-01T00:00:00Z.
const SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const SECONDS_MAX: i64 = 253_402_300_799;

impl Moment {
    /// The moment this many seconds after 1970; clamped to the years 0001-9999.
    #[must_use]
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        if seconds < SECONDS_MIN {
            Self(SECONDS_MIN)
        } else if seconds > SECONDS_MAX {
            Self(SECONDS_MAX)
        } else {
            Self(seconds)
        }
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 moment with any offset; a fraction of a second is cut.
    ///
    /// # Errors
    /// [`NotAMoment`] for anything else, a zone name in brackets included.
    pub fn parse(text: &str) -> Result<Self, NotAMoment> {
        // jiff also reads dates by week, lower-case separators and RFC 9557
        // zones; the contract says RFC 3339, so the frame is checked here.
        let bytes = text.as_bytes();
        let framed = bytes.len() >= 20
            && bytes[4] == b'-'
            && bytes[7] == b'-'
            && matches!(bytes[10], b'T' | b't' | b' ')
            && bytes[13] == b':'
            && bytes[16] == b':'
            && !text.contains('[');
        if !framed {
            return Err(NotAMoment);
        }
        let stamp: jiff::Timestamp = text.parse().map_err(|_| NotAMoment)?;
        // `as_second` rounds towards zero; before 1970 the second begins below.
        let nanos = stamp.as_nanosecond();
        Ok(Self::from_unix_seconds(nanos.div_euclid(1_000_000_000) as i64))
    }

    /// The moment as RFC 3339 in UTC, e.g. `2026-11-21T21:51:42Z`.
    #[must_use]
    pub fn rfc3339(self) -> [u8; 20] {
        let days = self.0.div_euclid(86_400);
        let second = self.0.rem_euclid(86_400) as u32;
        let (year, month, day) = civil_from_days(days);
        let mut text = *b"0000-00-00T00:00:00Z";
        put_pair(&mut text, 0, year / 100);
        put_pair(&mut text, 2, year % 100);
        put_pair(&mut text, 5, month);
        put_pair(&mut text, 8, day);
        put_pair(&mut text, 11, second / 3600);
        put_pair(&mut text, 14, second / 60 % 60);
        put_pair(&mut text, 17, second % 60);
        text
    }
}

fn put_pair(text: &mut [u8; 20], at: usize, value: u32) {
    text[at] = b'0' + (value / 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

/// Year, month, day of a count of days since 1970-01-01 (H. Hinnant's
/// `civil_from_days`, with its eras of 400 years).
fn civil_from_days(days: i64) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.rfc3339()).unwrap_or_default())
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Where the present moment comes from; passed in, so that a test can turn it.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    /// Unix milliseconds, set by hand.
    Manual(watch::Receiver<i64>),
}

impl Clock {
    /// The system's wall clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until its hand is moved; for tests.
    #[must_use]
    pub fn manual(start: Moment) -> (Self, ClockHand) {
        let (hand, millis) = watch::channel(start.0 * 1000);
        (Self(Source::Manual(millis)), ClockHand(hand))
    }

    /// The present whole second.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_unix_seconds(self.unix_millis().div_euclid(1000))
    }

    /// Milliseconds since 1970, for identifiers that sort by time.
    #[must_use]
    pub fn unix_millis(&self) -> i64 {
        match &self.0 {
            Source::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
                Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
            },
            Source::Manual(millis) => *millis.borrow(),
        }
    }

    /// Waits until somebody moves the hand. Nobody says when the system's clock
    /// is set, so that one has to be looked at from time to time.
    pub async fn moved(&mut self) {
        if let Source::Manual(millis) = &mut self.0
            && millis.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock(system)",
            Source::Manual(_) => "Clock(manual)",
        })
    }
}

/// Turns a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ClockHand(watch::Sender<i64>);

impl ClockHand {
    /// Sets the clock to this moment, forwards or back.
    pub fn set(&self, moment: Moment) {
        self.0.send_replace(moment.0 * 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_any_offset_and_written_in_utc() {
        let cases = [
            ("2026-11-01T12:00:00+01:00", "2026-11-01T11:00:00Z"),
            ("2026-11-21T21:51:42Z", "2026-11-21T21:51:42Z"),
            ("2026-11-21T21:51:42.999Z", "2026-11-21T21:51:42Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z"),
            ("2024-02-29T23:59:59-00:30", "2024-03-01T00:29:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ];
        for (text, utc) in cases {
            assert_eq!(Moment::parse(text).map(|m| m.to_string()), Ok(utc.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        let texts = [
            "",
            "2026-11-21",
            "2026-11-21T21:51:42",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "20261121T215142Z",
            "2026-11-21T21:51:42+01:00[Europe/Warsaw]",
            "2026-11-21T25:00:00Z",
            "now",
            "2026-W01-1T00:00:00Z",
            "żółćżółćżółćżółć",
        ];
        for text in texts {
            assert_eq!(Moment::parse(text), Err(NotAMoment), "{text}");
        }
    }

    #[test]
    fn text_agrees_with_a_library_over_the_years() {
        for step in 0..20_000i64 {
            let seconds = SECONDS_MIN + step * 15_776_895_119 % (SECONDS_MAX - SECONDS_MIN);
            let expected = jiff::Timestamp::from_second(seconds).expect("in range").to_string();
            assert_eq!(Moment::from_unix_seconds(seconds).to_string(), expected);
        }
    }
}
