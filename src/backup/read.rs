//! Reads an archive: every frame, in its order, to its end.

use std::io::Read;

use super::error::BackupError;
use super::frame::{FrameReader, Kind};
use super::manifest::Manifest;
use crate::audit::SegmentExtent;
use crate::limits::BACKUP_SEGMENTS_MAX;

/// Whoever takes the content of an archive, piece by piece. That a piece came
/// does not mean that the archive is whole: [`read`] says so.
///
/// Every method may fail, which ends the reading with its error; what is not
/// taken is passed over.
pub trait Content {
    /// The manifest: before everything else.
    ///
    /// # Errors
    /// Of whoever takes it.
    fn manifest(&mut self, _: &Manifest) -> Result<(), BackupError> {
        Ok(())
    }

    /// A chunk of the register's rows.
    ///
    /// # Errors
    /// Of whoever takes it.
    fn register(&mut self, _: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }

    /// A chunk of the access store's rows.
    ///
    /// # Errors
    /// Of whoever takes it.
    fn access(&mut self, _: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }

    /// The next segment of the trail begins.
    ///
    /// # Errors
    /// Of whoever takes it.
    fn segment(&mut self, _: SegmentExtent) -> Result<(), BackupError> {
        Ok(())
    }

    /// The segment's next bytes.
    ///
    /// # Errors
    /// Of whoever takes it.
    fn trail(&mut self, _: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }
}

/// An archive whose every frame and whose digest fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Reads an archive to its end and gives its content to `content`.
///
/// # Errors
/// With the first frame that is wrong, what is missing at an early end, or what
/// `content` found.
pub fn read(input: impl Read, content: &mut impl Content) -> Result<Received, BackupError> {
    let mut frames = FrameReader::begin(input)?;
    let mut manifest = None;
    let mut segments = 0;
    let mut last = None;
    loop {
        let at = frames.at;
        let (kind, bytes) = frames.next(missing_after(last))?;
        if !may_follow(last, kind) {
            return Err(BackupError::Damaged { at, what: "a frame out of its order" });
        }
        last = Some(kind);
        match kind {
            Kind::Manifest => {
                let read: Manifest = serde_json::from_slice(bytes)
                    .map_err(|_| BackupError::Damaged { at, what: "the manifest cannot be read" })?;
                content.manifest(&read)?;
                manifest = Some(read);
            }
            Kind::Register => content.register(bytes)?,
            Kind::Access => content.access(bytes)?,
            Kind::Segment => {
                segments += 1;
                content.segment(segment(bytes).filter(|_| segments <= BACKUP_SEGMENTS_MAX).ok_or(
                    BackupError::Damaged { at, what: "the beginning of a segment cannot be read" },
                )?)?;
            }
            Kind::Trail => content.trail(bytes)?,
            Kind::End => break,
        }
    }
    let manifest = manifest.ok_or(BackupError::Contradiction("it has no manifest"))?;
    Ok(Received { manifest, bytes: frames.at })
}

/// The order of the format: each part is there, in its place.
fn may_follow(last: Option<Kind>, kind: Kind) -> bool {
    match kind {
        Kind::Manifest => last.is_none(),
        Kind::Register => matches!(last, Some(Kind::Manifest | Kind::Register)),
        Kind::Access => matches!(last, Some(Kind::Register | Kind::Access)),
        Kind::Segment => matches!(last, Some(Kind::Access | Kind::Trail)),
        Kind::Trail => matches!(last, Some(Kind::Segment | Kind::Trail)),
        Kind::End => matches!(last, Some(Kind::Trail)),
    }
}

/// What an archive lacks that ends after a frame of this kind.
const fn missing_after(last: Option<Kind>) -> &'static str {
    match last {
        None => "everything",
        Some(Kind::Manifest) => "the register, keys and tokens, the trail, the closing frame",
        Some(Kind::Register) => "the rest of the register, keys and tokens, the trail, the closing frame",
        Some(Kind::Access) => "the rest of the keys and tokens, the trail, the closing frame",
        Some(Kind::Segment | Kind::Trail) => "the rest of the trail, or the closing frame alone",
        Some(Kind::End) => "nothing",
    }
}

fn segment(bytes: &[u8]) -> Option<SegmentExtent> {
    let (number, bytes) = bytes.split_first_chunk()?;
    let bytes: &[u8; 8] = bytes.try_into().ok()?;
    Some(SegmentExtent { number: u64::from_le_bytes(*number), bytes: u64::from_le_bytes(*bytes) })
}
