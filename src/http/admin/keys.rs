//! API keys: issued, listed, deactivated, their allow-list and limits replaced.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Asked, Id, Object};
use super::issued::answer;
use super::{Caller, Handles};
use crate::access::{AllowList, Institution, KeyLimits, KeyRecord, Krs, Name, NewKey, Regon, Role};
use crate::http::problem::{Code, Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyBody {
    institution: Object<InstitutionBody>,
    system: String,
    addresses: Vec<String>,
    limits: Option<Object<LimitsBody>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstitutionBody {
    name: String,
    regon: Option<String>,
    krs: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsBody {
    per_second: u32,
    burst: u32,
    per_day: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressesBody {
    addresses: Vec<String>,
}

/// 201 with the key itself, shown this once; a replay under the same idempotency
/// key is a 200 without it.
pub(super) async fn issue(
    State(handles): State<Handles>,
    Asked { caller, body }: Asked<NewKeyBody>,
) -> Result<(StatusCode, Answer<Value>), Problem> {
    caller.needs(&[Role::Operator])?;
    let limits = body.limits.map(|Object(limits)| judged(&limits)).transpose()?;
    let Object(institution) = body.institution;
    let new = NewKey {
        institution: Institution {
            name: Name::parse(&institution.name).map_err(invalid("institution.name"))?,
            regon: institution
                .regon
                .as_deref()
                .map(Regon::parse)
                .transpose()
                .map_err(invalid("institution.regon"))?,
            krs: institution
                .krs
                .as_deref()
                .map(Krs::parse)
                .transpose()
                .map_err(invalid("institution.krs"))?,
        },
        system: Name::parse(&body.system).map_err(invalid("system"))?,
        addresses: allow_list(&handles, &body.addresses)?,
        limits,
    };
    let issued = handles.access.issue_key(new, caller.access_idempotency()?).await?;
    tracing::info!(key_id = %issued.record.id(), by = %caller.identity.token_id(), "key issued");
    Ok(answer(shown(&issued.record), "key", issued.plain.as_ref()))
}

pub(super) async fn list(State(handles): State<Handles>, caller: Caller) -> Result<Answer<Value>, Problem> {
    caller.needs(&[Role::Operator, Role::Auditor])?;
    let directory = handles.directory.load();
    let keys: Vec<Value> = directory.keys().map(|record| shown(record)).collect();
    Ok(Answer(json!({"keys": keys})))
}

pub(super) async fn deactivate(
    State(handles): State<Handles>,
    caller: Caller,
    Id(id): Id,
) -> Result<Answer<Value>, Problem> {
    caller.needs(&[Role::Operator])?;
    let record = handles.access.deactivate_key(id).await?;
    tracing::info!(key_id = %record.id(), by = %caller.identity.token_id(), "key deactivated");
    Ok(Answer(shown(&record)))
}

pub(super) async fn set_addresses(
    State(handles): State<Handles>,
    id: Result<Id, Problem>,
    Asked { caller, body }: Asked<AddressesBody>,
) -> Result<Answer<Value>, Problem> {
    caller.needs(&[Role::Operator])?;
    let Id(id) = id?;
    let addresses = allow_list(&handles, &body.addresses)?;
    let record = handles.access.set_addresses(id, addresses).await?;
    tracing::info!(key_id = %record.id(), by = %caller.identity.token_id(), "allow-list replaced");
    Ok(Answer(shown(&record)))
}

pub(super) async fn set_limits(
    State(handles): State<Handles>,
    id: Result<Id, Problem>,
    Asked { caller, body }: Asked<LimitsBody>,
) -> Result<Answer<Value>, Problem> {
    caller.needs(&[Role::Operator])?;
    let Id(id) = id?;
    let record = handles.access.set_limits(id, judged(&body)?).await?;
    tracing::info!(key_id = %record.id(), by = %caller.identity.token_id(), "limits replaced");
    Ok(Answer(shown(&record)))
}

fn judged(limits: &LimitsBody) -> Result<KeyLimits, Problem> {
    KeyLimits::agreeing(limits.per_second, limits.burst, limits.per_day).map_err(invalid("limits"))
}

fn allow_list(handles: &Handles, addresses: &[String]) -> Result<AllowList, Problem> {
    // The error names the network itself, `addresses[1]` say.
    AllowList::parse(addresses, handles.directory.environment())
        .map_err(|error| Problem::new(Code::InvalidValue, error.to_string()).with("field", "addresses"))
}

pub(super) fn invalid<E: std::fmt::Display>(field: &'static str) -> impl Fn(E) -> Problem {
    move |error| Problem::new(Code::InvalidValue, format!("{field}: {error}")).with("field", field)
}

fn shown(record: &KeyRecord) -> Value {
    let limits = record.limits();
    let institution = record.institution();
    let mut who = serde_json::Map::new();
    who.insert("name".to_owned(), institution.name.as_str().into());
    if let Some(regon) = &institution.regon {
        who.insert("regon".to_owned(), regon.as_str().into());
    }
    if let Some(krs) = &institution.krs {
        who.insert("krs".to_owned(), krs.as_str().into());
    }
    let addresses: Vec<String> = record.addresses().networks().map(|network| network.to_string()).collect();
    json!({
        "id": record.id(),
        "environment": record.environment(),
        "institution": who,
        "system": record.system().as_str(),
        "addresses": addresses,
        "limits": {"per_second": limits.per_second(), "burst": limits.burst(), "per_day": limits.per_day()},
        "created_at": record.created_at(),
        "deactivated_at": record.deactivated_at(),
    })
}
