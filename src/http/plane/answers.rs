//! Answers over HTTP/2 that wait for their readers.
//!
//! The socket of such a connection may take everything and still nothing moves: each
//! answer has a window of its own, which its reader opens, or not. hyper takes a piece
//! of an answer, waits until there is room for it and asks for the next one; the time
//! between the two is looked at here.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::control::Control;
use crate::http::reply::{PIECE_BYTES, ReplyBody};

/// Turns in the time that a reader may leave a piece of an answer unread; the
/// deadline's precision is one of them.
const TURNS: u32 = 8;

/// The answers of one connection: those under way and, of these, those that wait.
#[derive(Debug)]
pub(super) struct Answers {
    under_way: Cell<u32>,
    /// How many of those that wait began to in each turn. Counts and not moments, so
    /// that a request neither looks at a clock nor leaves an entry anywhere.
    waiting: [Cell<u32>; TURNS as usize + 1],
    turn: Cell<usize>,
    turn_ends: Cell<Instant>,
    /// Since when a connection that is to end has nothing under way.
    idle_since: Cell<Option<Instant>>,
}

impl Answers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            under_way: Cell::new(0),
            waiting: Default::default(),
            turn: Cell::new(0),
            turn_ends: Cell::new(now),
            idle_since: Cell::new(None),
        }
    }

    /// Looked at a few times a second: has one waited for all this time?
    pub(super) fn is_one_unread(&self, now: Instant, patience: Duration) -> bool {
        if now < self.turn_ends.get() {
            return false;
        }
        let next = (self.turn.get() + 1) % self.waiting.len();
        if self.waiting[next].get() > 0 {
            return true;
        }
        self.turn.set(next);
        self.turn_ends.set(now + patience / TURNS);
        false
    }

    /// Of a connection that is to end: has nothing been under way for all this time?
    /// What is left then lies in the engine's buffers, for readers who let it trickle
    /// and would keep the connection for ever.
    pub(super) fn is_only_rest(&self, now: Instant, patience: Duration) -> bool {
        if self.under_way.get() > 0 {
            self.idle_since.set(None);
            return false;
        }
        let since = self.idle_since.get().unwrap_or(now);
        self.idle_since.set(Some(since));
        now.saturating_duration_since(since) > patience
    }
}

/// A request from its arrival to the end of its answer.
pub(super) struct UnderWay {
    control: Rc<Control>,
    /// The turn in which a piece began to wait.
    waits_since: Option<usize>,
}

impl UnderWay {
    pub(super) fn begin(control: &Rc<Control>) -> Self {
        let under_way = &control.answers().under_way;
        under_way.set(under_way.get() + 1);
        Self { control: Rc::clone(control), waits_since: None }
    }

    fn waits(&mut self) {
        let answers = self.control.answers();
        let turn = answers.turn.get();
        answers.waiting[turn].set(answers.waiting[turn].get() + 1);
        self.waits_since = Some(turn);
    }

    fn goes_on(&mut self) {
        if let Some(turn) = self.waits_since.take() {
            let waiting = &self.control.answers().waiting[turn];
            waiting.set(waiting.get() - 1);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.goes_on();
        let under_way = &self.control.answers().under_way;
        under_way.set(under_way.get() - 1);
    }
}

/// An answer's body that says when it waits, in pieces that even a slow reader takes
/// in time.
pub(super) struct ReadAlong {
    body: ReplyBody,
    /// What is not given yet of the last frame.
    rest: Bytes,
    under_way: UnderWay,
}

impl ReadAlong {
    pub(super) const fn new(body: ReplyBody, under_way: UnderWay) -> Self {
        Self { body, rest: Bytes::new(), under_way }
    }
}

impl Body for ReadAlong {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        this.under_way.goes_on();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        this.under_way.waits();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before the first piece alone.
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(8);

    fn control(now: Instant) -> Rc<Control> {
        Control::new(now + Duration::from_secs(600), false)
    }

    /// One piece of the body, or none while it waits for more.
    fn piece(body: &mut ReadAlong) -> Option<usize> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => Some(frame.into_data().expect("data").len()),
            _ => None,
        }
    }

    #[test]
    fn a_piece_that_waits_too_long_is_noticed_and_one_that_moves_is_not() {
        let start = Instant::now();
        let control = control(start);
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let unread = |seconds: f64| control.answers().is_one_unread(at(seconds), PATIENCE);
        let body = ReplyBody::full(vec![0; 2 * PIECE_BYTES + 1].into());
        let mut body = ReadAlong::new(body, UnderWay::begin(&control));
        // Not asked for yet: its reader has nothing to read.
        assert!((0..100).all(|look| !unread(f64::from(look) / 4.0)));
        // Read slowly, a piece in seven seconds.
        for turn in 0..2 {
            assert_eq!(piece(&mut body), Some(PIECE_BYTES));
            let begin = 25.0 + 7.0 * f64::from(turn);
            assert!((0..28).all(|look| !unread(begin + f64::from(look) / 4.0)));
        }
        assert_eq!(piece(&mut body), Some(1));
        assert!(body.is_end_stream());
        let late = (0..100).map(|look| f64::from(look) / 4.0).find(|wait| unread(39.0 + wait));
        assert!(late.is_some_and(|wait| (7.0..=9.25).contains(&wait)), "{late:?}");
        drop(body);
        assert!(!unread(80.0), "it has gone");
    }

    #[test]
    fn what_flows_waits_only_while_it_has_something() {
        let start = Instant::now();
        let control = control(start);
        let (answers, receiver) = tokio::sync::mpsc::channel(2);
        let mut body = ReadAlong::new(ReplyBody::stream(receiver), UnderWay::begin(&control));
        let unread =
            |look: u32| control.answers().is_one_unread(start + Duration::from_secs(look.into()), PATIENCE);
        assert_eq!(piece(&mut body), None);
        assert!((0..100).all(|look| !unread(look)));
        answers.try_send(vec![0; PIECE_BYTES + 7].into()).expect("room");
        assert_eq!((piece(&mut body), body.is_end_stream()), (Some(PIECE_BYTES), false));
        assert_eq!((piece(&mut body), piece(&mut body)), (Some(7), None));
        assert!((100..200).all(|look| !unread(look)));
        answers.try_send(vec![0; 7].into()).expect("room");
        assert_eq!(piece(&mut body), Some(7));
        assert!((200..220).any(unread));
    }

    #[test]
    fn a_connection_that_is_to_end_waits_for_what_is_under_way_alone() {
        let start = Instant::now();
        let control = control(start);
        let rest = |seconds| control.answers().is_only_rest(start + Duration::from_secs(seconds), PATIENCE);
        let under_way = UnderWay::begin(&control);
        assert!(!rest(0) && !rest(100));
        drop(under_way);
        assert!(!rest(101) && !rest(109));
        assert!(rest(110));
    }
}
