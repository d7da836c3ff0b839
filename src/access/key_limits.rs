//! The limits of a key and what is left of them.

use std::num::{NonZeroU32, NonZeroU64};

use crate::clock::Moment;
use crate::limits::{KEY_PER_DAY_MAX, KEY_PER_SECOND_MAX};

/// What a key may spend; a unit is one number verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "WrittenLimits", into = "WrittenLimits")]
pub struct KeyLimits {
    per_second: NonZeroU32,
    burst: NonZeroU32,
    per_day: NonZeroU64,
}

/// Why limits were refused; the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLimits {
    /// One is zero or beyond its bound.
    OutOfBounds,
    /// A whole burst would fit into no day.
    DayBelowBurst {
        /// What the day has to hold.
        burst: u32,
    },
}

impl std::fmt::Display for BadLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutOfBounds => write!(
                f,
                "per_second and burst lie between 1 and {KEY_PER_SECOND_MAX}, per_day between 1 and {KEY_PER_DAY_MAX}"
            ),
            Self::DayBelowBurst { burst } => write!(f, "per_day is at least burst, which is {burst}"),
        }
    }
}

impl std::error::Error for BadLimits {}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    per_second: u32,
    burst: u32,
    per_day: u64,
}

impl TryFrom<WrittenLimits> for KeyLimits {
    type Error = BadLimits;

    fn try_from(written: WrittenLimits) -> Result<Self, BadLimits> {
        Self::new(written.per_second, written.burst, written.per_day)
    }
}

impl From<KeyLimits> for WrittenLimits {
    fn from(limits: KeyLimits) -> Self {
        Self { per_second: limits.per_second(), burst: limits.burst(), per_day: limits.per_day() }
    }
}

impl KeyLimits {
    /// Limits in numbers: a second, at once, and a civil day (Europe/Warsaw).
    ///
    /// The rate is kept as whole nanoseconds between two numbers, rounded down:
    /// exact to 0.1 % up to a million a second.
    ///
    /// # Errors
    /// [`BadLimits::OutOfBounds`] by the bounds in [`crate::limits`].
    pub fn new(per_second: u32, burst: u32, per_day: u64) -> Result<Self, BadLimits> {
        if per_second > KEY_PER_SECOND_MAX || burst > KEY_PER_SECOND_MAX || per_day > KEY_PER_DAY_MAX {
            return Err(BadLimits::OutOfBounds);
        }
        Ok(Self {
            per_second: NonZeroU32::new(per_second).ok_or(BadLimits::OutOfBounds)?,
            burst: NonZeroU32::new(burst).ok_or(BadLimits::OutOfBounds)?,
            per_day: NonZeroU64::new(per_day).ok_or(BadLimits::OutOfBounds)?,
        })
    }

    /// Limits as somebody asks for them now, which must agree with each other. Keys on
    /// record may have others: they were issued before this was asked.
    ///
    /// # Errors
    /// Those of [`Self::new`], and [`BadLimits::DayBelowBurst`].
    pub fn agreeing(per_second: u32, burst: u32, per_day: u64) -> Result<Self, BadLimits> {
        let limits = Self::new(per_second, burst, per_day)?;
        if per_day < u64::from(burst) {
            return Err(BadLimits::DayBelowBurst { burst });
        }
        Ok(limits)
    }

    /// Numbers that can ever come at once.
    pub(crate) fn at_once_max(&self) -> u32 {
        u32::try_from(self.per_day()).map_or(self.burst(), |per_day| per_day.min(self.burst()))
    }

    /// Numbers a second.
    #[must_use]
    pub const fn per_second(&self) -> u32 {
        self.per_second.get()
    }

    /// Numbers at once; also the largest batch.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst.get()
    }

    /// Numbers a civil day.
    #[must_use]
    pub const fn per_day(&self) -> u64 {
        self.per_day.get()
    }

    pub(crate) const fn burst_cells(&self) -> NonZeroU32 {
        self.burst
    }

    /// Nanoseconds between two numbers.
    pub(crate) const fn interval(&self) -> u64 {
        1_000_000_000 / self.per_second.get() as u64
    }
}

/// What is left of a key's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsView {
    /// Numbers a second.
    pub per_second: u32,
    /// Numbers at once.
    pub burst: u32,
    /// Of the burst, what could be spent now.
    pub burst_remaining: u32,
    /// Numbers a civil day.
    pub per_day: u64,
    /// Of the day, what is left.
    pub day_remaining: u64,
    /// When the day's quota is whole again: the next midnight in Warsaw.
    pub day_resets_at: Moment,
}

impl LimitsView {
    /// What is left once so many numbers, charged and not answered, are given back.
    pub(crate) fn with_given_back(mut self, numbers: u64) -> Self {
        let burst = u64::from(self.burst_remaining).saturating_add(numbers);
        self.burst_remaining = u32::try_from(burst).unwrap_or(u32::MAX).min(self.burst);
        self.day_remaining = self.day_remaining.saturating_add(numbers).min(self.per_day);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_positive_and_bounded() {
        assert!(KeyLimits::new(1, 1, 1).is_ok());
        assert!(KeyLimits::new(KEY_PER_SECOND_MAX, KEY_PER_SECOND_MAX, KEY_PER_DAY_MAX).is_ok());
        for (per_second, burst, per_day) in [
            (0, 1, 1),
            (1, 0, 1),
            (1, 1, 0),
            (KEY_PER_SECOND_MAX + 1, 1, 1),
            (1, KEY_PER_SECOND_MAX + 1, 1),
            (1, 1, KEY_PER_DAY_MAX + 1),
        ] {
            assert_eq!(KeyLimits::new(per_second, burst, per_day), Err(BadLimits::OutOfBounds));
        }
        assert_eq!(KeyLimits::agreeing(1, 5, 4), Err(BadLimits::DayBelowBurst { burst: 5 }));
        assert!(KeyLimits::agreeing(9, 5, 5).is_ok());
        assert!(KeyLimits::new(1, 5, 4).is_ok(), "on record it may stand");
        let read = |text| serde_json::from_str::<KeyLimits>(text);
        assert!(read(r#"{"per_second":10,"burst":20,"per_day":30}"#).is_ok());
        assert!(read(r#"{"per_second":0,"burst":20,"per_day":30}"#).is_err());
        assert!(read(r#"{"per_second":10,"burst":20,"per_day":30,"per_week":1}"#).is_err());
    }
}
