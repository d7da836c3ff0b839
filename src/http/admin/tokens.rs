//! Admin tokens: each with one role, bound to what that role speaks for.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Asked, Id};
use super::issued::answer;
use super::keys::invalid;
use super::{Caller, Handles};
use crate::access::{ChannelName, Name, NewToken, Role, Teryt, TokenRecord};
use crate::http::problem::Problem;
use crate::register::Channel;

#[derive(Deserialize)]
#[serde(tag = "role", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum NewTokenBody {
    Operator { label: String },
    Auditor { label: String },
    Official { label: String, registrant: String, teryt: String },
    Source { label: String, registrant: String, channel: String },
}

/// 201 with the token itself, shown this once; a replay under the same
/// idempotency key is a 200 without it.
pub(super) async fn issue(
    State(handles): State<Handles>,
    Asked { caller, body }: Asked<NewTokenBody>,
) -> Result<(StatusCode, Answer<Value>), Problem> {
    caller.needs(&[Role::Operator])?;
    let name = |field: &'static str, text: &str| Name::parse(text).map_err(invalid(field));
    let new = match body {
        NewTokenBody::Operator { label } => NewToken::operator(name("label", &label)?),
        NewTokenBody::Auditor { label } => NewToken::auditor(name("label", &label)?),
        NewTokenBody::Official { label, registrant, teryt } => NewToken::official(
            name("label", &label)?,
            name("registrant", &registrant)?,
            Teryt::parse(&teryt).map_err(invalid("teryt"))?,
        ),
        NewTokenBody::Source { label, registrant, channel } => {
            // The access room keeps the word; which channels there are is the register's to say.
            if Channel::from_name(&channel).is_none() {
                return Err(invalid::<&str>("channel")("no channel of the register"));
            }
            NewToken::source(
                name("label", &label)?,
                ChannelName::parse(&channel).map_err(invalid("channel"))?,
                name("registrant", &registrant)?,
            )
        }
    };
    let issued = handles.access.issue_token(new, caller.access_idempotency()?).await?;
    tracing::info!(token_id = %issued.record.id(), by = %caller.identity.token_id(), "token issued");
    Ok(answer(shown(&issued.record), "token", issued.plain.as_ref()))
}

pub(super) async fn list(State(handles): State<Handles>, caller: Caller) -> Result<Answer<Value>, Problem> {
    caller.needs(&[Role::Operator, Role::Auditor])?;
    let directory = handles.directory.load();
    let tokens: Vec<Value> = directory.tokens().map(|record| shown(record)).collect();
    Ok(Answer(json!({"tokens": tokens})))
}

pub(super) async fn deactivate(
    State(handles): State<Handles>,
    caller: Caller,
    Id(id): Id,
) -> Result<Answer<Value>, Problem> {
    caller.needs(&[Role::Operator])?;
    let record = handles.access.deactivate_token(id).await?;
    tracing::info!(token_id = %record.id(), by = %caller.identity.token_id(), "token deactivated");
    Ok(Answer(shown(&record)))
}

fn shown(record: &TokenRecord) -> Value {
    let roles: Vec<_> = record.roles().iter().map(Role::name).collect();
    json!({
        "id": record.id(),
        "environment": record.environment(),
        "roles": roles,
        "label": record.label().as_str(),
        "channel": record.channel().map(ChannelName::as_str),
        "registrant": record.registrant().map(Name::as_str),
        "teryt": record.teryt().map(Teryt::as_str),
        "created_at": record.created_at(),
        "deactivated_at": record.deactivated_at(),
    })
}
