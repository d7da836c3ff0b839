//! The operations plane: is it alive, may it get traffic, what does it measure.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::watch;

use super::control::{leave, method_not_allowed, not_found};
use super::plane::{Phase, Tallies};
use super::readiness::NotReady;
use crate::access::DirectoryReader;
use crate::audit::{Trail, TrailHealth};
use crate::clock::Clock;
use crate::environment::Environment;
use crate::register::Reader;
use crate::telemetry::Metrics;

/// What the plane looks at.
pub struct OpsHandles {
    /// Is the trail writable?
    pub trail: Trail,
    /// The register's state.
    pub register: Reader,
    /// Keys, and what their limits refused.
    pub directory: DirectoryReader,
    /// The workers' counters.
    pub tallies: Tallies,
    /// What time it is.
    pub clock: Clock,
    /// Running or draining.
    pub phase: watch::Receiver<Phase>,
}

/// What the plane answers from: little while the instance starts, everything
/// once it is built.
#[derive(Clone)]
pub struct OpsBoard(Arc<Board>);

struct Board {
    metrics: Metrics,
    handles: OnceLock<OpsHandles>,
}

impl OpsBoard {
    /// A board that says "starting".
    #[must_use]
    pub fn starting(metrics: Metrics) -> Self {
        Self(Arc::new(Board { metrics, handles: OnceLock::new() }))
    }

    /// From now on the parts are looked at. Said once; a second word is ignored.
    pub fn built(&self, handles: OpsHandles) {
        drop(self.0.handles.set(handles));
    }

    /// Why no traffic should come here; nothing means it should.
    #[must_use]
    pub fn not_ready(&self) -> Vec<NotReady> {
        match self.0.handles.get() {
            Some(handles) => handles.not_ready(),
            None => vec![NotReady::Starting],
        }
    }
}

/// The plane's routes.
pub fn router(board: OpsBoard) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn(leave))
        .with_state(board)
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(board): State<OpsBoard>) -> Response {
    let reasons = board.not_ready();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let reasons: Vec<String> = reasons.iter().map(NotReady::to_string).collect();
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({"ready": false, "reasons": reasons}))).into_response()
}

impl OpsHandles {
    fn not_ready(&self) -> Vec<NotReady> {
        let mut reasons = Vec::new();
        if *self.phase.borrow() == Phase::Draining {
            reasons.push(NotReady::Draining);
        }
        if let Err(behind) = self.clock.judged() {
            reasons.push(NotReady::Clock(behind));
        }
        if self.directory.environment() == Environment::Production && self.register.snapshot().holds_nobody()
        {
            reasons.push(NotReady::HoldsNobody);
        }
        match self.trail.health() {
            TrailHealth::Writable => {}
            TrailHealth::NoSpace { since, reason } => reasons.push(NotReady::NoRoom { since, reason }),
            TrailHealth::Failed { since, reason } => reasons.push(NotReady::Failed { since, reason }),
        }
        reasons
    }

    fn sample(&self) {
        let snapshot = self.register.snapshot();
        let now = self.clock.now();
        let age = now.unix_seconds() - snapshot.as_of().unix_seconds();
        metrics::gauge!("peselgate_register_age_seconds").set(age as f64);
        let trail_writable = matches!(self.trail.health(), TrailHealth::Writable);
        metrics::gauge!("peselgate_trail_writable").set(f64::from(u8::from(trail_writable)));
        let directory = self.directory.load();
        metrics::gauge!("peselgate_keys").set(directory.keys().filter(|key| key.is_active()).count() as f64);
        for (id, refused) in directory.refusals() {
            metrics::counter!("peselgate_limiter_refusals_total", "key_id" => id.to_string())
                .absolute(refused);
        }
    }
}

async fn metrics(State(board): State<OpsBoard>) -> impl IntoResponse {
    if let Some(handles) = board.0.handles.get() {
        handles.tallies.collect().await;
        handles.sample();
    }
    metrics::gauge!("peselgate_ready").set(f64::from(u8::from(board.not_ready().is_empty())));
    metrics::gauge!("peselgate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], board.0.metrics.render())
}
