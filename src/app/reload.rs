//! What SIGHUP does: reads again whatever may change while the instance runs, and
//! puts it in force when all of it is good. A reload that fails changes nothing.

use super::blueprint::Blueprint;
use super::certificates::Certificates;
use super::instance::InstanceError;
use crate::access::AccessWriter;
use crate::clock::Clock;
use crate::gate::Gate;

/// A configuration read again.
pub struct ReadAgain<'a> {
    /// What it says.
    pub(super) blueprint: Blueprint,
    /// Puts into force what no blueprint has: the log's level.
    pub(super) settle: Box<dyn FnOnce() -> Result<(), InstanceError> + 'a>,
    /// What no blueprint has and a restart alone changes, if it is another than at the start.
    pub(super) needing_restart: Vec<&'static str>,
}

/// Reads the configuration again.
pub type Rereading<'a> = dyn Fn() -> Result<ReadAgain<'a>, InstanceError> + 'a;

/// The parts that a reload exchanges something in.
pub(super) struct Reloading<'a> {
    pub(super) certificates: &'a Certificates,
    pub(super) access: &'a AccessWriter,
    pub(super) gate: &'a Gate,
    /// By which a new certificate is valid or not.
    pub(super) clock: &'a Clock,
}

impl Reloading<'_> {
    /// Reads everything again; `started_with` serves where there is no file to read.
    /// Counted and logged as what it came to.
    pub(super) fn reload(&self, rereading: Option<&Rereading<'_>>, started_with: &Blueprint) {
        let outcome = match self.try_reload(rereading, started_with) {
            Ok(()) => {
                tracing::info!("configuration and certificates reloaded");
                "done"
            }
            Err(error) => {
                tracing::error!(%error, "nothing is reloaded: everything stays as it was");
                "failed"
            }
        };
        metrics::counter!("peselgate_reloads_total", "outcome" => outcome).increment(1);
        metrics::gauge!("peselgate_last_reload_successful").set(f64::from(u8::from(outcome == "done")));
    }

    fn try_reload(
        &self,
        rereading: Option<&Rereading<'_>>,
        started_with: &Blueprint,
    ) -> Result<(), InstanceError> {
        let read = rereading.map(|read| read()).transpose()?;
        let blueprint = read.as_ref().map_or(started_with, |read| &read.blueprint);
        let certificates = self.certificates.read_again(blueprint, self.clock.now())?;
        let mut needing_restart = started_with.needing_restart(blueprint);
        needing_restart.extend(read.iter().flat_map(|read| &read.needing_restart));
        let default_limits = blueprint.default_limits;
        let auth_failures = blueprint.auth_failures;
        // The last step that may fail is the first that changes anything.
        if let Some(read) = read {
            (read.settle)()?;
        }
        self.certificates.exchange(certificates);
        self.access.set_default_limits(default_limits);
        self.gate.set_failure_limits(auth_failures);
        if !needing_restart.is_empty() {
            let keys = needing_restart.join(", ");
            tracing::warn!(keys, "changed settings that stay as they were until a restart");
        }
        Ok(())
    }
}
