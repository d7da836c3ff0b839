//! What is to become of an import's lines, number by number.

use super::super::super::entry::{Entry, State};
use super::super::super::law::{self, Refusal};
use super::super::super::store::Record;
use super::super::super::words::{Channel, EventKind, Sequence, Stamp};
use super::{ImportLine, LineReason};
use crate::limits::HISTORY_EVENTS_MAX;

/// What is to become of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plan {
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
pub(super) enum Withdrawal {
    /// In the register, this event.
    Recorded(Sequence),
    /// In the chunk, this line.
    Line(usize),
}

/// Plans the lines of one number, each after the ones before it. Is it reserved then?
pub(super) fn plan_number(
    record: &Record,
    indexes: &[u32],
    lines: &[ImportLine],
    now: Stamp,
    plans: &mut [Plan],
) -> bool {
    let pending = record.pending_withdrawal().map(Withdrawal::Recorded);
    let mut planner =
        Planner { record, now, entry: *record.entry(), pending, planned: Vec::new(), told: Told::default() };
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
    told: Told,
}

/// Which events of one second the lines before have told. Reserved, withdrawn and
/// reserved again within a second, ex officio: the same words tell two events then. A
/// line that tells a kind anew behind the other one means the next such event, and one
/// that only repeats means the same. A chunk knows its own lines alone.
#[derive(Debug, Default)]
struct Told {
    at: Option<Stamp>,
    events: Vec<ToldEvent>,
}

#[derive(Debug)]
struct ToldEvent {
    kind: EventKind,
    channel: Channel,
    /// Its place among those of the second, the recorded before the planned.
    place: usize,
    /// An event of the other kind has been told since.
    is_passed: bool,
}

impl Told {
    /// From which place on a line's event is looked for.
    fn from(&mut self, kind: EventKind, channel: Channel, at: Stamp) -> usize {
        if self.at != Some(at) {
            *self = Self { at: Some(at), events: Vec::new() };
        }
        let told = self.events.iter().find(|told| (told.kind, told.channel) == (kind, channel));
        told.map_or(0, |told| told.place + usize::from(told.is_passed))
    }

    fn tell(&mut self, kind: EventKind, channel: Channel, place: usize) {
        self.events.retain(|told| (told.kind, told.channel) != (kind, channel));
        for told in &mut self.events {
            told.is_passed |= told.kind != kind;
        }
        self.events.push(ToldEvent { kind, channel, place, is_passed: false });
    }
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
        let mut entry = self.entry;
        let ended = self.ended_before(line.kind, at);
        let events = self.record.events().len() + self.planned.len() + usize::from(ended.is_some());
        if events >= HISTORY_EVENTS_MAX {
            return Err(LineReason::HistoryFull);
        }
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
        self.told_anew(line.kind, line.channel, at);
        Ok(Plan::Record { at, again_at, ended: ended.map(|(withdrawal, _)| withdrawal) })
    }

    /// The event that the line tells, if it is known: when it is to end. The same
    /// one if there is, so that a history sent again is recognised.
    fn known_end(&mut self, line: &ImportLine, at: Stamp, again_at: Option<Stamp>) -> Option<Option<Stamp>> {
        let from = self.told.from(line.kind, line.channel, at);
        // Both in the order of their moments.
        let recorded = of_moment(self.record.events(), at, |known| known.at);
        let planned = of_moment(&self.planned, at, |(_, moment, ..)| *moment);
        let recorded = recorded.iter().map(|known| (known.kind, known.channel, known.reserve_again_at));
        let planned = planned.iter().map(|(kind, _, channel, again_at)| (*kind, *channel, *again_at));
        let mut known = recorded
            .chain(planned)
            .enumerate()
            .skip(from)
            .filter(|(_, (kind, channel, _))| (*kind, *channel) == (line.kind, line.channel));
        let (place, (.., first)) = known.next()?;
        let same = if first == again_at { None } else { known.find(|(_, (.., end))| *end == again_at) };
        let (place, end) = same.map_or((place, first), |(place, (.., end))| (place, end));
        self.told.tell(line.kind, line.channel, place);
        Some(end)
    }

    /// The line's event is the last one planned.
    fn told_anew(&mut self, kind: EventKind, channel: Channel, at: Stamp) {
        let recorded = of_moment(self.record.events(), at, |known| known.at).len();
        let planned = of_moment(&self.planned, at, |(_, moment, ..)| *moment).len();
        self.told.tell(kind, channel, recorded + planned - 1);
    }

    /// The temporary withdrawal that had ended when the line's event happened. A
    /// reservation of that very second is the end itself, as it was told.
    fn ended_before(&self, kind: EventKind, at: Stamp) -> Option<(Withdrawal, Stamp)> {
        let end = self.entry.re_reservation_at()?;
        let is_over = end < at || (end == at && kind == EventKind::Withdrawal);
        self.pending.filter(|_| is_over).map(|withdrawal| (withdrawal, end))
    }
}

/// Those of this moment, of events in the order of their moments.
fn of_moment<E>(events: &[E], at: Stamp, moment: impl Fn(&E) -> Stamp) -> &[E] {
    let behind = &events[events.partition_point(|event| moment(event) < at)..];
    &behind[..behind.partition_point(|event| moment(event) == at)]
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
