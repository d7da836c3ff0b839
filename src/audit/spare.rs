//! The next segment, zero-filled and synced by a thread of its own before the
//! writer needs it: a full disk is met here, not in the middle of an answer.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::disk::{Disk, DiskFile};
use super::exchange::lock;
use super::segment::{ZEROS, segment_name};
use crate::clock::{Clock, Moment};

/// The name of a segment that is being prepared.
pub(super) const UNFINISHED_NAME: &str = "spare.tmp";
/// Zeros are synced in steps, so that no single sync of this thread holds up the
/// writer's for long.
const SYNC_STEP_BYTES: u64 = 4 * 1024 * 1024;
/// How long a failed preparation waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A segment's file full of zeros, durable under its final name.
pub(super) struct Prepared {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) file: Box<dyn DiskFile>,
}

/// The place where the preparer leaves a segment for the writer.
pub(super) struct SpareSlot {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Unix seconds since when records are refused because neither the segment
    /// in use nor a prepared one has room; [`AVAILABLE`] otherwise. Changed only
    /// under the lock, so that it never outlives its cause.
    no_room_since: AtomicI64,
}

const AVAILABLE: i64 = i64::MIN;

struct Inner {
    state: State,
    stopped: bool,
}

enum State {
    /// To be made.
    Wanted(u64),
    /// Made.
    Ready(Prepared),
    /// Could not be made; tried again now and then.
    Lacking { number: u64, since: Moment, reason: String },
    /// Taken by the writer, which has not asked for the next one yet.
    Taken,
}

/// No segment can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    pub(super) since: Moment,
}

impl SpareSlot {
    /// A slot that waits for the segment of this number.
    pub(super) fn wanting(number: u64) -> Self {
        Self {
            inner: Mutex::new(Inner { state: State::Wanted(number), stopped: false }),
            changed: Condvar::new(),
            no_room_since: AtomicI64::new(AVAILABLE),
        }
    }

    /// Takes the prepared segment; waits while it is being made.
    ///
    /// # Errors
    /// When none can be made: from then on records are refused, until one is.
    pub(super) fn take(&self, clock: &Clock) -> Result<Prepared, NoRoom> {
        let mut inner = lock(&self.inner);
        loop {
            let since = match &inner.state {
                State::Ready(_) => None,
                State::Lacking { since, .. } => Some(*since),
                _ if inner.stopped => Some(clock.now()),
                State::Wanted(_) | State::Taken => {
                    inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            if let Some(since) = since {
                self.no_room_since.store(since.unix_seconds(), Ordering::Release);
                return Err(NoRoom { since });
            }
            if let State::Ready(prepared) = std::mem::replace(&mut inner.state, State::Taken) {
                return Ok(prepared);
            }
        }
    }

    /// Asks for the segment of this number.
    pub(super) fn want(&self, number: u64) {
        lock(&self.inner).state = State::Wanted(number);
        self.changed.notify_all();
    }

    /// Ends the preparer, and whoever waits for it.
    pub(super) fn stop(&self) {
        lock(&self.inner).stopped = true;
        self.changed.notify_all();
    }

    /// The preparer has ended without being told to.
    fn give_up(&self, now: Moment) {
        let number = match lock(&self.inner).state {
            State::Wanted(number) | State::Lacking { number, .. } => number,
            State::Ready(_) | State::Taken => 0,
        };
        self.lack(number, now, "the preparer of segments ended unexpectedly".to_owned());
        self.stop();
    }

    /// Whether a segment is ready.
    pub(super) fn is_ready(&self) -> bool {
        matches!(lock(&self.inner).state, State::Ready(_))
    }

    /// Since when, and why, no segment can be made.
    pub(super) fn lacking(&self) -> Option<(Moment, String)> {
        match &lock(&self.inner).state {
            State::Lacking { since, reason, .. } => Some((*since, reason.clone())),
            _ => None,
        }
    }

    /// Since when records are refused for want of room.
    pub(super) fn no_room_since(&self) -> Option<Moment> {
        match self.no_room_since.load(Ordering::Acquire) {
            AVAILABLE => None,
            seconds => Some(Moment::from_unix_seconds(seconds)),
        }
    }

    fn is_stopped(&self) -> bool {
        lock(&self.inner).stopped
    }

    /// The number to prepare next, once there is one; `None` at the end.
    fn job(&self) -> Option<u64> {
        let mut inner = lock(&self.inner);
        let mut waited = false;
        loop {
            if inner.stopped {
                return None;
            }
            match inner.state {
                State::Wanted(number) => return Some(number),
                State::Lacking { number, .. } if waited => return Some(number),
                State::Lacking { .. } => {
                    let (held, timeout) =
                        self.changed.wait_timeout(inner, RETRY_AFTER).unwrap_or_else(PoisonError::into_inner);
                    inner = held;
                    waited = timeout.timed_out();
                }
                State::Ready(_) | State::Taken => {
                    inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Since when none could be made, if so.
    fn ready(&self, prepared: Prepared) -> Option<Moment> {
        let mut inner = lock(&self.inner);
        let before = std::mem::replace(&mut inner.state, State::Ready(prepared));
        self.no_room_since.store(AVAILABLE, Ordering::Release);
        drop(inner);
        self.changed.notify_all();
        match before {
            State::Lacking { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether the reason is another one than before.
    fn lack(&self, number: u64, now: Moment, reason: String) -> bool {
        let mut inner = lock(&self.inner);
        let (since, is_new) = match &inner.state {
            State::Lacking { since, reason: before, .. } => (*since, *before != reason),
            _ => (now, true),
        };
        inner.state = State::Lacking { number, since, reason };
        drop(inner);
        self.changed.notify_all();
        is_new
    }
}

/// Makes segments for the slot.
pub(super) struct Preparer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) slot: Arc<SpareSlot>,
    pub(super) clock: Clock,
    pub(super) segment_bytes: u64,
    pub(super) prepared_total: metrics::Counter,
}

impl Preparer {
    /// Works until the slot is stopped.
    pub(super) fn run(&self) {
        let _ending = Ending(self);
        while let Some(number) = self.slot.job() {
            self.attempt(number);
        }
    }

    /// One attempt, if one is due; for tests that leave nothing to threads.
    #[cfg(test)]
    pub(super) fn step(&self) {
        let number = match lock(&self.slot.inner).state {
            State::Wanted(number) | State::Lacking { number, .. } => number,
            State::Ready(_) | State::Taken => return,
        };
        self.attempt(number);
    }

    fn attempt(&self, number: u64) {
        match self.prepare(number) {
            Ok(file) => {
                self.prepared_total.increment(1);
                let prepared = Prepared { number, bytes: self.segment_bytes, file };
                if let Some(since) = self.slot.ready(prepared) {
                    tracing::info!(number, %since, "audit trail: a segment could be prepared again");
                }
            }
            Err(error) => {
                let reason = format!("segment {number} cannot be prepared: {error}");
                // Tried twice a second: said once, not for as long as a disk is full.
                if self.slot.lack(number, self.clock.now(), reason.clone()) && !self.slot.is_stopped() {
                    tracing::warn!(reason, "audit trail");
                }
            }
        }
    }

    fn prepare(&self, number: u64) -> io::Result<Box<dyn DiskFile>> {
        let name = segment_name(number);
        let made = self.fill(&name);
        if made.is_err() {
            // Whatever was allocated is given back. Neither name need be there.
            let _absent = self.disk.remove(UNFINISHED_NAME);
            let _absent = self.disk.remove(&name);
        }
        made
    }

    fn fill(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        remove_if_there(&*self.disk, UNFINISHED_NAME)?;
        let file = self.disk.create(UNFINISHED_NAME)?;
        let mut at = 0;
        while at < self.segment_bytes {
            if self.slot.is_stopped() {
                return Err(io::Error::other("the trail is closing"));
            }
            let bytes = (self.segment_bytes - at).min(ZEROS.len() as u64) as usize;
            file.write_at(&ZEROS[..bytes], at)?;
            at += bytes as u64;
            if at.is_multiple_of(SYNC_STEP_BYTES) {
                file.sync()?;
            }
        }
        file.sync()?;
        self.disk.rename(UNFINISHED_NAME, name)?;
        self.disk.sync_directory()?;
        Ok(file)
    }
}

/// Should the preparer panic, nobody waits for it for ever.
struct Ending<'a>(&'a Preparer);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.0.slot.is_stopped() {
            self.0.slot.give_up(self.0.clock.now());
        }
    }
}

/// Removes a file that need not be there.
pub(super) fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
