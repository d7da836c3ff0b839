//! The two times a budget is counted in: monotonic nanoseconds for the rate,
//! civil days of Europe/Warsaw for the daily quota.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, QuantaClock, QuantaInstant, Reference};
use jiff::tz::TimeZone;

use crate::clock::{Clock, Moment};

/// Monotonic time; never the wall clock, which may step.
#[derive(Debug)]
pub(crate) struct Ticks(Source);

#[derive(Debug)]
enum Source {
    System {
        clock: QuantaClock,
        start: QuantaInstant,
    },
    #[cfg(test)]
    Manual(governor::clock::FakeRelativeClock),
}

impl Ticks {
    /// Time since now, by the processor's counter.
    pub(crate) fn system() -> Self {
        let clock = QuantaClock::default();
        let start = clock.now();
        Self(Source::System { clock, start })
    }

    /// Time that stands still until somebody advances it; for tests.
    #[cfg(test)]
    pub(crate) fn manual() -> (Self, governor::clock::FakeRelativeClock) {
        let clock = governor::clock::FakeRelativeClock::default();
        (Self(Source::Manual(clock.clone())), clock)
    }

    /// Nanoseconds since the start.
    pub(crate) fn nanos(&self) -> u64 {
        match &self.0 {
            Source::System { clock, start } => clock.now().duration_since(*start).as_u64(),
            #[cfg(test)]
            Source::Manual(clock) => clock.now().as_u64(),
        }
    }
}

/// A civil day of Europe/Warsaw: days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CivilDay(u32);

/// The largest day that [`crate::access`] packs into an atomic: 20 bits, the
/// year 4840.
const DAY_MAX: u32 = (1 << 20) - 1;
/// 2199-12-31T00:00:00Z: beyond it the calendar stands still, far from the ends
/// of what the time zone library computes with.
const SECONDS_MAX: i64 = 7_258_032_000;
const HOUR: i64 = 3_600;

impl CivilDay {
    pub(crate) const fn from_number(number: u32) -> Self {
        Self(if number > DAY_MAX { DAY_MAX } else { number })
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    /// `2026-11-21`.
    pub(crate) fn iso(self) -> String {
        let noon = Moment::from_unix_seconds(i64::from(self.0) * 86_400);
        noon.to_string()[..10].to_owned()
    }

    /// Reads `2026-11-21`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let midnight = Moment::parse(&format!("{text}T00:00:00Z")).ok()?;
        let number = u32::try_from(midnight.unix_seconds() / 86_400).ok()?;
        (number <= DAY_MAX && midnight.unix_seconds() >= 0).then_some(Self(number))
    }
}

/// A day with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Today {
    pub(crate) day: CivilDay,
    /// The next midnight in Warsaw; the day has 23, 24 or 25 hours.
    pub(crate) ends_at: Moment,
}

/// Tells the civil day of a moment; remembers the last one it told, so that the
/// time zone is asked once a day and not once a request.
#[derive(Debug)]
pub(crate) struct Calendar {
    zone: TimeZone,
    /// Day (20 bits), first hour since 1970 (32 bits), hours (8 bits). Since 1970
    /// Warsaw's offsets are whole hours, so a midnight falls on a whole hour.
    remembered: AtomicU64,
}

impl Calendar {
    pub(crate) fn warsaw() -> Self {
        #[expect(clippy::expect_used, reason = "the time zones are compiled in; every test here needs them")]
        let zone = TimeZone::get("Europe/Warsaw").expect("bundled time zone");
        Self { zone, remembered: AtomicU64::new(0) }
    }

    pub(crate) fn day_of(&self, moment: Moment) -> Today {
        let seconds = moment.unix_seconds().clamp(0, SECONDS_MAX);
        let hour = seconds / HOUR;
        let remembered = self.remembered.load(Ordering::Relaxed);
        let first = (remembered >> 8 & 0xFFFF_FFFF) as i64;
        let hours = (remembered & 0xFF) as i64;
        if hour >= first && hour < first + hours {
            return Today {
                day: CivilDay((remembered >> 40) as u32),
                ends_at: Moment::from_unix_seconds((first + hours) * HOUR),
            };
        }
        let (day, first, hours) = self.look_up(seconds);
        self.remembered.store(u64::from(day) << 40 | (first as u64) << 8 | hours as u64, Ordering::Relaxed);
        Today { day: CivilDay(day), ends_at: Moment::from_unix_seconds((first + hours) * HOUR) }
    }

    /// Day, first hour and hours of the civil day of a second within 1970-2199.
    fn look_up(&self, seconds: i64) -> (u32, i64, i64) {
        let found = || {
            let stamp = jiff::Timestamp::from_second(seconds).ok()?;
            let date = self.zone.to_datetime(stamp).date();
            let starts = date.to_zoned(self.zone.clone()).ok()?.timestamp().as_second();
            let ends = date.tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?.timestamp().as_second();
            let epoch = jiff::civil::Date::constant(1970, 1, 1);
            let day = date.duration_since(epoch).as_hours() / 24;
            Some((u32::try_from(day).ok()?, starts.max(0) / HOUR, (ends - starts.max(0)) / HOUR))
        };
        // The range is far within the library's; a day of UTC is the fallback
        // that keeps a quota counting.
        found().unwrap_or_else(|| ((seconds / 86_400) as u32, seconds / 86_400 * 24, 24))
    }
}

/// Both times, shared by the limiters of all keys.
#[derive(Debug)]
pub(crate) struct LimiterTime {
    pub(crate) ticks: Ticks,
    pub(crate) clock: Clock,
    pub(crate) calendar: Calendar,
}

impl LimiterTime {
    pub(crate) fn new(clock: Clock, ticks: Ticks) -> Self {
        Self { ticks, clock, calendar: Calendar::warsaw() }
    }

    pub(crate) fn today(&self) -> Today {
        self.calendar.day_of(self.clock.now())
    }

    /// How long until this moment, at least a second.
    pub(crate) fn until(&self, moment: Moment) -> Duration {
        let seconds = moment.unix_seconds() - self.clock.now().unix_seconds();
        Duration::from_secs(seconds.max(1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        Moment::parse(text).expect("moment")
    }

    #[test]
    fn days_begin_at_midnight_in_warsaw() {
        let calendar = Calendar::warsaw();
        // Moment, its civil day, its end; the clocks change on 2026-03-29 and
        // 2026-10-25.
        let cases = [
            ("2026-11-21T22:59:59Z", "2026-11-21", "2026-11-21T23:00:00Z"),
            ("2026-11-21T23:00:00Z", "2026-11-22", "2026-11-22T23:00:00Z"),
            ("2026-07-01T21:59:59Z", "2026-07-01", "2026-07-01T22:00:00Z"),
            ("2026-07-01T22:00:00Z", "2026-07-02", "2026-07-02T22:00:00Z"),
            ("2026-03-29T12:00:00Z", "2026-03-29", "2026-03-29T22:00:00Z"),
            ("2026-10-25T12:00:00Z", "2026-10-25", "2026-10-25T23:00:00Z"),
            ("2026-10-25T22:59:59Z", "2026-10-25", "2026-10-25T23:00:00Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01", "1970-01-01T23:00:00Z"),
        ];
        // Forwards and backwards, so that the remembered day is always another.
        for (moment, day, ends_at) in cases.into_iter().chain(cases.into_iter().rev()) {
            for _ in 0..2 {
                let today = calendar.day_of(at(moment));
                assert_eq!((today.day.iso().as_str(), today.ends_at), (day, at(ends_at)), "{moment}");
                assert_eq!(CivilDay::parse(day), Some(today.day));
            }
        }
    }

    #[test]
    fn a_remembered_day_agrees_with_a_fresh_look_up() {
        let remembering = Calendar::warsaw();
        for hour in (0..40_000).map(|step| step * 7 + 490_000) {
            let moment = Moment::from_unix_seconds(hour * HOUR + 1_799);
            assert_eq!(remembering.day_of(moment), Calendar::warsaw().day_of(moment), "{moment}");
        }
    }

    #[test]
    fn the_ends_of_time_have_a_day_too() {
        let calendar = Calendar::warsaw();
        for seconds in [i64::MIN, -1, 0, SECONDS_MAX, i64::MAX] {
            let today = calendar.day_of(Moment::from_unix_seconds(seconds));
            assert!(today.day.number() <= DAY_MAX);
        }
    }
}
