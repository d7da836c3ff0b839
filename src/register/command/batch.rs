//! One batch of messages: decided one after the other, appended together.

use std::collections::HashMap;

use super::super::event::{Event, StoredEvent};
use super::super::feed::{Delivery, Feed};
use super::super::law::{Refusal, Renumbering, decide, renumber};
use super::super::schedule::Due;
use super::super::snapshot::Snapshot;
use super::super::store::{
    Answer, Appended, Appending, Delivered, FeedAnswer, Head, HeldEnds, Idempotency, Record, Remembered,
    Store, StoreError,
};
use super::super::words::{Sequence, Stamp};
use super::import::import;
use super::prepare::{Prepared, Ready, ready};
use super::{CommandError, ImportOutcome, Message, Outcome, Submission};
use crate::limits::{HISTORY_EVENTS_MAX, RENUMBERINGS_MAX};
use crate::pesel::Ordinal;

/// The answer to one message, to be sent after publish.
pub(super) enum Verdict {
    Submitted(Result<Outcome, CommandError>),
    PassedOver(Result<(), CommandError>),
    Imported(Result<ImportOutcome, CommandError>),
}

/// Where the register stands when a batch begins.
pub(super) struct Standing<'a> {
    pub(super) head: Head,
    /// The snapshot of the last commit.
    pub(super) base: &'a Snapshot,
    pub(super) prepared: &'a Prepared,
    /// What a start is to find held from this commit on, when that is not what it
    /// would find already.
    pub(super) held: Option<&'a HeldEnds>,
    pub(super) now: Stamp,
}

/// Carries out what is due, then decides all messages, and commits what changes.
///
/// What is due goes first: its moment is not after `now`, so a command about the
/// same number finds it done. The verdicts are in the order of the messages. Nothing appended means nothing
/// committed: `None`.
///
/// # Errors
/// When the store fails; then none of the verdicts holds.
pub(super) fn run(
    store: &Store,
    standing: Standing<'_>,
    due: &[Due],
    messages: &[Message],
) -> Result<(Vec<Verdict>, Option<Appended>), StoreError> {
    let Standing { head, base, prepared, held, now } = standing;
    let txn = store.begin()?;
    let (verdicts, appended) = {
        let appending = Appending::begin(&txn, head, base)?;
        let mut batch = Batch { appending, now, fresh: HashMap::new() };
        batch.reserve_again(due, prepared)?;
        let verdicts = messages.iter().map(|message| batch.verdict(message)).collect::<Result<_, _>>()?;
        let nothing = batch.appending.is_empty() && held.is_none();
        (verdicts, if nothing { None } else { Some(batch.appending.finish(now, held)?) })
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
            Message::Submit(submission, _) => {
                let feed = submission.delivery.map(|delivery| (Feed::of(&submission.command), delivery));
                let idempotency = submission.idempotency.as_ref();
                let carry_out = |batch: &mut Self| batch.once(idempotency, |batch| batch.submit(submission));
                Verdict::Submitted(self.in_order(feed, carry_out)?)
            }
            Message::Renumber(renumbering, idempotency, delivery, _) => {
                let feed = delivery.map(|delivery| (Feed::of_renumbering(renumbering), delivery));
                let carry_out =
                    |batch: &mut Self| batch.once(idempotency.as_ref(), |batch| batch.renumber(renumbering));
                Verdict::Submitted(self.in_order(feed, carry_out)?)
            }
            Message::PassOver(feed, delivery, _) => Verdict::PassedOver(self.pass_over(feed, delivery)?),
            Message::Import(chunk, _) => Verdict::Imported(import(&mut self.appending, chunk, self.now)?),
        })
    }

    /// Reserves again what a temporary withdrawal left until now, in the order of
    /// the moments.
    fn reserve_again(&mut self, due: &[Due], prepared: &Prepared) -> Result<(), StoreError> {
        self.appending.expect_due(due.len())?;
        let unprepared = due.iter().filter(|due| prepared.get(due).is_none());
        let records = unprepared.map(|due| self.appending.record(due.ordinal)).collect::<Result<_, _>>()?;
        let made = ready(records, |sequences| self.appending.events_of(sequences))?;
        let mut made: HashMap<Ordinal, Ready> =
            made.into_iter().map(|ready| (ready.record.ordinal(), ready)).collect();
        for due in due {
            let ready = prepared.get(due).cloned().or_else(|| made.remove(&due.ordinal));
            if let Some(Ready { record, event }) = ready {
                self.appending.append(record, event)?;
            }
        }
        Ok(())
    }

    /// Carries out what is not of a feed, or is its next message; a message that
    /// was delivered before is answered as then.
    ///
    /// What the law refuses is taken as well, for good: a message that can never
    /// be accepted must not stand in the way of those behind it.
    fn in_order(
        &mut self,
        feed: Option<(Feed, Delivery)>,
        carry_out: impl FnOnce(&mut Self) -> Result<Result<Outcome, CommandError>, StoreError>,
    ) -> Result<Result<Outcome, CommandError>, StoreError> {
        let Some((feed, delivery)) = feed else { return carry_out(self) };
        match self.delivered(&feed, &delivery)? {
            Ok(None) => {}
            Ok(Some(FeedAnswer::Given(answer))) => return self.again(answer),
            // The same request was no command then.
            Ok(Some(FeedAnswer::PassedOver)) => return Ok(Err(CommandError::FeedConflict)),
            Err(error) => return Ok(Err(error)),
        }
        let carried_out = carry_out(self)?;
        if let Some(answer) = self.lasting(&carried_out) {
            self.appending.take(&feed, &delivery, FeedAnswer::Given(answer), self.now)?;
        }
        Ok(carried_out)
    }

    /// Takes a message that is no command.
    fn pass_over(
        &mut self,
        feed: &Feed,
        delivery: &Delivery,
    ) -> Result<Result<(), CommandError>, StoreError> {
        Ok(match self.delivered(feed, delivery)? {
            Ok(None) => Ok(self.appending.take(feed, delivery, FeedAnswer::PassedOver, self.now)?),
            Ok(Some(FeedAnswer::PassedOver)) => Ok(()),
            Ok(Some(FeedAnswer::Given(_))) => Err(CommandError::FeedConflict),
            Err(error) => Err(error),
        })
    }

    /// The answer that a message had, `None` for the next one of its feed.
    fn delivered(
        &self,
        feed: &Feed,
        delivery: &Delivery,
    ) -> Result<Result<Option<FeedAnswer>, CommandError>, StoreError> {
        Ok(match self.appending.deliver(feed, delivery)? {
            Delivered::Next => Ok(None),
            Delivered::Again(answer) => Ok(Some(answer)),
            Delivered::OtherRequest => Err(CommandError::FeedConflict),
            Delivered::Gap(expected) => Err(CommandError::FeedGap { expected }),
            Delivered::Forgotten(expected) => Err(CommandError::FeedForgotten { expected }),
        })
    }

    /// An event of this batch or of an earlier commit.
    fn known(&self, sequence: Sequence) -> Result<StoredEvent, StoreError> {
        match self.fresh.get(&sequence) {
            Some(event) => Ok(event.clone()),
            None => self.appending.event(sequence),
        }
    }

    /// Events of this batch and of earlier commits, by rising sequences; each row of
    /// the store is read once.
    fn all_known(&self, sequences: &[Sequence]) -> Result<Vec<StoredEvent>, StoreError> {
        let fresh = sequences.partition_point(|sequence| !self.fresh.contains_key(sequence));
        let (stored, fresh) = sequences.split_at(fresh);
        let mut events = self.appending.events_of(stored)?;
        events.extend(fresh.iter().filter_map(|sequence| self.fresh.get(sequence).cloned()));
        Ok(events)
    }

    /// The end of the number's temporary withdrawal, if that has passed and waits for
    /// an import: what is filed now comes after it.
    fn ended(&mut self, record: &Record) -> Result<Option<Event>, StoreError> {
        if record.entry().re_reservation_at().is_none_or(|end| end > self.now) {
            return Ok(None);
        }
        self.appending.settle()?;
        let made = ready(vec![record.clone()], |sequences| self.appending.events_of(sequences))?;
        Ok(made.into_iter().next().map(|ready| ready.event))
    }

    fn renumber(&mut self, renumbering: &Renumbering) -> Result<Result<Outcome, CommandError>, StoreError> {
        let event = match renumber(renumbering, self.now) {
            Ok(event) => event,
            Err(refusal) => return Ok(Err(CommandError::Refused(refusal))),
        };
        // Told again: the channels deliver at least once.
        let before = self.appending.renumberings(event.ordinal)?;
        for known in self.all_known(&before)? {
            let Event { ordinal, at, renumbered_to, .. } = *known.event();
            if (ordinal, at, renumbered_to) == (event.ordinal, event.at, event.renumbered_to) {
                return Ok(Ok(Outcome { event: known, replayed: true }));
            }
        }
        // Without a bound each would take longer than the one before it, and the writer
        // does nothing else meanwhile.
        let of_the_new = self.appending.renumberings(renumbering.new)?;
        if before.len().max(of_the_new.len()) >= RENUMBERINGS_MAX {
            return Ok(Err(CommandError::Refused(Refusal::TooManyRenumberings)));
        }
        let event = self.appending.append_renumbering(event)?;
        self.fresh.insert(event.sequence(), event.clone());
        Ok(Ok(Outcome { event, replayed: false }))
    }

    fn submit(&mut self, submission: &Submission) -> Result<Result<Outcome, CommandError>, StoreError> {
        let mut record = self.appending.record(submission.command.ordinal)?;
        let ended = self.ended(&record)?;
        let mut entry = *record.entry();
        if let Some(end) = &ended {
            entry.apply(end.kind, end.at, None);
        }
        let is_full =
            record.events().len() >= HISTORY_EVENTS_MAX && submission.command.channel.is_ex_officio();
        let event = match decide(&entry, &submission.command, self.now) {
            Ok(_) if is_full && entry.state().is_reserved() => {
                return Ok(Err(CommandError::Refused(Refusal::AlreadyReserved)));
            }
            Ok(event) => event,
            Err(refusal) => return Ok(Err(CommandError::Refused(refusal))),
        };
        if let Some(end) = ended {
            self.appending.append(record, end)?;
            record = self.appending.record(submission.command.ordinal)?;
        }
        let event = self.appending.append(record, event)?;
        Ok(Ok(Outcome { event, replayed: false }))
    }

    /// Carries out what was not asked under this key before, and remembers what it was
    /// answered; what was is answered as then.
    fn once(
        &mut self,
        request: Option<&Idempotency>,
        carry_out: impl FnOnce(&mut Self) -> Result<Result<Outcome, CommandError>, StoreError>,
    ) -> Result<Result<Outcome, CommandError>, StoreError> {
        let Some(request) = request else { return carry_out(self) };
        match self.appending.recall(request, self.now)? {
            Remembered::Nothing => {}
            Remembered::OtherRequest => return Ok(Err(CommandError::IdempotencyConflict)),
            Remembered::Again(answer) => return self.again(answer),
        }
        let carried_out = carry_out(self)?;
        // A clock that ran ahead is no word of the law's: the same request may come again.
        let lasting = self.lasting(&carried_out);
        if let Some(answer) = lasting.filter(|answer| *answer != Answer::Refused(Refusal::FutureMoment)) {
            self.appending.remember(request, answer, self.now)?;
        }
        Ok(carried_out)
    }

    /// What a repetition is to be told for as long as its answer is remembered; `None`
    /// for a mistake beside the request, which may be sent again.
    ///
    /// Refusals of the law as well: what it refused must not be done by a repetition on
    /// its way, once somebody else has changed what was refused.
    fn lasting(&mut self, carried_out: &Result<Outcome, CommandError>) -> Option<Answer> {
        match carried_out {
            Ok(Outcome { event, replayed }) => {
                // Only what is behind everything that is stored: it is searched by halves.
                if !replayed {
                    self.fresh.insert(event.sequence(), event.clone());
                }
                Some(Answer::Event(event.sequence()))
            }
            Err(CommandError::Refused(refusal)) => Some(Answer::Refused(*refusal)),
            Err(_) => None,
        }
    }

    /// The first answer, for a repetition.
    fn again(&self, answer: Answer) -> Result<Result<Outcome, CommandError>, StoreError> {
        Ok(match answer {
            Answer::Event(sequence) => Ok(Outcome { event: self.known(sequence)?, replayed: true }),
            Answer::Refused(refusal) => Err(CommandError::Refused(refusal)),
        })
    }
}
