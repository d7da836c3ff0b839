//! The single writer: group commit.
//!
//! It takes everything the workers have handed over, frames it as one group,
//! writes it with one call, syncs once, and settles every record of it. While a
//! sync runs, the next group collects. The first error here is the last thing
//! that happens: after a failed write or sync nobody knows what the disk holds,
//! so no receipt is ever made again.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::codec::{self, CLOSED_BODY_BYTES, ID_STAMP_AT, SEALED_BODY_BYTES};
use super::disk::DiskFile;
use super::exchange::{End, Mailbox, Outcome, Parcel, Settlement, lock};
use super::id::STAMP_MS_MAX;
use super::meters::Meters;
use super::segment::{
    ALIGNMENT, GROUP_HEADER_BYTES, GroupHeader, HEADER_BYTES, Links, RECORD_HEADER_BYTES, SegmentHeader,
    chain_value, group_bytes, record_checksum, segment_name, u32_at,
};
use super::shared::{Durability, Shared, TrailFailure};
use super::spare::{NoRoom, Prepared};
use super::walk::Span;
use crate::environment::Environment;
use crate::limits::{GROUP_BYTES_MAX, RECORD_BYTES_MAX};

/// Bytes of the group that closes a run.
const CLOSING_GROUP_BYTES: usize = group_bytes(RECORD_HEADER_BYTES + CLOSED_BODY_BYTES);
/// Bytes of the group that seals a segment.
const SEALING_GROUP_BYTES: usize = group_bytes(RECORD_HEADER_BYTES + SEALED_BODY_BYTES);
/// Every segment keeps room for both.
const RESERVED_BYTES: u64 = (CLOSING_GROUP_BYTES + SEALING_GROUP_BYTES) as u64;

/// Framed bytes that one record may have, given the size of new segments.
pub(super) fn record_bytes_max(segment_bytes: u64) -> usize {
    let group =
        segment_bytes.saturating_sub(HEADER_BYTES as u64 + RESERVED_BYTES).min(GROUP_BYTES_MAX as u64);
    (group as usize).saturating_sub(group_bytes(0) + ALIGNMENT).min(RECORD_BYTES_MAX)
}

/// The segment in use.
pub(super) struct Active {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// Where the next group goes.
    pub(super) offset: u64,
}

/// A write or a sync failed: the disk is at fault.
#[derive(Debug)]
pub(super) struct WriteFailure {
    action: &'static str,
    segment: u64,
    error: io::Error,
}

impl fmt::Display for WriteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed: {}", self.action, segment_name(self.segment), self.error)
    }
}

/// Whether the writer goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Continue,
    Done,
}

/// Why a record of the trail's own could not be written.
#[derive(Debug)]
pub(super) enum OwnRecordError {
    NoRoom,
    Failure(WriteFailure),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    meters: Meters,
    environment: Environment,
    /// `None` before the first segment and after a sealed one.
    active: Option<Active>,
    /// Where the groups of the segment in use, or of the sealed one, end.
    previous_end: u64,
    links: Links,
    /// The group in the making; reused.
    group: Vec<u8>,
    /// Its stamp.
    stamp_ms: u64,
    /// Taken from the inbox and not settled yet.
    queue: VecDeque<Parcel>,
    /// Bytes of the first parcel that are settled, or in the group.
    cursor: usize,
    incoming: Vec<Parcel>,
    /// Whose records are in the group, and how many.
    touched: Vec<(Arc<Mailbox>, u32)>,
    /// When the oldest record in the group was staged.
    oldest: Option<Instant>,
    /// Buffers of parcels that are in the group to their end.
    spent: Vec<Vec<u8>>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        environment: Environment,
        active: Option<Active>,
        previous_end: u64,
        links: Links,
    ) -> Self {
        Self {
            shared,
            meters: Meters::new(),
            environment,
            active,
            previous_end,
            links,
            group: Vec::new(),
            stamp_ms: links.stamp_ms,
            queue: VecDeque::new(),
            cursor: 0,
            incoming: Vec::new(),
            touched: Vec::new(),
            oldest: None,
            spent: Vec::new(),
        }
    }

    /// Works until the trail is closed or has failed.
    pub(super) fn run(mut self) {
        let ending = Ending(Arc::clone(&self.shared));
        loop {
            match self.step(true) {
                Ok(Step::Continue) => {}
                Ok(Step::Done) => break self.shared.end(None),
                Err(failure) => break self.shared.end(Some(TrailFailure::of_disk(&failure))),
            }
        }
        drop(ending);
    }

    /// Writes one group, if there is anything to write.
    pub(super) fn step(&mut self, may_sleep: bool) -> Result<Step, WriteFailure> {
        let end = if may_sleep && self.queue.is_empty() {
            self.shared.inbox.take(&mut self.incoming)
        } else {
            self.shared.inbox.take_now(&mut self.incoming)
        };
        self.queue.extend(self.incoming.drain(..));
        match end {
            End::Abandon => return Ok(Step::Done),
            End::Close if self.queue.is_empty() => return self.write_closing().map(|()| Step::Done),
            End::Close | End::NotYet => {}
        }
        if self.queue.is_empty() {
            return Ok(Step::Continue);
        }
        if self.fill() == 0 {
            // What is next does not fit: on to the next segment, which takes
            // any record that was let in.
            match self.shared.slot.take(&self.shared.clock) {
                Ok(prepared) => self.switch(prepared)?,
                Err(no_room) => {
                    self.refuse_all(no_room);
                    return Ok(Step::Continue);
                }
            }
            if self.fill() == 0 {
                self.refuse_all(NoRoom { since: self.shared.clock.now() });
                return Ok(Step::Continue);
            }
        }
        let records = self.touched.iter().map(|(_, records)| records).sum();
        self.commit(records, self.shared.durability == Durability::Flush)?;
        self.settle(records);
        Ok(Step::Continue)
    }

    /// Writes the record that opens a run, on the next segment if need be.
    pub(super) fn write_opened(&mut self, opened: &super::record::Opened<'_>) -> Result<(), OwnRecordError> {
        let mut body = Vec::new();
        codec::encode_opened(&mut body, opened);
        let needed = group_bytes(RECORD_HEADER_BYTES + body.len()) as u64;
        if needed > self.room() {
            let prepared =
                self.shared.slot.take(&self.shared.clock).map_err(|NoRoom { .. }| OwnRecordError::NoRoom)?;
            self.switch(prepared).map_err(OwnRecordError::Failure)?;
        }
        self.write_own(&body).map_err(OwnRecordError::Failure)
    }

    fn write_closing(&mut self) -> Result<(), WriteFailure> {
        let mut body = Vec::new();
        codec::encode_closed(&mut body, self.shared.clock.now());
        self.write_own(&body)
    }

    /// One record of the trail's own, as a group, always synced.
    fn write_own(&mut self, body: &[u8]) -> Result<(), WriteFailure> {
        self.begin_group();
        self.group.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.group.extend_from_slice(&[0; RECORD_HEADER_BYTES - 4]);
        self.group.extend_from_slice(body);
        finish_record(&mut self.group[GROUP_HEADER_BYTES..], self.links.sequence);
        self.commit(1, true)?;
        self.note_progress();
        Ok(())
    }

    /// Bytes that a group of records may take in the segment in use.
    fn room(&self) -> u64 {
        match &self.active {
            Some(active) => active.bytes.saturating_sub(active.offset + RESERVED_BYTES),
            None => 0,
        }
    }

    /// Starts a group: its stamp, and room for its header.
    fn begin_group(&mut self) {
        let now = u64::try_from(self.shared.clock.unix_millis()).unwrap_or(0).min(STAMP_MS_MAX);
        // The wall clock may step back; the trail's stamp does not.
        self.stamp_ms = self.links.stamp_ms.max(now);
        self.group.clear();
        self.group.resize(GROUP_HEADER_BYTES, 0);
    }

    /// Moves as many records into a new group as fit; returns how many.
    fn fill(&mut self) -> u32 {
        self.begin_group();
        let limit = usize::try_from(self.room()).unwrap_or(usize::MAX).min(GROUP_BYTES_MAX);
        let stamp = self.stamp_ms.to_be_bytes();
        let mut sequence = self.links.sequence;
        self.oldest = self.queue.front().map(|parcel| parcel.since);
        while let Some(parcel) = self.queue.front() {
            let mut taken = 0;
            while self.cursor < parcel.bytes.len() {
                let length = RECORD_HEADER_BYTES + u32_at(&parcel.bytes, self.cursor) as usize;
                if group_bytes(self.group.len() - GROUP_HEADER_BYTES + length) > limit {
                    break;
                }
                let at = self.group.len();
                self.group.extend_from_slice(&parcel.bytes[self.cursor..self.cursor + length]);
                let record = &mut self.group[at..];
                let id = RECORD_HEADER_BYTES + ID_STAMP_AT;
                record[id..id + 6].copy_from_slice(&stamp[2..]);
                finish_record(record, sequence);
                sequence += 1;
                taken += 1;
                self.cursor += length;
            }
            if taken > 0 {
                touch(&mut self.touched, &parcel.from, taken);
            }
            if self.cursor < parcel.bytes.len() {
                break;
            }
            self.spent.extend(self.queue.pop_front().map(|parcel| parcel.bytes));
            self.cursor = 0;
        }
        (sequence - self.links.sequence) as u32
    }

    /// Completes the group and writes it.
    fn commit(&mut self, records: u32, sync: bool) -> Result<(), WriteFailure> {
        let hashed = self.group.len().next_multiple_of(ALIGNMENT);
        self.group.resize(hashed, 0);
        let header = GroupHeader {
            bytes: (hashed + self.links.chain.len()) as u32,
            records,
            group: self.links.group,
            sequence: self.links.sequence,
            stamp_ms: self.stamp_ms,
        };
        self.group[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode());
        let chain = chain_value(&self.links.chain, &self.group);
        self.group.extend_from_slice(&chain);
        let Some(active) = &mut self.active else {
            return Err(failure("write", self.links.group, io::Error::other("no segment in use")));
        };
        active.file.write_at(&self.group, active.offset).map_err(|e| failure("write", active.number, e))?;
        if sync {
            let began = Instant::now();
            active.file.sync().map_err(|e| failure("sync", active.number, e))?;
            self.meters.sync(began.elapsed());
        }
        active.offset += self.group.len() as u64;
        self.previous_end = active.offset;
        self.links.sequence += u64::from(records);
        self.links.group += 1;
        self.links.stamp_ms = self.stamp_ms;
        self.links.chain = chain;
        Ok(())
    }

    /// Tells everybody concerned that the group is durable.
    fn settle(&mut self, records: u32) {
        self.note_progress();
        let outcome = Outcome::Durable { stamp_ms: self.links.stamp_ms };
        for (mailbox, records) in self.touched.drain(..) {
            mailbox.settle(Settlement { records, outcome });
        }
        let lag = self.oldest.take().map(|since| since.elapsed());
        self.meters.group(records, self.group.len(), lag);
        self.shared.inbox.recycle(&mut self.spent);
        self.meters.pending(self.shared.inbox.pending_bytes());
        if self.group.capacity() > GROUP_BYTES_MAX / 4 {
            // After a burst of large records; ordinary groups never come here.
            self.group = Vec::new();
        }
    }

    fn note_progress(&self) {
        self.shared.clock.has_recorded(super::recover::moment_of_stamp(self.links.stamp_ms));
        let mut progress = lock(&self.shared.progress);
        progress.records = self.links.sequence - 1;
        progress.last_durable = Some(self.shared.clock.now());
        progress.end_offset = self.previous_end;
    }

    /// Refuses everything that waits: there is no room for it.
    fn refuse_all(&mut self, no_room: NoRoom) {
        let outcome = Outcome::Unavailable { since: no_room.since };
        while let Some(parcel) = self.queue.pop_front() {
            let mut records = 0;
            while self.cursor < parcel.bytes.len() {
                self.cursor += RECORD_HEADER_BYTES + u32_at(&parcel.bytes, self.cursor) as usize;
                records += 1;
            }
            self.cursor = 0;
            parcel.from.settle(Settlement { records, outcome });
            self.spent.push(parcel.bytes);
        }
        self.shared.inbox.recycle(&mut self.spent);
    }

    /// Seals the segment in use and begins the prepared one. Each step is
    /// durable before the next, so that a start can tell how far it came.
    fn switch(&mut self, prepared: Prepared) -> Result<(), WriteFailure> {
        if self.active.is_some() {
            let mut body = Vec::new();
            codec::encode_sealed(&mut body);
            self.write_own(&body)?;
        }
        let header = SegmentHeader {
            environment: self.environment,
            number: prepared.number,
            segment_bytes: prepared.bytes,
            links: self.links,
            previous_end: if prepared.number == 1 { 0 } else { self.previous_end },
        };
        let Prepared { number, bytes, file } = prepared;
        file.write_at(&header.encode(), 0).map_err(|error| failure("write", number, error))?;
        file.sync().map_err(|error| failure("sync", number, error))?;
        let mut progress = lock(&self.shared.progress);
        progress.spans.push(Span { number, stamp_ms: self.links.stamp_ms });
        progress.end_offset = HEADER_BYTES as u64;
        drop(progress);
        self.active = Some(Active { file, number, bytes, offset: HEADER_BYTES as u64 });
        self.shared.slot.want(number + 1);
        Ok(())
    }
}

/// Puts sequence and checksum into the record at the start of `bytes`, which
/// ends with it.
fn finish_record(record: &mut [u8], sequence: u64) {
    record[8..16].copy_from_slice(&sequence.to_le_bytes());
    let checksum = record_checksum(record);
    record[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// Counts records of a worker; there are as few workers as cores.
fn touch(touched: &mut Vec<(Arc<Mailbox>, u32)>, from: &Arc<Mailbox>, records: u32) {
    match touched.iter_mut().find(|(mailbox, _)| Arc::ptr_eq(mailbox, from)) {
        Some((_, count)) => *count += records,
        None => touched.push((Arc::clone(from), records)),
    }
}

fn failure(action: &'static str, segment: u64, error: io::Error) -> WriteFailure {
    WriteFailure { action, segment, error }
}

/// Whatever ends the writer's thread, a panic included, nobody waits for ever.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if self.0.ended().is_none() {
            self.0.end(Some(TrailFailure::of_program(
                "the writer of the audit trail ended unexpectedly".into(),
            )));
        }
    }
}
