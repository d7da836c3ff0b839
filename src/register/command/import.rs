//! Importing events that happened elsewhere: an initial load or a feed.

use std::collections::HashMap;

use super::super::entry::{Entry, State};
use super::super::event::{Event, Filing, StoredEvent};
use super::super::law::{self, Refusal};
use super::super::store::{Appending, Record, StoreError};
use super::super::words::{Channel, EventKind, Registrant, Sequence, Stamp};
use super::CommandError;
use super::run::Chunk;
use crate::clock::Moment;
use crate::limits::HISTORY_EVENTS_MAX;
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
    /// The number has as many events as a history holds ([`HISTORY_EVENTS_MAX`]).
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

/// What is to become of a line.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Record {
        at: Stamp,
        again_at: Option<Stamp>,
        /// A temporary withdrawal whose end the clock has to record before the line.
        ended: Option<Withdrawal>,
    },
    AlreadyThere,
    Refuse(LineReason),
}

/// Where a temporary withdrawal is to be found.
#[derive(Debug, Clone, Copy)]
enum Withdrawal {
    /// In the register, this event.
    Recorded(Sequence),
    /// In the chunk, this line.
    Line(usize),
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

/// Plans the lines of one number, each after the ones before it. Is it reserved then?
fn plan_number(
    record: &Record,
    indexes: &[u32],
    lines: &[ImportLine],
    now: Stamp,
    plans: &mut [Plan],
) -> bool {
    let pending = record.pending_withdrawal().map(Withdrawal::Recorded);
    let mut planner = Planner { record, now, entry: *record.entry(), pending, planned: Vec::new() };
    for index in indexes {
        let index = *index as usize;
        plans[index] = planner.plan(index, &lines[index]).unwrap_or_else(Plan::Refuse);
    }
    planner.entry.state().is_reserved()
}

/// A number and the lines of it that were planned.
struct Planner<'a> {
    record: &'a Record,
    now: Stamp,
    entry: Entry,
    /// The temporary withdrawal that lasts.
    pending: Option<Withdrawal>,
    planned: Vec<(EventKind, Stamp, Channel, Option<Stamp>)>,
}

impl Planner<'_> {
    fn plan(&mut self, index: usize, line: &ImportLine) -> Result<Plan, LineReason> {
        let stamp = |moment| Stamp::try_from(moment).map_err(|_| LineReason::MomentOutOfRange);
        let at = stamp(line.moment)?;
        let again_at = line.reserve_again_at.map(stamp).transpose()?;
        check_kind(line, at, again_at)?;
        if let Some(known_end) = self.known_end(line, at, again_at) {
            return if known_end == again_at { Ok(Plan::AlreadyThere) } else { Err(LineReason::EndDiffers) };
        }
        if at > self.now {
            return Err(LineReason::FutureMoment);
        }
        if self.record.events().len() + self.planned.len() >= HISTORY_EVENTS_MAX {
            return Err(LineReason::HistoryFull);
        }
        let mut entry = self.entry;
        let ended = self.ended_before(line.kind, at);
        if let Some((_, end)) = ended {
            entry.apply(EventKind::Reservation, end, None);
        }
        if entry.last_event_at().is_some_and(|last| at < last) {
            return Err(LineReason::OutOfOrder);
        }
        match (line.kind, entry.state()) {
            (EventKind::Reservation, State::Reserved { .. }) if !line.channel.is_ex_officio() => {
                return Err(LineReason::AlreadyReserved);
            }
            // A temporary withdrawal made a lasting one.
            (EventKind::Withdrawal, State::Withdrawn { .. })
                if entry.re_reservation_at().is_some() && again_at.is_none() => {}
            (EventKind::Withdrawal, State::Absent | State::Withdrawn { .. }) => {
                return Err(LineReason::NotReserved);
            }
            _ => {}
        }
        entry.apply(line.kind, at, again_at);
        self.entry = entry;
        self.pending = again_at.map(|_| Withdrawal::Line(index));
        self.planned.extend(ended.map(|(_, end)| (EventKind::Reservation, end, Channel::EService, None)));
        self.planned.push((line.kind, at, line.channel, again_at));
        Ok(Plan::Record { at, again_at, ended: ended.map(|(withdrawal, _)| withdrawal) })
    }

    /// The event that the line tells, if it is known: when it is to end. The same
    /// one if there is, so that a history sent again is recognised.
    fn known_end(&self, line: &ImportLine, at: Stamp, again_at: Option<Stamp>) -> Option<Option<Stamp>> {
        // Both in the order of their moments.
        let (recorded, planned) = (self.record.events(), &self.planned[..]);
        let recorded = &recorded[recorded.partition_point(|known| known.at < at)..];
        let planned = &planned[planned.partition_point(|(_, moment, ..)| *moment < at)..];
        let recorded =
            recorded.iter().map(|known| (known.kind, known.at, known.channel, known.reserve_again_at));
        let known = recorded.chain(planned.iter().copied()).take_while(|(_, moment, ..)| *moment == at);
        let mut ends = known
            .filter(|(kind, _, channel, _)| (*kind, *channel) == (line.kind, line.channel))
            .map(|(.., end)| end);
        let first = ends.next()?;
        Some(if first == again_at || ends.any(|end| end == again_at) { again_at } else { first })
    }

    /// The temporary withdrawal that had ended when the line's event happened. A
    /// reservation of that very second is the end itself, as it was told.
    fn ended_before(&self, kind: EventKind, at: Stamp) -> Option<(Withdrawal, Stamp)> {
        let end = self.entry.re_reservation_at()?;
        let is_over = end < at || (end == at && kind == EventKind::Withdrawal);
        self.pending.filter(|_| is_over).map(|withdrawal| (withdrawal, end))
    }
}

/// May there be a line of this kind at all, and may it have this end?
fn check_kind(line: &ImportLine, at: Stamp, again_at: Option<Stamp>) -> Result<(), LineReason> {
    match (line.kind, again_at) {
        (EventKind::Renumbering, _) => Err(LineReason::KindNotImported),
        (EventKind::Reservation, Some(_)) => Err(LineReason::EndOfNoWithdrawal),
        (EventKind::Withdrawal, _) if !law::may_withdraw(line.channel) => {
            Err(LineReason::ChannelMayNotWithdraw)
        }
        (EventKind::Withdrawal, Some(again_at)) => {
            law::check_end(line.channel, at, again_at).map_err(|refusal| match refusal {
                Refusal::TemporaryWithdrawalByEServiceOnly => LineReason::TemporaryWithdrawalByEServiceOnly,
                _ => LineReason::ReReservationTooSoon,
            })
        }
        (EventKind::Reservation | EventKind::Withdrawal, None) => Ok(()),
    }
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
