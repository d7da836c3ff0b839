//! Moments as people read them, in any language: in Poland's time with its offset.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Moment;

impl Moment {
    /// `2026-07-01 12:00:00 (+02:00)`; what machines read is the moment's [`Display`] form.
    ///
    /// [`Display`]: std::fmt::Display
    pub(crate) fn in_poland(self) -> String {
        let shown = || {
            let zoned = Timestamp::from_second(self.unix_seconds())
                .ok()?
                .to_zoned(TimeZone::get("Europe/Warsaw").ok()?);
            Some(zoned.strftime("%Y-%m-%d %H:%M:%S (%:z)").to_string())
        };
        // The last hours of the year 9999 are beyond the library: in UTC.
        shown().unwrap_or_else(|| self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn winter_and_summer_have_their_offsets() {
        let shown = |text| Moment::parse(text).expect("a moment").in_poland();
        assert_eq!(shown("2026-01-01T23:30:00Z"), "2026-01-02 00:30:00 (+01:00)");
        assert_eq!(shown("2026-10-25T00:30:00Z"), "2026-10-25 02:30:00 (+02:00)");
        assert_eq!(shown("2026-10-25T01:30:00Z"), "2026-10-25 02:30:00 (+01:00)");
        assert_eq!(shown("9999-12-31T23:59:59Z"), "9999-12-31T23:59:59Z");
    }
}
