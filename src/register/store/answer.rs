//! What a request was answered, as rows keep it for whoever sends it again: the messages
//! of feeds (`feed-answers`) and requests with a key (`idempotency`).
//!
//! A code, and what belongs to it: 1 the sequence of an event, 2 a refusal, which is a
//! code of its own with the moment that some refusals name. 0 is a feed's.

use super::super::law::Refusal;
use super::super::words::Sequence;
use super::codec::Fields;
use crate::clock::Moment;

const CRC_BYTES: usize = 4;

/// An answer that a repetition gets again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Answer {
    /// This event.
    Event(Sequence),
    /// The law refused it.
    Refused(Refusal),
}

impl Answer {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Event(sequence) => {
                out.push(1);
                out.extend_from_slice(&sequence.value().to_le_bytes());
            }
            Self::Refused(refusal) => {
                out.push(2);
                out.push(refusal_code(refusal));
                if let Some(from) = refusal.allowed_from() {
                    out.extend_from_slice(&from.unix_seconds().to_le_bytes());
                }
            }
        }
    }

    /// Reads what follows its code.
    pub(super) fn read(code: u8, fields: &mut Fields<'_>) -> Option<Self> {
        match code {
            1 => Some(Self::Event(Sequence::new(fields.u64()?))),
            2 => Some(Self::Refused(refusal(fields)?)),
            _ => None,
        }
    }

    /// The event that it names; before the first when it names none.
    pub(super) const fn named(self) -> Sequence {
        match self {
            Self::Event(sequence) => sequence,
            Self::Refused(_) => Sequence::ZERO,
        }
    }
}

/// The number that stands for a refusal on disk.
const fn refusal_code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::AlreadyReserved => 0,
        Refusal::NotReserved => 1,
        Refusal::FilingTooSoon { .. } => 2,
        Refusal::ChannelMayNotWithdraw => 3,
        Refusal::ApplicantMayNotWithdraw => 4,
        Refusal::ApplicantNeedsGmina => 5,
        Refusal::ObstacleRequired => 6,
        Refusal::TemporaryWithdrawalByEServiceOnly => 7,
        Refusal::ReReservationTooSoon { .. } => 8,
        Refusal::NotOfAge => 9,
        Refusal::FutureMoment => 10,
        Refusal::SameNumber => 11,
        Refusal::TooManyRenumberings => 12,
    }
}

fn refusal(fields: &mut Fields<'_>) -> Option<Refusal> {
    Some(match fields.u8()? {
        0 => Refusal::AlreadyReserved,
        1 => Refusal::NotReserved,
        2 => Refusal::FilingTooSoon { allowed_from: moment(fields)? },
        3 => Refusal::ChannelMayNotWithdraw,
        4 => Refusal::ApplicantMayNotWithdraw,
        5 => Refusal::ApplicantNeedsGmina,
        6 => Refusal::ObstacleRequired,
        7 => Refusal::TemporaryWithdrawalByEServiceOnly,
        8 => Refusal::ReReservationTooSoon { allowed_from: moment(fields)? },
        9 => Refusal::NotOfAge,
        10 => Refusal::FutureMoment,
        11 => Refusal::SameNumber,
        12 => Refusal::TooManyRenumberings,
        _ => return None,
    })
}

fn moment(fields: &mut Fields<'_>) -> Option<Moment> {
    Some(Moment::from_unix_seconds(i64::from_le_bytes(fields.array()?)))
}

/// Ends a value with the CRC32C of key and value, so that a flipped bit is found and
/// never takes a request for another.
pub(super) fn seal(key: &[u8], value: &mut Vec<u8>) {
    let crc = crc(key, value);
    value.extend_from_slice(&crc.to_le_bytes());
}

/// The value of a row that was sealed under this key.
pub(super) fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, stored) = value.split_at_checked(value.len().checked_sub(CRC_BYTES)?)?;
    (stored == crc(key, value).to_le_bytes()).then_some(value)
}

fn crc(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

/// One answer of each kind.
#[cfg(test)]
pub(super) fn examples() -> Vec<Answer> {
    let allowed_from = Moment::from_unix_seconds(1_795_000_000);
    let refusals = [
        Refusal::AlreadyReserved,
        Refusal::NotReserved,
        Refusal::FilingTooSoon { allowed_from },
        Refusal::ChannelMayNotWithdraw,
        Refusal::ApplicantMayNotWithdraw,
        Refusal::ApplicantNeedsGmina,
        Refusal::ObstacleRequired,
        Refusal::TemporaryWithdrawalByEServiceOnly,
        Refusal::ReReservationTooSoon { allowed_from },
        Refusal::NotOfAge,
        Refusal::FutureMoment,
        Refusal::SameNumber,
        Refusal::TooManyRenumberings,
    ];
    let event = Answer::Event(Sequence::new(u64::MAX));
    refusals.into_iter().map(Answer::Refused).chain([event]).collect()
}
