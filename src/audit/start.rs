//! A start: finds the trail as it was left, and begins a run on it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::damage::{Flaw, ReadError};
use super::disk::{Directory, Disk};
use super::meters;
use super::record::Opened;
use super::recover::{Found, Recovered, look, mend};
use super::segment::{
    CHAIN_BYTES, Chain, GROUP_HEADER_BYTES, GroupHeader, HEADER_BYTES, Links, segment_name,
};
use super::shared::{Durability, Progress, Shared};
use super::spare::{Preparer, SpareSlot};
use super::trail::{OpenError, Stopping, Trail, TrailConfig, TrailThread};
use super::walk::{End as TrailEnd, Last, Walked, damage, io_error, open as open_segment};
use super::writer::{Active, OwnRecordError, Writer, record_bytes_max};
use crate::clock::Clock;
use crate::datadir::Identity;
use crate::environment::Environment;

/// Bytes of a new trail's first segment: little, since nobody has said yet how large
/// segments are to be.
const FIRST_SEGMENT_BYTES: u64 = 1024 * 1024;

/// A trail that was found sound, but for a torn tail, and that nothing was written to yet:
/// what it says can be compared with the other stores first.
pub struct FoundTrail {
    disk: Arc<dyn Disk>,
    walked: Walked,
    found: Found,
    environment: Environment,
    clock: Clock,
    config: TrailConfig,
}

/// Verifies the trail.
///
/// # Errors
/// Damage anywhere but at the very end, with its place; a trail of another
/// environment.
pub fn find(config: TrailConfig, clock: Clock, environment: Environment) -> Result<FoundTrail, OpenError> {
    let disk = Directory::make(&config.dir).map_err(|error| OpenError::Io(config.dir.clone(), error))?;
    FoundTrail::on(Arc::new(disk), config, clock, environment)
}

impl FoundTrail {
    pub(super) fn on(
        disk: Arc<dyn Disk>,
        config: TrailConfig,
        clock: Clock,
        environment: Environment,
    ) -> Result<Self, OpenError> {
        let (walked, found) = look(&*disk, config.start_check_bytes).map_err(OpenError::Read)?;
        if let Some(end) = walked.end.filter(|end| end.header.environment != environment) {
            return Err(OpenError::WrongEnvironment { trail: end.header.environment });
        }
        Ok(Self { disk, walked, found, environment, clock, config })
    }

    /// What was found.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }

    /// Which directory it is the trail of; `None` when nothing was ever written on it.
    ///
    /// # Errors
    /// When its first group cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>, OpenError> {
        if self.found.records == 0 {
            return Ok(None);
        }
        let chain = first_chain_value(&*self.disk).map_err(OpenError::Read)?;
        Ok(Some(Identity::from_bytes(chain)))
    }

    /// Sets a torn tail aside, writes the record that opens this run of `version`, and
    /// starts the writer and the preparer of segments.
    ///
    /// # Errors
    /// No room, or the disk or a thread refuses.
    pub fn begin(self, version: &str) -> Result<(Trail, TrailThread, Recovered), OpenError> {
        let (environment, dir) = (self.environment, self.config.dir.clone());
        let io = |error| OpenError::Io(dir.clone(), error);
        let Engine { shared, mut writer, preparer, recovered } = Engine::new(self)?;
        let slot = Arc::clone(&shared.slot);
        let preparing = std::thread::Builder::new()
            .name("trail-spare".to_owned())
            .spawn(move || preparer.run())
            .map_err(io)?;
        let mut thread =
            TrailThread { shared: Arc::clone(&shared), writing: None, preparing: Some(preparing) };
        write_opened(&shared, &mut writer, version, environment, &recovered.found)?;
        let writing = std::thread::Builder::new()
            .name("trail-writer".to_owned())
            .spawn(move || {
                let _ending = Stopping(slot);
                writer.run();
            })
            .map_err(io)?;
        thread.writing = Some(writing);
        Ok((Trail(shared), thread, recovered))
    }
}

/// The chain value of the trail's first group.
fn first_chain_value(disk: &dyn Disk) -> Result<Chain, ReadError> {
    const FIRST: u64 = 1;
    let io = |error| io_error(disk, FIRST, error);
    let mut window = open_segment(disk, FIRST)?;
    let at = HEADER_BYTES as u64;
    let flawed = |flaw| damage(disk, FIRST, at, flaw);
    let header = GroupHeader::parse(window.at(at, GROUP_HEADER_BYTES).map_err(io)?).map_err(flawed)?;
    let end = at + u64::from(header.bytes);
    let chain = window.at(end - CHAIN_BYTES as u64, CHAIN_BYTES).map_err(io)?;
    chain.try_into().map_err(|_| flawed(Flaw::GroupLength))
}

impl fmt::Debug for FoundTrail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundTrail").field("found", &self.found).finish_non_exhaustive()
    }
}

/// Makes a trail in a directory that has none: a run that begins and ends, so that a
/// trail without a record is one that was lost. What its first segment has no room for
/// goes into the next, of the size that the configuration says.
///
/// # Errors
/// As [`open`], and when there is a trail already.
pub fn create(dir: PathBuf, clock: Clock, version: &str, environment: Environment) -> Result<(), OpenError> {
    if dir.exists() {
        return Err(OpenError::Io(dir, io::ErrorKind::AlreadyExists.into()));
    }
    let config = TrailConfig {
        dir,
        durability: Durability::Flush,
        segment_bytes: FIRST_SEGMENT_BYTES,
        pending_bytes_max: FIRST_SEGMENT_BYTES as usize,
        start_check_bytes: u64::MAX,
    };
    let (_, thread, _) = open(config, clock, version, environment)?;
    thread.close().map_err(|error| OpenError::Write(error.to_string()))
}

/// [`find()`], and begins at once.
///
/// # Errors
/// As both.
pub fn open(
    config: TrailConfig,
    clock: Clock,
    version: &str,
    environment: Environment,
) -> Result<(Trail, TrailThread, Recovered), OpenError> {
    find(config, clock, environment)?.begin(version)
}

/// Writes the first record of a run.
pub(super) fn write_opened(
    shared: &Shared,
    writer: &mut Writer,
    version: &str,
    environment: Environment,
    found: &Found,
) -> Result<(), OpenError> {
    let recovered_bytes = found.torn.as_ref().map_or(0, |torn| torn.bytes);
    let opened = Opened { version, environment, moment: shared.clock.now(), recovered_bytes };
    writer.write_opened(&opened).map_err(|error| match error {
        OwnRecordError::Failure(failure) => OpenError::Write(failure.to_string()),
        OwnRecordError::NoRoom => {
            let reason = shared.slot.lacking().map_or_else(String::new, |(_, reason)| reason);
            OpenError::NoRoom(reason)
        }
    })
}

/// The trail's parts, before any thread runs.
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    pub(super) preparer: Preparer,
    pub(super) recovered: Recovered,
}

impl Engine {
    /// Makes the trail's end writable; writes nothing on it.
    pub(super) fn new(found: FoundTrail) -> Result<Self, OpenError> {
        let FoundTrail { disk, walked, found, environment, clock, config } = found;
        let kept = mend(&*disk, &walked).map_err(OpenError::Read)?;
        if let Some(torn) = &found.torn {
            // Told at once: should this start still fail, the next one finds none.
            tracing::warn!(?torn, ?kept, "a torn tail of the trail was set aside");
        }
        let Walked { spans, end, .. } = walked;
        let number = end.map_or(0, |end| end.header.number);
        let links = end.map_or(Links::GENESIS, |end| end.links);
        let previous_end = end.map_or(0, |end| end.offset);
        let active = match end {
            Some(end) if end.last != Last::Sealed => Some(active(&*disk, &end).map_err(OpenError::Read)?),
            _ => None,
        };
        let slot = Arc::new(SpareSlot::wanting(number + 1));
        let progress =
            Progress { records: links.sequence - 1, last_durable: None, spans, end_offset: previous_end };
        let shared = Arc::new(Shared::new(
            Arc::clone(&disk),
            clock.clone(),
            config.durability,
            Arc::clone(&slot),
            config.pending_bytes_max,
            record_bytes_max(config.segment_bytes),
            progress,
        ));
        let preparer = Preparer {
            disk,
            slot,
            clock,
            segment_bytes: config.segment_bytes,
            prepared_total: meters::segments_prepared_total(),
        };
        let writer = Writer::new(Arc::clone(&shared), environment, active, previous_end, links);
        Ok(Self { shared, writer, preparer, recovered: Recovered { found, kept } })
    }
}

fn active(disk: &dyn Disk, end: &TrailEnd) -> Result<Active, ReadError> {
    let number = end.header.number;
    let file = disk.open(&segment_name(number), true).map_err(|error| io_error(disk, number, error))?;
    debug_assert!(end.offset >= HEADER_BYTES as u64);
    Ok(Active { file, number, bytes: end.header.segment_bytes, offset: end.offset })
}
