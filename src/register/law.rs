//! The law: may this change be made, and what exactly is then recorded?
//!
//! One pure function. "Art." is the act on population records (ustawa o
//! ewidencji ludności, Dz.U. 2024 poz. 736); a rule without an article is the
//! register's own rule on a point that the act leaves open, or comes from the
//! form's instructions.
//!
//! | who | channel | reserve | withdraw | temporarily |
//! |---|---|---|---|---|
//! | the person | e-service | yes | yes | yes (art. 23d(3)) |
//! | the person | gmina | yes | yes | no |
//! | guardian, curator | gmina | yes | yes | no |
//! | proxy | gmina, for an obstacle | yes | never | no |
//! | the person | bank, SKOK, post | yes | never (art. 23f) | no |
//! | ex officio | registers | yes | never (art. 23g) | no |

mod refusal;

use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::entry::{Entry, Phase};
use super::event::{Event, Filing, StoredEvent};
use super::words::{Applicant, Channel, DocumentSeen, EventKind, Obstacle, Registrant, Sequence, Stamp};
use crate::pesel::Ordinal;
pub use refusal::Refusal;

/// Seconds after a withdrawal in which no reservation may be filed
/// (art. 23d(5)), and the least distance of a re-reservation.
const PAUSE_SECONDS: u32 = 30 * 60;

/// Years of majority (art. 10 § 1 of the civil code).
const YEARS_OF_MAJORITY: i64 = 18;
/// Years from which marriage can make a person of age (art. 10 of the family code).
const YEARS_OF_MARRIAGE: i64 = 16;

static WARSAW: LazyLock<TimeZone> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the zones are part of the program")]
    TimeZone::get("Europe/Warsaw").expect("a bundled zone")
});

/// A change that somebody asks for.
#[derive(Debug, Clone)]
pub struct Command {
    /// The number.
    pub ordinal: Ordinal,
    /// What is asked for.
    pub change: Change,
    /// The way it came in.
    pub channel: Channel,
    /// Who registers it.
    pub registrant: Registrant,
    /// In whose name; absent means the person's own.
    pub applicant: Option<Applicant>,
    /// Why a proxy comes.
    pub obstacle: Option<Obstacle>,
    /// The document that the office saw.
    pub document_seen: Option<DocumentSeen>,
    /// The official states that a person of 16 or 17 is of age by marriage.
    pub majority_by_marriage: bool,
}

/// A reservation or a withdrawal; only the latter can have an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// zastrzeżenie
    Reservation,
    /// cofnięcie zastrzeżenia
    Withdrawal {
        /// The moment at which a temporary withdrawal ends.
        reserve_again_at: Option<Stamp>,
    },
}

impl Change {
    /// The kind of event it makes.
    #[must_use]
    pub const fn kind(self) -> EventKind {
        match self {
            Self::Reservation => EventKind::Reservation,
            Self::Withdrawal { .. } => EventKind::Withdrawal,
        }
    }
}

/// Decides a command about an entry: the event to record, or why not.
///
/// The event's moment is `now`, or the entry's last moment if the clock stepped
/// back before it.
///
/// # Errors
/// The first rule that forbids it: who and where before age, age before state.
pub fn decide(entry: &Entry, command: &Command, now: Stamp) -> Result<Event, Refusal> {
    let applicant = command.applicant.unwrap_or(Applicant::Own);
    check_standing(command, applicant)?;
    let at = entry.stamp_of_next(now);
    let reserve_again_at = match command.change {
        Change::Reservation => {
            check_age(command, now)?;
            check_reservation(entry, command.channel, at)?;
            None
        }
        Change::Withdrawal { reserve_again_at } => {
            check_withdrawal(entry, command.channel, reserve_again_at, at)?;
            reserve_again_at
        }
    };
    Ok(Event {
        ordinal: command.ordinal,
        at,
        kind: command.change.kind(),
        channel: command.channel,
        registrant: command.registrant.clone(),
        filing: filing(command, applicant),
        reserve_again_at,
        scheduled_by: None,
        renumbered_to: None,
    })
}

/// Decides what follows when a temporary withdrawal ends: the reservation that
/// the person chose with it (art. 23d(3)), at the chosen second however late it
/// is carried out, through the withdrawal's channel and by its registrant.
///
/// It is no filing: neither the pause of art. 23d(5) nor the age is looked at
/// again. `None` when the entry's last word is not a temporary withdrawal any
/// more, so that no withdrawal is ended twice.
pub(super) fn reserve_again(entry: &Entry, withdrawal: &StoredEvent) -> Option<Event> {
    let at = entry.re_reservation_at()?;
    end_of(withdrawal.sequence, &withdrawal.event).filter(|event| event.at == at)
}

/// The reservation that ends this temporary withdrawal, if it is one.
pub(super) fn end_of(sequence: Sequence, withdrawal: &Event) -> Option<Event> {
    let Event { ordinal, channel, ref registrant, reserve_again_at, .. } = *withdrawal;
    reserve_again_at.map(|at| Event {
        ordinal,
        at,
        kind: EventKind::Reservation,
        channel,
        registrant: registrant.clone(),
        filing: Filing::NONE,
        reserve_again_at: None,
        scheduled_by: Some(sequence),
        renumbered_to: None,
    })
}

/// A person's number has changed; as whoever registers it says.
#[derive(Debug, Clone)]
pub struct Renumbering {
    /// The number until then.
    pub old: Ordinal,
    /// The number from then on.
    pub new: Ordinal,
    /// When it changed.
    pub at: Stamp,
    /// The way the news came in.
    pub channel: Channel,
    /// Who registers it.
    pub registrant: Registrant,
}

/// Decides a renumbering: it is recorded, and changes nothing. The old number
/// keeps its reservation, the new one has none (art. 23d(6)).
///
/// # Errors
/// When it lies in the future, or both numbers are one.
pub fn renumber(renumbering: &Renumbering, now: Stamp) -> Result<Event, Refusal> {
    let Renumbering { old, new, at, channel, ref registrant } = *renumbering;
    if old == new {
        return Err(Refusal::SameNumber);
    }
    if at > now {
        return Err(Refusal::FutureMoment);
    }
    Ok(Event {
        ordinal: old,
        at,
        kind: EventKind::Renumbering,
        channel,
        registrant: registrant.clone(),
        filing: Filing::NONE,
        reserve_again_at: None,
        scheduled_by: None,
        renumbered_to: Some(new),
    })
}

/// May anybody withdraw through this channel? Art. 23f: banks, SKOKs and the post
/// take reservations. Art. 23g: so do the registers.
pub(super) const fn may_withdraw(channel: Channel) -> bool {
    matches!(channel, Channel::EService | Channel::Gmina)
}

/// May this applicant ask for this through this channel at all?
fn check_standing(command: &Command, applicant: Applicant) -> Result<(), Refusal> {
    let withdraws = command.change.kind() == EventKind::Withdrawal;
    match command.channel {
        channel if withdraws && !may_withdraw(channel) => return Err(Refusal::ChannelMayNotWithdraw),
        Channel::Gmina => {}
        _ if applicant != Applicant::Own => return Err(Refusal::ApplicantNeedsGmina),
        _ => {}
    }
    if applicant == Applicant::Proxy {
        if withdraws {
            return Err(Refusal::ApplicantMayNotWithdraw);
        }
        if command.obstacle.is_none() {
            return Err(Refusal::ObstacleRequired);
        }
    }
    Ok(())
}

/// Art. 23a: adults only. Majority by marriage counts only as stated by an
/// official, that is at a gmina.
fn check_age(command: &Command, now: Stamp) -> Result<(), Refusal> {
    let stated = command.majority_by_marriage && command.channel == Channel::Gmina;
    let years = if stated { YEARS_OF_MARRIAGE } else { YEARS_OF_MAJORITY };
    if has_years(command.ordinal, years, now) { Ok(()) } else { Err(Refusal::NotOfAge) }
}

fn check_reservation(entry: &Entry, channel: Channel, at: Stamp) -> Result<(), Refusal> {
    // Ex officio is no filing: it passes the pause, and on a reserved number it
    // is recorded without effect.
    if channel.is_ex_officio() {
        return Ok(());
    }
    match entry.phase() {
        Phase::Absent => Ok(()),
        Phase::Reserved { .. } => Err(Refusal::AlreadyReserved),
        // Art. 23d(5). Counted from the withdrawal that ended the reservation;
        // making a temporary withdrawal a lasting one does not start it anew.
        // It counts as well when a person brings a re-reservation forward.
        Phase::Withdrawn { withdrawn_at, .. } => {
            let allowed_from = withdrawn_at.plus_seconds(PAUSE_SECONDS);
            if at < allowed_from {
                return Err(Refusal::FilingTooSoon { allowed_from: allowed_from.moment() });
            }
            Ok(())
        }
    }
}

fn check_withdrawal(
    entry: &Entry,
    channel: Channel,
    reserve_again_at: Option<Stamp>,
    at: Stamp,
) -> Result<(), Refusal> {
    if let Some(again_at) = reserve_again_at {
        check_end(channel, at, again_at)?;
    }
    match entry.phase() {
        // Withdrawing right after reserving is allowed.
        Phase::Reserved { .. } => Ok(()),
        // A temporary withdrawal may be made a lasting one: the schedule goes.
        Phase::Withdrawn { .. } if entry.re_reservation_at().is_some() && reserve_again_at.is_none() => {
            Ok(())
        }
        Phase::Absent | Phase::Withdrawn { .. } => Err(Refusal::NotReserved),
    }
}

/// May a withdrawal through this channel, at this moment, have this end
/// (art. 23d(3))?
pub(super) fn check_end(channel: Channel, at: Stamp, again_at: Stamp) -> Result<(), Refusal> {
    if channel != Channel::EService {
        return Err(Refusal::TemporaryWithdrawalByEServiceOnly);
    }
    let allowed_from = at.plus_seconds(PAUSE_SECONDS);
    if again_at < allowed_from {
        return Err(Refusal::ReReservationTooSoon { allowed_from: allowed_from.moment() });
    }
    Ok(())
}

/// What is written down: no more than the rules ask for.
fn filing(command: &Command, applicant: Applicant) -> Filing {
    if command.channel.is_ex_officio() {
        return Filing::NONE;
    }
    let at_gmina = command.channel == Channel::Gmina;
    Filing {
        applicant: Some(applicant),
        obstacle: command.obstacle.filter(|_| applicant == Applicant::Proxy),
        document_seen: command.document_seen.filter(|_| at_gmina),
        majority_by_marriage: command.majority_by_marriage && at_gmina,
    }
}

/// Has the person lived this many years at `now`, by the date in Warsaw? A year
/// of life is full when the birthday begins (art. 112 of the civil code); who is
/// born on 29 February has it on the 28th in common years.
fn has_years(ordinal: Ordinal, years: i64, now: Stamp) -> bool {
    let reached = || {
        let born = Date::new(1800, 1, 1).ok()?.checked_add(i64::from(ordinal.birth_days()).days()).ok()?;
        let birthday = born.checked_add(years.years()).ok()?;
        // A stamp is always within jiff's years.
        let now = Timestamp::from_second(i64::from(now.seconds())).ok()?;
        Some(WARSAW.to_datetime(now).date() >= birthday)
    };
    // No birthday within the calendar: not reached.
    reached().unwrap_or(false)
}

#[cfg(test)]
mod tests;
