//! What SIGHUP does: reads again whatever may change while the instance runs, and
//! puts it in force when all of it is good. A reload that fails changes nothing.

use super::blueprint::{Blueprint, TlsFiles};
use super::instance::InstanceError;
use crate::access::AccessWriter;
use crate::gate::Gate;
use crate::http::plane::tls::{ALPN_H2_AND_HTTP1, ALPN_HTTP1, Certificate, TlsSource};

/// A configuration read again.
pub struct ReadAgain<'a> {
    /// What it says.
    pub(super) blueprint: Blueprint,
    /// Puts into force what no blueprint has: the log's level.
    pub(super) settle: Box<dyn FnOnce() -> Result<(), InstanceError> + 'a>,
}

/// Reads the configuration again.
pub type Rereading<'a> = dyn Fn() -> Result<ReadAgain<'a>, InstanceError> + 'a;

/// The parts that a reload exchanges something in.
pub(super) struct Reloading<'a> {
    pub(super) certificates: &'a Certificates,
    pub(super) access: &'a AccessWriter,
    pub(super) gate: &'a Gate,
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
    }

    fn try_reload(
        &self,
        rereading: Option<&Rereading<'_>>,
        started_with: &Blueprint,
    ) -> Result<(), InstanceError> {
        let read = rereading.map(|read| read()).transpose()?;
        let blueprint = read.as_ref().map_or(started_with, |read| &read.blueprint);
        let certificates = self.certificates.read_again(blueprint)?;
        let needing_restart = started_with.needing_restart(blueprint);
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

/// The certificates of both planes that may have one.
pub(super) struct Certificates {
    pub(super) verification: Option<TlsSource>,
    pub(super) admin: Option<TlsSource>,
}

/// New certificates of the planes that have one.
struct NewCertificates {
    verification: Option<Certificate>,
    admin: Option<Certificate>,
}

impl Certificates {
    pub(super) fn load(blueprint: &Blueprint) -> Result<Self, InstanceError> {
        let load = |files: &Option<TlsFiles>, alpn| {
            let certificate = files.as_ref().map(|files| read(files, alpn)).transpose()?;
            Ok::<_, InstanceError>(certificate.map(TlsSource::new))
        };
        Ok(Self {
            verification: load(&blueprint.verification_tls, ALPN_H2_AND_HTTP1)?,
            admin: load(&blueprint.admin_tls, ALPN_HTTP1)?,
        })
    }

    fn read_again(&self, blueprint: &Blueprint) -> Result<NewCertificates, InstanceError> {
        let read_again =
            |source: &Option<TlsSource>, files: &Option<TlsFiles>, table, alpn| match (source, files) {
                (Some(_), Some(files)) => read(files, alpn).map(Some),
                (None, None) => Ok(None),
                // Half of the connections would go on as they began.
                (Some(_), None) => Err(InstanceError::new(table, "TLS is switched off by a restart alone")),
                (None, Some(_)) => Err(InstanceError::new(table, "TLS is switched on by a restart alone")),
            };
        Ok(NewCertificates {
            verification: read_again(
                &self.verification,
                &blueprint.verification_tls,
                "verification.tls",
                ALPN_H2_AND_HTTP1,
            )?,
            admin: read_again(&self.admin, &blueprint.admin_tls, "admin.tls", ALPN_HTTP1)?,
        })
    }

    fn exchange(&self, new: NewCertificates) {
        for (source, certificate) in [(&self.verification, new.verification), (&self.admin, new.admin)] {
            if let (Some(source), Some(certificate)) = (source, certificate) {
                source.exchange(certificate);
            }
        }
    }
}

fn read(files: &TlsFiles, alpn: &'static [&'static [u8]]) -> Result<Certificate, InstanceError> {
    Certificate::read(&files.certificate, &files.key, alpn).map_err(|error| InstanceError::new("TLS", error))
}
