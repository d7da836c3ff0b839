//! Refusals of strangers leave one after the other: whoever guesses keys as fast
//! as the answers come gets them no faster than this, and the processor is for
//! those whose key is good.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Refusals a second of one worker, once [`AT_ONCE`] of them are spent: a fiftieth
/// of what it could answer.
const PER_SECOND: u32 = 4_000;
const EACH: Duration = Duration::from_nanos(1_000_000_000 / PER_SECOND as u64);
/// Refusals that do not wait.
const AT_ONCE: u32 = 400;
/// The longest wait. Beyond it a waiting refusal would cost more memory than
/// answering costs time.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// One worker's turnstile for refusals of strangers.
#[derive(Debug)]
pub(super) struct Turnstile {
    /// When the next refusal would leave if none were let through at once.
    next: Cell<Instant>,
}

impl Turnstile {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: Cell::new(now) }
    }

    /// How long a refusal waits for its turn.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let next = self.next.get().max(now);
        let wait = next.saturating_duration_since(now + EACH * AT_ONCE);
        if wait > WAIT_MAX {
            return Duration::ZERO;
        }
        self.next.set(next + EACH);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_leave_at_once_and_many_leave_in_turn() {
        let start = Instant::now();
        let turnstile = Turnstile::new(start);
        for place in 0..=AT_ONCE {
            assert_eq!(turnstile.wait(start), Duration::ZERO, "{place}");
        }
        for place in 1..=100 {
            assert_eq!(turnstile.wait(start), EACH * place);
        }
        // Whoever comes when all have left does not wait.
        let later = start + EACH * (AT_ONCE + 101);
        assert_eq!(turnstile.wait(later), Duration::ZERO);
    }

    #[test]
    fn in_any_second_no_more_leave_than_the_turnstile_lets_through() {
        let start = Instant::now();
        let turnstile = Turnstile::new(start);
        // Three hundred guessers, each again as soon as it is answered.
        let mut due: Vec<Duration> = vec![Duration::ZERO; 300];
        let mut left = 0;
        while let Some(place) = (0..due.len()).min_by_key(|place| due[*place])
            && due[place] < Duration::from_secs(2)
        {
            let now = due[place];
            due[place] = now + turnstile.wait(start + now) + Duration::from_micros(10);
            left += u32::from(due[place] < Duration::from_secs(2));
        }
        assert!(left <= 2 * PER_SECOND + AT_ONCE + 1, "{left}");
        assert!(left >= 2 * PER_SECOND - AT_ONCE, "{left}");
    }

    #[test]
    fn nobody_waits_longer_than_the_longest_wait() {
        let start = Instant::now();
        let turnstile = Turnstile::new(start);
        for _ in 0..20_000 {
            assert!(turnstile.wait(start) <= WAIT_MAX);
        }
    }
}
