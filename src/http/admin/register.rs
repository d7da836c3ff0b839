//! The register's calls: reserve, withdraw, an entry, the events.

use axum::Json as Answer;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::body::Asked;
use super::feeds::Delivered;
use super::keys::invalid;
use super::{Caller, Handles};
use crate::access::{ChannelName, IdempotencyKey, Name, Role};
use crate::clock::Moment;
use crate::gate::Officer;
use crate::http::problem::{Code, Problem};
use crate::limits::EVENTS_PAGE_MAX;
use crate::pesel::Pesel;
use crate::register::{
    Applicant, Change, Channel, Command, CommandError, DocumentSeen, EventKind, FeedSequence, Idempotency,
    Obstacle, Refusal, Registrant, Sequence, Stamp, StoreError, StoredEvent, Submission,
};

/// A change as an official or a channel files it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeBody {
    pesel: String,
    channel: Channel,
    registrant: String,
    applicant: Option<Applicant>,
    obstacle: Option<Obstacle>,
    document_seen: Option<DocumentSeen>,
    majority_by_marriage: Option<bool>,
    reserve_again_at: Option<Moment>,
    // Absent where it is not used: requests are told apart by their fingerprint,
    // and one without it has the same as before it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    feed_sequence: Option<FeedSequence>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryBody {
    pesel: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn reserve(
    State(handles): State<Handles>,
    Asked { caller, body }: Asked<ChangeBody>,
) -> Result<(StatusCode, Answer<Value>), Problem> {
    // A field that a reservation does not have: as every other malformed request, it
    // takes no place in a feed.
    if body.reserve_again_at.is_some() {
        return Err(Problem::new(Code::MalformedRequest, "`reserve_again_at` belongs to a withdrawal"));
    }
    change(&handles, &caller, &body, EventKind::Reservation, |_| Ok(Change::Reservation)).await
}

pub(super) async fn withdraw(
    State(handles): State<Handles>,
    Asked { caller, body }: Asked<ChangeBody>,
) -> Result<(StatusCode, Answer<Value>), Problem> {
    change(&handles, &caller, &body, EventKind::Withdrawal, withdrawal).await
}

fn withdrawal(body: &ChangeBody) -> Result<Change, Problem> {
    let reserve_again_at =
        body.reserve_again_at.map(Stamp::try_from).transpose().map_err(invalid("reserve_again_at"))?;
    Ok(Change::Withdrawal { reserve_again_at })
}

async fn change(
    handles: &Handles,
    caller: &Caller,
    body: &ChangeBody,
    kind: EventKind,
    wanted: fn(&ChangeBody) -> Result<Change, Problem>,
) -> Result<(StatusCode, Answer<Value>), Problem> {
    let officer = caller.needs(&[Role::Official, Role::Source])?;
    speaks_for(&officer, body.channel, &body.registrant)?;
    let request = told_apart(kind, body)?;
    let idempotency = idempotency(caller, &request)?;
    let delivered = Delivered::read(&officer, body.feed_sequence, &request)?;
    let command = match wanted(body).and_then(|change| command(body, change)) {
        Ok(command) => command,
        Err(problem) => return Err(delivered.passed_over(&handles.commander, problem).await),
    };
    let submission = Submission { command, idempotency, delivery: delivered.delivery() };
    let outcome = handles.commander.submit(submission).await?;
    let status = if outcome.replayed() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Answer(shown(outcome.event()))))
}

fn command(body: &ChangeBody, change: Change) -> Result<Command, Problem> {
    let pesel = Pesel::parse(body.pesel.as_bytes()).map_err(Problem::invalid_pesel)?;
    Ok(Command {
        ordinal: pesel.ordinal(),
        change,
        channel: body.channel,
        registrant: Registrant::new(&body.registrant).map_err(invalid("registrant"))?,
        applicant: body.applicant,
        obstacle: body.obstacle,
        document_seen: body.document_seen,
        majority_by_marriage: body.majority_by_marriage.unwrap_or(false),
    })
}

/// A token bound to a channel or a gmina speaks for no other.
pub(super) fn speaks_for(officer: &Officer, channel: Channel, registrant: &str) -> Result<(), Problem> {
    let channel_fits = match (officer.channel(), officer.teryt()) {
        (Some(bound), _) => ChannelName::as_str(bound) == channel.name(),
        (None, Some(_)) => channel == Channel::Gmina,
        (None, None) => true,
    };
    let registrant_fits = officer.registrant().is_none_or(|bound| Name::as_str(bound) == registrant);
    match (channel_fits, registrant_fits) {
        (false, _) => Err(Problem::new(Code::Forbidden, "the token is bound to another channel")),
        (true, false) => Err(Problem::new(Code::Forbidden, "the token is bound to another registrant")),
        (true, true) => Ok(()),
    }
}

/// What tells a request for a change from every other: its kind, and the body in one
/// form.
pub(super) fn told_apart(kind: EventKind, body: &impl Serialize) -> Result<Vec<u8>, Problem> {
    let mut request = format!("{} ", kind.name()).into_bytes();
    serde_json::to_writer(&mut request, body).map_err(|_| Problem::internal())?;
    Ok(request)
}

/// The idempotency key of a change, scoped to the caller's token alone: one key is one
/// request's, whatever that asks for. `request` is as [`told_apart`] gives it.
pub(super) fn idempotency(caller: &Caller, request: &[u8]) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = caller.idempotency_key.as_deref() else { return Ok(None) };
    let key = IdempotencyKey::judged(key)
        .map_err(|error| Problem::new(Code::MalformedRequest, error.to_string()))?;
    let scope = caller.identity.token_id().to_string();
    Ok(Some(Idempotency::new(&scope, key, request)))
}

/// The entry and its whole history; institutions never see this.
pub(super) async fn entry(
    State(handles): State<Handles>,
    Asked { caller, body }: Asked<EntryBody>,
) -> Result<Answer<Value>, Problem> {
    caller.needs(&[Role::Official, Role::Auditor])?;
    let pesel = Pesel::parse(body.pesel.as_bytes()).map_err(Problem::invalid_pesel)?;
    let register = handles.register.clone();
    let history = read(&handles, move || register.entry(pesel.ordinal())).await?;
    let answer = crate::query::entry_fields(history.state());
    let events: Vec<Value> = history.events().iter().map(shown).collect();
    Ok(Answer(json!({
        "pesel": pesel.digits(),
        "reserved": answer.reserved(),
        "reserved_at": answer.reserved_at(),
        "withdrawn_at": answer.withdrawn_at(),
        "reserve_again_at": history.re_reservation_at(),
        "events": events,
    })))
}

/// The register's events in order, with the chain's hash after each.
pub(super) async fn events(
    State(handles): State<Handles>,
    caller: Caller,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Answer<Value>, Problem> {
    caller.needs(&[Role::Auditor, Role::Operator])?;
    let Query(page) = page.map_err(|_| {
        Problem::new(
            Code::MalformedRequest,
            "the query is `after=SEQUENCE` and `limit=NUMBER`, both optional",
        )
    })?;
    let limit = page.limit.unwrap_or(1_000);
    if !(1..=EVENTS_PAGE_MAX).contains(&limit) {
        return Err(invalid("limit")(format!("1 to {EVENTS_PAGE_MAX}")));
    }
    let after = Sequence::new(page.after.unwrap_or(0));
    let register = handles.register.clone();
    let page = read(&handles, move || register.events(after, limit)).await?;
    let shown: Vec<Value> = page
        .events()
        .iter()
        .map(|event| {
            let mut fields = shown_fields(event);
            fields.insert("hash".to_owned(), event.hash().to_string().into());
            Value::Object(fields)
        })
        .collect();
    Ok(Answer(json!({"events": shown, "last": page.last().value()})))
}

/// Reads the store on a thread that may block.
pub(super) async fn read<T: Send + 'static>(
    handles: &Handles,
    reading: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(reading).await {
        Ok(Ok(value)) => {
            handles.readings.register.succeeded();
            Ok(value)
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the register's store cannot be read");
            Err(Problem::register_unavailable(handles.readings.register.failed(handles.clock.now())))
        }
        Err(_) => Err(Problem::internal()),
    }
}

pub(super) fn shown(event: &StoredEvent) -> Value {
    Value::Object(shown_fields(event))
}

fn shown_fields(stored: &StoredEvent) -> Map<String, Value> {
    let event = stored.event();
    let mut fields = Map::new();
    fields.insert("event_id".to_owned(), stored.id().to_string().into());
    fields.insert("sequence".to_owned(), stored.sequence().value().into());
    fields.insert("pesel".to_owned(), event.ordinal().pesel().digits().into());
    fields.insert("kind".to_owned(), event.kind().name().into());
    fields.insert("moment".to_owned(), event.moment().to_string().into());
    fields.insert("channel".to_owned(), event.channel().name().into());
    fields.insert("registrant".to_owned(), event.registrant().as_str().into());
    let filing = event.filing();
    let optional = [
        ("applicant", filing.applicant.map(Applicant::name)),
        ("obstacle", filing.obstacle.map(Obstacle::name)),
        ("document_seen", filing.document_seen.map(DocumentSeen::name)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.into());
        }
    }
    if filing.majority_by_marriage {
        fields.insert("majority_by_marriage".to_owned(), true.into());
    }
    if let Some(moment) = event.reserve_again_at() {
        fields.insert("reserve_again_at".to_owned(), moment.to_string().into());
    }
    if let Some(new) = event.renumbered_to() {
        fields.insert("new_pesel".to_owned(), new.pesel().digits().into());
    }
    if let Some(withdrawal) = event.scheduled_by() {
        fields.insert("scheduled".to_owned(), true.into());
        fields.insert("withdrawal_sequence".to_owned(), withdrawal.value().into());
    }
    fields
}

/// The one mapping from a refusal of the law to its problem.
fn law_code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::AlreadyReserved => Code::AlreadyReserved,
        Refusal::NotReserved => Code::NotReserved,
        Refusal::FilingTooSoon { .. } => Code::FilingTooSoon,
        Refusal::ChannelMayNotWithdraw => Code::ChannelMayNotWithdraw,
        Refusal::ApplicantMayNotWithdraw => Code::ApplicantMayNotWithdraw,
        Refusal::ApplicantNeedsGmina => Code::ApplicantNeedsGmina,
        Refusal::ObstacleRequired => Code::ObstacleRequired,
        Refusal::TemporaryWithdrawalByEServiceOnly => Code::TemporaryWithdrawalByEServiceOnly,
        Refusal::ReReservationTooSoon { .. } => Code::ReReservationTooSoon,
        Refusal::NotOfAge => Code::NotOfAge,
        Refusal::FutureMoment => Code::FutureMoment,
        Refusal::SameNumber | Refusal::TooManyRenumberings => Code::InvalidValue,
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match error {
            CommandError::Refused(refusal) => {
                let problem = Self::new(law_code(refusal), detail);
                match refusal.allowed_from() {
                    Some(moment) => problem.with("allowed_from", moment.to_string()),
                    None => problem,
                }
            }
            CommandError::IdempotencyConflict | CommandError::FeedConflict => {
                Self::new(Code::IdempotencyMismatch, detail)
            }
            CommandError::FeedGap { expected } => {
                Self::new(Code::FeedGap, detail).with("expected", expected.value())
            }
            CommandError::FeedForgotten { expected } => {
                Self::new(Code::FeedForgotten, detail).with("expected", expected.value())
            }
            // An import tells its refusals line by line; as a problem it would be our own mistake.
            CommandError::ImportRefused(_) => Self::internal(),
            CommandError::ChunkTooLarge => Self::new(Code::ContentTooLarge, detail),
            CommandError::MassChange { reserved_before, removed, added } => {
                Self::new(Code::MassChange, detail)
                    .with("reserved_before", reserved_before)
                    .with("removed", removed)
                    .with("added", added)
            }
            CommandError::ImportEnded => Self::new(Code::RegisterUnavailable, detail),
            CommandError::Overloaded => Self::overloaded(),
            CommandError::ClockBehind(_) => Self::clock_behind(),
            CommandError::Unavailable { since } => Self::register_unavailable(since),
        }
    }
}
