//! `POST /v1/verify/batch` as JSON: up to a thousand numbers, one state of the
//! register, one record.

use std::num::NonZeroU32;
use std::time::Instant;

use bytes::{BufMut, BytesMut};

use super::history::Answered;
use super::{Admitted, Asked, admitted, ask, history, limits, now, render, told, unrecorded};
use crate::audit::{Item, Refusal, Verification};
use crate::http::plane::{Connection, Verdict, Worker};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Reply};
use crate::limits::BATCH_BODY_BYTES_MAX;
use crate::pesel::{Pesel, PeselError};
use crate::query::{Answer, Query, Unknown};

pub(super) async fn verify(
    connection: &Connection,
    request: &mut Asked,
    arrived: Instant,
) -> Result<Reply, Problem> {
    let worker = &*connection.worker;
    let Admitted { mut permit, fields, body } =
        admitted(connection, request, BATCH_BODY_BYTES_MAX, arrived).await?;

    let asked = ask::batch(&body.bytes)?;
    // The permit has paid for the first number.
    if let Some(more) = NonZeroU32::new(u32::try_from(asked.numbers.len() - 1).unwrap_or(u32::MAX)) {
        permit.charge_more(more)?;
    }
    let arrived_at = now(worker)?;
    if asked.terms.at.is_some_and(|at| at > arrived_at) {
        // Judged for the batch as well, which may hold no valid number at all.
        return Err(Problem::new(Code::FutureMoment, "`at` lies in the future"));
    }
    let mut queries = Vec::with_capacity(asked.numbers.len());
    for pesel in asked.numbers.iter().filter_map(|(_, number)| number.ok()) {
        let query = Query::new(pesel.ordinal(), asked.terms.at, arrived_at)
            .map_err(|_| Problem::new(Code::FutureMoment, "`at` lies in the future"))?;
        queries.push(query);
    }
    let Answered { answers, register, answered_at } = history::answer_all(worker, &permit, &queries).await?;
    let results = results(&asked, &answers)?;

    let verification = Verification {
        answered_at,
        asked_at: asked.terms.at,
        key_id: permit.key_id(),
        institution: permit.institution().name.as_str(),
        address: permit.address(),
        register: register.into(),
        reference: asked.terms.reference.as_deref(),
    };
    let items = results.iter().map(|result| match result {
        Ok((pesel, answer)) => Item::verified(pesel.ordinal(), told(answer)),
        Err(NoAnswer::Invalid(error)) => Item::Refused(Refusal::InvalidPesel(*error)),
        Err(NoAnswer::Unknown(..)) => Item::Refused(Refusal::RegisterUnavailable),
    });
    let pending = worker.recorder.record_batch(&verification, items).map_err(unrecorded)?;
    let spent = permit.spend();
    worker.tally.decided_in(arrived.elapsed().saturating_sub(body.waited.unwrap_or_default()));
    let receipt = pending.await.map_err(|lost| {
        permit.give_back(spent);
        Problem::audit_unavailable(lost.since)
    })?;

    let mut out = BytesMut::with_capacity(192 + results.len() * 128);
    render::batch_head(&mut out, &receipt, register);
    for (place, (result, (text, _))) in results.iter().zip(&asked.numbers).enumerate() {
        if place > 0 {
            out.put_u8(b',');
        }
        match result {
            Ok((pesel, answer)) => render::batch_item(&mut out, pesel, answer),
            Err(NoAnswer::Invalid(error)) => render::batch_refusal(&mut out, text, error.reason()),
            Err(NoAnswer::Unknown(pesel, unknown)) => render::batch_unknown(&mut out, pesel, *unknown),
        }
    }
    out.put_slice(b"]}");
    count(worker, &results);
    let mut reply = reply::json_in(fields, out.freeze());
    limits::add_fields(connection, reply.headers_mut(), &permit.remaining(), receipt.answered_at());
    Ok(reply)
}

type Results = Vec<Result<(Pesel, Answer), NoAnswer>>;

/// Why a number of the batch has no answer.
enum NoAnswer {
    Invalid(PeselError),
    Unknown(Pesel, Unknown),
}

/// Puts each answer beside its number again.
fn results(asked: &ask::Batch<'_>, answers: &[Result<Answer, Unknown>]) -> Result<Results, Problem> {
    let mut answers = answers.iter();
    asked
        .numbers
        .iter()
        .map(|(_, number)| match number {
            Ok(pesel) => Ok(match *answers.next().ok_or_else(Problem::internal)? {
                Ok(answer) => Ok((*pesel, answer)),
                Err(unknown) => Err(NoAnswer::Unknown(*pesel, unknown)),
            }),
            Err(error) => Ok(Err(NoAnswer::Invalid(*error))),
        })
        .collect()
}

fn count(worker: &Worker, results: &Results) {
    let reserved = results.iter().flatten().filter(|(_, answer)| answer.reserved()).count() as u64;
    let refused = results.iter().filter(|result| result.is_err()).count() as u64;
    worker.tally.verified_many(Verdict::Reserved, reserved);
    worker.tally.verified_many(Verdict::Refused, refused);
    worker.tally.verified_many(Verdict::NotReserved, results.len() as u64 - reserved - refused);
}
