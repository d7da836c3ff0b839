//! Importing events that happened elsewhere: an initial load or a feed.

mod plan;

use std::collections::HashMap;

use self::plan::{Plan, Withdrawal, plan_number};
use super::super::event::{Event, Filing, StoredEvent};
use super::super::law;
use super::super::store::{Appending, Record, StoreError};
use super::super::words::{Channel, EventKind, Registrant, Sequence, Stamp};
use super::CommandError;
use super::run::Chunk;
use crate::clock::Moment;
use crate::pesel::Ordinal;

/// An event as an import brings it.
#[derive(Debug, Clone)]
pub struct ImportLine {
    /// The number.
    pub ordinal: Ordinal,
    /// What happened.
    pub kind: EventKind,
    /// When; not in the future.
    pub moment: Moment,
    /// The way it came in.
    pub channel: Channel,
    /// Who registered it.
    pub registrant: Registrant,
    /// When a temporary withdrawal is to end, or has ended; of the e-service, at
    /// least 30 minutes after its moment (art. 23d(3)).
    pub reserve_again_at: Option<Moment>,
}

/// What a chunk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOutcome {
    /// Lines that were recorded.
    pub recorded: u64,
    /// Lines that had been recorded before: the same number, kind, moment and
    /// channel. They changed nothing. Two different events agree in all of these only
    /// where a withdrawal lies between them, in one second: 30 minutes lie between
    /// filings (art. 23d(5)), and ex officio on a reserved number has no effect.
    pub already_there: u64,
    /// The last event of the register after the chunk.
    pub last: Sequence,
}

/// A line that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRefusal {
    /// Which line of the chunk, from 0.
    pub index: usize,
    /// Why.
    pub reason: LineReason,
}

/// Why a line was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineReason {
    /// No event can have this moment (before 1970 or after 2106).
    MomentOutOfRange,
    /// It has not happened yet.
    FutureMoment,
    /// The number has an event after this moment.
    OutOfOrder,
    /// A reservation of a reserved number, not ex officio.
    AlreadyReserved,
    /// A withdrawal where nothing is reserved.
    NotReserved,
    /// A renumbering: it concerns two numbers, a line has one.
    KindNotImported,
    /// A reservation with an end.
    EndOfNoWithdrawal,
    /// A withdrawal through a channel that only reserves (art. 23f, 23g): no history
    /// has one.
    ChannelMayNotWithdraw,
    /// A temporary withdrawal through another channel (art. 23d(3)).
    TemporaryWithdrawalByEServiceOnly,
    /// A temporary withdrawal for less than 30 minutes.
    ReReservationTooSoon,
    /// The withdrawal is known, with another end or with none.
    EndDiffers,
    /// A line about this number in an earlier chunk was refused with it: recorded now,
    /// this one would make that one out of order for ever.
    BehindRefused,
    /// The number has as many events as a history holds ([`HISTORY_EVENTS_MAX`](crate::limits::HISTORY_EVENTS_MAX)).
    HistoryFull,
}

impl LineReason {
    /// The code that the caller is told.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::MomentOutOfRange => "moment-out-of-range",
            Self::FutureMoment => "future-moment",
            Self::OutOfOrder => "out-of-order",
            Self::AlreadyReserved => "already-reserved",
            Self::NotReserved => "not-reserved",
            Self::KindNotImported => "kind-not-imported",
            // As for `POST /admin/v1/reservations`.
            Self::EndOfNoWithdrawal => "malformed-request",
            Self::ChannelMayNotWithdraw => "channel-may-not-withdraw",
            Self::TemporaryWithdrawalByEServiceOnly => "temporary-withdrawal-by-e-service-only",
            Self::ReReservationTooSoon => "re-reservation-too-soon",
            Self::EndDiffers => "reserve-again-at-differs",
            Self::BehindRefused => "behind-refused",
            Self::HistoryFull => "history-full",
        }
    }
}

/// Judges all lines, then appends those that are new, or nothing when one is
/// refused.
pub(super) fn import(
    appending: &mut Appending<'_, '_>,
    chunk: &Chunk,
    now: Stamp,
) -> Result<Result<ImportOutcome, CommandError>, StoreError> {
    if chunk.ledger.has_ended() {
        return Ok(Err(CommandError::ImportEnded));
    }
    chunk.ledger.refuse(chunk.refused.iter().copied());
    let lines = &chunk.lines[..];
    // By number, so that the table is touched in its own order; the lines of one
    // number stay in theirs.
    let mut by_number: Vec<u32> = (0..lines.len() as u32).collect();
    by_number.sort_by_key(|index| lines[*index as usize].ordinal);
    let mut plans = vec![Plan::AlreadyThere; lines.len()];
    let mut records = Vec::new();
    let (mut lost, mut gained) = (Vec::new(), Vec::new());
    for of_number in by_number.chunk_by(|a, b| lines[*a as usize].ordinal == lines[*b as usize].ordinal) {
        let record = appending.record(lines[of_number[0] as usize].ordinal)?;
        let is_reserved = plan_number(&record, of_number, lines, now, &mut plans);
        match (record.entry().state().is_reserved(), is_reserved) {
            (true, false) => lost.push(record.ordinal()),
            (false, true) => gained.push(record.ordinal()),
            (false, false) | (true, true) => {}
        }
        if chunk.ledger.has_refused(record.ordinal()) {
            for index in of_number {
                let plan = &mut plans[*index as usize];
                // What else is wrong with it shows when it is judged after that one.
                if !matches!(plan, Plan::AlreadyThere) {
                    *plan = Plan::Refuse(LineReason::BehindRefused);
                }
            }
        }
        records.push(record);
    }
    let refusals: Vec<_> = plans
        .iter()
        .enumerate()
        .filter_map(|(index, plan)| match plan {
            Plan::Refuse(reason) => Some(LineRefusal { index, reason: *reason }),
            Plan::Record { .. } | Plan::AlreadyThere => None,
        })
        .collect();
    if !refusals.is_empty() {
        chunk.ledger.refuse(lines.iter().map(|line| line.ordinal));
        return Ok(Err(CommandError::ImportRefused(refusals)));
    }
    if let Err(refused) = chunk.ledger.enter(appending.reserved(), &lost, &gained) {
        return Ok(Err(refused));
    }
    append(appending, lines, &plans, &by_number, records).map(Ok)
}

/// Logs the planned lines in their order, then writes histories in the order of
/// the numbers.
fn append(
    appending: &mut Appending<'_, '_>,
    lines: &[ImportLine],
    plans: &[Plan],
    by_number: &[u32],
    records: Vec<Record>,
) -> Result<ImportOutcome, StoreError> {
    let withdrawals = ended_withdrawals(appending, plans)?;
    let mut logged: Vec<Option<(Sequence, Event)>> = Vec::with_capacity(lines.len());
    // Ends of temporary withdrawals, by the line that comes after them; few.
    let mut ends: HashMap<usize, (Sequence, Event)> = HashMap::new();
    for (index, (line, plan)) in lines.iter().zip(plans).enumerate() {
        logged.push(match plan {
            Plan::Record { at, again_at, ended } => {
                let end = match ended {
                    None => None,
                    Some(Withdrawal::Recorded(sequence)) => withdrawals
                        .binary_search_by_key(sequence, |stored| stored.sequence)
                        .ok()
                        .and_then(|place| law::end_of(*sequence, &withdrawals[place].event)),
                    Some(Withdrawal::Line(index)) => logged
                        .get(*index)
                        .and_then(Option::as_ref)
                        .and_then(|(sequence, event)| law::end_of(*sequence, event)),
                };
                if let Some(end) = end {
                    ends.insert(index, (appending.log(&end)?, end));
                }
                let event = event(line, *at, *again_at);
                Some((appending.log(&event)?, event))
            }
            Plan::AlreadyThere | Plan::Refuse(_) => None,
        });
    }
    let recorded = logged.iter().flatten().count();
    let mut records = records.into_iter();
    for of_number in by_number.chunk_by(|a, b| lines[*a as usize].ordinal == lines[*b as usize].ordinal) {
        let Some(mut record) = records.next() else { break };
        let known = record.events().len();
        for index in of_number.iter().map(|index| *index as usize) {
            for (sequence, event) in ends.get(&index).into_iter().chain(logged[index].as_ref()) {
                record.push(*sequence, event);
            }
        }
        if record.events().len() > known {
            appending.put(record);
        }
    }
    Ok(ImportOutcome {
        recorded: recorded as u64,
        already_there: (lines.len() - recorded) as u64,
        last: appending.sequence(),
    })
}

/// The temporary withdrawals of the register whose ends the plans record.
fn ended_withdrawals(
    appending: &mut Appending<'_, '_>,
    plans: &[Plan],
) -> Result<Vec<StoredEvent>, StoreError> {
    let ended = plans.iter().filter_map(|plan| match plan {
        Plan::Record { ended: Some(Withdrawal::Recorded(sequence)), .. } => Some(*sequence),
        _ => None,
    });
    let mut ended: Vec<Sequence> = ended.collect();
    if ended.is_empty() {
        return Ok(Vec::new());
    }
    ended.sort_unstable();
    appending.settle()?;
    appending.events_of(&ended)
}

/// An imported event has no filing: the office that took it keeps that.
fn event(line: &ImportLine, at: Stamp, reserve_again_at: Option<Stamp>) -> Event {
    Event {
        ordinal: line.ordinal,
        at,
        kind: line.kind,
        channel: line.channel,
        registrant: line.registrant.clone(),
        filing: Filing::NONE,
        reserve_again_at,
        scheduled_by: None,
        renumbered_to: None,
    }
}
