//! Answers that flow while they are made: however the task behind one ends, its
//! reader is told. An answer that merely stopped would look whole.

use std::future::Future;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::panic::{Panicked, catch_panic};
use super::problem::{Code, Problem};

/// Why an answer ends before it is whole.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody reads it any more.
    Gone,
    /// It cannot go on: its last line says why.
    Problem(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Lets `work` feed an answer, and writes the last line of one that cannot go on;
/// its code is counted first.
pub(super) async fn flow(
    work: impl Future<Output = Result<(), Stop>>,
    answers: mpsc::Sender<Bytes>,
    count: impl FnOnce(Code),
) {
    let problem = match caught(work).await {
        Ok(Ok(()) | Err(Stop::Gone)) => return,
        Ok(Err(Stop::Problem(problem))) | Err(problem) => problem,
    };
    count(problem.code());
    // A reader that is gone misses nothing.
    drop(answers.send(problem.last_line()).await);
}

/// The work's outcome; its panic, which is counted, as a problem.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Problem> {
    catch_panic(work).await.map_err(|Panicked| {
        metrics::counter!("peselgate_handler_panics_total").increment(1);
        tracing::error!("the task of a flowing answer panicked");
        Problem::internal()
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    /// What a reader gets of this work, and what was counted.
    async fn read(work: impl AsyncFnOnce(mpsc::Sender<Bytes>) -> Result<(), Stop>) -> (String, Option<Code>) {
        let (answers, mut receiver) = mpsc::channel(4);
        let counted = Cell::new(None);
        flow(work(answers.clone()), answers, |code| counted.set(Some(code))).await;
        let mut text = String::new();
        while let Some(line) = receiver.recv().await {
            text.push_str(std::str::from_utf8(&line).expect("a text"));
        }
        (text, counted.get())
    }

    async fn one_line(answers: &mpsc::Sender<Bytes>) {
        answers.send(Bytes::from_static(b"{\"index\":0}\n")).await.expect("a reader");
    }

    #[tokio::test]
    async fn whoever_reads_an_answer_is_told_how_it_ended() {
        let whole = read(async |answers| {
            one_line(&answers).await;
            Ok(())
        });
        assert_eq!(whole.await, ("{\"index\":0}\n".to_owned(), None));
        let refused = read(async |answers| {
            one_line(&answers).await;
            let wait = Duration::from_millis(2_500);
            Err(Problem::new(Code::QuotaExceeded, "enough").retry_after(wait).into())
        });
        let broken = read(async |answers| {
            one_line(&answers).await;
            std::panic::panic_any("no message is kept")
        });
        for ((text, counted), code, retry_after) in
            [(refused.await, Code::QuotaExceeded, Some(3)), (broken.await, Code::InternalError, None)]
        {
            assert_eq!(counted, Some(code));
            let last = text.strip_prefix("{\"index\":0}\n").expect("what was answered before");
            let last: serde_json::Value = serde_json::from_str(last).expect("a line of JSON");
            assert_eq!(
                (last["error"].as_str(), last["retry_after"].as_u64()),
                (Some(code.name()), retry_after)
            );
            assert!(last["detail"].is_string() && last.get("index").is_none());
        }
        assert_eq!(read(async |_| Err(Stop::Gone)).await, (String::new(), None));
    }
}
