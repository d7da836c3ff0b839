//! An archive's frames, for the fuzz property that holds them.

use super::frame::{FrameReader, FrameWriter, Kind};

/// The frames of a whole archive, written again.
pub(crate) fn reframed(archive: &[u8]) -> Option<Vec<u8>> {
    let mut reader = FrameReader::begin(archive).ok()?;
    let (mut writer, mut again) = FrameWriter::begin();
    loop {
        let (kind, content) = reader.next("").ok()?;
        if kind == Kind::End {
            again.extend(writer.end().0);
            return Some(again);
        }
        again.extend(writer.frame(kind, content));
    }
}

/// An archive of these frames, with checksums that fit. Kinds are taken modulo
/// their number; the end is written by itself.
pub(crate) fn assembled<'a>(frames: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    const KINDS: [Kind; 5] = [Kind::Manifest, Kind::Register, Kind::Access, Kind::Segment, Kind::Trail];
    let (mut writer, mut archive) = FrameWriter::begin();
    for (kind, content) in frames {
        archive.extend(writer.frame(KINDS[usize::from(kind) % KINDS.len()], content));
    }
    archive.extend(writer.end().0);
    archive
}
