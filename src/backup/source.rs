//! Makes backups of a running instance, one at a time.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::frame::{FrameWriter, Kind};
use super::manifest::{Manifest, ManifestRegister, ManifestTrail};
use crate::access::{self, AccessError, AccessExport, AccessWriter};
use crate::audit::{ReadError, SegmentExtent, Trail, TrailExtent};
use crate::clock::Clock;
use crate::datadir::DemoFacts;
use crate::environment::Environment;
use crate::limits::BACKUP_PIECE_BYTES;
use crate::register::{self, Reader, RegisterExport};
use crate::rows::Stopped;

/// What backups are made of.
pub struct Backups {
    trail: Trail,
    register: Reader,
    access: AccessWriter,
    environment: Environment,
    clock: Clock,
    /// Where a demo keeps what it was made with.
    demo: PathBuf,
    /// Whether one is being made: each holds a transaction of both stores open,
    /// and what is overwritten meanwhile takes room on the disk.
    running: Arc<AtomicBool>,
}

/// Why no backup was begun.
#[derive(Debug)]
pub enum NotBegun {
    /// Another one is being made.
    Running,
    /// The register cannot be read.
    Register(register::StoreError),
    /// The access store cannot be read.
    Access(AccessError),
    /// The trail cannot be read.
    Trail(ReadError),
    /// The file that says what a demo was made with cannot be read.
    Demo(std::io::Error),
    /// The reading of a store failed unexpectedly.
    Panicked,
}

impl fmt::Display for NotBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("a backup is being made; one at a time"),
            Self::Register(error) => error.fmt(f),
            Self::Access(error) => error.fmt(f),
            Self::Trail(error) => error.fmt(f),
            Self::Demo(error) => write!(f, "the demo's facts: {error}"),
            Self::Panicked => f.write_str("reading panicked"),
        }
    }
}

impl std::error::Error for NotBegun {}

impl Backups {
    /// Of these parts; `demo` is the file with a demo's facts, which need not be
    /// there.
    #[must_use]
    pub fn new(
        trail: Trail,
        register: Reader,
        access: AccessWriter,
        environment: Environment,
        clock: Clock,
        demo: PathBuf,
    ) -> Self {
        let running = Arc::new(AtomicBool::new(false));
        Self { trail, register, access, environment, clock, demo, running }
    }

    /// Fixes what the next backup holds.
    ///
    /// # Errors
    /// [`NotBegun::Running`] while another one is made, and when a part cannot be
    /// read.
    pub async fn begin(&self) -> Result<Backup, NotBegun> {
        let running = Running::take(&self.running).ok_or(NotBegun::Running)?;
        let made_at = self.clock.now();
        // The trail's end first: what the answers before it name was published
        // before them, so both stores have it by now.
        let extent = self.trail.extent();
        let access = self.access.export().await.map_err(NotBegun::Access)?;
        let (reader, demo) = (self.register.clone(), self.demo.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let register = reader.export().map_err(NotBegun::Register)?;
            let segments = extent.segments().map_err(NotBegun::Trail)?;
            let demo = DemoFacts::read(&demo).map_err(NotBegun::Demo)?;
            Ok((register, extent, segments, demo))
        });
        let (register, extent, segments, demo) = reading.await.map_err(|_| NotBegun::Panicked)??;
        let manifest = Manifest {
            environment: self.environment,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at,
            register: ManifestRegister {
                sequence: register.sequence().value(),
                as_of: register.as_of(),
                reserved: register.reserved(),
                entries: register.entries(),
            },
            trail: ManifestTrail { segments: segments.len() as u64, records: extent.records() },
            demo,
            expected_bytes: expected_bytes(&register, &segments),
        };
        Ok(Backup { manifest, extent, segments, register, access, running })
    }
}

impl fmt::Debug for Backups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backups").field("running", &self.running).finish_non_exhaustive()
    }
}

/// An event takes some ten bytes, an entry's row some twenty-four.
fn expected_bytes(register: &RegisterExport, segments: &[SegmentExtent]) -> u64 {
    let trail: u64 = segments.iter().map(|segment| segment.bytes).sum();
    trail + register.sequence().value() * 10 + register.entries() * 24
}

/// The one place for a backup, until it is dropped.
struct Running(Arc<AtomicBool>);

impl Running {
    fn take(running: &Arc<AtomicBool>) -> Option<Self> {
        (!running.swap(true, Ordering::AcqRel)).then(|| Self(Arc::clone(running)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A backup whose content is fixed and which is still to be written.
pub struct Backup {
    manifest: Manifest,
    extent: TrailExtent,
    segments: Vec<SegmentExtent>,
    register: RegisterExport,
    access: AccessExport,
    running: Running,
}

/// A part of an archive on its way.
#[derive(Debug)]
pub enum Piece {
    /// More follows.
    Middle(Vec<u8>),
    /// The closing frame: with it the archive is whole.
    Last(Vec<u8>),
}

/// Nobody takes the archive any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Why a backup was not written to its end.
#[derive(Debug)]
pub enum WriteError {
    /// Nobody takes it any more.
    Gone,
    /// The register cannot be read.
    Register(register::StoreError),
    /// The access store cannot be read.
    Access(access::StoreError),
    /// The trail cannot be read.
    Trail(ReadError),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("nobody takes it any more"),
            Self::Register(error) => error.fmt(f),
            Self::Access(error) => error.fmt(f),
            Self::Trail(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WriteError {}

impl From<Gone> for WriteError {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl Backup {
    /// What it says of itself.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes the archive piece by piece; returns its length in bytes. Reads the
    /// disk. The next backup may begin when the last piece is given away.
    ///
    /// # Errors
    /// When a part cannot be read, or `give` fails: the archive then lacks its
    /// closing frame.
    pub fn write(self, give: &mut impl FnMut(Piece) -> Result<(), Gone>) -> Result<u64, WriteError> {
        let Self { manifest, extent, segments, register, access, running } = self;
        let (mut frames, head) = FrameWriter::begin();
        give(Piece::Middle(head))?;
        let text = serde_json::to_vec(&manifest).unwrap_or_default();
        give(Piece::Middle(frames.frame(Kind::Manifest, &text)))?;
        register
            .each_chunk(&mut |chunk| give(Piece::Middle(frames.frame(Kind::Register, chunk))))
            .map_err(|stopped| stopped_by(stopped, WriteError::Register))?;
        // The stores' transactions last no longer than they are needed.
        drop(register);
        access
            .each_chunk(&mut |chunk| give(Piece::Middle(frames.frame(Kind::Access, chunk))))
            .map_err(|stopped| stopped_by(stopped, WriteError::Access))?;
        drop(access);
        for segment in segments {
            let begins = [segment.number.to_le_bytes(), segment.bytes.to_le_bytes()].concat();
            give(Piece::Middle(frames.frame(Kind::Segment, &begins)))?;
            let all = extent.each_piece(segment, BACKUP_PIECE_BYTES, &mut |bytes| {
                give(Piece::Middle(frames.frame(Kind::Trail, bytes))).is_ok()
            });
            if !all.map_err(WriteError::Trail)? {
                return Err(WriteError::Gone);
            }
        }
        let (end, bytes) = frames.end();
        drop(running);
        give(Piece::Last(end))?;
        Ok(bytes)
    }
}

fn stopped_by<S>(stopped: Stopped<S, Gone>, store: fn(S) -> WriteError) -> WriteError {
    match stopped {
        Stopped::Store(error) => store(error),
        Stopped::Sink(Gone) => WriteError::Gone,
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}
