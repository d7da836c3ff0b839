//! Logs and metrics: what is measured, in which buckets, and how it is shown.
//!
//! Names follow Prometheus' conventions (`_total`, `_seconds`, `_bytes`). No
//! label holds a person's data, an address or a secret.

use std::fmt;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Seconds from a request's head to its record's hand-over.
pub const DECISION_SECONDS_BUCKETS: &[f64] = &[
    0.000_000_5,
    0.000_001,
    0.000_002,
    0.000_003,
    0.000_005,
    0.000_01,
    0.000_02,
    0.000_05,
    0.000_1,
    0.000_5,
    0.001,
    0.01,
];

/// Seconds from a request's head to its answer.
pub const ANSWER_SECONDS_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25,
    1.0, 2.5, 10.0,
];

/// Records of a group, commands of a commit.
const GROUP_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// Installs the process-wide metrics recorder.
///
/// # Errors
/// When one is installed already.
pub fn install_metrics() -> Result<Metrics, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("peselgate_decision_seconds".into()), DECISION_SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), ANSWER_SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_group_records".into()), GROUP_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_commands_per_commit".into()), GROUP_BUCKETS)?
        .install_recorder()?;
    metrics_process::Collector::default().describe();
    describe();
    Ok(Metrics { handle })
}

/// The installed recorder's reading side.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Everything measured, as Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        metrics_process::Collector::default().collect();
        self.handle.render()
    }

    /// To be called every few seconds: histograms grow for ever otherwise.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("peselgate_verifications_total", "Numbers answered, by outcome.");
    describe_counter!("peselgate_refusals_total", "Requests refused, by problem code.");
    describe_counter!(
        "peselgate_handler_panics_total",
        "Handlers that panicked; each was answered `internal-error`, by 500 or a stream's last line."
    );
    describe_histogram!(
        "peselgate_decision_seconds",
        Unit::Seconds,
        "Key, address, limit, parse, look-up and record encoding."
    );
    describe_histogram!(
        "peselgate_answer_seconds",
        Unit::Seconds,
        "From a request's head to its answer, durable record included."
    );
    describe_gauge!("peselgate_connections", "Connections open on the verification plane.");
    describe_gauge!(
        "peselgate_connections_max",
        "Connections that the verification plane takes at once; more wait for a place."
    );
    describe_counter!(
        "peselgate_connections_accepted_total",
        "Connections accepted on the verification plane."
    );
    describe_counter!(
        "peselgate_connections_refused_total",
        "Connections closed unserved, or cut for a flood of frames, by reason."
    );
    describe_counter!(
        "peselgate_connections_delayed_total",
        "Connections over TLS or HTTP/2, and refusals of messages without a certain end in plain HTTP/1.1, that waited for their turn: many of one address came at once."
    );
    describe_counter!("peselgate_accept_errors_total", "Failed accepts, e.g. out of file descriptors.");
    describe_counter!(
        "peselgate_limiter_refusals_total",
        "Requests refused by a key's limits, by key identifier."
    );
    describe_counter!(
        "peselgate_control_refusals_total",
        "Requests refused on the admin and operations planes, by problem code."
    );
    describe_gauge!(
        "peselgate_register_age_seconds",
        Unit::Seconds,
        "Time since the moment of the last event."
    );
    describe_counter!("peselgate_access_changes_total", "Changes of keys and tokens on record.");
    describe_counter!(
        "peselgate_access_store_failures_total",
        "Failed writes and openings of the access store."
    );
    // Seen from the first scrape on: an increase from nothing is no increase.
    metrics::counter!("peselgate_access_store_failures_total").increment(0);
    describe_counter!("peselgate_backups_total", "Backups that ended, by outcome.");
    for outcome in ["complete", "abandoned", "revoked", "failed"] {
        metrics::counter!("peselgate_backups_total", "outcome" => outcome).increment(0);
    }
    describe_counter!(
        "peselgate_reloads_total",
        "Reloads (SIGHUP), by outcome; a failed one changed nothing."
    );
    for outcome in ["done", "failed"] {
        metrics::counter!("peselgate_reloads_total", "outcome" => outcome).increment(0);
    }
    describe_gauge!(
        "peselgate_last_reload_successful",
        "0 from a reload that failed until one that did not, else 1."
    );
    metrics::gauge!("peselgate_last_reload_successful").set(1.0);
    describe_gauge!(
        "peselgate_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        "Last second, since 1970, of the certificate in force, by plane; of planes with TLS alone."
    );
    describe_gauge!("peselgate_trail_writable", "1 while answers can be put on record, else 0.");
    describe_gauge!("peselgate_keys", "API keys that are active.");
    describe_gauge!("peselgate_ready", "1 while the instance answers, 0 otherwise.");
    describe_gauge!("peselgate_audit_durability_info", "Always 1; the label says when an answer may leave.");
    describe_gauge!("peselgate_build_info", "Always 1; labels say what is running.");
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

/// The installed logger's level, exchanged while it runs.
pub struct LogLevelControl(Box<SetLevel>);

type SetLevel = dyn Fn(&str) -> Result<(), LogError>;

/// A level that cannot be read, or a logger that is installed already.
pub type LogError = Box<dyn std::error::Error + Send + Sync>;

impl fmt::Debug for LogLevelControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLevelControl")
    }
}

impl LogLevelControl {
    /// Logs at this level from now on.
    ///
    /// # Errors
    /// When the level cannot be read; the old one stays.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        (self.0)(level)
    }
}

/// Installs the process-wide logger, to standard error.
///
/// `level` is a `tracing` filter such as `info` or `peselgate=debug`.
///
/// # Errors
/// When the filter cannot be read or a logger is installed already.
pub fn install_logs(level: &str, format: LogFormat) -> Result<LogLevelControl, LogError> {
    let filter = EnvFilter::try_new(level)?;
    let logger = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
    Ok(LogLevelControl(match format {
        LogFormat::Json => {
            let logger = logger.json().flatten_event(true).with_env_filter(filter).with_filter_reloading();
            let handle = logger.reload_handle();
            logger.try_init()?;
            Box::new(move |level| Ok(handle.reload(EnvFilter::try_new(level)?)?))
        }
        LogFormat::Text => {
            let logger = logger.with_env_filter(filter).with_filter_reloading();
            let handle = logger.reload_handle();
            logger.try_init()?;
            Box::new(move |level| Ok(handle.reload(EnvFilter::try_new(level)?)?))
        }
    }))
}
