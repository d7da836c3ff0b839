//! `GET /v1/status`: what anybody may know of this instance.

use serde_json::json;

use crate::audit::{Durability, TrailHealth};
use crate::environment::Environment;
use crate::http::plane::Worker;
use crate::http::reply::{self, Reply};

/// What the status says beyond register and trail.
#[derive(Debug)]
pub struct StatusBoard {
    environment: Environment,
    durability: Durability,
}

impl StatusBoard {
    /// A board of this instance.
    #[must_use]
    pub const fn new(environment: Environment, durability: Durability) -> Self {
        Self { environment, durability }
    }
}

/// The word of the configuration for when an answer may leave.
#[must_use]
pub const fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Flush => "flush",
        Durability::Write => "write",
    }
}

pub(super) fn reply(worker: &Worker) -> Reply {
    let handles = &worker.handles;
    let snapshot = handles.register.snapshot();
    let board = &handles.status;
    let audit = match handles.trail.health() {
        TrailHealth::Writable => json!({"durability": durability_name(board.durability), "writable": true}),
        TrailHealth::NoSpace { since, .. } | TrailHealth::Failed { since, .. } => {
            json!({"durability": durability_name(board.durability), "writable": false, "unavailable_since": since})
        }
    };
    let body = json!({
        "environment": board.environment,
        "version": env!("CARGO_PKG_VERSION"),
        "now": handles.clock.now(),
        "register": {
            "sequence": snapshot.sequence().value(),
            "as_of": snapshot.as_of(),
            "reserved": snapshot.reserved_count(),
            "entries": snapshot.entry_count(),
        },
        "audit": audit,
        "draining": worker.is_draining(),
        "outages": [],
    });
    reply::json(serde_json::to_vec(&body).unwrap_or_default().into())
}
