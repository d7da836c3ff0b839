//! Making a register with many reservations at once, for demonstrations and
//! tests: the same rows and the same chain as by commands, without the queue.

use std::path::Path;

use super::event::{Event, Filing};
use super::store::{Bulk, OpenError};
use super::words::{Channel, EventKind, Registrant, Sequence, Stamp};
use crate::clock::Moment;
use crate::pesel::Ordinal;

/// What [`bulk_load`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkLoaded {
    /// Numbers that were reserved.
    pub reserved: u64,
    /// The last event.
    pub last: Sequence,
}

/// Why [`bulk_load`] stopped. The file is not usable then.
#[derive(Debug)]
pub enum BulkError {
    /// The store could not be made or written.
    Store(OpenError),
    /// The numbers did not rise.
    OutOfOrder,
    /// No event can have this moment.
    MomentOutOfRange,
}

impl std::fmt::Display for BulkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => std::fmt::Display::fmt(error, f),
            Self::OutOfOrder => f.write_str("the numbers do not rise"),
            Self::MomentOutOfRange => std::fmt::Display::fmt(&super::OutsideOfStamps, f),
        }
    }
}

impl std::error::Error for BulkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::OutOfOrder | Self::MomentOutOfRange => None,
        }
    }
}

impl<E: Into<OpenError>> From<E> for BulkError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

/// Makes a new register at `path` with one reservation for each number, in
/// rising order, as if registered by `registrant` through `channel`. `created`
/// is the store's moment of creation, `cache_bytes` redb's cache while loading
/// (the more the quicker).
///
/// # Errors
/// When there is a register already, the numbers do not rise, a moment cannot
/// be an event's, or the disk fails.
pub fn bulk_load(
    path: &Path,
    cache_bytes: usize,
    created: Moment,
    reservations: impl IntoIterator<Item = (Ordinal, Moment)>,
    channel: Channel,
    registrant: &Registrant,
) -> Result<BulkLoaded, BulkError> {
    let mut bulk = Bulk::create(path, cache_bytes, created)?;
    let mut last = None;
    let mut reserved = 0;
    let mut part = Vec::with_capacity(Bulk::EVENTS_PER_COMMIT);
    for (ordinal, moment) in reservations {
        if last.is_some_and(|last| last >= ordinal) {
            return Err(BulkError::OutOfOrder);
        }
        last = Some(ordinal);
        reserved += 1;
        part.push(Event {
            ordinal,
            at: Stamp::try_from(moment).map_err(|_| BulkError::MomentOutOfRange)?,
            kind: EventKind::Reservation,
            channel,
            registrant: registrant.clone(),
            filing: Filing::NONE,
            reserve_again_at: None,
            scheduled_by: None,
            renumbered_to: None,
        });
        if part.len() == Bulk::EVENTS_PER_COMMIT {
            bulk.append(&part)?;
            part.clear();
        }
    }
    bulk.append(&part)?;
    Ok(BulkLoaded { reserved, last: bulk.finish()? })
}
