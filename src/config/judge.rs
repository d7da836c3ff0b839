//! The only judge of values: from the file as written to the file as meant. Each
//! refusal names the key, the value and what is allowed.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use super::error::ConfigError;
use super::raw::{Raw, RawAdmin, RawAudit, RawLimits, RawListen, RawTls, RawVerification};
use super::resolved::{
    Admin, Audit, AuthFailures, Config, Connections, DefaultLimits, Durability, Listen, Log, LogFormat,
    LogLevel, Machine, Ops, Place, Register, Timeouts, TlsFiles, Verification, Warning,
};
use crate::environment::Environment;
use crate::limits;

/// The longest time-out: beyond an hour it is a typing error in the unit.
const TIMEOUT_MS_MAX: u64 = 3_600_000;
/// A hundred years: an operator who is sure of the clock may say so.
const CLOCK_BEHIND_S_MAX: u64 = 3_155_760_000;

pub(super) fn resolve(raw: &Raw, machine: &Machine) -> Result<Config, ConfigError> {
    let mut warnings = Vec::new();
    let environment = environment(raw.environment.as_deref())?;
    let data_directory = path("data.directory", &raw.data.directory)?;
    let clock_behind = whole("data.clock_behind_max_s", raw.data.clock_behind_max_s, 1, CLOCK_BEHIND_S_MAX)?;
    let verification = verification(&raw.verification, machine, &mut warnings)?;
    let admin = admin(&raw.admin, &mut warnings)?;
    let ops = Ops { listen: listen("ops.listen", &raw.ops.listen)? };
    if !ops.listen.is_loopback() {
        warn(&mut warnings, "ops.listen", "metrics and readiness are open to whoever reaches this address");
    }
    distinct(&[
        ("verification.listen", &verification.listen),
        ("admin.listen", &admin.listen),
        ("ops.listen", &ops.listen),
    ])?;
    let (default_limits, auth_failures) = key_limits(&raw.limits, &mut warnings)?;
    let audit = audit(&raw.audit)?;
    if audit.durability == Durability::Write {
        warn(
            &mut warnings,
            "audit.durability",
            "`write`: a power loss may lose verifications already answered",
        );
    }
    let cache = whole("register.cache_bytes", raw.register.cache_bytes, 1 << 20, 64 << 30)?;
    Ok(Config {
        environment,
        data_directory,
        clock_behind_max: Duration::from_secs(clock_behind),
        verification,
        admin,
        ops,
        audit,
        register: Register { cache_bytes: usize::try_from(cache).unwrap_or(usize::MAX) },
        default_limits,
        auth_failures,
        log: Log {
            level: one_of("log.level", &raw.log.level, &LogLevel::NAMES)?,
            format: one_of(
                "log.format",
                &raw.log.format,
                &[("json", LogFormat::Json), ("text", LogFormat::Text)],
            )?,
        },
        warnings,
    })
}

fn environment(value: Option<&str>) -> Result<Environment, ConfigError> {
    const NAMES: [(&str, Environment); 2] =
        [("test", Environment::Test), ("production", Environment::Production)];
    let Some(value) = value else {
        return Err(ConfigError::Missing { key: "environment", allowed: "`test` or `production`".into() });
    };
    one_of("environment", value, &NAMES)
}

fn verification(
    raw: &RawVerification,
    machine: &Machine,
    warnings: &mut Vec<Warning>,
) -> Result<Verification, ConfigError> {
    let threads = match raw.threads {
        None => machine.cores,
        Some(threads) => count("verification.threads", threads, 1_024)?,
    };
    let connections = Connections {
        max: connections_max(raw.connections_max, machine, warnings)?,
        per_address_max: count(
            "verification.connections_per_address_max",
            raw.connections_per_address_max,
            1_000_000,
        )?,
        handshakes_max: count("verification.tls_handshakes_max", raw.tls_handshakes_max, 65_536)?,
    };
    let timeouts = Timeouts {
        header_read: millis("verification.header_read_timeout_ms", raw.header_read_timeout_ms)?,
        body_read: millis("verification.body_read_timeout_ms", raw.body_read_timeout_ms)?,
        write_stall: millis("verification.write_stall_timeout_ms", raw.write_stall_timeout_ms)?,
        stream_idle: millis("verification.stream_idle_timeout_ms", raw.stream_idle_timeout_ms)?,
        tls_handshake: millis("verification.tls_handshake_timeout_ms", raw.tls_handshake_timeout_ms)?,
        proxy_header: millis("verification.proxy_header_timeout_ms", raw.proxy_header_timeout_ms)?,
        connection_age: Duration::from_secs(whole(
            "verification.connection_age_s",
            raw.connection_age_s,
            1,
            604_800,
        )?),
        drain: millis("verification.drain_timeout_ms", raw.drain_timeout_ms)?,
    };
    let tls = tls("verification.tls", raw.tls.as_ref())?;
    let listen = listen("verification.listen", &raw.listen)?;
    if tls.is_none() && !listen.is_loopback() {
        warn(warnings, "verification.listen", "keys and numbers travel in the clear: no [verification.tls]");
    }
    let proxies = proxies(&raw.proxy_protocol_from)?;
    Ok(Verification { listen, threads, tls, connections, timeouts, proxies })
}

/// Networks whose word about the other end is taken; never everybody's.
fn proxies(texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    const KEY: &str = "verification.proxy_protocol_from";
    const ALLOWED: &str = "networks or addresses of proxies, such as 10.1.0.0/16 or 2001:db8::7: no host bits, \
        not everybody, IPv4 as IPv4";
    if texts.len() > limits::PROXY_NETWORKS_MAX {
        let allowed = format!("at most {} networks", limits::PROXY_NETWORKS_MAX);
        return Err(ConfigError::value(KEY, format!("{} networks", texts.len()), allowed));
    }
    let judged = |text: &String| {
        network(text)
            .filter(|network| {
                // A peer in IPv6 clothes is taken for the IPv4 address that it is.
                let mapped = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xFFFF, 0, 0), 96);
                let is_mapped = matches!(network, IpNet::V6(network)
                    if network.contains(&mapped) || mapped.contains(network));
                network.prefix_len() > 0 && network.trunc() == *network && !is_mapped
            })
            .ok_or_else(|| ConfigError::value(KEY, format!("{text:?}"), ALLOWED))
    };
    texts.iter().map(judged).collect()
}

/// An address, or an address and the length of its network's prefix.
fn network(text: &str) -> Option<IpNet> {
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let Some(prefix) = prefix else { return Some(address.into()) };
    // As for allow-lists: no sign and no zero before it.
    let plain = prefix.bytes().all(|c| c.is_ascii_digit()) && (prefix.len() == 1 || !prefix.starts_with('0'));
    IpNet::new(address, prefix.parse().ok()?).ok().filter(|_| plain)
}

/// As many as configured, or what the open files allow, if that is less.
fn connections_max(
    configured: i64,
    machine: &Machine,
    warnings: &mut Vec<Warning>,
) -> Result<NonZeroUsize, ConfigError> {
    const KEY: &str = "verification.connections_max";
    let configured = count(KEY, configured, 1_000_000)?;
    let Some(files) = machine.files else { return Ok(configured) };
    let possible = NonZeroUsize::new(limits::connections_of_files(files)).unwrap_or(NonZeroUsize::MIN);
    if possible < configured {
        warn(warnings, KEY, &format!("cut to {possible}: this process may open {files} files"));
    }
    Ok(configured.min(possible))
}

fn admin(raw: &RawAdmin, warnings: &mut Vec<Warning>) -> Result<Admin, ConfigError> {
    let listen = listen("admin.listen", &raw.listen)?;
    let tls = tls("admin.tls", raw.tls.as_ref())?;
    if !listen.is_loopback() && tls.is_none() {
        if !raw.allow_plain_remote {
            let allowed = "an address off the loopback, or of systemd's, needs [admin.tls], or admin.allow_plain_remote = true";
            return Err(ConfigError::value("admin.listen", show(&raw.listen), allowed));
        }
        warn(warnings, "admin.allow_plain_remote", "admin tokens travel in the clear");
    }
    let import_idle = millis("admin.import_idle_timeout_ms", raw.import_idle_timeout_ms)?;
    Ok(Admin { listen, tls, import_idle })
}

fn audit(raw: &RawAudit) -> Result<Audit, ConfigError> {
    const DURABILITY: [(&str, Durability); 2] = [("flush", Durability::Flush), ("write", Durability::Write)];
    let segment = |value| {
        let (min, max) = (limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX);
        whole("audit.segment_bytes", value, min, max)
    };
    Ok(Audit {
        durability: one_of("audit.durability", &raw.durability, &DURABILITY)?,
        segment_bytes: segment(raw.segment_bytes)?,
        start_check_bytes: whole("audit.start_check_bytes", raw.start_check_bytes, 0, 1 << 50)?,
    })
}

fn key_limits(
    raw: &RawLimits,
    warnings: &mut Vec<Warning>,
) -> Result<(DefaultLimits, AuthFailures), ConfigError> {
    let limits = DefaultLimits {
        per_second: count_u32("limits.per_second", raw.per_second)?,
        burst: count_u32("limits.burst", raw.burst)?,
        per_day: NonZeroU64::new(whole("limits.per_day", raw.per_day, 1, 1_000_000_000_000)?)
            .unwrap_or(NonZeroU64::MIN),
    };
    if limits.per_day.get() < u64::from(limits.burst.get()) {
        let allowed = format!("at least limits.burst, which is {}", limits.burst);
        return Err(ConfigError::value("limits.per_day", raw.per_day, allowed));
    }
    if (limits.burst.get() as usize) < limits::BATCH_NUMBERS_MAX {
        let message =
            format!("a batch may have {} numbers; one above the burst is refused", limits::BATCH_NUMBERS_MAX);
        warn(warnings, "limits.burst", &message);
    }
    let failures = AuthFailures {
        burst: count_u32("limits.auth_failures_burst", raw.auth_failures_burst)?,
        per_second: count_u32("limits.auth_failures_per_second", raw.auth_failures_per_second)?,
    };
    Ok((limits, failures))
}

fn tls(key: &'static str, raw: Option<&RawTls>) -> Result<Option<TlsFiles>, ConfigError> {
    let Some(raw) = raw else { return Ok(None) };
    let (certificate_key, key_key) = match key {
        "admin.tls" => ("admin.tls.certificate_file", "admin.tls.key_file"),
        _ => ("verification.tls.certificate_file", "verification.tls.key_file"),
    };
    let missing = |key, other| ConfigError::Missing {
        key,
        allowed: format!("a file, as {other} has one: both or neither"),
    };
    match (&raw.certificate_file, &raw.key_file) {
        (Some(certificate), Some(private)) => Ok(Some(TlsFiles {
            certificate: path(certificate_key, certificate)?,
            key: path(key_key, private)?,
        })),
        (None, Some(_)) => Err(missing(certificate_key, key_key)),
        (Some(_), None) => Err(missing(key_key, certificate_key)),
        // A table that is there but empty was meant to say something.
        (None, None) => Err(ConfigError::Missing {
            key: certificate_key,
            allowed: "a file, or leave the table out".into(),
        }),
    }
}

fn listen(key: &'static str, raw: &RawListen) -> Result<Listen, ConfigError> {
    // A plane takes the sockets of its own name only: none is ever another's.
    let passed = format!("systemd:{}", key.trim_end_matches(".listen"));
    let mut places: Vec<Place> = Vec::new();
    for text in raw.addresses() {
        let place = match text.parse() {
            Ok(address) => Place::Address(address),
            Err(_) if *text == passed => Place::Systemd,
            Err(_) => {
                let allowed = format!(
                    "an address and port such as 127.0.0.1:8080 or [::1]:8080 (no name), `{passed}`, or a list \
                     of them"
                );
                return Err(ConfigError::value(key, text, allowed));
            }
        };
        if places.iter().any(|other| place.is_shared_with(other)) {
            return Err(ConfigError::value(key, text, "each address once, and none beside all of its port"));
        }
        places.push(place);
    }
    if places.is_empty() || places.len() > 64 {
        return Err(ConfigError::value(key, format!("{} addresses", places.len()), "1 to 64 addresses"));
    }
    Ok(Listen(places))
}

/// No two planes on one address: each has its own listener and credentials.
fn distinct(planes: &[(&'static str, &Listen)]) -> Result<(), ConfigError> {
    for (at, (key, listen)) in planes.iter().enumerate() {
        for (other_key, other) in &planes[..at] {
            let pairs = listen.0.iter().flat_map(|place| other.0.iter().map(move |other| (place, other)));
            let mut shared = pairs.filter(|(place, other)| place.is_shared_with(other));
            if let Some((Place::Address(address), Place::Address(other))) = shared.next() {
                let has = if address == other { "this one" } else { &format!("{other}, which is no other") };
                let allowed = format!("an address of its own; {other_key} has {has}");
                return Err(ConfigError::value(key, address, allowed));
            }
        }
    }
    Ok(())
}

fn show(raw: &RawListen) -> String {
    raw.addresses().join(", ")
}

fn path(key: &'static str, value: &str) -> Result<PathBuf, ConfigError> {
    if value.is_empty() || value.contains('\0') {
        return Err(ConfigError::value(key, format!("{value:?}"), "a path"));
    }
    Ok(PathBuf::from(value))
}

fn one_of<T: Copy>(key: &'static str, value: &str, names: &[(&str, T)]) -> Result<T, ConfigError> {
    names.iter().find(|(name, _)| *name == value).map(|(_, found)| *found).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
        ConfigError::value(key, format!("{value:?}"), format!("one of {}", names.join(", ")))
    })
}

fn whole(key: &'static str, value: i64, min: u64, max: u64) -> Result<u64, ConfigError> {
    u64::try_from(value)
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| ConfigError::value(key, value, format!("a whole number from {min} to {max}")))
}

fn count(key: &'static str, value: i64, max: u64) -> Result<NonZeroUsize, ConfigError> {
    let value = whole(key, value, 1, max)?;
    Ok(usize::try_from(value).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN))
}

fn count_u32(key: &'static str, value: i64) -> Result<NonZeroU32, ConfigError> {
    let value = whole(key, value, 1, 1_000_000_000)?;
    Ok(u32::try_from(value).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN))
}

fn millis(key: &'static str, value: i64) -> Result<Duration, ConfigError> {
    Ok(Duration::from_millis(whole(key, value, 1, TIMEOUT_MS_MAX)?))
}

fn warn(warnings: &mut Vec<Warning>, key: &'static str, message: &str) {
    warnings.push(Warning { key, message: message.to_owned() });
}
