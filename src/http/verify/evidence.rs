//! `GET /v1/verifications/{id}`: the evidence again, to the institution that
//! asked, as the trail has it.

use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::identify;
use crate::audit::{Item, Refusal, Shape, VerificationId, VerificationRecord};
use crate::http::plane::Connection;
use crate::http::problem::Problem;
use crate::http::reply::{self, Reply};

pub(super) async fn fetch(connection: &Connection, headers: &HeaderMap, id: &str) -> Result<Reply, Problem> {
    let worker = &connection.worker;
    let identity = identify(connection, headers)?;
    let visit = worker.handles.gate.visit(&connection.peer, identity)?;
    let id = VerificationId::parse(id).map_err(|_| not_found())?;
    let trail = worker.handles.trail.clone();
    let readings = &worker.handles.readings.trail;
    let found = worker.read_store(move || trail.find(id)).await?.map_err(|error| {
        tracing::error!(%error, "the trail cannot be read");
        Problem::audit_unavailable(readings.failed(worker.handles.clock.now()))
    })?;
    // What is not found says little: hardly anything was read for it.
    if found.is_some() {
        readings.succeeded();
    }
    // Another institution's evidence is not there, rather than forbidden.
    let record = found.filter(|record| worker.handles.gate.may_see(&visit, &record.key_id));
    let record = record.ok_or_else(not_found)?;
    Ok(reply::json(serde_json::to_vec(&document(&record)).unwrap_or_default().into()))
}

fn not_found() -> Problem {
    Problem::not_found()
}

fn document(record: &VerificationRecord) -> Value {
    let mut document = Map::new();
    document.insert("verification_id".into(), record.verification_id.to_string().into());
    match (record.shape, record.items.as_slice()) {
        (Shape::Single, [item]) => {
            if let Value::Object(fields) = result(item, None) {
                document.extend(fields);
            }
        }
        (shape, items) => {
            let first = match shape {
                Shape::StreamChunk { first_line } => Some(first_line),
                Shape::Single | Shape::Batch => None,
            };
            let results: Vec<Value> = items
                .iter()
                .enumerate()
                .map(|(place, item)| result(item, first.map(|first| first + place as u64)))
                .collect();
            document.insert("results".into(), results.into());
        }
    }
    document.insert("at".into(), record.at().to_string().into());
    document.insert("answered_at".into(), record.answered_at.to_string().into());
    document.insert(
        "register".into(),
        json!({"sequence": record.register.sequence, "as_of": record.register.as_of}),
    );
    document.insert("key_id".into(), record.key_id.to_string().into());
    document.insert("institution".into(), record.institution.clone().into());
    if let Some(reference) = &record.reference {
        document.insert("reference".into(), reference.clone().into());
    }
    Value::Object(document)
}

fn result(item: &Item<String>, index: Option<u64>) -> Value {
    let mut fields = Map::new();
    if let Some(index) = index {
        fields.insert("index".into(), index.into());
    }
    match item {
        Item::Verified { ordinal, told, asked_at, reference } => {
            fields.insert("pesel".into(), ordinal.pesel().digits().into());
            fields.insert("reserved".into(), told.reserved.into());
            let optional =
                [("reserved_at", told.reserved_at), ("withdrawn_at", told.withdrawn_at), ("at", *asked_at)];
            for (name, moment) in optional {
                if let Some(moment) = moment {
                    fields.insert(name.into(), moment.to_string().into());
                }
            }
            if let Some(reference) = reference {
                fields.insert("reference".into(), reference.clone().into());
            }
        }
        Item::Refused(Refusal::InvalidPesel(error)) => {
            fields.insert("error".into(), "invalid-pesel".into());
            fields.insert("reason".into(), error.reason().into());
        }
        Item::Refused(Refusal::MalformedLine) => {
            fields.insert("error".into(), "malformed-request".into());
        }
        Item::Refused(Refusal::FutureMoment) => {
            fields.insert("error".into(), "future-moment".into());
        }
        Item::Refused(Refusal::RegisterUnavailable) => {
            fields.insert("error".into(), "register-unavailable".into());
        }
    }
    Value::Object(fields)
}
