//! Answers over HTTP/2 that wait for their readers.
//!
//! The socket of such a connection may take everything and still nothing moves: each
//! answer has a window of its own, which its reader opens, or not. hyper takes a piece
//! of an answer, waits until there is some room and gives it on to the engine, where it
//! lies until there is room for all of it; the time until it has left is looked at here.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::control::Control;
use crate::http::reply::{PIECE_BYTES, ReplyBody};
use crate::limits::HTTP2_IDLE_MAX;

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
    /// Since when nothing is under way.
    idle_since: Cell<Option<Instant>>,
    /// Since when a connection that is to end has nothing under way.
    rest_since: Cell<Option<Instant>>,
    has_asked: Cell<bool>,
}

impl Answers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            under_way: Cell::new(0),
            waiting: Default::default(),
            turn: Cell::new(0),
            turn_ends: Cell::new(now),
            idle_since: Cell::new(Some(now)),
            rest_since: Cell::new(None),
            has_asked: Cell::new(false),
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

    /// Has nothing been under way for so long that the client is taken for gone? It may
    /// answer PINGs all the same. One that has not asked yet has what HTTP/1.1 gives it
    /// for a head.
    pub(super) fn is_idle(&self, now: Instant, before_asking: Duration) -> bool {
        if self.under_way.get() > 0 {
            self.idle_since.set(None);
            return false;
        }
        let since = self.idle_since.get().unwrap_or(now);
        self.idle_since.set(Some(since));
        let patience = if self.has_asked.get() { HTTP2_IDLE_MAX } else { before_asking };
        now.saturating_duration_since(since) > patience
    }

    /// Of a connection that is to end: has nothing been under way for all this time?
    /// What is left then is in the engine alone (an answer to its last PING that never
    /// comes, say), and would keep the connection for ever.
    pub(super) fn is_only_rest(&self, now: Instant, patience: Duration) -> bool {
        if self.under_way.get() > 0 {
            self.rest_since.set(None);
            return false;
        }
        let since = self.rest_since.get().unwrap_or(now);
        self.rest_since.set(Some(since));
        now.saturating_duration_since(since) > patience
    }
}

/// A request from its arrival until the last byte of its answer has left.
pub(super) struct UnderWay {
    control: Rc<Control>,
    /// Pieces of its answer that were given and have not left.
    pieces: Cell<u32>,
    /// The turn in which the foremost of them began to wait.
    waits_since: Cell<Option<usize>>,
}

impl UnderWay {
    pub(super) fn begin(control: &Rc<Control>) -> Rc<Self> {
        let answers = control.answers();
        answers.under_way.set(answers.under_way.get() + 1);
        answers.has_asked.set(true);
        answers.idle_since.set(None);
        Rc::new(Self { control: Rc::clone(control), pieces: Cell::new(0), waits_since: Cell::new(None) })
    }

    fn waits(&self) {
        let answers = self.control.answers();
        let turn = answers.turn.get();
        answers.waiting[turn].set(answers.waiting[turn].get() + 1);
        self.waits_since.set(Some(turn));
    }

    fn goes_on(&self) {
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

/// A piece of an answer, which tells when it has left: the engine drops it once it is
/// written, or its stream is gone. Asking for the next piece would tell less: the last
/// one may lie in the engine, and nobody asks for another.
pub(super) struct Piece {
    bytes: Bytes,
    under_way: Rc<UnderWay>,
}

impl Piece {
    fn new(bytes: Bytes, under_way: &Rc<UnderWay>) -> Self {
        let before = under_way.pieces.get();
        under_way.pieces.set(before + 1);
        if before == 0 {
            under_way.waits();
        }
        Self { bytes, under_way: Rc::clone(under_way) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let left = self.under_way.pieces.get() - 1;
        self.under_way.pieces.set(left);
        self.under_way.goes_on();
        if left > 0 {
            // Behind this one: its time begins now.
            self.under_way.waits();
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.bytes.copy_to_bytes(count)
    }
}

/// An answer's body, in pieces that even a slow reader takes in time.
pub(super) struct ReadAlong {
    body: ReplyBody,
    /// What is not given yet of the last frame.
    rest: Bytes,
    under_way: Rc<UnderWay>,
}

impl ReadAlong {
    pub(super) const fn new(body: ReplyBody, under_way: Rc<UnderWay>) -> Self {
        Self { body, rest: Bytes::new(), under_way }
    }
}

impl Body for ReadAlong {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let Some(Ok(frame)) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            // Answers have no trailers.
            this.rest = frame.into_data().unwrap_or_default();
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(Piece::new(piece, &this.under_way)))))
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
    fn piece(body: &mut ReadAlong) -> Option<Piece> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    /// The length of the next piece, which leaves at once.
    fn left(body: &mut ReadAlong) -> Option<usize> {
        piece(body).map(|piece| piece.remaining())
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
        // Read slowly, a piece in seven seconds; the next one is given meanwhile.
        let mut given = piece(&mut body).expect("a piece");
        for turn in 0..2 {
            let next = piece(&mut body).expect("a piece");
            let begin = 25.0 + 7.0 * f64::from(turn);
            assert!((0..28).all(|look| !unread(begin + f64::from(look) / 4.0)));
            given = next;
        }
        assert_eq!((given.remaining(), body.is_end_stream()), (1, true));
        // The body is done with, its last byte is not.
        drop(body);
        let late = (0..100).map(|look| f64::from(look) / 4.0).find(|wait| unread(39.0 + wait));
        assert!(late.is_some_and(|wait| (7.0..=9.25).contains(&wait)), "{late:?}");
        assert_eq!(control.answers().under_way.get(), 1);
        drop(given);
        assert!(!unread(80.0), "it has gone");
        assert_eq!(control.answers().under_way.get(), 0);
    }

    #[test]
    fn what_flows_waits_only_while_it_has_something() {
        let start = Instant::now();
        let control = control(start);
        let (answers, receiver) = tokio::sync::mpsc::channel(2);
        let mut body = ReadAlong::new(ReplyBody::stream(receiver), UnderWay::begin(&control));
        let unread =
            |look: u32| control.answers().is_one_unread(start + Duration::from_secs(look.into()), PATIENCE);
        assert_eq!(left(&mut body), None);
        assert!((0..100).all(|look| !unread(look)));
        answers.try_send(vec![0; PIECE_BYTES + 7].into()).expect("room");
        assert_eq!((left(&mut body), body.is_end_stream()), (Some(PIECE_BYTES), false));
        assert_eq!((left(&mut body), left(&mut body)), (Some(7), None));
        assert!((100..200).all(|look| !unread(look)));
        answers.try_send(vec![0; 7].into()).expect("room");
        let _unread = piece(&mut body).expect("a piece");
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
    #[test]
    fn whoever_asks_nothing_for_long_is_idle() {
        let start = Instant::now();
        let control = control(start);
        let idle = |seconds| control.answers().is_idle(start + Duration::from_secs(seconds), PATIENCE);
        assert!(!idle(0) && !idle(8) && idle(9), "it has never asked");
        let under_way = UnderWay::begin(&control);
        assert!(!idle(9) && !idle(500));
        drop(under_way);
        let patience = HTTP2_IDLE_MAX.as_secs();
        assert!(!idle(501) && !idle(501 + patience));
        // Begun and ended between two looks.
        drop(UnderWay::begin(&control));
        assert!(!idle(502 + patience) && !idle(502 + 2 * patience) && idle(503 + 2 * patience));
    }
}
