//! For which imports the ends of temporary withdrawals wait, and until when.
//!
//! An end waits for every import that tells its withdrawal and is under way, and for
//! the last one that told it for ten minutes after that broke off: it may be sent
//! again. Sent again, it is another import, which holds the end from then on. What
//! becomes of an import concerns only what it told itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use tokio::time::Instant;

use crate::limits::IMPORT_ENDS_HELD_SECONDS;
use crate::pesel::Ordinal;

const LEFT_HELD: Duration = Duration::from_secs(IMPORT_ENDS_HELD_SECONDS as u64);
/// How often imports under way are looked at.
const TICK: Duration = Duration::from_millis(50);

/// An import, as far as ends wait for it. It has broken off when whoever could bring
/// the rest of it let go of it.
pub(in super::super) trait Import {
    /// Is all of it decided, and nothing of it missing?
    fn is_complete(&self) -> bool;
}

/// What is held, number by number; few numbers have an end at all.
#[derive(Debug)]
pub(super) struct Holds<I> {
    under_way: Vec<UnderWay<I>>,
    /// What imports that broke off hold: until when.
    left: HashMap<Ordinal, Instant>,
    /// The same in the order of the moments.
    left_until: BTreeSet<(Instant, Ordinal)>,
    /// The numbers of both.
    numbers: RoaringBitmap,
}

#[derive(Debug)]
struct UnderWay<I> {
    import: Arc<I>,
    told: HashMap<Ordinal, Claim>,
}

/// What becomes of a hold when its import breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// It lasts for ten minutes more: nobody has told the withdrawal since.
    Last,
    /// It ends: another import has told it since, and holds the end or held it.
    TakenOver,
}

enum Fate {
    UnderWay,
    Complete,
    BrokenOff,
}

impl<I> Default for Holds<I> {
    fn default() -> Self {
        Self {
            under_way: Vec::new(),
            left: HashMap::new(),
            left_until: BTreeSet::new(),
            numbers: RoaringBitmap::new(),
        }
    }
}

impl<I: Import> Holds<I> {
    pub(super) fn is_held(&self, ordinal: Ordinal) -> bool {
        self.numbers.contains(ordinal.value())
    }

    pub(super) const fn numbers(&self) -> &RoaringBitmap {
        &self.numbers
    }

    /// The end of this number's withdrawal waits for this import, which has just told
    /// it.
    pub(super) fn hold(&mut self, import: &Arc<I>, ordinal: Ordinal) {
        self.take_left(ordinal);
        let mut is_known = false;
        for under_way in &mut self.under_way {
            if Arc::ptr_eq(&under_way.import, import) {
                under_way.told.insert(ordinal, Claim::Last);
                is_known = true;
            } else if let Some(claim) = under_way.told.get_mut(&ordinal) {
                *claim = Claim::TakenOver;
            }
        }
        if !is_known {
            let told = HashMap::from([(ordinal, Claim::Last)]);
            self.under_way.push(UnderWay { import: Arc::clone(import), told });
        }
        self.numbers.insert(ordinal.value());
    }

    /// The end of this number's withdrawal waits as for an import that broke off at
    /// `now`.
    pub(super) fn leave(&mut self, ordinal: Ordinal, now: Instant) {
        let until = now + LEFT_HELD;
        self.take_left(ordinal);
        self.left.insert(ordinal, until);
        self.left_until.insert((until, ordinal));
        self.numbers.insert(ordinal.value());
    }

    /// The number has no end any more, or one that is no import's.
    pub(super) fn forget(&mut self, ordinal: Ordinal) {
        if self.numbers.remove(ordinal.value()) {
            self.take_left(ordinal);
            for under_way in &mut self.under_way {
                under_way.told.remove(&ordinal);
            }
        }
    }

    /// Takes out the numbers that are held no longer.
    pub(super) fn release(&mut self, now: Instant) -> Vec<Ordinal> {
        let mut let_go = Vec::new();
        let mut under_way = std::mem::take(&mut self.under_way);
        under_way.retain_mut(|under_way| {
            match under_way.fate() {
                Fate::UnderWay => return !under_way.told.is_empty(),
                Fate::Complete => let_go.extend(under_way.told.keys()),
                Fate::BrokenOff => {
                    for (ordinal, claim) in under_way.told.drain() {
                        match claim {
                            Claim::Last => self.leave(ordinal, now),
                            Claim::TakenOver => let_go.push(ordinal),
                        }
                    }
                }
            }
            false
        });
        self.under_way = under_way;
        while let Some((until, ordinal)) = self.left_until.first().copied()
            && until <= now
        {
            self.take_left(ordinal);
            let_go.push(ordinal);
        }
        // Each waits on for the others that told it.
        let_go.retain(|ordinal| {
            let is_held = self.left.contains_key(ordinal)
                || self.under_way.iter().any(|under_way| under_way.told.contains_key(ordinal));
            !is_held && self.numbers.remove(ordinal.value())
        });
        let_go
    }

    /// How long until the next look; `None` when nothing is held.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.left_until.first().map(|(until, _)| until.saturating_duration_since(now));
        let under_way = (!self.under_way.is_empty()).then_some(TICK);
        [left, under_way].into_iter().flatten().min()
    }

    fn take_left(&mut self, ordinal: Ordinal) {
        if let Some(until) = self.left.remove(&ordinal) {
            self.left_until.remove(&(until, ordinal));
        }
    }
}

impl<I: Import> UnderWay<I> {
    fn fate(&mut self) -> Fate {
        // Asked first: whoever lets go of a complete import made it complete before.
        let is_left = Arc::get_mut(&mut self.import).is_some();
        match (self.import.is_complete(), is_left) {
            (true, _) => Fate::Complete,
            (false, true) => Fate::BrokenOff,
            (false, false) => Fate::UnderWay,
        }
    }
}
