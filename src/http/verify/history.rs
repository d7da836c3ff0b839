//! Many questions answered from one state of the register; those about a moment
//! before an entry's last change leave memory and ask the store, on a blocking
//! thread, bounded per worker.

use super::now;
use super::overdue::Patience;
use super::render::RegisterState;
use crate::clock::Moment;
use crate::gate::Permit;
use crate::http::plane::Worker;
use crate::http::problem::Problem;
use crate::query::{self, Answer, Outcome, Query, When};
use crate::register::Sequence;

/// Answers that belong together.
pub(super) struct Answered {
    /// In the order of the questions.
    pub(super) answers: Vec<Answer>,
    /// The state that they are taken from.
    pub(super) register: RegisterState,
    /// As of when they hold.
    pub(super) answered_at: Moment,
}

/// The answers to all queries, from one state of the register.
pub(super) async fn answer_all(
    worker: &Worker,
    permit: &Permit,
    queries: &[Query],
) -> Result<Answered, Problem> {
    let mut patience = Patience::default();
    let (from_memory, late, refused, register, sequence, now) = loop {
        let (mut late, mut refused, mut overdue) = (Vec::new(), None, None);
        let looked_up = {
            let snapshot = worker.handles.register.snapshot();
            let register = RegisterState::of(&snapshot);
            let now = now(worker)?;
            let from_memory: Vec<Option<Answer>> = queries
                .iter()
                .enumerate()
                .map(|(place, query)| {
                    match query::answer(permit, query, &snapshot, now) {
                        Outcome::Answered(answer) => return Some(answer),
                        Outcome::NeedsHistory => late.push((place, *query)),
                        Outcome::Overdue { since } => overdue = Some(since),
                        Outcome::NotLoaded => refused = Some(Problem::not_loaded(register.as_of)),
                        Outcome::AheadOfNow => refused = Some(Problem::ahead_of_clock()),
                    }
                    None
                })
                .collect();
            (from_memory, late, refused, register, snapshot.sequence(), now)
        };
        // All of them again, from the next state: they belong together.
        match overdue {
            Some(since) => patience.wait(since).await?,
            None => break looked_up,
        }
    };
    if let Some(refused) = refused {
        return Err(refused);
    }
    let mut answers = from_memory;
    if !late.is_empty() {
        let (places, late): (Vec<usize>, Vec<Query>) = late.into_iter().unzip();
        for (place, answer) in places.into_iter().zip(from_history(worker, permit, late, sequence).await?) {
            answers[place] = Some(answer);
        }
    }
    // A question without an answer is never "not reserved".
    let answers = answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(Problem::internal)?;
    let answered_at = query::answered_at(now, queries.iter().zip(&answers));
    Ok(Answered { answers, register, answered_at })
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
    let readings = &worker.handles.readings.register;
    match reading.await? {
        Ok(states) => {
            readings.succeeded();
            Ok(states.into_iter().map(|state| query::answer_from_history(permit, state)).collect())
        }
        Err(error) => {
            tracing::error!(%error, "the register's history cannot be read");
            Err(Problem::register_unavailable(readings.failed(now)))
        }
    }
}
