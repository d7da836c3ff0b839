//! The NDJSON streams at work on one connection.

use std::cell::Cell;
use std::rc::Rc;

use super::control::Control;
use crate::limits::STREAMS_PER_CONNECTION_MAX;

/// A connection's count: of streams, and of those that wait for their key's rate.
#[derive(Debug, Default)]
pub(super) struct Streams {
    at_work: Cell<usize>,
    paused: Cell<usize>,
}

impl Streams {
    pub(super) fn are_paused(&self) -> bool {
        self.paused.get() > 0
    }
}

/// A stream's place at its connection: given back when its task ends. A client that
/// lets go of a stream is done with it at once, the task behind it a little later;
/// without places of their own such tasks would pile up.
pub(crate) struct StreamPlace(Rc<Control>);

impl StreamPlace {
    /// `None` when as many are at work as may be.
    pub(crate) fn take(control: &Rc<Control>) -> Option<Self> {
        let at_work = &control.streams().at_work;
        if at_work.get() >= STREAMS_PER_CONNECTION_MAX {
            return None;
        }
        at_work.set(at_work.get() + 1);
        Some(Self(Rc::clone(control)))
    }

    /// While this is kept, the connection looks whether its client has hung up.
    pub(crate) fn pause(&self) -> Pause<'_> {
        let paused = &self.0.streams().paused;
        paused.set(paused.get() + 1);
        Pause(&self.0)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let at_work = &self.0.streams().at_work;
        at_work.set(at_work.get() - 1);
    }
}

/// A stream that writes nothing for now.
pub(crate) struct Pause<'a>(&'a Control);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let paused = &self.0.streams().paused;
        paused.set(paused.get() - 1);
    }
}
