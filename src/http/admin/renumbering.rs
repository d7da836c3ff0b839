//! `POST /admin/v1/renumberings`: a person got another number (art. 23d(6)).

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Handles;
use super::body::Asked;
use super::feeds::Delivered;
use super::keys::invalid;
use super::register::{idempotency, shown, told_apart};
use crate::access::{ChannelName, Name, Role};
use crate::clock::Moment;
use crate::http::problem::{Code, Problem};
use crate::pesel::Pesel;
use crate::register::{Channel, EventKind, FeedSequence, Registrant, Renumbering, Stamp};

/// The registrant of a token that is bound to none.
const PESEL_REGISTER: &str = "Rejestr PESEL";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RenumberingBody {
    old: String,
    new: String,
    moment: Moment,
    feed_sequence: Option<FeedSequence>,
}

/// 201 with the event, which both entries show from then on; 200 with the same
/// event when it is told again.
pub(super) async fn renumber(
    State(handles): State<Handles>,
    Asked { caller, body }: Asked<RenumberingBody>,
) -> Result<(StatusCode, Answer<Value>), Problem> {
    let officer = caller.needs(&[Role::Official, Role::Source])?;
    let channel = match (officer.channel().map(ChannelName::as_str), officer.teryt()) {
        (None, Some(_)) => Channel::Gmina,
        (None, None) => Channel::PeselRegister,
        (Some(bound), _) if bound == Channel::PeselRegister.name() => Channel::PeselRegister,
        (Some(_), _) => {
            return Err(Problem::new(
                Code::Forbidden,
                "an official or the PESEL register tells that a number has changed",
            ));
        }
    };
    let registrant = officer.registrant().map_or(PESEL_REGISTER, Name::as_str);
    let request = told_apart(EventKind::Renumbering, &body)?;
    let idempotency = idempotency(&caller, &request)?;
    let delivered = Delivered::read(&officer, body.feed_sequence, &request)?;
    let renumbering = match renumbering(&body, channel, registrant) {
        Ok(renumbering) => renumbering,
        Err(problem) => return Err(delivered.passed_over(&handles.commander, problem).await),
    };
    let outcome = handles.commander.renumber(renumbering, idempotency, delivered.delivery()).await?;
    let status = if outcome.replayed() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Answer(shown(outcome.event()))))
}

fn renumbering(body: &RenumberingBody, channel: Channel, registrant: &str) -> Result<Renumbering, Problem> {
    let number = |field: &'static str, text: &str| {
        let pesel = Pesel::parse(text.as_bytes());
        pesel.map(|pesel| pesel.ordinal()).map_err(|error| Problem::invalid_pesel(error).with("field", field))
    };
    Ok(Renumbering {
        old: number("old", &body.old)?,
        new: number("new", &body.new)?,
        at: Stamp::try_from(body.moment).map_err(invalid("moment"))?,
        channel,
        registrant: Registrant::new(registrant).map_err(invalid("registrant"))?,
    })
}
