//! `peselgate serve`: the real thing.

use std::path::Path;

use super::blueprint::Blueprint;
use super::certificates::Certificates;
use super::instance::{InstanceError, Surroundings, run};
use super::process;
use super::reload::ReadAgain;
use super::sockets::Passed;
use crate::clock::Clock;
use crate::config::{self, Config, Variables};
use crate::datadir::DataDir;
use crate::http::readiness::joined;
use crate::telemetry::{self, LogFormat, LogLevelControl};

/// Judges a configuration file, and the certificates that it names, without starting
/// anything; the text says so.
///
/// # Errors
/// With the key, the value and what is allowed.
pub fn check(path: &Path) -> Result<String, InstanceError> {
    let config = load(path)?;
    let blueprint = judged(&config)?;
    // As a reload judges them: a key must be a key, the certificate's own, and the
    // certificate valid, of which a start only warns.
    Certificates::check(&blueprint, Clock::system().now())?;
    let warnings: String = config
        .warnings
        .iter()
        .map(|warning| format!("\nwarning: {}: {}", warning.key, warning.message))
        .collect();
    Ok(format!("{}: good for the {} environment{warnings}", path.display(), config.environment))
}

/// Runs a gateway until it is asked to end.
///
/// # Errors
/// When it cannot start, or the trail failed. Where lines of the log are JSON, the log has
/// the error already: whoever collects them drops any other line. What is wrong with the
/// file itself, or with passed sockets, comes before there is a log.
pub fn serve(path: &Path) -> Result<(), InstanceError> {
    // First of all, while there is one thread: it changes the environment.
    let passed = Passed::from_environment().map_err(|error| InstanceError::new("sockets", error))?;
    process::settle();
    let config = load(path)?;
    let format = match config.log.format {
        config::LogFormat::Json => LogFormat::Json,
        config::LogFormat::Text => LogFormat::Text,
    };
    let level = telemetry::install_logs(config.log.level.name(), format)
        .map_err(|error| InstanceError::new("log", error))?;
    let ended = judged(&config).and_then(|blueprint| serve_logged(path, &config, blueprint, passed, &level));
    match format {
        LogFormat::Json => ended.map_err(InstanceError::logged),
        LogFormat::Text => ended,
    }
}

fn serve_logged(
    path: &Path,
    config: &Config,
    blueprint: Blueprint,
    passed: Passed,
    level: &LogLevelControl,
) -> Result<(), InstanceError> {
    for warning in &config.warnings {
        tracing::warn!(key = warning.key, "{}", warning.message);
    }
    let metrics = telemetry::install_metrics().map_err(|error| InstanceError::new("metrics", error))?;
    let data =
        DataDir::lock_made(&blueprint.data_directory).map_err(|error| InstanceError::new("start", error))?;
    let format = config.log.format;
    let reload = move || {
        let config = load(path)?;
        let blueprint = judged(&config)?;
        let settle =
            move || level.set(config.log.level.name()).map_err(|error| InstanceError::new("log", error));
        let needing_restart = if config.log.format == format { vec![] } else { vec!["log.format"] };
        Ok(ReadAgain { blueprint, settle: Box::new(settle), needing_restart })
    };
    let surroundings = Surroundings {
        passed,
        metrics,
        clock: Clock::system(),
        listening: Box::new(|addresses, reasons| match reasons {
            [] => tracing::info!(?addresses, "listening"),
            reasons => tracing::info!(not_ready = joined(reasons), ?addresses, "listening"),
        }),
        reload: Some(Box::new(reload)),
    };
    control_runtime()?.block_on(run(blueprint, data, surroundings))
}

/// The runtime of everything but the verification workers.
pub(super) fn control_runtime() -> Result<tokio::runtime::LocalRuntime, InstanceError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| InstanceError::new("runtime", error))
}

fn load(path: &Path) -> Result<Config, InstanceError> {
    config::load(path, &Variables::of_this_process())
        .map_err(|error| InstanceError::new("configuration", error))
}

fn judged(config: &Config) -> Result<Blueprint, InstanceError> {
    Blueprint::from_config(config).map_err(|error| InstanceError::new("configuration", error))
}
