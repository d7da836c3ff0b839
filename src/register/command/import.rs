//! Importing events that happened elsewhere: an initial load or a feed.

use super::super::entry::State;
use super::super::event::{Event, Filing};
use super::super::store::{Appending, Record, StoreError};
use super::super::words::{Channel, EventKind, Registrant, Sequence, Stamp};
use super::{Chunk, CommandError};
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
}

/// What a chunk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOutcome {
    /// Lines that were recorded.
    pub recorded: u64,
    /// Lines that had been recorded before: the same number, kind, moment and
    /// channel. They changed nothing. Two different events never agree in all of
    /// these: 30 minutes lie between filings (art. 23d(5)), and ex officio on a
    /// reserved number has no effect.
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
        }
    }
}

/// What is to become of a line.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Record(Stamp),
    AlreadyThere,
    Refuse(LineReason),
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
    let lines = &chunk.lines[..];
    // By number, so that the table is touched in its own order; the lines of one
    // number stay in theirs.
    let mut by_number: Vec<u32> = (0..lines.len() as u32).collect();
    by_number.sort_by_key(|index| lines[*index as usize].ordinal);
    let mut plans = vec![Plan::AlreadyThere; lines.len()];
    let mut records = Vec::new();
    let mut change = 0;
    for of_number in by_number.chunk_by(|a, b| lines[*a as usize].ordinal == lines[*b as usize].ordinal) {
        let record = appending.record(lines[of_number[0] as usize].ordinal)?;
        change += plan_number(&record, of_number, lines, now, &mut plans);
        records.push(record);
    }
    let refusals: Vec<_> = plans
        .iter()
        .enumerate()
        .filter_map(|(index, plan)| match plan {
            Plan::Refuse(reason) => Some(LineRefusal { index, reason: *reason }),
            Plan::Record(_) | Plan::AlreadyThere => None,
        })
        .collect();
    if !refusals.is_empty() {
        return Ok(Err(CommandError::ImportRefused(refusals)));
    }
    if let Err(refused) = chunk.ledger.enter(appending.reserved(), change) {
        return Ok(Err(refused));
    }
    append(appending, lines, &plans, &by_number, records).map(Ok)
}

/// Plans the lines of one number, each after the ones before it; returns by how
/// much that changes the number of reserved numbers.
fn plan_number(
    record: &Record,
    indexes: &[u32],
    lines: &[ImportLine],
    now: Stamp,
    plans: &mut [Plan],
) -> i64 {
    let mut entry = *record.entry();
    let mut planned: Vec<(EventKind, Stamp, Channel)> = Vec::new();
    for index in indexes {
        let line = &lines[*index as usize];
        let plan = &mut plans[*index as usize];
        let Ok(at) = Stamp::try_from(line.moment) else {
            *plan = Plan::Refuse(LineReason::MomentOutOfRange);
            continue;
        };
        let event = (line.kind, at, line.channel);
        let known = record.events().iter().any(|known| (known.kind, known.at, known.channel) == event)
            || planned.contains(&event);
        *plan = if line.kind == EventKind::Renumbering {
            Plan::Refuse(LineReason::KindNotImported)
        } else if known {
            Plan::AlreadyThere
        } else if at > now {
            Plan::Refuse(LineReason::FutureMoment)
        } else if entry.last_event_at().is_some_and(|last| at < last) {
            Plan::Refuse(LineReason::OutOfOrder)
        } else {
            match (line.kind, entry.state()) {
                (EventKind::Reservation, State::Reserved { .. }) if !line.channel.is_ex_officio() => {
                    Plan::Refuse(LineReason::AlreadyReserved)
                }
                (EventKind::Withdrawal, State::Absent | State::Withdrawn { .. }) => {
                    Plan::Refuse(LineReason::NotReserved)
                }
                _ => {
                    entry.apply(line.kind, at, None);
                    planned.push(event);
                    Plan::Record(at)
                }
            }
        };
    }
    i64::from(entry.state().is_reserved()) - i64::from(record.entry().state().is_reserved())
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
    let mut logged: Vec<Option<(Sequence, Event)>> = Vec::with_capacity(lines.len());
    for (line, plan) in lines.iter().zip(plans) {
        logged.push(match plan {
            Plan::Record(at) => {
                let event = event(line, *at);
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
        for (sequence, event) in of_number.iter().filter_map(|index| logged[*index as usize].as_ref()) {
            record.push(*sequence, event);
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

/// An imported event has no filing: the office that took it keeps that.
fn event(line: &ImportLine, at: Stamp) -> Event {
    Event {
        ordinal: line.ordinal,
        at,
        kind: line.kind,
        channel: line.channel,
        registrant: line.registrant.clone(),
        filing: Filing::NONE,
        reserve_again_at: None,
        scheduled_by: None,
        renumbered_to: None,
    }
}
