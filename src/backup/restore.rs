//! Judges an archive's content as a start would, and makes a data directory of
//! it if there is one to make.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::BackupError;
use super::manifest::Manifest;
use super::read::{Content, Received};
use crate::access::{AccessHeld, AccessImport};
use crate::audit::{CheckReport, SegmentExtent, TrailImport};
use crate::clock::Moment;
use crate::datadir::DataDir;
use crate::environment::Environment;
use crate::register::{RegisterHeld, RegisterImport};

/// What a backup was found to hold; every part of it judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The environment that all parts belong to.
    pub environment: Environment,
    /// The version of the program that made it.
    pub version: String,
    /// When it began.
    pub made_at: Moment,
    /// The register's last event.
    pub sequence: u64,
    /// Its moment.
    pub as_of: Moment,
    /// Reserved numbers.
    pub reserved: u64,
    /// Numbers that ever had an event.
    pub entries: u64,
    /// API keys, deactivated ones included.
    pub keys: u64,
    /// Admin tokens, deactivated ones included.
    pub tokens: u64,
    /// Segments of the trail.
    pub trail_segments: u64,
    /// Its records, of every kind.
    pub trail_records: u64,
    /// Verifications among them.
    pub verifications: u64,
    /// Bytes of the archive.
    pub bytes: u64,
}

/// The archive's content on its way into a data directory, or past one.
#[derive(Debug)]
pub struct Restoring {
    into: Option<Paths>,
    manifest: Option<Manifest>,
    register: Option<RegisterImport>,
    register_held: Option<RegisterHeld>,
    access: Option<AccessImport>,
    access_held: Option<AccessHeld>,
    trail: Option<TrailImport>,
}

/// Where the parts go.
#[derive(Debug)]
struct Paths {
    register: PathBuf,
    access: PathBuf,
    trail: PathBuf,
    demo: PathBuf,
}

impl Restoring {
    /// Judges everything and keeps nothing.
    #[must_use]
    pub const fn judging() -> Self {
        Self {
            into: None,
            manifest: None,
            register: None,
            register_held: None,
            access: None,
            access_held: None,
            trail: None,
        }
    }

    /// Makes the parts in an empty data directory. It is one to start on only
    /// after [`Self::finish`].
    #[must_use]
    pub fn into_new(data: &DataDir) -> Self {
        let into = Paths {
            register: data.register(),
            access: data.access(),
            trail: data.trail(),
            demo: data.demo(),
        };
        Self { into: Some(into), ..Self::judging() }
    }

    /// Judges the whole, once [`read`](super::read()) has found it complete. New
    /// parts are then durable and have been read again.
    ///
    /// # Errors
    /// When a part does not hold together, or does not fit the others.
    pub fn finish(mut self, received: &Received) -> Result<Held, BackupError> {
        let manifest = &received.manifest;
        self.end_register()?;
        self.end_access()?;
        let (Some(register), Some(access)) = (self.register_held, self.access_held) else {
            return Err(BackupError::Contradiction("a part is missing"));
        };
        let trail = self.trail.take().ok_or(BackupError::Contradiction("the trail is missing"))?.finish()?;
        fits(manifest, &register, &trail)?;
        if let (Some(paths), Some(demo)) = (&self.into, manifest.demo) {
            demo.write(&paths.demo)?;
        }
        Ok(Held {
            environment: access.environment,
            version: manifest.version.clone(),
            made_at: manifest.made_at,
            sequence: register.sequence.value(),
            as_of: register.as_of,
            reserved: register.reserved,
            entries: register.entries,
            keys: access.keys,
            tokens: access.tokens,
            trail_segments: trail.segments,
            trail_records: trail.records,
            verifications: trail.verifications,
            bytes: received.bytes,
        })
    }

    fn environment(&self) -> Result<Environment, BackupError> {
        let manifest = self.manifest.as_ref();
        manifest.map(|manifest| manifest.environment).ok_or(BackupError::Contradiction("it has no manifest"))
    }

    fn path(&self, of: impl Fn(&Paths) -> &PathBuf) -> Option<&Path> {
        self.into.as_ref().map(|paths| of(paths).as_path())
    }

    fn end_register(&mut self) -> Result<(), BackupError> {
        if let Some(register) = self.register.take() {
            self.register_held = Some(register.finish()?);
        }
        Ok(())
    }

    fn end_access(&mut self) -> Result<(), BackupError> {
        if let Some(access) = self.access.take() {
            self.access_held = Some(access.finish()?);
        }
        Ok(())
    }
}

/// What the parts must say of one another.
pub(super) fn fits(
    manifest: &Manifest,
    register: &RegisterHeld,
    trail: &CheckReport,
) -> Result<(), BackupError> {
    let said = &manifest.register;
    let held = (register.sequence.value(), register.as_of, register.reserved, register.entries);
    if held != (said.sequence, said.as_of, said.reserved, said.entries) {
        return Err(BackupError::Contradiction("the register is not what the manifest says"));
    }
    if (trail.segments, trail.records) != (manifest.trail.segments, manifest.trail.records) {
        return Err(BackupError::Contradiction("the trail is not what the manifest says"));
    }
    if trail.register_sequence_max > said.sequence {
        return Err(BackupError::Contradiction(
            "an answer on the trail names an event that is not in the register",
        ));
    }
    Ok(())
}

impl Content for Restoring {
    fn manifest(&mut self, manifest: &Manifest) -> Result<(), BackupError> {
        self.manifest = Some(manifest.clone());
        Ok(())
    }

    fn register(&mut self, chunk: &[u8]) -> Result<(), BackupError> {
        if self.register.is_none() {
            self.register = Some(match self.path(|paths| &paths.register) {
                Some(path) => RegisterImport::into_new(path)?,
                None => RegisterImport::judging(),
            });
        }
        match &mut self.register {
            Some(register) => Ok(register.chunk(chunk)?),
            None => Ok(()),
        }
    }

    fn access(&mut self, chunk: &[u8]) -> Result<(), BackupError> {
        self.end_register()?;
        if self.access.is_none() {
            let environment = self.environment()?;
            self.access = Some(match self.path(|paths| &paths.access) {
                Some(path) => AccessImport::into_new(path, environment)?,
                None => AccessImport::judging(environment),
            });
        }
        match &mut self.access {
            Some(access) => Ok(access.chunk(chunk)?),
            None => Ok(()),
        }
    }

    fn segment(&mut self, segment: SegmentExtent) -> Result<(), BackupError> {
        self.end_access()?;
        if self.trail.is_none() {
            let environment = self.environment()?;
            self.trail = Some(match self.path(|paths| &paths.trail) {
                Some(path) => TrailImport::into_new(path, environment)?,
                None => TrailImport::judging(environment),
            });
        }
        match &mut self.trail {
            Some(trail) => Ok(trail.segment(segment)?),
            None => Ok(()),
        }
    }

    fn trail(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        match &mut self.trail {
            Some(trail) => Ok(trail.bytes(bytes)?),
            None => Err(BackupError::Contradiction("bytes of the trail before its first segment")),
        }
    }
}
