//! Feeds that wait for a message: which ones, for the operator.

use std::collections::HashMap;

use super::super::super::feed::{Feed, FeedSequence};
use super::super::batch::Verdict;
use super::super::measure::Measures;
use super::super::{CommandError, Message};

/// The feeds whose last word was refused because others before it are missing, and the
/// first of those. As long as the process runs: a sender that is still held up behind a
/// restart is refused again.
#[derive(Debug, Default)]
pub(super) struct Gaps(HashMap<Feed, FeedSequence>);

impl Gaps {
    /// Follows what became of a message.
    pub(super) fn follow(&mut self, message: &Message, verdict: &Verdict, measures: &Measures) {
        let Some((feed, delivery)) = message.place() else { return };
        let channel = feed.channel;
        match verdict {
            Verdict::Submitted(Err(CommandError::FeedGap { expected }))
            | Verdict::PassedOver(Err(CommandError::FeedGap { expected })) => {
                measures.feed_gap(channel);
                self.0.insert(feed, *expected);
            }
            // What the law refuses is taken as well.
            Verdict::Submitted(Ok(_) | Err(CommandError::Refused(_))) | Verdict::PassedOver(Ok(())) => {
                // One before it is a repetition.
                self.0.retain(|waiting, expected| *waiting != feed || delivery.sequence < *expected);
            }
            _ => {}
        }
        measures.feeds_waiting(channel, self.0.keys().filter(|feed| feed.channel == channel).count());
    }
}
