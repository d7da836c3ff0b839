use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::super::testing::cells;
use super::super::time::Ticks;
use super::*;
use crate::clock::{Clock, ClockHand, Moment};

struct World {
    limiter: KeyLimiter,
    ticks: FakeRelativeClock,
    hand: ClockHand,
}

fn world(moment: &str) -> World {
    let (clock, hand) = Clock::manual(Moment::parse(moment).expect("moment"));
    let (manual, ticks) = Ticks::manual();
    let limiter = KeyLimiter::new(Arc::new(LimiterTime::new(clock, manual)), None);
    World { limiter, ticks, hand }
}

fn noon() -> World {
    world("2026-11-21T11:00:00Z")
}

fn limits(per_second: u32, burst: u32, per_day: u64) -> KeyLimits {
    KeyLimits::new(per_second, burst, per_day).expect("limits")
}

#[test]
fn what_is_left_is_told_without_charging() {
    let World { limiter, ticks, .. } = noon();
    let limits = limits(10, 5, 100);
    for _ in 0..3 {
        let view = limiter.view(&limits);
        assert_eq!((view.burst_remaining, view.day_remaining), (5, 100));
        assert_eq!(view.day_resets_at.to_string(), "2026-11-21T23:00:00Z");
    }
    limiter.charge(&limits, cells(5)).expect("within the burst");
    let view = limiter.view(&limits);
    assert_eq!((view.burst_remaining, view.day_remaining), (0, 95));
    ticks.advance(Duration::from_millis(250));
    assert_eq!(limiter.view(&limits).burst_remaining, 2);
    ticks.advance(Duration::from_secs(10));
    assert_eq!(limiter.view(&limits).burst_remaining, 5);
}

#[test]
fn every_refusal_leaves_what_is_left_exactly_as_it_was() {
    let World { limiter, ticks, .. } = noon();
    let limits = limits(10, 20, 50);
    ticks.advance(Duration::from_millis(1_234));
    limiter.charge(&limits, cells(15)).expect("within");
    ticks.advance(Duration::from_millis(77));
    let before = (
        limiter.view(&limits),
        limiter.spent.load(Ordering::Relaxed),
        limiter.arrival.load(Ordering::Relaxed),
    );
    let after = || {
        (
            limiter.view(&limits),
            limiter.spent.load(Ordering::Relaxed),
            limiter.arrival.load(Ordering::Relaxed),
        )
    };
    assert_eq!(limiter.charge(&limits, cells(21)), Err(OverLimit::LargerThanBurst));
    assert_eq!(after(), before);
    // 15 spent, 20 wanted of a burst of 20: 15 intervals of 100 ms less 77 ms.
    let refused = limiter.charge(&limits, cells(20));
    assert_eq!(refused, Err(OverLimit::Rate { retry_after: Duration::from_millis(1_500 - 77) }));
    assert_eq!(after(), before);
    ticks.advance(Duration::from_secs(10));
    limiter.charge(&limits, cells(20)).expect("within");
    ticks.advance(Duration::from_secs(10));
    let before = after();
    // 35 of 50 spent; the next midnight in Warsaw is twelve hours ahead.
    let refused = limiter.charge(&limits, cells(16));
    assert_eq!(refused, Err(OverLimit::Day { retry_after: Duration::from_secs(12 * 3_600) }));
    assert_eq!(after(), before);
    assert_eq!(limiter.refused(), 3);
    limiter.charge(&limits, cells(15)).expect("the day holds exactly these");
}

#[test]
fn what_is_given_back_is_as_if_never_charged() {
    let World { limiter, ticks, .. } = noon();
    let limits = limits(100, 50, 1_000);
    limiter.charge(&limits, cells(7)).expect("within");
    ticks.advance(Duration::from_millis(3));
    let before = limiter.view(&limits);
    let charged = limiter.charge(&limits, cells(20)).expect("within");
    let more = limiter.charge(&limits, cells(3)).expect("within");
    limiter.refund(&limits, charged.and_then(more));
    assert_eq!(limiter.view(&limits), before);
    // Given back much later, it makes no more than a whole burst.
    let charged = limiter.charge(&limits, cells(20)).expect("within");
    ticks.advance(Duration::from_secs(60));
    limiter.refund(&limits, charged);
    assert_eq!(limiter.view(&limits).burst_remaining, 50);
    limiter.charge(&limits, cells(50)).expect("a whole burst");
    assert!(limiter.charge(&limits, cells(1)).is_err());
}

#[test]
fn a_day_ends_at_midnight_in_warsaw() {
    let World { limiter, hand, .. } = world("2026-11-21T22:59:59Z");
    let limits = limits(1_000, 1_000, 10);
    let charged = limiter.charge(&limits, cells(10)).expect("within");
    assert_eq!(
        limiter.charge(&limits, cells(1)),
        Err(OverLimit::Day { retry_after: Duration::from_secs(1) })
    );
    hand.set(Moment::parse("2026-11-21T23:00:00Z").expect("moment"));
    assert_eq!(limiter.view(&limits).day_remaining, 10);
    let today = limiter.charge(&limits, cells(4)).expect("a new day");
    // A charge of yesterday gives nothing back today.
    limiter.refund(&limits, charged);
    assert_eq!(limiter.view(&limits).day_remaining, 6);
    limiter.refund(&limits, charged.and_then(today));
    assert_eq!(limiter.view(&limits).day_remaining, 10);
}

#[test]
fn a_clock_that_steps_back_gives_no_new_day_and_a_wrong_one_locks_nobody() {
    let World { limiter, hand, .. } = world("2026-11-21T23:00:01Z");
    let limits = limits(1_000, 1_000, 10);
    limiter.charge(&limits, cells(10)).expect("within");
    hand.set(Moment::parse("2026-11-21T22:59:00Z").expect("moment"));
    assert!(limiter.charge(&limits, cells(1)).is_err(), "the count of tomorrow stays");
    hand.set(Moment::parse("2024-11-21T22:59:00Z").expect("moment"));
    limiter.charge(&limits, cells(1)).expect("the clock had been two years ahead");
}

#[test]
fn a_change_of_limits_keeps_what_was_spent() {
    let World { limiter, ticks, .. } = noon();
    let (slow, fast) = (limits(1, 100, 1_000), limits(100, 500, 2_000));
    ticks.advance(Duration::from_secs(5));
    limiter.charge(&slow, cells(60)).expect("within");
    limiter.carry_over(&slow, &fast);
    let view = limiter.view(&fast);
    assert_eq!((view.burst_remaining, view.day_remaining), (440, 1_940));
    limiter.carry_over(&fast, &slow);
    let view = limiter.view(&slow);
    assert_eq!((view.burst_remaining, view.day_remaining), (40, 940));
    // A burst smaller than what was spent is empty, not in debt.
    let small = limits(1, 10, 30);
    limiter.carry_over(&slow, &small);
    let view = limiter.view(&small);
    assert_eq!((view.burst_remaining, view.day_remaining), (0, 0));
    ticks.advance(Duration::from_secs(10));
    assert_eq!(limiter.view(&small).burst_remaining, 10);
}

#[test]
fn the_largest_limits_overflow_nothing() {
    let World { limiter, .. } = noon();
    for (per_second, burst) in [(1, KEY_PER_SECOND), (KEY_PER_SECOND, KEY_PER_SECOND), (KEY_PER_SECOND, 1)] {
        let limits = limits(per_second, burst, KEY_PER_DAY_MAX);
        limiter.charge(&limits, cells(burst)).expect("a whole burst");
        let view = limiter.view(&limits);
        assert_eq!(view.burst, burst);
        limiter.charge(&limits, cells(burst)).ok();
        limiter.carry_over(&limits, &super::super::key_limits::KeyLimits::new(1, 1, 1).expect("limits"));
        limiter.arrival.store(0, Ordering::Relaxed);
    }
}

const KEY_PER_SECOND: u32 = crate::limits::KEY_PER_SECOND_MAX;

#[test]
fn threads_together_never_charge_more_than_the_quota() {
    for round in 0..20u32 {
        let World { limiter, .. } = noon();
        let limits = limits(1, 5_000, 3_001 + u64::from(round));
        let charged = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let (limiter, charged) = (&limiter, &charged);
                scope.spawn(move || {
                    for step in 0..1_000u32 {
                        let n = 1 + (step * 7 + thread) % 5;
                        match limiter.charge(&limits, cells(n)) {
                            Ok(taken) if step % 3 == 0 => limiter.refund(&limits, taken),
                            Ok(_) => drop(charged.fetch_add(u64::from(n), Ordering::Relaxed)),
                            Err(_) => {}
                        }
                    }
                });
            }
        });
        let charged = charged.into_inner();
        let view = limiter.view(&limits);
        assert!(charged <= limits.per_day());
        assert_eq!(view.day_remaining, limits.per_day() - charged);
        assert_eq!(u64::from(view.burst_remaining), 5_000 - charged);
    }
}

/// A bucket of tokens counted in exact fractions: tokens times the interval.
struct NaiveBucket {
    tokens: u128,
    at: u128,
    interval: u128,
    burst: u128,
}

impl NaiveBucket {
    fn refill(&mut self, now: u128) {
        self.tokens = (self.tokens + now - self.at).min(self.burst * self.interval);
        self.at = now;
    }

    fn take(&mut self, n: u128) -> bool {
        let enough = self.tokens >= n * self.interval;
        if enough {
            self.tokens -= n * self.interval;
        }
        enough
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_limiter_agrees_with_a_bucket_of_tokens(
        per_second in 1u32..3_000,
        burst in 1u32..200,
        per_day in 1u64..2_000,
        steps in proptest::collection::vec((0u64..2_000_000_000, 1u32..220, any::<bool>()), 1..80),
    ) {
        let World { limiter, ticks, .. } = noon();
        let limits = limits(per_second, burst, per_day);
        let interval = u128::from(1_000_000_000 / per_second);
        let burst = u128::from(burst);
        let mut naive = NaiveBucket { tokens: burst * interval, at: 0, interval, burst };
        let (mut now, mut spent) = (0u128, 0u64);
        for (wait, n, refused_later) in steps {
            // Mostly short waits, so that the bucket is neither full nor empty.
            let wait = wait >> (wait % 32);
            ticks.advance(Duration::from_nanos(wait));
            now += u128::from(wait);
            naive.refill(now);
            let before = limiter.view(&limits);
            let outcome = limiter.charge(&limits, cells(n));
            let n = u64::from(n);
            if u128::from(n) > burst || n > per_day {
                prop_assert_eq!(outcome, Err(OverLimit::LargerThanBurst));
            } else if spent + n > per_day {
                let by_day = matches!(outcome, Err(OverLimit::Day { .. }));
                prop_assert!(by_day);
            } else if naive.take(u128::from(n)) {
                let charged = outcome.expect("the naive bucket holds it");
                if refused_later {
                    limiter.refund(&limits, charged);
                    naive.tokens += u128::from(n) * interval;
                } else {
                    spent += n;
                }
            } else {
                // It passes when the wait is over and no nanosecond before.
                let missing = u128::from(n) * interval - naive.tokens;
                let Err(OverLimit::Rate { retry_after }) = outcome else {
                    return Err(TestCaseError::fail(format!("{outcome:?}")));
                };
                prop_assert_eq!(retry_after.as_nanos(), missing);
            }
            let view = limiter.view(&limits);
            if outcome.is_err() || refused_later {
                prop_assert_eq!(view, before);
            }
            prop_assert_eq!(u128::from(view.burst_remaining), naive.tokens / interval);
            prop_assert_eq!(view.day_remaining, per_day - spent);
        }
    }
}
