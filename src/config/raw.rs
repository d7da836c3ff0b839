//! The strict mirror of the configuration file: the types of TOML and the
//! defaults, no judgement. A key that is not here is an error that names it.
//!
//! `flatten` is used nowhere: it would cancel `deny_unknown_fields`.

use serde::{Deserialize, Serialize};

use crate::limits;

/// The whole file. `environment` alone has no default and must be said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) environment: Option<String>,
    pub(super) data: RawData,
    pub(super) verification: RawVerification,
    pub(super) admin: RawAdmin,
    pub(super) ops: RawOps,
    pub(super) audit: RawAudit,
    pub(super) register: RawRegister,
    pub(super) limits: RawLimits,
    pub(super) log: RawLog,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawData {
    pub(super) directory: String,
    pub(super) clock_behind_max_s: i64,
}

/// `[verification]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawVerification {
    pub(super) listen: RawListen,
    pub(super) threads: Option<i64>,
    pub(super) connections_max: i64,
    pub(super) connections_per_address_max: i64,
    pub(super) header_read_timeout_ms: i64,
    pub(super) body_read_timeout_ms: i64,
    pub(super) write_stall_timeout_ms: i64,
    pub(super) stream_idle_timeout_ms: i64,
    pub(super) connection_age_s: i64,
    pub(super) drain_timeout_ms: i64,
    pub(super) tls_handshake_timeout_ms: i64,
    pub(super) tls_handshakes_max: i64,
    pub(super) proxy_protocol_from: Vec<String>,
    pub(super) proxy_header_timeout_ms: i64,
    pub(super) tls: Option<RawTls>,
}

/// `[verification.tls]`, `[admin.tls]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) certificate_file: Option<String>,
    pub(super) key_file: Option<String>,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    pub(super) listen: RawListen,
    pub(super) allow_plain_remote: bool,
    pub(super) import_idle_timeout_ms: i64,
    pub(super) tls: Option<RawTls>,
}

/// `[ops]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOps {
    pub(super) listen: RawListen,
}

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAudit {
    pub(super) durability: String,
    pub(super) segment_bytes: i64,
    pub(super) start_check_bytes: i64,
}

/// `[register]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRegister {
    pub(super) cache_bytes: i64,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) per_second: i64,
    pub(super) burst: i64,
    pub(super) per_day: i64,
    pub(super) auth_failures_burst: i64,
    pub(super) auth_failures_per_second: i64,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) level: String,
    pub(super) format: String,
}

/// One address or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected an address such as \"127.0.0.1:8080\" or a list of them")]
pub(super) enum RawListen {
    One(String),
    Many(Vec<String>),
}

impl RawListen {
    fn one(address: &str) -> Self {
        Self::One(address.to_owned())
    }

    pub(super) fn addresses(&self) -> &[String] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Many(addresses) => addresses,
        }
    }
}

impl Raw {
    /// Every key of the file, also those that have no default, with a value of
    /// its type. Overrides from the environment take their types from it, and
    /// the test of the example file its list of keys.
    pub(super) fn every_key() -> Self {
        let tls = || {
            Some(RawTls { certificate_file: Some("server.pem".into()), key_file: Some("server.key".into()) })
        };
        let default = Self::default();
        Self {
            environment: Some("test".into()),
            verification: RawVerification { threads: Some(1), tls: tls(), ..default.verification },
            admin: RawAdmin { tls: tls(), ..default.admin },
            ..default
        }
    }
}

impl Default for RawData {
    fn default() -> Self {
        Self {
            directory: "/var/lib/peselgate".into(),
            clock_behind_max_s: limits::CLOCK_BEHIND_SECONDS_MAX.cast_signed(),
        }
    }
}

impl Default for RawVerification {
    fn default() -> Self {
        Self {
            listen: RawListen::one("127.0.0.1:8080"),
            threads: None,
            connections_max: 10_000,
            connections_per_address_max: 512,
            header_read_timeout_ms: 10_000,
            body_read_timeout_ms: 2_000,
            write_stall_timeout_ms: 10_000,
            stream_idle_timeout_ms: 10_000,
            connection_age_s: 600,
            drain_timeout_ms: 10_000,
            tls_handshake_timeout_ms: 5_000,
            tls_handshakes_max: 4,
            proxy_protocol_from: Vec::new(),
            proxy_header_timeout_ms: 5_000,
            tls: None,
        }
    }
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            listen: RawListen::one("127.0.0.1:8081"),
            allow_plain_remote: false,
            import_idle_timeout_ms: 30_000,
            tls: None,
        }
    }
}

impl Default for RawOps {
    fn default() -> Self {
        Self { listen: RawListen::one("127.0.0.1:8082") }
    }
}

impl Default for RawAudit {
    fn default() -> Self {
        Self {
            durability: "flush".into(),
            segment_bytes: 16 * 1024 * 1024,
            start_check_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Default for RawRegister {
    fn default() -> Self {
        Self { cache_bytes: 32 * 1024 * 1024 }
    }
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            per_second: 200,
            burst: 1_000,
            per_day: 1_000_000,
            auth_failures_burst: 200,
            auth_failures_per_second: 20,
        }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: "info".into(), format: "json".into() }
    }
}
