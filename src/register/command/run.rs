//! One run of an import: its chunks in order, what they may change together, and
//! where it stops.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::super::schedule::{Due, Import};
use super::super::words::Stamp;
use super::import::{ImportLine, ImportOutcome};
use super::{CommandError, Commander, Message};
use crate::limits::{IMPORT_CHUNK_LINES, IMPORT_GROWTH_PERCENT_MAX, IMPORT_SHRINK_PERCENT_MAX};
use crate::pesel::Ordinal;

/// Sends the chunks of one import, several in flight at once; they are decided in
/// the order in which they were sent.
///
/// A run may not take away more than [`IMPORT_SHRINK_PERCENT_MAX`] per cent of the
/// reserved numbers that its first chunk found, nor add more than
/// [`IMPORT_GROWTH_PERCENT_MAX`], unless that is allowed: a wrong file or a wrong feed
/// must not pass for the truth, and what it adds makes up for nothing that it takes
/// away. An empty register may grow.
pub struct ImportRun {
    commander: Commander,
    ledger: Arc<Ledger>,
}

/// A chunk on its way.
#[must_use = "what became of the chunk is told by `outcome`"]
pub struct ChunkInFlight {
    commander: Commander,
    answer: oneshot::Receiver<Result<ImportOutcome, CommandError>>,
}

/// What a run has changed; written by the writer's thread alone.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    mass_change_allowed: bool,
    changed: Mutex<Changed>,
    /// A chunk was lost: the ones behind it must not pass it by.
    ended: AtomicBool,
    /// Numbers of refused chunks: what is told of them further on must not pass that
    /// by either, or it could not be told any more.
    refused: Mutex<RoaringBitmap>,
    /// A chunk was refused, maybe one in which no number could be read.
    has_refused_chunk: AtomicBool,
    /// All of its chunks have been sent.
    all_sent: AtomicBool,
    /// Chunks that were sent and are not decided, or whose fate is not told.
    in_flight: AtomicUsize,
}

/// What a run has done to the numbers that are reserved; nothing is kept of a run that
/// may do anything.
#[derive(Debug, Default)]
struct Changed {
    /// How many there were when the first chunk was decided.
    reserved_before: Option<u64>,
    /// Those that were reserved before the run and are not any more.
    removed: RoaringBitmap,
    /// Those that are and were not before the run.
    added: RoaringBitmap,
}

/// A chunk on its way to the writer, and its place among all of them. It counts as
/// in flight until it is dropped, after its commit.
pub(super) struct Chunk {
    pub(super) lines: Vec<ImportLine>,
    /// Numbers of lines that were refused before they came here, with their chunk.
    pub(super) refused: Vec<Ordinal>,
    is_refused: bool,
    pub(super) ledger: Arc<Ledger>,
    _slot: OwnedSemaphorePermit,
}

impl Chunk {
    fn new(
        lines: Vec<ImportLine>,
        refused: Vec<Ordinal>,
        ledger: Arc<Ledger>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        ledger.in_flight.fetch_add(1, Ordering::Relaxed);
        let is_refused = lines.is_empty();
        Self { lines, refused, is_refused, ledger, _slot: slot }
    }

    /// Was it refused before it came here?
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// The temporary withdrawals that it tells, be they recorded or not.
    pub(super) fn withdrawals(&self) -> impl Iterator<Item = Due> + '_ {
        self.lines.iter().filter_map(|line| {
            let at = Stamp::try_from(line.reserve_again_at?).ok()?;
            Some(Due { at, ordinal: line.ordinal })
        })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.ledger.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ImportRun {
    pub(super) fn new(commander: Commander, mass_change_allowed: bool) -> Self {
        Self { commander, ledger: Arc::new(Ledger { mass_change_allowed, ..Ledger::default() }) }
    }

    /// Sends a chunk of events: all of its lines are recorded, or none. Lines that
    /// are recorded already count as done, so an import that broke off can be sent
    /// again from its beginning. Waits while too many chunks are on their way.
    ///
    /// # Errors
    /// [`CommandError::ChunkTooLarge`], or when the writer has stopped.
    pub async fn send(&self, lines: Vec<ImportLine>) -> Result<ChunkInFlight, CommandError> {
        self.hand_on(lines, Vec::new()).await
    }

    /// Sends word, in its place, of a chunk that is refused for lines which cannot be
    /// read, with the numbers of the others: nothing is recorded of them behind it.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn refuse(&self, numbers: Vec<Ordinal>) -> Result<ChunkInFlight, CommandError> {
        self.ledger.has_refused_chunk.store(true, Ordering::Release);
        self.hand_on(Vec::new(), numbers).await
    }

    async fn hand_on(
        &self,
        lines: Vec<ImportLine>,
        refused: Vec<Ordinal>,
    ) -> Result<ChunkInFlight, CommandError> {
        if lines.len() > IMPORT_CHUNK_LINES || refused.len() > IMPORT_CHUNK_LINES {
            return Err(CommandError::ChunkTooLarge);
        }
        let commander = &self.commander;
        let slot = Arc::clone(&commander.import_slots).acquire_owned().await;
        let slot = slot.map_err(|_| commander.unavailable())?;
        let (reply, answer) = oneshot::channel();
        let chunk = Chunk::new(lines, refused, Arc::clone(&self.ledger), slot);
        let sent = commander.queue.send(Message::Import(chunk, reply)).await;
        sent.map_err(|_| commander.unavailable())?;
        Ok(ChunkInFlight { commander: commander.clone(), answer })
    }

    /// All chunks have been sent. Ends of temporary withdrawals that the import told,
    /// and that have passed without a line of it that speaks against them, take effect
    /// when the last chunk is decided; of an import that breaks off they do so
    /// [`crate::limits::IMPORT_ENDS_HELD_SECONDS`] later, unless it is sent again.
    pub fn finish(self) {
        // What was counted before it is seen with it.
        self.ledger.all_sent.store(true, Ordering::Release);
    }
}

impl ChunkInFlight {
    /// What became of it. Refused lines ([`CommandError::ImportRefused`]) refuse
    /// this chunk, and what is told of its numbers further on; any other error ends
    /// the run, and no chunk behind it is recorded.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn outcome(self) -> Result<ImportOutcome, CommandError> {
        self.answer.await.unwrap_or_else(|_| Err(self.commander.unavailable()))
    }
}

impl Ledger {
    /// Enters a chunk that finds `reserved` numbers reserved, behind which those in
    /// `lost` are no longer and those in `gained` are.
    pub(super) fn enter(
        &self,
        reserved: u64,
        lost: &[Ordinal],
        gained: &[Ordinal],
    ) -> Result<(), CommandError> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let reserved_before = *changed.reserved_before.get_or_insert(reserved);
        // An empty register has nothing to be taken away.
        if self.mass_change_allowed || reserved_before == 0 {
            return Ok(());
        }
        let Changed { removed, added, .. } = &mut *changed;
        // Of a history in several chunks the ends of it count.
        for number in lost.iter().map(|number| number.value()) {
            let _ = added.remove(number) || removed.insert(number);
        }
        for number in gained.iter().map(|number| number.value()) {
            let _ = removed.remove(number) || added.insert(number);
        }
        let (removed, added) = (removed.len(), added.len());
        if is_mass_change(reserved_before, removed, added) {
            self.end();
            return Err(CommandError::MassChange { reserved_before, removed, added });
        }
        Ok(())
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Nothing is recorded of these numbers any more.
    pub(super) fn refuse(&self, numbers: impl IntoIterator<Item = Ordinal>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.extend(numbers.into_iter().map(Ordinal::value));
        if !refused.is_empty() {
            self.has_refused_chunk.store(true, Ordering::Release);
        }
    }

    /// Was a line about this number refused with its chunk?
    pub(super) fn has_refused(&self, number: Ordinal) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(number.value())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Import for Ledger {
    /// Has every chunk been decided, and none been lost or refused? A refused one may
    /// be sent again, corrected.
    fn is_complete(&self) -> bool {
        let is_decided = self.all_sent.load(Ordering::Acquire) && self.in_flight.load(Ordering::Relaxed) == 0;
        is_decided && !self.has_ended() && !self.has_refused_chunk.load(Ordering::Acquire)
    }
}

fn is_mass_change(reserved_before: u64, removed: u64, added: u64) -> bool {
    let is_more = |count: u64, percent_max: u64| {
        u128::from(count) * 100 > u128::from(reserved_before) * u128::from(percent_max)
    };
    is_more(removed, IMPORT_SHRINK_PERCENT_MAX) || is_more(added, IMPORT_GROWTH_PERCENT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentages_are_of_what_was_there() {
        let cases = [
            (1_000, 10, 0, false),
            (1_000, 11, 0, true),
            (1_000, 11, 11, true),
            (1_000, 11, 200, true),
            (1_000, 10, 200, false),
            (1_000, 0, 201, true),
            (1_000, 10, 201, true),
            (99, 1, 0, true),
            (4, 0, 1, true),
            (5, 0, 1, false),
        ];
        for (reserved, removed, added, expected) in cases {
            assert_eq!(
                is_mass_change(reserved, removed, added),
                expected,
                "{removed} and {added} of {reserved}"
            );
        }
    }

    #[test]
    fn chunks_count_together_and_from_the_first() {
        let numbers = |range: std::ops::Range<u32>| {
            range.map(|value| Ordinal::new(value).expect("in range")).collect::<Vec<_>>()
        };
        let ledger = Ledger::default();
        assert_eq!(ledger.enter(1_000, &[], &numbers(0..150)), Ok(()));
        // Its own, which nobody misses.
        assert_eq!(ledger.enter(9_999, &numbers(0..100), &[]), Ok(()));
        assert_eq!(ledger.enter(1, &[], &numbers(150..300)), Ok(()));
        // Taken away, and given back further on.
        for _ in 0..3 {
            assert_eq!(ledger.enter(1, &numbers(900..910), &[]), Ok(()));
            assert_eq!(ledger.enter(1, &[], &numbers(900..910)), Ok(()));
        }
        assert!(!ledger.has_ended());
        let refused = CommandError::MassChange { reserved_before: 1_000, removed: 0, added: 201 };
        assert_eq!(ledger.enter(1_200, &[], &numbers(999..1_000)), Err(refused));
        assert!(ledger.has_ended());
        let allowed = Ledger { mass_change_allowed: true, ..Ledger::default() };
        assert_eq!(allowed.enter(1_000, &numbers(0..1_000), &[]), Ok(()));
        let first_load = Ledger::default();
        assert_eq!(first_load.enter(0, &[], &numbers(0..5_000)), Ok(()));
        assert_eq!(first_load.enter(5_000, &numbers(0..5_000), &[]), Ok(()));
    }
}
