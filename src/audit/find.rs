//! Looks one verification up by its identifier.

use super::codec::{self, Body, peek_id};
use super::damage::{Flaw, ReadError};
use super::disk::Disk;
use super::exchange::lock;
use super::id::VerificationId;
use super::record::VerificationRecord;
use super::segment::{
    CHAIN_BYTES, GROUP_HEADER_BYTES, GroupHeader, HEADER_BYTES, RECORD_HEADER_BYTES, is_zero, record_body,
    u32_at,
};
use super::shared::Shared;
use super::walk::{damage, io_error, open};
use super::window::Window;

/// Finds a verification among what is durable. An identifier's time is its
/// group's stamp and stamps never go back, so only segments that were in use at
/// that time are opened, and in them only groups of that very stamp are read.
pub(super) fn find(shared: &Shared, id: VerificationId) -> Result<Option<VerificationRecord>, ReadError> {
    let stamp_ms = id.stamp_ms();
    let (candidates, newest, end_offset) = {
        let progress = lock(&shared.progress);
        let spans = &progress.spans;
        // A span's stamp is the latest before it: those after the time are out,
        // and so are those whose successor begins with an earlier stamp.
        let to = spans.partition_point(|span| span.stamp_ms <= stamp_ms);
        let from = spans.partition_point(|span| span.stamp_ms < stamp_ms).saturating_sub(1);
        let candidates: Vec<u64> = spans[from.min(to)..to].iter().map(|span| span.number).collect();
        (candidates, spans.last().map(|span| span.number), progress.end_offset)
    };
    for number in candidates {
        let end = if Some(number) == newest { end_offset } else { u64::MAX };
        if let Some(found) = find_in(&*shared.disk, number, end, id, stamp_ms)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn find_in(
    disk: &dyn Disk,
    number: u64,
    end: u64,
    id: VerificationId,
    stamp_ms: u64,
) -> Result<Option<VerificationRecord>, ReadError> {
    let mut window = open(disk, number)?;
    let mut offset = HEADER_BYTES as u64;
    while offset < end {
        let head = window.at(offset, GROUP_HEADER_BYTES).map_err(|error| io_error(disk, number, error))?;
        if is_zero(head) {
            break;
        }
        let header = GroupHeader::parse(head).map_err(|flaw| damage(disk, number, offset, flaw))?;
        if header.stamp_ms > stamp_ms {
            break;
        }
        if header.stamp_ms == stamp_ms {
            let found = find_in_group(disk, number, &mut window, offset, &header, id)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        offset += u64::from(header.bytes);
    }
    Ok(None)
}

fn find_in_group(
    disk: &dyn Disk,
    number: u64,
    window: &mut Window,
    offset: u64,
    header: &GroupHeader,
    id: VerificationId,
) -> Result<Option<VerificationRecord>, ReadError> {
    let length = header.bytes as usize;
    let bytes = window.at(offset, length).map_err(|error| io_error(disk, number, error))?;
    if bytes.len() < length {
        return Err(damage(disk, number, offset, Flaw::GroupLength));
    }
    let records = &bytes[..length - CHAIN_BYTES];
    let mut at = GROUP_HEADER_BYTES;
    for sequence in header.sequence..header.sequence + u64::from(header.records) {
        let flaw = |flaw| damage(disk, number, offset + at as u64, flaw);
        let record = records.get(at..).unwrap_or_default();
        if record.len() < RECORD_HEADER_BYTES {
            return Err(flaw(Flaw::RecordLength));
        }
        let end = RECORD_HEADER_BYTES.saturating_add(u32_at(record, 0) as usize);
        if record.get(RECORD_HEADER_BYTES..end).and_then(peek_id) == Some(id) {
            let body = record_body(record, sequence).map_err(flaw)?;
            let decoded = codec::decode(body).map_err(|error| flaw(Flaw::Record(error)))?;
            if let Body::Verification(view) = decoded {
                return Ok(Some(view.to_record()));
            }
        }
        at = at.saturating_add(end);
    }
    Ok(None)
}
