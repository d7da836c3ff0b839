//! Register, access and trail: opened together, and only if they belong together.

use super::blueprint::Blueprint;
use super::instance::InstanceError;
use crate::access::{AccessThread, AccessWriter, DirectoryReader};
use crate::audit::{AuditUnavailable, FoundTrail, OpenError, Trail, TrailThread};
use crate::backup::Backups;
use crate::clock::Clock;
use crate::datadir::{DataDir, DataDirError};
use crate::register::{Commander, ReadRegister, Reader, WriterThread};

/// Register, access and trail, opened.
pub(super) struct Parts {
    pub(super) register: Reader,
    pub(super) commander: Commander,
    register_thread: WriterThread,
    pub(super) directory: DirectoryReader,
    pub(super) access: AccessWriter,
    access_thread: AccessThread,
    pub(super) trail: Trail,
    trail_thread: TrailThread,
}

impl Parts {
    pub(super) fn open(blueprint: &Blueprint, data: &DataDir, clock: &Clock) -> Result<Self, InstanceError> {
        let started = std::time::Instant::now();
        // Verifying the trail and building the set take about as long as each
        // other, so they are done side by side.
        let (register, rest) = std::thread::scope(|scope| {
            let register = scope.spawn(|| {
                crate::register::read(&blueprint.register(data.register()), clock)
                    .map_err(|error| InstanceError::new("register", error))
            });
            let rest = Self::find_trail_and_open_access(blueprint, data, clock);
            (register.join(), rest)
        });
        let register = register.map_err(|_| InstanceError::new("register", "its opening panicked"));
        let (register, (trail, (directory, access, access_thread))) = (register??, rest?);
        // The trail is not touched and the register not started before it is known that
        // they belong together: a start that is refused leaves a torn tail of the trail to
        // the one that is not.
        agree(data, &register, &trail)?;
        clock.has_recorded(register.snapshot().as_of());
        if let Some(stamp) = trail.found().last_stamp {
            clock.has_recorded(stamp);
        }
        let (register, commander, register_thread) =
            register.start(clock.clone()).map_err(|error| InstanceError::new("register", error))?;
        let (trail, trail_thread, _) =
            trail.begin(env!("CARGO_PKG_VERSION")).map_err(|error| match error {
                OpenError::Write(_) => InstanceError::of_the_trail(error),
                error => InstanceError::new("audit trail", error),
            })?;
        let snapshot = register.snapshot();
        tracing::info!(
            reserved = snapshot.reserved_count(),
            sequence = snapshot.sequence().value(),
            keys = directory.load().key_count(),
            seconds = started.elapsed().as_secs_f64(),
            "loaded"
        );
        drop(snapshot);
        Ok(Self {
            register,
            commander,
            register_thread,
            directory,
            access,
            access_thread,
            trail,
            trail_thread,
        })
    }

    fn find_trail_and_open_access(
        blueprint: &Blueprint,
        data: &DataDir,
        clock: &Clock,
    ) -> Result<(FoundTrail, (DirectoryReader, AccessWriter, AccessThread)), InstanceError> {
        let trail = crate::audit::find(blueprint.trail(data.trail()), clock.clone(), blueprint.environment)
            .map_err(|error| InstanceError::new("audit trail", error))?;
        let access = crate::access::open(
            &data.access(),
            blueprint.environment,
            clock.clone(),
            blueprint.default_limits,
        )
        .map_err(|error| InstanceError::new("access store", error))?;
        Ok((trail, access))
    }

    pub(super) fn backups(&self, blueprint: &Blueprint, data: &DataDir, clock: &Clock) -> Backups {
        Backups::new(
            self.trail.clone(),
            self.register.clone(),
            self.access.clone(),
            blueprint.environment,
            clock.clone(),
            data.demo(),
        )
    }

    /// Stops the writers; the trail's last record is written last.
    pub(super) fn close(self) -> Result<(), AuditUnavailable> {
        let Self {
            register,
            commander,
            register_thread,
            directory,
            access,
            access_thread,
            trail,
            trail_thread,
        } = self;
        drop((register, commander, directory, access));
        register_thread.stop();
        access_thread.close();
        drop(trail);
        trail_thread.close()
    }
}

/// Whether register and trail belong together. A trail without a record was lost:
/// whoever makes one writes some. A register behind the answers that were given from it
/// is an older copy: it would call numbers free that are not.
fn agree(data: &DataDir, register: &ReadRegister, trail: &FoundTrail) -> Result<(), InstanceError> {
    let found = |error: &dyn std::fmt::Display| InstanceError::new("audit trail", error);
    let Some(identity) = trail.identity().map_err(|error| found(&error))? else {
        return Err(InstanceError::new("start", DataDirError::Lacks(data.trail())));
    };
    let refused = |why: &str| {
        let why = format!(
            "{} {why}. Put the newest one of this directory back, or restore the whole directory from a backup",
            data.register().display()
        );
        Err(InstanceError::new("register", why))
    };
    let (named, last) = (trail.found().register_sequence_max, register.snapshot().sequence().value());
    if named > last {
        return refused(&format!(
            "ends with event {last}, but an answer on the trail names event {named}: it is an older copy"
        ));
    }
    match register.belongs_to(identity) {
        Ok(true) => Ok(()),
        Ok(false) => refused("and the trail beside it are of two directories"),
        Err(error) => Err(InstanceError::new("register", error)),
    }
}
