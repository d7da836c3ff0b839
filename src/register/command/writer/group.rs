//! What goes into one commit together.

use std::time::Duration;

use tokio::time::Instant;

use super::super::Message;
use super::Writer;
use crate::limits::{IMPORT_CHUNKS_PER_COMMIT_MAX, IMPORT_COMMIT_TARGET};

impl Writer {
    /// Carries out what has come, in as many commits as its import chunks ask for.
    ///
    /// Commands share none with chunks: those take long, and what is filed has the
    /// moment at which its commit began.
    pub(super) fn answer(&mut self, messages: Vec<Message>) {
        self.measures.queue_depth(self.queue.len());
        let mut group: Vec<Message> = Vec::with_capacity(messages.len());
        for message in messages {
            let is_full = match (group.last(), &message) {
                (Some(Message::Import(..)), Message::Import(..)) => group.len() >= self.chunks_per_commit,
                (Some(last), _) => last.is_import() || message.is_import(),
                (None, _) => false,
            };
            if is_full {
                self.answer_group(std::mem::take(&mut group));
            }
            group.push(message);
        }
        self.answer_group(group);
    }

    /// As [`Self::answer_together`]; how long chunks took says how many go together
    /// next time.
    fn answer_group(&mut self, group: Vec<Message>) {
        let chunks = group.iter().filter(|message| message.is_import()).count();
        let begun = Instant::now();
        self.answer_together(group);
        if chunks > 0 {
            self.chunks_per_commit = chunks_within(IMPORT_COMMIT_TARGET, chunks, begun.elapsed());
        }
    }
}

/// How many chunks a commit may take, when `chunks` took so long.
fn chunks_within(target: Duration, chunks: usize, took: Duration) -> usize {
    let fit = chunks as f64 * target.as_secs_f64() / took.as_secs_f64().max(1e-9);
    (fit as usize).clamp(1, IMPORT_CHUNKS_PER_COMMIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_takes_as_many_chunks_as_its_time_allows() {
        let within =
            |chunks, millis| chunks_within(Duration::from_secs(1), chunks, Duration::from_millis(millis));
        for (chunks, millis, expected) in [
            (16, 1_000, 16),
            (16, 4_600, 3),
            (3, 900, 3),
            (3, 700, 4),
            (1, 9_000, 1),
            (1, 0, 16),
            (4, 100, 16),
        ] {
            assert_eq!(within(chunks, millis), expected, "{chunks} in {millis} ms");
        }
    }
}
