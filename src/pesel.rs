//! The PESEL number and its dense ordinal.
//!
//! Eleven digits `YYMMDD SSSX C` (art. 15 ustawy o ewidencji ludności): birth
//! date with the century folded into the month, a serial whose last digit tells
//! the sex, and a check digit. [`Pesel`] exists only for a number that passes
//! every one of these rules; [`Ordinal`] is the same number as a dense `u32`,
//! one to one, for sets and stores.

use std::fmt;

/// Days from 1800-01-01 through 2299-12-31.
pub const BIRTH_DAYS: u32 = 182_621;

/// Serials (`SSSX`) a single birth day has.
pub const SERIALS_PER_DAY: u32 = 10_000;

/// Ordinals that exist: `0..ORDINALS`.
pub const ORDINALS: u32 = BIRTH_DAYS * SERIALS_PER_DAY;

/// A valid PESEL number.
///
/// It has no `Display`, and its `Debug` shows no digit: the number of a person
/// never reaches a log by accident. [`Pesel::digits`] is the one way to its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pesel([u8; 11]);

/// Why a text is no PESEL; the first rule that it breaks, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeselError {
    /// Not eleven characters.
    Length,
    /// A character that is no ASCII digit.
    Digit,
    /// The first six digits name no day of 1800-2299.
    Date,
    /// The eleventh digit is not the check digit.
    Checksum,
}

impl PeselError {
    /// The `reason` of the `invalid-pesel` problem.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Digit => "digit",
            Self::Date => "date",
            Self::Checksum => "checksum",
        }
    }
}

impl fmt::Display for PeselError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a PESEL has eleven digits",
            Self::Digit => "a PESEL has digits only",
            Self::Date => "the first six digits are no date of 1800-2299",
            Self::Checksum => "the check digit does not fit",
        })
    }
}

impl std::error::Error for PeselError {}

/// Weights of the ten digits before the check digit.
const WEIGHTS: [u32; 10] = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3];

/// Month offsets of the centuries, in order from 1800.
const CENTURY_MONTH_OFFSETS: [u8; 5] = [80, 0, 20, 40, 60];

impl Pesel {
    /// Reads a PESEL from its eleven digits.
    ///
    /// # Errors
    /// The first rule that the text breaks: length, digits, date, check digit.
    pub fn parse(text: &[u8]) -> Result<Self, PeselError> {
        let text: &[u8; 11] = text.try_into().map_err(|_| PeselError::Length)?;
        let mut values = [0u8; 11];
        let mut worst = 0;
        for (value, byte) in values.iter_mut().zip(text) {
            *value = byte.wrapping_sub(b'0');
            worst |= u8::from(*value > 9);
        }
        if worst != 0 {
            return Err(PeselError::Digit);
        }
        birth_day(&values).ok_or(PeselError::Date)?;
        if check_digit(&values) != values[10] {
            return Err(PeselError::Checksum);
        }
        Ok(Self(*text))
    }

    /// The eleven digits. Handle with care: they name a person.
    #[must_use]
    pub fn digits(&self) -> &str {
        // Only ASCII digits pass `parse`, so this never falls back.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The eleven digits as bytes.
    #[must_use]
    pub const fn digit_bytes(&self) -> &[u8; 11] {
        &self.0
    }

    /// This number's dense ordinal.
    #[must_use]
    pub fn ordinal(&self) -> Ordinal {
        let values = self.0.map(|byte| byte.wrapping_sub(b'0'));
        let serial = values[6..10].iter().fold(0, |n, v| n * 10 + u32::from(*v));
        // A parsed number has a birth day.
        Ordinal(birth_day(&values).unwrap_or(0) * SERIALS_PER_DAY + serial)
    }
}

impl fmt::Debug for Pesel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pesel(redacted)")
    }
}

/// A PESEL as a dense number: days since 1800-01-01 times 10 000, plus the four
/// serial digits. Below 1.83e9, one to one with the valid numbers.
///
/// It names a person just as the digits do, so its `Debug` is silent as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(u32);

impl Ordinal {
    /// The ordinal with this value; `None` when no PESEL has it.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value < ORDINALS { Some(Self(value)) } else { None }
    }

    /// The value, `0..ORDINALS`.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Days from 1800-01-01 to the person's birth.
    #[must_use]
    pub const fn birth_days(self) -> u32 {
        self.0 / SERIALS_PER_DAY
    }

    /// The number itself.
    #[must_use]
    pub fn pesel(self) -> Pesel {
        let (year, month, day) = civil(self.birth_days());
        let century = (year - 1800) / 100;
        // `civil` yields 1800..=2299, so the index is 0..=4.
        let month = month + CENTURY_MONTH_OFFSETS[century as usize];
        let short_year = (year % 100) as u8;
        let serial = self.0 % SERIALS_PER_DAY;
        let mut values = [0u8; 11];
        for (slot, pair) in [short_year, month, day].into_iter().enumerate() {
            values[slot * 2] = pair / 10;
            values[slot * 2 + 1] = pair % 10;
        }
        values[6] = (serial / 1000) as u8;
        values[7] = (serial / 100 % 10) as u8;
        values[8] = (serial / 10 % 10) as u8;
        values[9] = (serial % 10) as u8;
        values[10] = check_digit(&values);
        Pesel(values.map(|value| value + b'0'))
    }
}

impl fmt::Debug for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ordinal(redacted)")
    }
}

/// `(10 - sum mod 10) mod 10`; the second `mod 10` is the classic slip.
fn check_digit(values: &[u8; 11]) -> u8 {
    let sum: u32 = values.iter().zip(WEIGHTS).map(|(value, weight)| u32::from(*value) * weight).sum();
    ((10 - sum % 10) % 10) as u8
}

/// Days from 1800-01-01 to the birth date in the first six digits; `None` when
/// they are no date.
fn birth_day(values: &[u8; 11]) -> Option<u32> {
    let month_coded = values[2] * 10 + values[3];
    // The offsets are multiples of 20, so the twenties of the coded month tell
    // the century: 0 -> 1900, 1 -> 2000, 2 -> 2100, 3 -> 2200, 4 -> 1800.
    let year_base = [1900, 2000, 2100, 2200, 1800][usize::from(month_coded / 20)];
    let year = year_base + u32::from(values[0] * 10 + values[1]);
    let month = month_coded % 20;
    let day = values[4] * 10 + values[5];
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    Some(days_from_1800(year, month, day))
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_month(year: u32, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before month 1..=12 in a common year.
const DAYS_BEFORE_MONTH: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// Leap days from 1800-01-01 up to the end of the year before `year`.
const fn leap_days_before(year: u32) -> u32 {
    let y = year - 1;
    (y / 4 - y / 100 + y / 400) - (1799 / 4 - 1799 / 100 + 1799 / 400)
}

const fn days_from_1800(year: u32, month: u8, day: u8) -> u32 {
    let leap = (month > 2 && is_leap(year)) as u32;
    (year - 1800) * 365 + leap_days_before(year) + DAYS_BEFORE_MONTH[month as usize - 1] + leap + day as u32
        - 1
}

/// Year, month and day of a count of days since 1800-01-01.
fn civil(days: u32) -> (u32, u8, u8) {
    // 365.2425 days a year: the estimate is off by one at the most.
    let mut year = 1800 + days * 400 / 146_097;
    if days_from_1800(year + 1, 1, 1) <= days {
        year += 1;
    } else if days_from_1800(year, 1, 1) > days {
        year -= 1;
    }
    let mut rest = days - days_from_1800(year, 1, 1);
    let mut month = 1;
    while rest >= u32::from(days_in_month(year, month)) {
        rest -= u32::from(days_in_month(year, month));
        month += 1;
    }
    (year, month, rest as u8 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Pesel, PeselError> {
        Pesel::parse(text.as_bytes())
    }

    /// The numbers that publications about PESEL show, a century code each: a witness
    /// of the check digit from outside. Everywhere else numbers are born 1800-1899.
    #[test]
    fn published_numbers_parse() {
        for text in ["44051401359", "75120804355", "07061552938", "98072831138", "22222222222"] {
            assert_eq!(parse(text).map(|p| p.digits().to_owned()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn each_rule_has_its_own_error() {
        assert_eq!(parse(""), Err(PeselError::Length));
        assert_eq!(parse("4405140135"), Err(PeselError::Length));
        assert_eq!(parse("440514013599"), Err(PeselError::Length));
        assert_eq!(parse("4405140135x"), Err(PeselError::Digit));
        assert_eq!(parse("44051401359".replace('4', "\u{664}").as_str()), Err(PeselError::Length));
        assert_eq!(parse("4405140135\n"), Err(PeselError::Digit));
        assert_eq!(parse("00000000000"), Err(PeselError::Date));
        assert_eq!(parse("44133101357"), Err(PeselError::Date));
        assert_eq!(parse("99022900014"), Err(PeselError::Date));
        assert_eq!(parse("44051401358"), Err(PeselError::Checksum));
    }

    /// Walks the calendar with a day counter of its own, so that neither
    /// direction of the conversion is its own witness.
    #[test]
    fn ordinals_and_numbers_are_one_to_one_over_all_days() {
        let mut day = 0u32;
        for year in 1800u32..2300 {
            for month in 1u8..=12 {
                let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
                let length = match month {
                    1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
                    2 => 28 + u8::from(leap),
                    _ => 30,
                };
                let coded = month + [80, 0, 20, 40, 60][(year as usize - 1800) / 100];
                for date in 1..=length {
                    for serial in [0, 1, 4_999, 9_999, day % 10_000] {
                        let ordinal = Ordinal::new(day * 10_000 + serial).expect("in range");
                        let head = format!("{:02}{coded:02}{date:02}{serial:04}", year % 100);
                        let pesel = ordinal.pesel();
                        assert_eq!(&pesel.digits()[..10], head);
                        assert_eq!(parse(pesel.digits()), Ok(pesel));
                        assert_eq!(pesel.ordinal(), ordinal);
                    }
                    day += 1;
                }
            }
        }
        assert_eq!(day, BIRTH_DAYS);
        assert!(Ordinal::new(ORDINALS).is_none());
    }

    #[test]
    fn every_other_check_digit_is_refused() {
        for good in ["44051401359", "22222222222", "98072831138"] {
            let wrong = (b'0'..=b'9').filter(|digit| *digit != good.as_bytes()[10]);
            for digit in wrong {
                let mut bytes = [0; 11];
                bytes.copy_from_slice(good.as_bytes());
                bytes[10] = digit;
                assert_eq!(Pesel::parse(&bytes), Err(PeselError::Checksum));
            }
        }
    }

    #[test]
    fn debug_is_silent() {
        let pesel = parse("44051401359").expect("valid");
        let shown = format!("{pesel:?} {:?}", pesel.ordinal());
        assert!(!shown.chars().any(|c| c.is_ascii_digit()), "{shown}");
    }

    #[test]
    #[ignore = "all 1.83e9 ordinals; run with --release: cargo test --release --lib -- --ignored bijection"]
    fn bijection_over_every_ordinal() {
        for value in 0..ORDINALS {
            let ordinal = Ordinal::new(value).expect("in range");
            assert_eq!(Pesel::parse(ordinal.pesel().digit_bytes()).map(|p| p.ordinal()), Ok(ordinal));
        }
    }
}
