//! Records that wait to be durable, on one worker's thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::exchange::Outcome;
use super::id::{IdTail, VerificationId};
use super::receipt::{AuditUnavailable, Receipt};
use crate::clock::Moment;

/// A record that is staged but not durable yet. Await it for the receipt; if it
/// is dropped, the record is written all the same.
#[must_use = "there is no answer without the receipt"]
pub struct Pending {
    waiting: Rc<RefCell<Waiting>>,
    slot: u32,
    tail: IdTail,
    answered_at: Moment,
    at: Moment,
}

impl Pending {
    /// Takes the next place behind all records staged before.
    pub(super) fn new(waiting: Rc<RefCell<Waiting>>, tail: IdTail, answered_at: Moment, at: Moment) -> Self {
        let slot = waiting.borrow_mut().push();
        Self { waiting, slot, tail, answered_at, at }
    }
}

impl Future for Pending {
    type Output = Result<Receipt, AuditUnavailable>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiting = self.waiting.borrow_mut();
        match &mut waiting.slots[self.slot as usize] {
            Slot::Settled(Outcome::Durable { stamp_ms }) => {
                let id = VerificationId::from_parts(*stamp_ms, &self.tail);
                Poll::Ready(Ok(Receipt::new(id, self.answered_at, self.at)))
            }
            Slot::Settled(Outcome::Unavailable { since }) => {
                Poll::Ready(Err(AuditUnavailable { since: *since }))
            }
            Slot::Waiting(Some(waker)) if waker.will_wake(context.waker()) => Poll::Pending,
            slot => {
                let old = std::mem::replace(slot, Slot::Waiting(Some(context.waker().clone())));
                // Dropping a waker may run foreign code: not under the borrow.
                drop(waiting);
                drop(old);
                Poll::Pending
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut waiting = self.waiting.borrow_mut();
        let old = std::mem::replace(&mut waiting.slots[self.slot as usize], Slot::Abandoned);
        if matches!(old, Slot::Settled(_)) {
            waiting.free.push(self.slot);
        }
        // Otherwise its place in the queue is still to be settled, which frees it.
        drop(waiting);
        drop(old);
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// The records of one worker that are staged and not settled, in their order.
#[derive(Default)]
pub(super) struct Waiting {
    slots: Vec<Slot>,
    free: Vec<u32>,
    queue: VecDeque<u32>,
}

/// What is known of a record.
enum Slot {
    /// Nothing yet; whom to wake.
    Waiting(Option<Waker>),
    /// It is on the disk or never will be; its [`Pending`] has not been dropped.
    Settled(Outcome),
    /// Nobody waits for it any more.
    Abandoned,
}

impl Waiting {
    fn push(&mut self) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Slot::Waiting(None);
                slot
            }
            None => {
                self.slots.push(Slot::Waiting(None));
                (self.slots.len() - 1) as u32
            }
        };
        self.queue.push_back(slot);
        slot
    }

    /// Settles the oldest record and wakes whoever waits for it; `false` when
    /// there is none.
    pub(super) fn settle_next(this: &RefCell<Self>, outcome: Outcome) -> bool {
        let mut waiting = this.borrow_mut();
        let Some(slot) = waiting.queue.pop_front() else { return false };
        match std::mem::replace(&mut waiting.slots[slot as usize], Slot::Settled(outcome)) {
            Slot::Waiting(waker) => {
                // The waker is foreign code: not under the borrow.
                drop(waiting);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Slot::Abandoned | Slot::Settled(_) => waiting.free.push(slot),
        }
        true
    }

    /// Records that are staged or on their way to the disk.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Places in use; for tests.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
