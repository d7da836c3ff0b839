//! Moments and the clock; the only room that reads the system's time.

mod behind;
mod in_poland;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

pub use behind::ClockBehind;
use behind::Guard;

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

    /// Reads an RFC 3339 moment of the years 0001-9999 with any offset, cut to its
    /// whole second; an offset that leads out of those years is clamped.
    ///
    /// As the RFC allows, `t` and `z` may be small, and a space may stand for the
    /// `T` (5.6). A leap second, `:60` where UTC may have one (5.7), is the second
    /// before it: Unix time has no other.
    ///
    /// # Errors
    /// [`NotAMoment`] for anything else, a zone name in brackets included.
    pub fn parse(text: &str) -> Result<Self, NotAMoment> {
        read_moment(text.as_bytes()).map(Self::from_unix_seconds).ok_or(NotAMoment)
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

/// Seconds since 1970 of an RFC 3339 text (5.6). By hand: a library that counts
/// nanoseconds ends before 9999-12-31T23:59:59Z.
fn read_moment(text: &[u8]) -> Option<i64> {
    let (date_and_time, rest) = text.split_at_checked(19)?;
    let separators = [4, 7, 10, 13, 16].map(|at| date_and_time[at]);
    if !matches!(separators, [b'-', b'-', b'T' | b't' | b' ', b':', b':']) {
        return None;
    }
    let pair = |at: usize| pair(date_and_time, at);
    let (year, month, day) = (pair(0)? * 100 + pair(2)?, pair(5)?, pair(8)?);
    let (hour, minute, second) = (pair(11)?, pair(14)?, pair(17)?);
    if year == 0 || !(1..=12).contains(&month) || !(1..=days_of_month(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let is_leap = second == 60;
    let in_day = i64::from(hour * 3_600 + minute * 60 + second - u32::from(is_leap));
    let utc = days_from_civil(year, month, day) * 86_400 + in_day - read_offset(skip_fraction(rest)?)?;
    if is_leap {
        // The last second of a month in UTC, wherever it is written.
        let (_, _, next_day) = civil_from_days((utc + 1).div_euclid(86_400));
        if utc.rem_euclid(86_400) != 86_399 || next_day != 1 {
            return None;
        }
    }
    Some(utc)
}

/// What follows a fraction of a second, which is cut: a moment is never later
/// than it was written.
fn skip_fraction(text: &[u8]) -> Option<&[u8]> {
    let Some(fraction) = text.strip_prefix(b".") else { return Some(text) };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { None } else { Some(&fraction[digits..]) }
}

/// Seconds east of UTC, up to 23:59 either way; `-00:00` is UTC too.
fn read_offset(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    if text.len() != 5 || text[2] != b':' {
        return None;
    }
    let (hours, minutes) = (pair(text, 0)?, pair(text, 3)?);
    (hours < 24 && minutes < 60).then(|| sign * i64::from(hours * 3_600 + minutes * 60))
}

/// Two digits; the text is long enough.
fn pair(text: &[u8], at: usize) -> Option<u32> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    Some(digit(text[at])? * 10 + digit(text[at + 1])?)
}

const fn days_of_month(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 (H. Hinnant's `days_from_civil`).
fn days_from_civil(year: u32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
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
pub struct Clock {
    source: Source,
    guard: Option<Arc<Guard>>,
}

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
        Self { source: Source::System, guard: None }
    }

    /// A clock that stands still until its hand is moved; for tests.
    #[must_use]
    pub fn manual(start: Moment) -> (Self, ClockHand) {
        let (hand, millis) = watch::channel(start.0 * 1000);
        (Self { source: Source::Manual(millis), guard: None }, ClockHand(hand))
    }

    /// The present whole second.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_unix_seconds(self.unix_millis().div_euclid(1000))
    }

    /// Milliseconds since 1970, for identifiers that sort by time.
    #[must_use]
    pub fn unix_millis(&self) -> i64 {
        match &self.source {
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
        if let Source::Manual(millis) = &mut self.source
            && millis.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
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
            // The ends of what can be written; an offset leads no further.
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59.999999999999Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z"),
            ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z"),
            ("1900-01-01T00:00:00Z", "1900-01-01T00:00:00Z"),
            // Letters, fractions and offsets as the RFC allows them.
            ("2026-11-21t21:51:42z", "2026-11-21T21:51:42Z"),
            ("2026-11-21 21:51:42Z", "2026-11-21T21:51:42Z"),
            ("2026-11-21T21:51:42.0z", "2026-11-21T21:51:42Z"),
            ("2026-11-21T21:51:42.9+01:00", "2026-11-21T20:51:42Z"),
            ("2026-11-21T21:51:42-00:00", "2026-11-21T21:51:42Z"),
            ("2026-11-21T21:51:42+23:59", "2026-11-20T21:52:42Z"),
            ("2026-11-21T21:51:42-23:59", "2026-11-22T21:50:42Z"),
            ("2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z"),
            // Leap seconds: at a month's end in UTC, wherever they are written.
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("2016-12-31T23:59:60.5Z", "2016-12-31T23:59:59Z"),
            ("2017-01-01T00:59:60+01:00", "2016-12-31T23:59:59Z"),
            ("1990-12-31T15:59:60-08:00", "1990-12-31T23:59:59Z"),
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
            "0000-12-31T23:59:59Z",
            "2026-00-01T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T23:60:00Z",
            "2026-11-21T23:59:61Z",
            "2026-11-21T12:00:60Z",
            "2026-12-30T23:59:60Z",
            "2026-12-31T23:59:60+01:00",
            "2026-11-21T21:51:42.Z",
            "2026-11-21T21:51:42,5Z",
            "2026-11-21T21:51:42.5",
            "2026-11-21T21:51:42+24:00",
            "2026-11-21T21:51:42+01:60",
            "2026-11-21T21:51:42+0100",
            "2026-11-21T21:51:42+01",
            "2026-11-21T21:51:42+01:00:00",
            "2026-11-21T21:51:42 Z",
            "2026-11-21T21:51:42Zx",
            "2026-11-21_21:51:42Z",
            "+026-11-21T21:51:42Z",
            "12026-11-21T21:51:42Z",
            "2026-11-21T21:51:4٢Z",
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
            assert_eq!(Moment::parse(&expected), Ok(Moment(seconds)), "{expected}");
        }
    }
}
