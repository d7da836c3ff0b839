//! The parts at work: from bound sockets to a clean end.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::blueprint::Blueprint;
use super::certificates::Certificates;
use super::notify::{Notifier, Word};
use super::parts::Parts;
use super::process;
use super::reload::{Reloading, Rereading};
use super::signals::{Signals, Wish};
use super::sockets::{Addresses, Bound, Passed, Sockets};
use crate::clock::Clock;
use crate::datadir::DataDir;
use crate::gate::Gate;
use crate::http::admin::{self, AdminHandles};
use crate::http::control;
use crate::http::ops::{self, OpsBoard, OpsHandles};
use crate::http::plane::{Phase, PlaneHandles, RunningPlane, Tallies};
use crate::http::readiness::{self, NotReady};
use crate::http::readings::StoreReadings;
use crate::http::verify::status::{StatusBoard, durability_name};
use crate::telemetry::Metrics;

/// Why an instance did not start, or did not end well.
#[derive(Debug)]
pub struct InstanceError {
    text: String,
    is_of_the_trail: bool,
    is_logged: bool,
}

impl InstanceError {
    pub(super) fn new(what: &str, error: impl fmt::Display) -> Self {
        Self::plain(format_args!("{what}: {error}"))
    }

    /// An error whose own text says what it was about.
    pub(super) fn plain(error: impl fmt::Display) -> Self {
        Self { text: error.to_string(), is_of_the_trail: false, is_logged: false }
    }

    /// The audit trail could not be written.
    pub(super) fn of_the_trail(error: impl fmt::Display) -> Self {
        Self { is_of_the_trail: true, ..Self::new("audit trail", error) }
    }

    /// Writes it to the log, which is its last word then.
    pub(super) fn logged(self) -> Self {
        tracing::error!(error = %self, "the gateway ends");
        Self { is_logged: true, ..self }
    }

    /// Whether the audit trail could not be written: another start would meet the same
    /// disk.
    #[must_use]
    pub const fn is_of_the_trail(&self) -> bool {
        self.is_of_the_trail
    }

    /// Whether the log has it, so that nobody need say it again.
    #[must_use]
    pub const fn is_logged(&self) -> bool {
        self.is_logged
    }
}

impl fmt::Display for InstanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for InstanceError {}

/// How often the metrics' histograms are drained.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Is told the planes' addresses, and why the instance is not ready.
type Listening<'a> = dyn FnOnce(&Addresses, &[NotReady]) + 'a;

/// What the composition root passes to [`run`] besides the blueprint.
pub struct Surroundings<'a> {
    /// The sockets that the service manager passed.
    pub(super) passed: Passed,
    /// The installed metrics.
    pub metrics: Metrics,
    /// The wall clock.
    pub clock: Clock,
    /// Called once all planes answer, if only that they are not ready, and why.
    pub listening: Box<Listening<'a>>,
    /// Reads the configuration again; `None` where there is none.
    pub reload: Option<Box<Rereading<'a>>>,
}

/// Runs an instance on this thread's runtime until it is asked to end.
///
/// # Errors
/// When a part cannot be built, the trail failed for good, or a thread of the
/// verification plane ended by itself.
pub async fn run(
    blueprint: Blueprint,
    data: DataDir,
    surroundings: Surroundings<'_>,
) -> Result<(), InstanceError> {
    let Surroundings { passed, metrics, clock, listening, reload } = surroundings;
    let clock = clock.guarded(blueprint.clock_behind_max);
    let sockets = Sockets::bind(&blueprint, passed).map_err(InstanceError::plain)?;
    let addresses = sockets.addresses().map_err(|error| InstanceError::new("sockets", error))?;
    let tls = Certificates::start(&blueprint, clock.now())?;
    let mut signals = Signals::new().map_err(|error| InstanceError::new("signals", error))?;
    let (phase_sender, phase) = watch::channel(Phase::Running);
    // Operations stay open through the drain, to tell of it.
    let (ops_open, ops_phase) = watch::channel(Phase::Running);
    let mut planes = JoinSet::new();

    // Operations can look from the first moment on.
    let board = OpsBoard::starting(metrics.clone());
    let places = control::Places::new(process::control_connections_max());
    for listener in sockets.ops {
        let listener = listener.listen().map_err(|error| InstanceError::new("operations plane", error))?;
        let router = ops::router(board.clone());
        planes.spawn_local(control::serve(listener, places.clone(), None, router, ops_phase.clone()));
    }
    planes.spawn_local(upkeep(metrics));

    let building = {
        let (blueprint, clock) = (blueprint.clone(), clock.clone());
        tokio::task::spawn_blocking(move || Parts::open(&blueprint, &data, &clock).map(|parts| (parts, data)))
    };
    let (parts, data) = building.await.map_err(|error| InstanceError::new("start", error))??;
    process::no_more_huge_pages();

    let gate = Arc::new(Gate::new(parts.directory.clone(), blueprint.auth_failures));
    let readings = StoreReadings::default();
    let handles = plane_handles(&blueprint, &parts, &gate, (&readings, &clock));
    let mut plane = start_plane(&blueprint, sockets.verification, &tls, handles, phase.clone())?;
    let admin = admin::router(AdminHandles {
        directory: parts.directory.clone(),
        access: parts.access.clone(),
        register: parts.register.clone(),
        commander: parts.commander.clone(),
        backups: parts.backups(&blueprint, &data, &clock),
        readings,
        clock: clock.clone(),
        import_idle_timeout: blueprint.import_idle_timeout,
    });
    let places = control::Places::new(process::control_connections_max());
    for listener in sockets.admin {
        let listener = listener.listen().map_err(|error| InstanceError::new("admin plane", error))?;
        planes.spawn_local(control::serve(
            listener,
            places.clone(),
            tls.admin.clone(),
            admin.clone(),
            phase.clone(),
        ));
    }
    board.built(OpsHandles {
        trail: parts.trail.clone(),
        register: parts.register.clone(),
        directory: parts.directory.clone(),
        tallies: plane.tallies(),
        clock: clock.clone(),
        phase: phase.clone(),
    });
    listening(&addresses, &board.not_ready());
    let outages = tokio::task::spawn_local(readiness::watch(board, clock.clone()));
    let notifier = Rc::new(Notifier::from_environment());
    notifier.tell(Word::Ready);
    let watchdog = tokio::task::spawn_local(keep_alive(Rc::clone(&notifier), plane.tallies()));

    let reloading = Reloading { certificates: &tls, access: &parts.access, gate: &gate, clock: &clock };
    let failed = parts.trail.failed();
    let mut failed = std::pin::pin!(failed);
    let broken = loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::End => break None,
                Wish::Reload => {
                    notifier.tell(Word::Reloading);
                    reloading.reload(reload.as_deref(), &blueprint);
                    notifier.tell(Word::Ready);
                }
            },
            failure = failed.as_mut() => {
                let told = format!("{}; no answer was given after that", failure.reason());
                break Some(match failure.is_of_disk() {
                    true => InstanceError::of_the_trail(told),
                    // Started again, it may do better.
                    false => InstanceError::new("audit trail", told),
                });
            }
            thread = plane.broken() => {
                tracing::error!(thread, "a thread of the verification plane is gone: the process ends");
                break Some(InstanceError::new("verification plane", format!("its thread {thread} is gone")));
            }
        }
    };

    tracing::info!("draining");
    watchdog.abort();
    outages.abort();
    notifier.tell(Word::Stopping);
    // Everybody who watched may be gone already.
    let _unwatched = phase_sender.send(Phase::Draining);
    let ended = end(plane, planes, ops_open, parts, broken).await;
    drop(data);
    ended
}

/// Takes everything down in order: no more questions, no more changes, then the
/// stores, the trail last.
async fn end(
    plane: RunningPlane,
    mut planes: JoinSet<std::io::Result<()>>,
    ops_open: watch::Sender<Phase>,
    parts: Parts,
    broken: Option<InstanceError>,
) -> Result<(), InstanceError> {
    let joined = tokio::task::spawn_blocking(move || plane.join());
    joined.await.map_err(|error| InstanceError::new("verification plane", error))?;
    drop(ops_open);
    // The upkeep never ends by itself; the listeners have their own deadlines.
    let listeners = async {
        while planes.len() > 1 {
            planes.join_next().await;
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(6), listeners).await);
    planes.shutdown().await;
    let closing = tokio::task::spawn_blocking(move || parts.close());
    let closed = closing.await.map_err(|error| InstanceError::new("end", error))?;
    match (broken, closed) {
        // What ended it is told; how the trail closed behind that is in the log.
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(InstanceError::of_the_trail(error)),
        (None, Ok(())) => {
            tracing::info!("ended");
            Ok(())
        }
    }
}

fn plane_handles(
    blueprint: &Blueprint,
    parts: &Parts,
    gate: &Arc<Gate>,
    (readings, clock): (&StoreReadings, &Clock),
) -> PlaneHandles {
    PlaneHandles {
        gate: Arc::clone(gate),
        register: parts.register.clone(),
        trail: parts.trail.clone(),
        readings: readings.clone(),
        clock: clock.clone(),
        status: Arc::new(StatusBoard::new(blueprint.environment, blueprint.durability)),
    }
}

fn start_plane(
    blueprint: &Blueprint,
    sockets: Vec<Bound>,
    tls: &Certificates,
    handles: PlaneHandles,
    phase: watch::Receiver<Phase>,
) -> Result<RunningPlane, InstanceError> {
    let failed = |error: std::io::Error| InstanceError::new("verification plane", error);
    let listeners = sockets.into_iter().map(Bound::listen).collect::<std::io::Result<_>>().map_err(failed)?;
    let durability = durability_name(blueprint.durability);
    metrics::gauge!("peselgate_audit_durability_info", "durability" => durability).set(1.0);
    metrics::gauge!("peselgate_connections_max").set(blueprint.plane.connections_max as f64);
    RunningPlane::start(listeners, blueprint.plane.clone(), tls.verification.clone(), handles, phase)
        .map_err(failed)
}

/// Tells the service manager that the instance is alive, as long as every
/// verification worker and this runtime are.
async fn keep_alive(notifier: Rc<Notifier>, tallies: Tallies) {
    let Some(every) = notifier.alive_every() else { return };
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        if tallies.collect_within(every).await {
            notifier.tell(Word::Alive);
        } else {
            tracing::error!("a verification worker does not answer");
        }
    }
}

async fn upkeep(metrics: Metrics) -> std::io::Result<()> {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        metrics.upkeep();
    }
}
