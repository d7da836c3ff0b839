//! What a key may spend and what it has spent: numbers a second with a burst,
//! and numbers a day.
//!
//! The limits stand in the key's record, the state here, shared by all records
//! that follow each other for the key: a change of limits or addresses resets no
//! budget.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::backlog::{Backlog, BacklogFull, charge_backlog};
use super::key_limits::{KeyLimits, LimitsView};
use super::time::{CivilDay, LimiterTime};
use crate::limits::KEY_PER_DAY_MAX;

/// Why a charge was refused; nothing was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverLimit {
    /// More than the burst, or than a whole day: would never pass.
    LargerThanBurst,
    /// Too many a second; passes after this time.
    Rate { retry_after: Duration },
    /// The day's quota does not hold so many; whole again after this time.
    Day { retry_after: Duration },
}

/// What was charged and may be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charged {
    day: CivilDay,
    /// Numbers charged on this day: what the day's quota gets back.
    on_day: u64,
    /// Numbers charged, those before midnight included: what the rate gets back.
    in_all: u64,
}

impl Charged {
    fn once(day: CivilDay, n: NonZeroU32) -> Self {
        let n = u64::from(n.get());
        Self { day, on_day: n, in_all: n }
    }

    /// Both charges, this one being the earlier.
    pub(crate) const fn and_then(self, later: Self) -> Self {
        let same_day = self.day.number() == later.day.number();
        Self {
            day: later.day,
            on_day: if same_day { self.on_day + later.on_day } else { later.on_day },
            in_all: self.in_all + later.in_all,
        }
    }

    /// Numbers charged.
    pub(crate) const fn numbers(&self) -> u64 {
        self.in_all
    }
}

/// The state of a key's budget.
///
/// It fills one line of the processor's cache: a decision fetches all of it at
/// once, and two keys on two cores never share one.
#[derive(Debug)]
#[repr(align(64))]
pub struct KeyLimiter {
    time: Arc<LimiterTime>,
    /// When the burst will be whole again: GCRA's theoretical arrival time, in
    /// nanoseconds of the ticks; in the past when it is whole.
    arrival: AtomicU64,
    /// The day (20 bits) and the numbers spent on it (44 bits).
    spent: AtomicU64,
    /// `spent` as last put on record; the writer's alone.
    saved: AtomicU64,
    /// Charges refused since the start, for the metrics.
    refused: AtomicU64,
}

/// The day's numbers in [`KeyLimiter::spent`].
const SPENT_BITS: u32 = 44;
const SPENT_MASK: u64 = (1 << SPENT_BITS) - 1;
const _: () = assert!(KEY_PER_DAY_MAX < SPENT_MASK);

/// The numbers spent on a day, as put on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DayUsage {
    pub(crate) day: CivilDay,
    pub(crate) spent: u64,
}

impl DayUsage {
    pub(crate) const fn pack(self) -> u64 {
        let spent = if self.spent > SPENT_MASK { SPENT_MASK } else { self.spent };
        (self.day.number() as u64) << SPENT_BITS | spent
    }

    pub(crate) const fn unpack(packed: u64) -> Self {
        Self { day: CivilDay::from_number((packed >> SPENT_BITS) as u32), spent: packed & SPENT_MASK }
    }

    /// What counts today. A clock that steps back over midnight must not give
    /// the budget anew, so tomorrow's count stays; a day further ahead was a
    /// wrong clock, which must not lock a key for years.
    fn as_of(self, today: CivilDay) -> Self {
        let ahead = self.day.number() == today.number() + 1;
        if self.day == today || ahead { self } else { Self { day: today, spent: 0 } }
    }
}

impl KeyLimiter {
    /// A whole budget, but for what is on record of the day.
    pub(crate) fn new(time: Arc<LimiterTime>, usage: Option<DayUsage>) -> Self {
        let spent = usage.map_or(0, DayUsage::pack);
        Self {
            time,
            arrival: AtomicU64::new(0),
            spent: AtomicU64::new(spent),
            saved: AtomicU64::new(spent),
            refused: AtomicU64::new(0),
        }
    }

    /// Charges `n` numbers or nothing: the day's quota, then the rate.
    pub(crate) fn charge(&self, limits: &KeyLimits, n: NonZeroU32) -> Result<Charged, OverLimit> {
        let charged = self.try_charge(limits, n);
        if charged.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        charged
    }

    fn try_charge(&self, limits: &KeyLimits, n: NonZeroU32) -> Result<Charged, OverLimit> {
        // More than a day holds passes on no day: no use to come again tomorrow.
        if n.get() > limits.at_once_max() {
            return Err(OverLimit::LargerThanBurst);
        }
        let day = self.reserve_day(limits, n)?;
        self.charge_rate(limits, n).inspect_err(|_| self.refund_day(day, u64::from(n.get())))?;
        Ok(Charged::once(day, n))
    }

    /// Charges as many of `wanted` numbers as a stream can have, which waits where a
    /// request would be refused: what is there, unless more comes `within` this time.
    /// `Err(Rate)` is its pace and not a refusal, so it is not counted as one.
    pub(crate) fn charge_paced(
        &self,
        limits: &KeyLimits,
        wanted: NonZeroU32,
        within: Duration,
    ) -> Result<Charged, OverLimit> {
        let coming = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX) / limits.interval();
        loop {
            let view = self.view(limits);
            let most = u64::from(wanted.min(limits.burst_cells()).get()).min(view.day_remaining);
            // Less than what comes in one wait would be a record for every few numbers.
            let n = u64::from(view.burst_remaining).max(coming).clamp(1, most.max(1));
            let n = u32::try_from(n).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
            match self.try_charge(limits, n) {
                // Others took of the day since it was looked at.
                Err(OverLimit::Day { .. }) if n > NonZeroU32::MIN => {}
                Err(over @ OverLimit::Day { .. }) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(over);
                }
                outcome => return outcome,
            }
        }
    }

    /// Gives back what was charged under these limits.
    ///
    /// Exact for the day. For the rate exact as long as the charge has not
    /// drained; one given back later credits at most itself, and never more than
    /// a whole burst.
    pub(crate) fn refund(&self, limits: &KeyLimits, charged: Charged) {
        self.refund_day(charged.day, charged.on_day);
        let nanos = limits.interval().saturating_mul(charged.in_all);
        update(&self.arrival, |arrival| arrival.saturating_sub(nanos));
    }

    /// What is left; charges nothing.
    pub(crate) fn view(&self, limits: &KeyLimits) -> LimitsView {
        let backlog = self.arrival.load(Ordering::Acquire).saturating_sub(self.time.ticks.nanos());
        let interval = limits.interval();
        let whole = interval * u64::from(limits.burst());
        let today = self.time.today();
        let usage = DayUsage::unpack(self.spent.load(Ordering::Acquire)).as_of(today.day);
        let day_remaining = limits.per_day().saturating_sub(usage.spent);
        LimitsView {
            per_second: limits.per_second(),
            burst: limits.burst(),
            burst_remaining: (whole.saturating_sub(backlog) / interval) as u32,
            per_day: limits.per_day(),
            day_remaining,
            day_resets_at: today.ends_at,
        }
    }

    /// Keeps the numbers spent when the limits change: GCRA counts its backlog
    /// in time, and the same time is another count under another rate.
    pub(crate) fn carry_over(&self, old: &KeyLimits, new: &KeyLimits) {
        let now = self.time.ticks.nanos();
        update(&self.arrival, |arrival| {
            let backlog = u128::from(arrival.saturating_sub(now));
            let carried = backlog * u128::from(new.interval()) / u128::from(old.interval());
            let whole = new.interval() * u64::from(new.burst());
            if backlog == 0 { arrival } else { now + u64::try_from(carried).unwrap_or(whole).min(whole) }
        });
    }

    /// Reads a word of the line.
    pub(super) fn touch(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// Charges refused since the start of the process.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The day's usage, if it changed since [`Self::mark_saved`].
    pub(crate) fn unsaved_usage(&self) -> Option<DayUsage> {
        let spent = self.spent.load(Ordering::Acquire);
        (spent != self.saved.load(Ordering::Relaxed)).then(|| DayUsage::unpack(spent))
    }

    /// This usage is on record now.
    pub(crate) fn mark_saved(&self, usage: DayUsage) {
        self.saved.store(usage.pack(), Ordering::Relaxed);
    }

    fn reserve_day(&self, limits: &KeyLimits, n: NonZeroU32) -> Result<CivilDay, OverLimit> {
        let today = self.time.today();
        let mut seen = self.spent.load(Ordering::Acquire);
        loop {
            let usage = DayUsage::unpack(seen).as_of(today.day);
            let spent = usage.spent + u64::from(n.get());
            if spent > limits.per_day() {
                return Err(OverLimit::Day { retry_after: self.time.until(today.ends_at) });
            }
            let next = DayUsage { day: usage.day, spent }.pack();
            match self.spent.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(usage.day),
                Err(other) => seen = other,
            }
        }
    }

    fn refund_day(&self, day: CivilDay, n: u64) {
        update(&self.spent, |packed| {
            let usage = DayUsage::unpack(packed);
            // A charge of yesterday has nothing to give back today.
            let spent = if usage.day == day { usage.spent.saturating_sub(n) } else { usage.spent };
            DayUsage { day: usage.day, spent }.pack()
        });
    }

    fn charge_rate(&self, limits: &KeyLimits, n: NonZeroU32) -> Result<(), OverLimit> {
        let backlog = Backlog { arrival: &self.arrival, now: self.time.ticks.nanos() };
        charge_backlog(backlog, Duration::from_nanos(limits.interval()), limits.burst_cells(), n).map_err(
            |refused| match refused {
                BacklogFull::Never => OverLimit::LargerThanBurst,
                BacklogFull::Until(retry_after) => OverLimit::Rate { retry_after },
            },
        )
    }
}

fn update(atomic: &AtomicU64, change: impl Fn(u64) -> u64) {
    let mut seen = atomic.load(Ordering::Acquire);
    while let Err(other) =
        atomic.compare_exchange_weak(seen, change(seen), Ordering::AcqRel, Ordering::Acquire)
    {
        seen = other;
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
