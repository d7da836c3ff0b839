//! Feeds: a message's place in its own (`feed_sequence`), and
//! `GET /admin/v1/feeds`, where each of them stands.

use axum::Json as Answer;
use axum::extract::State;
use serde_json::{Value, json};

use super::register::read;
use super::{Caller, Handles};
use crate::access::{ChannelName, Name, Role};
use crate::gate::Officer;
use crate::http::problem::{Code, Problem};
use crate::register::{Channel, Commander, Delivery, Feed, FeedSequence, FeedStanding, Registrant};

/// A request that may be a message of the caller's feed.
pub(super) struct Delivered(Option<(Feed, Delivery)>);

impl Delivered {
    /// Reads the place of a request in the feed that its token is bound to.
    /// `request` is what tells it from others.
    ///
    /// # Errors
    /// 403 when a place is named by anybody but a source.
    pub(super) fn read(
        officer: &Officer,
        sequence: Option<FeedSequence>,
        request: &[u8],
    ) -> Result<Self, Problem> {
        let Some(sequence) = sequence else { return Ok(Self(None)) };
        let feed = feed_of(officer).ok_or_else(|| {
            Problem::new(Code::Forbidden, "only a token with the role source has a feed, and `feed_sequence`")
        })?;
        Ok(Self(Some((feed, Delivery::new(sequence, request)))))
    }

    pub(super) fn delivery(&self) -> Option<Delivery> {
        self.0.as_ref().map(|(_, delivery)| *delivery)
    }

    /// The request is no command, for this reason, which is the same whenever it
    /// comes: its place in the feed is taken, so that it holds up nobody. Gives
    /// back the problem to answer with.
    pub(super) async fn passed_over(self, commander: &Commander, problem: Problem) -> Problem {
        match self.0 {
            None => problem,
            Some((feed, delivery)) => {
                commander.pass_over(feed, delivery).await.map_or_else(Problem::from, |()| problem)
            }
        }
    }
}

/// The feed that a token speaks for; a source has one.
fn feed_of(officer: &Officer) -> Option<Feed> {
    let channel = Channel::from_name(officer.channel().map(ChannelName::as_str)?)?;
    let registrant = Registrant::new(officer.registrant().map(Name::as_str)?).ok()?;
    (officer.role() == Role::Source).then_some(Feed { channel, registrant })
}

/// Where the feeds stand: all of them, or a source's own.
pub(super) async fn list(State(handles): State<Handles>, caller: Caller) -> Result<Answer<Value>, Problem> {
    let officer = caller.needs(&[Role::Auditor, Role::Operator, Role::Source])?;
    let own = (officer.role() == Role::Source).then(|| feed_of(&officer));
    let register = handles.register.clone();
    let standings = read(&handles, move || register.feeds()).await?;
    let seen =
        |standing: &&FeedStanding| own.as_ref().is_none_or(|own| own.as_ref() == Some(standing.feed()));
    let feeds: Vec<Value> = standings
        .iter()
        .filter(seen)
        .map(|standing| {
            json!({
                "channel": standing.feed().channel.name(),
                "registrant": standing.feed().registrant.as_str(),
                "last_sequence": standing.last().value(),
                "moment": standing.taken_at(),
            })
        })
        .collect();
    Ok(Answer(json!({ "feeds": feeds })))
}
