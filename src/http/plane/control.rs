//! Deadlines of connections without a timer each: a table per worker, looked
//! over a few times a second.
//!
//! A request would otherwise arm and disarm three timers (body, write, age);
//! a look over the table costs nothing while nobody is late.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::PlaneSettings;
use super::answers::Answers;
use super::head_timer::HeadMark;
use super::streams::Streams;

/// How often the table is looked over; the deadlines' precision.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Bytes a stalled client must take within the stall time-out, or be cut.
const WRITE_PROGRESS_BYTES_MIN: u64 = 4 * 1024;

/// What the look-out judges by.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeOuts {
    /// Looks that may find a head awaited.
    head_looks: u32,
    /// For the first question over HTTP/2.
    first: Duration,
    body: Duration,
    write: Duration,
}

impl TimeOuts {
    pub(super) fn of(settings: &PlaneSettings) -> Self {
        let head = settings.header_read_timeout.div_duration_f64(LOOK_EVERY).ceil();
        Self {
            head_looks: head as u32,
            first: settings.header_read_timeout,
            body: settings.body_read_timeout,
            write: settings.write_stall_timeout,
        }
    }
}

/// One connection's marks: written by its task, judged by the worker's look-out.
#[derive(Debug)]
pub(crate) struct Control {
    retire_at: Instant,
    retire: Cell<bool>,
    kill: Cell<bool>,
    /// Set once hyper serves the connection; before that, retiring ends it.
    serving: Cell<bool>,
    http2: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    head: Arc<HeadMark>,
    /// Since when a body that is no stream is being read (HTTP/1.1: one at most).
    body_since: Cell<Option<Instant>>,
    body_late: Cell<bool>,
    /// The last request of HTTP/1.1 announced a body that was not read to its end.
    unread: Cell<bool>,
    /// Since when the socket takes no more, and how much it had taken by then.
    blocked_since: Cell<Option<(Instant, u64)>>,
    written_bytes: Cell<u64>,
    streams: Streams,
    /// Of HTTP/2, where answers have windows of their own.
    answers: Answers,
}

impl Control {
    pub(super) fn new(retire_at: Instant, retire: bool) -> Rc<Self> {
        Rc::new(Self {
            retire_at,
            retire: Cell::new(retire),
            kill: Cell::new(false),
            serving: Cell::new(false),
            http2: Cell::new(false),
            waker: RefCell::new(None),
            head: HeadMark::new(),
            body_since: Cell::new(None),
            body_late: Cell::new(false),
            unread: Cell::new(false),
            blocked_since: Cell::new(None),
            written_bytes: Cell::new(0),
            streams: Streams::default(),
            answers: Answers::new(Instant::now()),
        })
    }

    /// The connection's task can be woken through this from now on.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retire.get()
    }

    /// Given up, or told to retire before it had begun.
    pub(super) fn is_over(&self) -> bool {
        self.kill.get() || (self.retire.get() && !self.serving.get())
    }

    pub(super) fn begins_serving(&self, http2: bool) {
        self.serving.set(true);
        self.http2.set(http2);
    }

    /// The time of this connection's HTTP/1.1 heads.
    pub(super) const fn head(&self) -> &Arc<HeadMark> {
        &self.head
    }

    pub(crate) fn body_announced(&self, announced: bool) {
        self.unread.set(announced);
    }

    pub(crate) fn body_read_to_its_end(&self) {
        self.unread.set(false);
    }

    /// Is there, or may there come, more of the last request than was read?
    pub(crate) fn leaves_unread(&self) -> bool {
        self.unread.get()
    }

    pub(crate) fn body_begins(&self, now: Instant) {
        self.body_since.set(Some(now));
        self.body_late.set(false);
    }

    pub(crate) fn body_ends(&self) {
        self.body_since.set(None);
    }

    pub(crate) fn is_body_late(&self) -> bool {
        self.body_late.get()
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.written_bytes.set(self.written_bytes.get() + bytes as u64);
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes.get()
    }

    pub(super) fn write_blocked(&self) {
        if self.blocked_since.get().is_none() {
            self.blocked_since.set(Some((Instant::now(), self.written_bytes.get())));
        }
    }

    /// Everything handed to the socket was taken.
    pub(super) fn write_flows(&self) {
        if self.blocked_since.get().is_some() {
            self.blocked_since.set(None);
        }
    }

    pub(super) const fn answers(&self) -> &Answers {
        &self.answers
    }

    pub(super) const fn streams(&self) -> &Streams {
        &self.streams
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn look(&self, now: Instant, times: &TimeOuts) {
        // One that waits looks whether its client has hung up.
        let mut wake = self.head.seen(times.head_looks) | self.streams.are_paused();
        let is_idle = self.http2.get() && self.answers.is_idle(now, times.first);
        if (now >= self.retire_at || is_idle) && !self.retire.get() {
            self.retire.set(true);
            wake = true;
        }
        if let Some(since) = self.body_since.get()
            && now.saturating_duration_since(since) > times.body
            && !self.body_late.get()
        {
            self.body_late.set(true);
            wake = true;
        }
        if let Some((since, bytes)) = self.blocked_since.get()
            && now.saturating_duration_since(since) > times.write
        {
            if self.written_bytes.get() - bytes < WRITE_PROGRESS_BYTES_MIN {
                self.kill.set(true);
                wake = true;
            } else {
                self.blocked_since.set(Some((now, self.written_bytes.get())));
            }
        }
        if self.http2.get()
            && (self.answers.is_one_unread(now, times.write)
                || (self.retire.get() && self.answers.is_only_rest(now, times.write)))
        {
            self.kill.set(true);
            wake = true;
        }
        if wake {
            self.wake();
        }
    }
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Table {
    next: Cell<u64>,
    /// Whoever comes is to end at once: it was on its way when all were told to.
    retires: Cell<bool>,
    connections: RefCell<HashMap<u64, Rc<Control>>>,
}

impl Table {
    pub(super) fn enter(self: &Rc<Self>, retire_at: Instant) -> Entry {
        let id = self.next.get();
        self.next.set(id + 1);
        let control = Control::new(retire_at, self.retires.get());
        self.connections.borrow_mut().insert(id, Rc::clone(&control));
        Entry { id, control, table: Rc::clone(self) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    pub(super) fn look(&self, now: Instant, times: &TimeOuts) {
        for control in self.connections.borrow().values() {
            control.look(now, times);
        }
    }

    /// Every connection ends after what it is doing, those that come later at once.
    pub(super) fn retire_all(&self) {
        self.retires.set(true);
        for control in self.connections.borrow().values() {
            control.retire.set(true);
            control.wake();
        }
    }

    /// Every connection ends now.
    pub(super) fn kill_all(&self) {
        for control in self.connections.borrow().values() {
            control.kill.set(true);
            control.wake();
        }
    }
}

/// A connection's line in the table; leaves it when dropped.
pub(super) struct Entry {
    id: u64,
    control: Rc<Control>,
    table: Rc<Table>,
}

impl Entry {
    pub(super) fn control(&self) -> &Rc<Control> {
        &self.control
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.connections.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);
    const TIMES: TimeOuts = TimeOuts { head_looks: 20, first: TIMEOUT, body: TIMEOUT, write: TIMEOUT };

    fn control(start: Instant) -> Rc<Control> {
        Control::new(start + Duration::from_secs(600), false)
    }

    #[test]
    fn a_late_body_is_marked_and_a_finished_one_is_not() {
        let start = Instant::now();
        let control = control(start);
        control.body_begins(start);
        control.look(start + TIMEOUT, &TIMES);
        assert!(!control.is_body_late());
        control.look(start + TIMEOUT + LOOK_EVERY, &TIMES);
        assert!(control.is_body_late());
        control.body_begins(start);
        control.body_ends();
        control.look(start + TIMEOUT * 9, &TIMES);
        assert!(!control.is_body_late());
    }

    #[test]
    fn a_reader_that_takes_too_little_is_cut() {
        let start = Instant::now();
        let control = control(start);
        control.write_blocked();
        control.wrote(WRITE_PROGRESS_BYTES_MIN as usize);
        control.look(start + TIMEOUT * 2, &TIMES);
        assert!(!control.is_over(), "it made progress");
        control.wrote(1);
        control.look(start + TIMEOUT * 5, &TIMES);
        assert!(control.is_over());
    }

    #[test]
    fn an_old_connection_is_retired() {
        let start = Instant::now();
        let control = control(start);
        control.look(start + Duration::from_secs(599), &TIMES);
        assert!(!control.is_retired());
        control.look(start + Duration::from_secs(600), &TIMES);
        assert!(control.is_retired());
    }

    /// A connection may lie in the worker's inbox, or its task unpolled, when the drain
    /// begins.
    #[test]
    fn whoever_comes_after_all_were_told_to_end_ends_at_once() {
        let table = Rc::new(Table::default());
        let retire_at = Instant::now() + Duration::from_secs(600);
        let before = table.enter(retire_at);
        before.control().begins_serving(false);
        assert!(!before.control().is_retired());
        table.retire_all();
        assert!(before.control().is_retired() && !before.control().is_over(), "it ends what it does");
        let after = table.enter(retire_at);
        assert!(after.control().is_over());
        drop((before, after));
        assert!(table.is_empty());
    }
}
