//! Many questions answered from one state of the register; those about a moment
//! before an entry's last change leave memory and ask the store, on a blocking
//! thread, bounded per worker.

use super::render::RegisterState;
use crate::gate::Permit;
use crate::http::plane::Worker;
use crate::http::problem::Problem;
use crate::query::{self, Answer, Outcome, Query, When};
use crate::register::Sequence;

/// The answers to all queries, in their order, and the state they are taken from.
pub(super) async fn answer_all(
    worker: &Worker,
    permit: &Permit,
    queries: &[Query],
) -> Result<(Vec<Answer>, RegisterState), Problem> {
    let mut late = Vec::new();
    let (from_memory, register, sequence) = {
        let snapshot = worker.handles.register.snapshot();
        let from_memory: Vec<Option<Answer>> = queries
            .iter()
            .enumerate()
            .map(|(place, query)| match query::answer(permit, query, &snapshot) {
                Outcome::Answered(answer) => Some(answer),
                Outcome::NeedsHistory => {
                    late.push((place, *query));
                    None
                }
            })
            .collect();
        (from_memory, RegisterState::of(&snapshot), snapshot.sequence())
    };
    let mut answers = from_memory;
    if !late.is_empty() {
        let (places, late): (Vec<usize>, Vec<Query>) = late.into_iter().unzip();
        for (place, answer) in places.into_iter().zip(from_history(worker, permit, late, sequence).await?) {
            answers[place] = Some(answer);
        }
    }
    // A question without an answer is never "not reserved".
    let answers = answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(Problem::internal)?;
    Ok((answers, register))
}

/// The answers of the store, as far as the register knew at `up_to`.
pub(super) async fn from_history(
    worker: &Worker,
    permit: &Permit,
    queries: Vec<Query>,
    up_to: Sequence,
) -> Result<Vec<Answer>, Problem> {
    let register = worker.handles.register.clone();
    let now = worker.handles.clock.now();
    let reading = worker.read_store(move || {
        let at = |query: &Query| match query.when() {
            When::Now => now,
            When::At(at) => at,
        };
        queries
            .iter()
            .map(|query| register.state_from_history(query.ordinal(), at(query), up_to))
            .collect::<Result<Vec<_>, _>>()
    });
    match reading.await? {
        Ok(states) => Ok(states.into_iter().map(|state| query::answer_from_history(permit, state)).collect()),
        Err(error) => {
            tracing::error!(%error, "the register's history cannot be read");
            Err(Problem::register_unavailable(now))
        }
    }
}
