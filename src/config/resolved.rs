//! The configuration as judged: bounded, related to one another, in words of the
//! domain, one small struct a part. `judge` alone makes them.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::environment::Environment;

/// What the machine offers; passed in, so that the judge is pure.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: NonZeroUsize,
    /// Open files this process may have (`ulimit -n`); `None`: no limit.
    pub files: Option<u64>,
}

impl Machine {
    /// The machine this process runs on.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            cores: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }
}

/// The judged configuration, to be taken apart by the composition root.
#[derive(Debug)]
pub struct Config {
    /// The one environment that this instance serves.
    pub environment: Environment,
    /// Where all state lies.
    pub data_directory: PathBuf,
    /// How far the clock may lie behind what is on record.
    pub clock_behind_max: Duration,
    /// The verification plane.
    pub verification: Verification,
    /// The admin plane.
    pub admin: Admin,
    /// The operations plane.
    pub ops: Ops,
    /// The audit trail.
    pub audit: Audit,
    /// The register's store.
    pub register: Register,
    /// Limits of keys that are issued without limits of their own.
    pub default_limits: DefaultLimits,
    /// The bucket for failed authentication.
    pub auth_failures: AuthFailures,
    /// The log.
    pub log: Log,
    /// What is allowed, but should be looked at; for the log.
    pub warnings: Vec<Warning>,
}

/// Something allowed that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key, with its table.
    pub key: &'static str,
    /// Why to look.
    pub message: String,
}

/// One place where a plane listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An address of this machine.
    Address(SocketAddr),
    /// The sockets that systemd passes under the plane's own name.
    Systemd,
}

impl Place {
    /// Whether the kernel takes both for one, so that the later could not listen: the
    /// same port of the same address, or of all addresses. `[::]` is IPv4's too.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        let (Self::Address(one), Self::Address(other)) = (self, other) else { return self == other };
        // Port 0 is another one each time.
        if one.port() == 0 || one.port() != other.port() {
            return false;
        }
        let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
        let takes_in = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
        one == other || takes_in(ip, other_ip) || takes_in(other_ip, ip) || (ip == other_ip && ip.is_ipv4())
    }
}

/// Where a plane listens: at least one place, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen(pub(super) Vec<Place>);

impl Listen {
    /// The places, at least one.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.0
    }

    /// Whether nobody outside of this machine can reach them, as far as the file
    /// says: where systemd listens stands in another one.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0.iter().all(|place| match place {
            Place::Address(address) => address.ip().to_canonical().is_loopback(),
            Place::Systemd => false,
        })
    }
}

/// PEM files of a server's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The verification plane.
#[derive(Debug, Clone)]
pub struct Verification {
    /// Where it listens.
    pub listen: Listen,
    /// Threads, each with a runtime of its own.
    pub threads: NonZeroUsize,
    /// TLS 1.3, when configured.
    pub tls: Option<TlsFiles>,
    /// How many connections.
    pub connections: Connections,
    /// How long for what.
    pub timeouts: Timeouts,
    /// Networks whose connections must begin with a PROXY header.
    pub proxies: Vec<IpNet>,
}

/// How many connections the verification plane takes.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Open at once; already bounded by the process's open files.
    pub max: NonZeroUsize,
    /// Open at once from one address.
    pub per_address_max: NonZeroUsize,
    /// TLS handshakes at once.
    pub handshakes_max: NonZeroUsize,
}

/// Time-outs of the verification plane.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the first byte (or the end of the last answer) to a whole header.
    pub header_read: Duration,
    /// For the body of a single verification or a JSON batch.
    pub body_read: Duration,
    /// Without progress while an answer is written.
    pub write_stall: Duration,
    /// Without a complete line while a stream is read.
    pub stream_idle: Duration,
    /// For a TLS handshake.
    pub tls_handshake: Duration,
    /// For a PROXY header.
    pub proxy_header: Duration,
    /// Age at which a connection is asked to close.
    pub connection_age: Duration,
    /// From SIGTERM to the end of what is being answered.
    pub drain: Duration,
}

/// The admin plane. Off the loopback only with TLS, or by an explicit word.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens.
    pub listen: Listen,
    /// TLS 1.3, when configured.
    pub tls: Option<TlsFiles>,
    /// Longest wait for a complete line of an import.
    pub import_idle: Duration,
}

/// The operations plane.
#[derive(Debug, Clone)]
pub struct Ops {
    /// Where it listens.
    pub listen: Listen,
}

/// When a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the disk said so (fdatasync): survives a power loss.
    Flush,
    /// After the kernel took it: survives the end of the process only.
    Write,
}

/// The audit trail.
#[derive(Debug, Clone, Copy)]
pub struct Audit {
    /// When an answer may leave.
    pub durability: Durability,
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// Bytes of the newest part that a start verifies in full.
    pub start_check_bytes: u64,
}

/// The register's store.
#[derive(Debug, Clone, Copy)]
pub struct Register {
    /// Bytes of the store's cache.
    pub cache_bytes: usize,
}

/// Limits of a key issued without limits of its own, in numbers asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultLimits {
    /// A second, sustained.
    pub per_second: NonZeroU32,
    /// At once; the largest batch.
    pub burst: NonZeroU32,
    /// A day.
    pub per_day: NonZeroU64,
}

/// Failed authentication an address may have before it is no longer listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthFailures {
    /// At once.
    pub burst: NonZeroU32,
    /// Refilled a second.
    pub per_second: NonZeroU32,
}

/// How much the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what needs attention.
    Warn,
    /// And starts, ends, changes.
    Info,
    /// And the course of things.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    pub(super) const NAMES: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The word, as the log's filter takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The log.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}
