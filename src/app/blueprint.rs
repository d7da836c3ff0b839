//! What an instance is built from, whether a configuration file or the demo
//! says it.

use std::path::PathBuf;
use std::time::Duration;

use crate::access::{BadLimits, KeyLimits};
use crate::audit::{Durability, TrailConfig};
use crate::config::{self, Config, Place};
use crate::environment::Environment;
use crate::gate::FailureLimits;
use crate::http::plane::{PlaneSettings, Proxies};
use crate::limits::TRAIL_PENDING_BYTES_MAX;
use crate::register::RegisterConfig;

/// Certificate and key of a plane.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM: the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// Everything an instance needs to know.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The one environment it serves.
    pub environment: Environment,
    /// Where all state lies.
    pub data_directory: PathBuf,
    /// How far the clock may lie behind what is on record.
    pub clock_behind_max: Duration,
    /// Where the verification plane listens.
    pub verification_listen: Vec<Place>,
    /// Its settings.
    pub plane: PlaneSettings,
    /// Its TLS, if any.
    pub verification_tls: Option<TlsFiles>,
    /// Where the admin plane listens.
    pub admin_listen: Vec<Place>,
    /// Its TLS, if any.
    pub admin_tls: Option<TlsFiles>,
    /// Longest wait for a complete line of an import.
    pub import_idle_timeout: Duration,
    /// Where the operations plane listens.
    pub ops_listen: Vec<Place>,
    /// When an answer may leave.
    pub durability: Durability,
    /// Bytes of a trail segment.
    pub segment_bytes: u64,
    /// Bytes of the newest part of the trail that a start verifies in full.
    pub start_check_bytes: u64,
    /// Bytes of the register store's cache.
    pub register_cache_bytes: usize,
    /// Limits of keys issued without limits of their own.
    pub default_limits: KeyLimits,
    /// The bucket for failed authentication.
    pub auth_failures: FailureLimits,
}

impl Blueprint {
    /// What the configuration file says.
    ///
    /// # Errors
    /// When the default limits contradict one another.
    pub fn from_config(config: &Config) -> Result<Self, BadLimits> {
        let verification = &config.verification;
        let limits = &config.default_limits;
        Ok(Self {
            environment: config.environment,
            data_directory: config.data_directory.clone(),
            clock_behind_max: config.clock_behind_max,
            verification_listen: verification.listen.places().to_vec(),
            plane: plane_settings(verification),
            verification_tls: verification.tls.as_ref().map(TlsFiles::from),
            admin_listen: config.admin.listen.places().to_vec(),
            admin_tls: config.admin.tls.as_ref().map(TlsFiles::from),
            import_idle_timeout: config.admin.import_idle,
            ops_listen: config.ops.listen.places().to_vec(),
            durability: match config.audit.durability {
                config::Durability::Flush => Durability::Flush,
                config::Durability::Write => Durability::Write,
            },
            segment_bytes: config.audit.segment_bytes,
            start_check_bytes: config.audit.start_check_bytes,
            register_cache_bytes: config.register.cache_bytes,
            default_limits: KeyLimits::new(
                limits.per_second.get(),
                limits.burst.get(),
                limits.per_day.get(),
            )?,
            auth_failures: FailureLimits {
                burst: config.auth_failures.burst,
                per_second: config.auth_failures.per_second,
            },
        })
    }

    /// The keys whose values are others now and stay without effect until a restart.
    pub(super) fn needing_restart(&self, new: &Self) -> Vec<&'static str> {
        // Named one by one, so that a new setting is not forgotten here.
        let Self {
            environment,
            data_directory,
            clock_behind_max,
            verification_listen,
            plane,
            verification_tls: _,
            admin_listen,
            admin_tls: _,
            import_idle_timeout,
            ops_listen,
            durability,
            segment_bytes,
            start_check_bytes,
            register_cache_bytes,
            default_limits: _,
            auth_failures: _,
        } = self;
        let own = [
            ("environment", *environment != new.environment),
            ("data.directory", *data_directory != new.data_directory),
            ("data.clock_behind_max_s", *clock_behind_max != new.clock_behind_max),
            ("verification.listen", *verification_listen != new.verification_listen),
            ("admin.listen", *admin_listen != new.admin_listen),
            ("admin.import_idle_timeout_ms", *import_idle_timeout != new.import_idle_timeout),
            ("ops.listen", *ops_listen != new.ops_listen),
            ("audit.durability", *durability != new.durability),
            ("audit.segment_bytes", *segment_bytes != new.segment_bytes),
            ("audit.start_check_bytes", *start_check_bytes != new.start_check_bytes),
            ("register.cache_bytes", *register_cache_bytes != new.register_cache_bytes),
        ];
        let differing = own.into_iter().chain(plane_differences(plane, &new.plane));
        differing.filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    pub(super) fn trail(&self, dir: PathBuf) -> TrailConfig {
        TrailConfig {
            dir,
            durability: self.durability,
            segment_bytes: self.segment_bytes,
            pending_bytes_max: TRAIL_PENDING_BYTES_MAX,
            start_check_bytes: self.start_check_bytes,
        }
    }

    pub(super) fn register(&self, path: PathBuf) -> RegisterConfig {
        RegisterConfig { path, cache_bytes: self.register_cache_bytes }
    }
}

impl From<&config::TlsFiles> for TlsFiles {
    fn from(files: &config::TlsFiles) -> Self {
        Self { certificate: files.certificate.clone(), key: files.key.clone() }
    }
}

fn plane_differences(old: &PlaneSettings, new: &PlaneSettings) -> [(&'static str, bool); 13] {
    let PlaneSettings {
        threads,
        connections_max,
        connections_per_address_max,
        header_read_timeout,
        body_read_timeout,
        stream_idle_timeout,
        write_stall_timeout,
        connection_age,
        tls_handshake_timeout,
        tls_handshakes_max,
        proxies,
        proxy_header_timeout,
        drain_timeout,
    } = old;
    [
        ("verification.threads", *threads != new.threads),
        ("verification.connections_max", *connections_max != new.connections_max),
        (
            "verification.connections_per_address_max",
            *connections_per_address_max != new.connections_per_address_max,
        ),
        ("verification.header_read_timeout_ms", *header_read_timeout != new.header_read_timeout),
        ("verification.body_read_timeout_ms", *body_read_timeout != new.body_read_timeout),
        ("verification.stream_idle_timeout_ms", *stream_idle_timeout != new.stream_idle_timeout),
        ("verification.write_stall_timeout_ms", *write_stall_timeout != new.write_stall_timeout),
        ("verification.connection_age_s", *connection_age != new.connection_age),
        ("verification.tls_handshake_timeout_ms", *tls_handshake_timeout != new.tls_handshake_timeout),
        ("verification.tls_handshakes_max", *tls_handshakes_max != new.tls_handshakes_max),
        ("verification.proxy_protocol_from", *proxies != new.proxies),
        ("verification.proxy_header_timeout_ms", *proxy_header_timeout != new.proxy_header_timeout),
        ("verification.drain_timeout_ms", *drain_timeout != new.drain_timeout),
    ]
}

fn plane_settings(verification: &config::Verification) -> PlaneSettings {
    let (connections, timeouts) = (&verification.connections, &verification.timeouts);
    PlaneSettings {
        threads: verification.threads,
        connections_max: connections.max.get(),
        connections_per_address_max: u32::try_from(connections.per_address_max.get()).unwrap_or(u32::MAX),
        header_read_timeout: timeouts.header_read,
        body_read_timeout: timeouts.body_read,
        stream_idle_timeout: timeouts.stream_idle,
        write_stall_timeout: timeouts.write_stall,
        connection_age: timeouts.connection_age,
        tls_handshake_timeout: timeouts.tls_handshake,
        tls_handshakes_max: connections.handshakes_max.get(),
        proxies: Proxies::new(verification.proxies.clone()),
        proxy_header_timeout: timeouts.proxy_header,
        drain_timeout: timeouts.drain,
    }
}
