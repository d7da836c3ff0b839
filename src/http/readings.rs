//! Since when a store cannot be read. The stores' own health is of their writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Moment;

/// How the readings of the stores go, of whichever plane they are. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StoreReadings {
    /// Of the register's store.
    pub register: Readings,
    /// Of the trail.
    pub trail: Readings,
}

/// How the readings of one store go.
#[derive(Debug, Clone)]
pub struct Readings(Arc<AtomicI64>);

/// They go well: later than any moment.
const WELL: i64 = i64::MAX;

impl Default for Readings {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(WELL)))
    }
}

impl Readings {
    /// Something was read.
    pub fn succeeded(&self) {
        // Nearly always nothing changes: no line of the cache is taken from others.
        if self.0.load(Ordering::Relaxed) != WELL {
            self.0.store(WELL, Ordering::Relaxed);
        }
    }

    /// Something could not be read. Tells since when that is so: the first such moment
    /// after the last success, the same to everybody who asks during one outage.
    #[must_use]
    pub fn failed(&self, now: Moment) -> Moment {
        let now = now.unix_seconds();
        let first = self.0.compare_exchange(WELL, now, Ordering::Relaxed, Ordering::Relaxed);
        Moment::from_unix_seconds(first.map_or_else(|since| since, |_well| now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_one_beginning_and_ends_with_a_success() {
        let readings = StoreReadings::default();
        let of_another_plane = readings.clone();
        let at = Moment::from_unix_seconds;
        readings.register.succeeded();
        assert_eq!(readings.register.failed(at(100)), at(100));
        assert_eq!(of_another_plane.register.failed(at(105)), at(100));
        assert_eq!(readings.trail.failed(at(106)), at(106), "each store has its own");
        of_another_plane.register.succeeded();
        assert_eq!(readings.register.failed(at(110)), at(110));
        assert_eq!(readings.trail.failed(at(111)), at(106));
    }
}
