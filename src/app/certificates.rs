//! The certificates of the planes that may have TLS: as a start, a check of the
//! configuration and SIGHUP take them.

use super::blueprint::{Blueprint, TlsFiles};
use super::instance::InstanceError;
use crate::clock::Moment;
use crate::http::plane::tls::{ALPN_H2_AND_HTTP1, ALPN_HTTP1, Certificate, TlsSource};

/// A plane that may have TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TlsPlane {
    Verification,
    Admin,
}

impl TlsPlane {
    const ALL: [Self; 2] = [Self::Verification, Self::Admin];

    /// As metrics and the log name it.
    const fn name(self) -> &'static str {
        match self {
            Self::Verification => "verification",
            Self::Admin => "admin",
        }
    }

    /// Its table in the configuration.
    const fn table(self) -> &'static str {
        match self {
            Self::Verification => "verification.tls",
            Self::Admin => "admin.tls",
        }
    }

    const fn files(self, blueprint: &Blueprint) -> Option<&TlsFiles> {
        match self {
            Self::Verification => blueprint.verification_tls.as_ref(),
            Self::Admin => blueprint.admin_tls.as_ref(),
        }
    }

    fn read(self, files: &TlsFiles) -> Result<Certificate, InstanceError> {
        let alpn = match self {
            Self::Verification => ALPN_H2_AND_HTTP1,
            Self::Admin => ALPN_HTTP1,
        };
        Certificate::read(&files.certificate, &files.key, alpn)
            .map_err(|error| InstanceError::new(self.table(), error))
    }

    /// Will callers take it at this moment?
    fn judged(self, certificate: &Certificate, now: Moment) -> Result<(), InstanceError> {
        certificate.judged(now).map_err(|error| InstanceError::new(self.table(), error))
    }

    fn warn(self, error: &InstanceError) {
        tracing::warn!(plane = self.name(), %error, "callers will not trust this certificate");
    }

    /// Tells the metrics how long the certificate in force is valid.
    fn show_expiry(self, certificate: &Certificate) {
        let Some(not_after) = certificate.not_after() else { return };
        metrics::gauge!("peselgate_certificate_expiry_timestamp_seconds", "plane" => self.name())
            .set(not_after.unix_seconds() as f64);
    }
}

/// The certificates in force, of both planes that may have one.
pub(super) struct Certificates {
    pub(super) verification: Option<TlsSource>,
    pub(super) admin: Option<TlsSource>,
}

/// New certificates of the planes that have one.
pub(super) struct NewCertificates(Vec<(TlsPlane, Certificate)>);

impl Certificates {
    /// Judges what a configuration names, and keeps none of it.
    ///
    /// # Errors
    /// When a file cannot be read, or a pair does not fit or is not valid by the clock.
    pub(super) fn check(blueprint: &Blueprint, now: Moment) -> Result<(), InstanceError> {
        for plane in TlsPlane::ALL {
            if let Some(files) = plane.files(blueprint) {
                plane.judged(&plane.read(files)?, now)?;
            }
        }
        Ok(())
    }

    /// Takes those of a start. One that is not valid by the clock is warned of and put
    /// in force: the clock may be wrong, and whoever must not trust it will not.
    ///
    /// # Errors
    /// When a file cannot be read or a pair does not fit.
    pub(super) fn start(blueprint: &Blueprint, now: Moment) -> Result<Self, InstanceError> {
        let start = |plane: TlsPlane| {
            let Some(files) = plane.files(blueprint) else { return Ok(None) };
            let certificate = plane.read(files)?;
            if let Err(error) = plane.judged(&certificate, now) {
                plane.warn(&error);
            }
            plane.show_expiry(&certificate);
            Ok::<_, InstanceError>(Some(TlsSource::new(certificate)))
        };
        Ok(Self { verification: start(TlsPlane::Verification)?, admin: start(TlsPlane::Admin)? })
    }

    /// Reads what a reload may put in the place of those in force.
    ///
    /// # Errors
    /// When a file cannot be read, a pair does not fit or, unless it is in force as it is,
    /// is not valid by the clock, and for TLS that comes or goes.
    pub(super) fn read_again(
        &self,
        blueprint: &Blueprint,
        now: Moment,
    ) -> Result<NewCertificates, InstanceError> {
        let mut new = Vec::new();
        for plane in TlsPlane::ALL {
            // Half of the connections would go on as they began.
            let by_restart = |turned: &str| {
                let why = format!("TLS is switched {turned} by a restart alone");
                Err(InstanceError::new(plane.table(), why))
            };
            match (self.of(plane), plane.files(blueprint)) {
                (Some(source), Some(files)) => {
                    let certificate = plane.read(files)?;
                    match plane.judged(&certificate, now) {
                        // It is in force already, and must not keep everything else from
                        // being reloaded.
                        Err(error) if source.has(&certificate) => plane.warn(&error),
                        judged => judged?,
                    }
                    new.push((plane, certificate));
                }
                (None, None) => {}
                (Some(_), None) => return by_restart("off"),
                (None, Some(_)) => return by_restart("on"),
            }
        }
        Ok(NewCertificates(new))
    }

    /// Puts them in force.
    pub(super) fn exchange(&self, NewCertificates(new): NewCertificates) {
        for (plane, certificate) in new {
            if let Some(source) = self.of(plane) {
                plane.show_expiry(&certificate);
                source.exchange(certificate);
            }
        }
    }

    const fn of(&self, plane: TlsPlane) -> Option<&TlsSource> {
        match plane {
            TlsPlane::Verification => self.verification.as_ref(),
            TlsPlane::Admin => self.admin.as_ref(),
        }
    }
}
