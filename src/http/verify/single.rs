//! `POST /v1/verify`: one number.

use std::time::Instant;

use super::overdue::Patience;
use super::render::RegisterState;
use super::{Admitted, Asked, admitted, ask, history, limits, now, render, told, unrecorded};
use crate::audit::{Item, Verification};
use crate::http::plane::{Connection, Verdict};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Reply};
use crate::limits::SINGLE_BODY_BYTES_MAX;
use crate::query::{self, Outcome, Query};

pub(super) async fn verify(
    connection: &Connection,
    request: &mut Asked,
    arrived: Instant,
) -> Result<Reply, Problem> {
    let worker = &*connection.worker;
    let Admitted { mut permit, fields, body } =
        admitted(connection, request, SINGLE_BODY_BYTES_MAX, arrived).await?;

    let asked = ask::single(&body.bytes)?;
    let mut patience = Patience::default();
    let (now, query, in_memory, register, sequence) = loop {
        let looked_up = {
            let snapshot = worker.handles.register.snapshot();
            let now = now(worker)?;
            let query = Query::new(asked.pesel.ordinal(), asked.terms.at, now)
                .map_err(|_| Problem::new(Code::FutureMoment, "`at` lies in the future"))?;
            let in_memory = query::answer(&permit, &query, &snapshot, now);
            (now, query, in_memory, RegisterState::of(&snapshot), snapshot.sequence())
        };
        let is_passing = matches!(looked_up.2, Outcome::Unknown(unknown) if unknown.is_passing(looked_up.0));
        if !is_passing || !Box::pin(patience.wait()).await {
            break looked_up;
        }
    };
    let answer = match in_memory {
        Outcome::Answered(answer) => answer,
        Outcome::Unknown(unknown) => return Err(unknown.into()),
        Outcome::NeedsHistory => {
            let answers = Box::pin(history::from_history(worker, &permit, vec![query], sequence)).await?;
            answers.first().copied().ok_or_else(Problem::internal)?
        }
    };

    let verification = Verification {
        answered_at: query::answered_at(now, [(&query, &answer)]),
        asked_at: asked.terms.at,
        key_id: permit.key_id(),
        institution: permit.institution().name.as_str(),
        address: permit.address(),
        register: register.into(),
        reference: asked.terms.reference.as_deref(),
    };
    let item = Item::verified(query.ordinal(), told(&answer));
    let pending = worker.recorder.record_single(&verification, item).map_err(unrecorded)?;
    let spent = permit.spend();
    worker.tally.decided_in(arrived.elapsed().saturating_sub(body.waited.unwrap_or_default()));
    let receipt = pending.await.map_err(|lost| {
        permit.give_back(spent);
        Problem::audit_unavailable(lost.since)
    })?;

    worker.tally.verified(if answer.reserved() { Verdict::Reserved } else { Verdict::NotReserved });
    let bytes = worker.write_body(|out| render::single(out, &receipt, &answer, register));
    let mut reply = reply::json_in(fields, bytes);
    limits::add_fields(connection, reply.headers_mut(), &permit.remaining(), receipt.answered_at());
    Ok(reply)
}
