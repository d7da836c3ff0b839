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
use crate::query::{self, Answer, Outcome, Query, Unknown, When};
use crate::register::Sequence;

/// Answers that belong together.
pub(super) struct Answered {
    /// In the order of the questions.
    pub(super) answers: Vec<Result<Answer, Unknown>>,
    /// The state that they are taken from.
    pub(super) register: RegisterState,
    /// As of when they hold.
    pub(super) answered_at: Moment,
}

/// The answers to all queries, from one state of the register. A number about which
/// nobody knows has none, and takes nobody else's away.
pub(super) async fn answer_all(
    worker: &Worker,
    permit: &Permit,
    queries: &[Query],
) -> Result<Answered, Problem> {
    let mut patience = Patience::default();
    let (mut answers, late, register, sequence, now) = loop {
        let (mut late, mut is_passing, mut not_loaded) = (Vec::new(), false, None);
        let looked_up = {
            let snapshot = worker.handles.register.snapshot();
            let now = now(worker)?;
            let from_memory: Vec<Option<Result<Answer, Unknown>>> = queries
                .iter()
                .enumerate()
                .map(|(place, query)| match query::answer(permit, query, &snapshot, now) {
                    Outcome::Answered(answer) => Some(Ok(answer)),
                    Outcome::Unknown(unknown) => {
                        is_passing |= unknown.is_passing(now);
                        if matches!(unknown, Unknown::NotLoaded { .. }) {
                            not_loaded = Some(unknown);
                        }
                        Some(Err(unknown))
                    }
                    Outcome::NeedsHistory => {
                        late.push((place, *query));
                        None
                    }
                })
                .collect();
            (from_memory, late, RegisterState::of(&snapshot), snapshot.sequence(), now)
        };
        // That is no number's own.
        if let Some(not_loaded) = not_loaded {
            return Err(not_loaded.into());
        }
        // All of them again, from the next state: they belong together.
        if !is_passing || !patience.wait().await {
            break looked_up;
        }
    };
    if !late.is_empty() {
        let (places, late): (Vec<usize>, Vec<Query>) = late.into_iter().unzip();
        for (place, answer) in places.into_iter().zip(from_history(worker, permit, late, sequence).await?) {
            answers[place] = Some(Ok(answer));
        }
    }
    // A question without an answer is never "not reserved".
    let answers = answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(Problem::internal)?;
    let known =
        queries.iter().zip(&answers).filter_map(|(query, answer)| Some((query, answer.as_ref().ok()?)));
    let answered_at = query::answered_at(now, known);
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
