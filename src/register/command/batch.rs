//! One batch of messages: decided one after the other, appended together.

use std::collections::HashMap;

use super::super::event::StoredEvent;
use super::super::law::decide;
use super::super::snapshot::Snapshot;
use super::super::store::{Appended, Appending, Head, Remembered, Store, StoreError};
use super::super::words::{Sequence, Stamp};
use super::import::import;
use super::{CommandError, ImportOutcome, Message, Outcome, Submission};

/// The answer to one message, to be sent after publish.
pub(super) enum Verdict {
    Submitted(Result<Outcome, CommandError>),
    Imported(Result<ImportOutcome, CommandError>),
}

/// Decides all messages and commits what they change.
///
/// The verdicts are in the order of the messages. Nothing appended means nothing
/// committed: `None`.
///
/// # Errors
/// When the store fails; then none of the verdicts holds.
pub(super) fn run(
    store: &Store,
    head: Head,
    base: &Snapshot,
    messages: &[Message],
    now: Stamp,
) -> Result<(Vec<Verdict>, Option<Appended>), StoreError> {
    let txn = store.begin()?;
    let (verdicts, appended) = {
        let appending = Appending::begin(&txn, head, base)?;
        let mut batch = Batch { appending, now, fresh: HashMap::new() };
        let verdicts = messages.iter().map(|message| batch.verdict(message)).collect::<Result<_, _>>()?;
        let nothing = batch.appending.is_empty();
        (verdicts, if nothing { None } else { Some(batch.appending.finish(now)?) })
    };
    match appended {
        Some(_) => txn.commit()?,
        None => txn.abort()?,
    }
    Ok((verdicts, appended))
}

struct Batch<'txn, 'base> {
    appending: Appending<'txn, 'base>,
    /// One moment for the whole batch.
    now: Stamp,
    /// This batch's events that may be asked for again within it: their row is
    /// not written yet.
    fresh: HashMap<Sequence, StoredEvent>,
}

impl Batch<'_, '_> {
    fn verdict(&mut self, message: &Message) -> Result<Verdict, StoreError> {
        Ok(match message {
            Message::Submit(submission, _) => Verdict::Submitted(self.submit(submission)?),
            Message::Import(chunk, _) => Verdict::Imported(
                import(&mut self.appending, &chunk.lines, self.now)?.map_err(CommandError::ImportRefused),
            ),
        })
    }

    fn submit(&mut self, submission: &Submission) -> Result<Result<Outcome, CommandError>, StoreError> {
        if let Some(request) = &submission.idempotency {
            match self.appending.recall(request, self.now)? {
                Remembered::Nothing => {}
                Remembered::OtherRequest => return Ok(Err(CommandError::IdempotencyConflict)),
                Remembered::Event(sequence) => {
                    let event = match self.fresh.get(&sequence) {
                        Some(event) => event.clone(),
                        None => self.appending.event(sequence)?,
                    };
                    return Ok(Ok(Outcome { event, replayed: true }));
                }
            }
        }
        let record = self.appending.record(submission.command.ordinal)?;
        let event = match decide(record.entry(), &submission.command, self.now) {
            Ok(event) => event,
            Err(refusal) => return Ok(Err(CommandError::Refused(refusal))),
        };
        // The schedule that would reserve again does not run yet, and nothing
        // may be promised that is not carried out. The law above and the store
        // know the moment already.
        if event.reserve_again_at.is_some() {
            return Ok(Err(CommandError::NotYet));
        }
        let event = self.appending.append(record, event)?;
        if let Some(request) = &submission.idempotency {
            self.appending.remember(request, event.sequence(), self.now)?;
            self.fresh.insert(event.sequence(), event.clone());
        }
        Ok(Ok(Outcome { event, replayed: false }))
    }
}
