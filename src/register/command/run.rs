//! One run of an import: its chunks in order, what they may change together, and
//! where it stops.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
/// A run may not shrink the set of reserved numbers by more than
/// [`IMPORT_SHRINK_PERCENT_MAX`] per cent nor grow it by more than
/// [`IMPORT_GROWTH_PERCENT_MAX`], counted from where its first chunk found it,
/// unless that is allowed: a wrong file or a wrong feed must not pass for the
/// truth. An empty register may grow.
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
    /// Numbers that were reserved when the first chunk was decided.
    reserved_before: OnceLock<u64>,
    /// By how many the run has changed that.
    change: AtomicI64,
    /// A chunk was lost: the ones behind it must not pass it by.
    ended: AtomicBool,
    /// Numbers of refused chunks: what is told of them further on must not pass that
    /// by either, or it could not be told any more.
    refused: Mutex<RoaringBitmap>,
    /// All of its chunks have been sent.
    all_sent: AtomicBool,
    /// Chunks that were sent and are not decided, or whose fate is not told.
    in_flight: AtomicUsize,
}

/// A chunk on its way to the writer, and its place among all of them. It counts as
/// in flight until it is dropped, after its commit.
pub(super) struct Chunk {
    pub(super) lines: Vec<ImportLine>,
    /// Numbers of lines that were refused before they came here, with their chunk.
    pub(super) refused: Vec<Ordinal>,
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
        Self { lines, refused, ledger, _slot: slot }
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
    /// Enters a chunk that would change the number of reserved numbers, `reserved`
    /// before it, by `change`.
    pub(super) fn enter(&self, reserved: u64, change: i64) -> Result<(), CommandError> {
        let reserved_before = *self.reserved_before.get_or_init(|| reserved);
        let change = self.change.load(Ordering::Relaxed) + change;
        if !self.mass_change_allowed && is_mass_change(reserved_before, change) {
            self.end();
            return Err(CommandError::MassChange { reserved_before, change });
        }
        self.change.store(change, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Nothing is recorded of these numbers any more.
    pub(super) fn refuse(&self, numbers: impl IntoIterator<Item = Ordinal>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.extend(numbers.into_iter().map(Ordinal::value));
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
        let refused = || !self.refused.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        is_decided && !self.has_ended() && !refused()
    }
}

fn is_mass_change(reserved_before: u64, change: i64) -> bool {
    let percent_max = if change < 0 { IMPORT_SHRINK_PERCENT_MAX } else { IMPORT_GROWTH_PERCENT_MAX };
    let is_first_load = reserved_before == 0 && change > 0;
    let change = u128::from(change.unsigned_abs()) * 100;
    !is_first_load && change > u128::from(reserved_before) * u128::from(percent_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentages_are_of_what_was_there() {
        let cases = [
            (1_000, -10, false),
            (1_000, -11, true),
            (1_000, 200, false),
            (1_000, 201, true),
            (99, -1, true),
            (0, 5_000_000, false),
            (0, 0, false),
            (4, 1, true),
            (5, 1, false),
        ];
        for (reserved, change, expected) in cases {
            assert_eq!(is_mass_change(reserved, change), expected, "{change} of {reserved}");
        }
    }

    #[test]
    fn chunks_count_together_and_from_the_first() {
        let ledger = Ledger::default();
        assert_eq!(ledger.enter(1_000, 150), Ok(()));
        assert_eq!(ledger.enter(9_999, -100), Ok(()));
        assert_eq!(ledger.enter(1, 150), Ok(()));
        assert!(!ledger.has_ended());
        let refused = CommandError::MassChange { reserved_before: 1_000, change: 201 };
        assert_eq!(ledger.enter(1_200, 1), Err(refused));
        assert!(ledger.has_ended());
        let allowed = Ledger { mass_change_allowed: true, ..Ledger::default() };
        assert_eq!(allowed.enter(1_000, -1_000), Ok(()));
    }
}
