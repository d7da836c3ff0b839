//! A worker: one thread, one current-thread runtime, its share of the connections.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use super::acceptor::Accepted;
use super::control::{LOOK_EVERY, Table, TimeOuts};
use super::tls::Handshakes;
use super::turns::Turns;
use super::turnstile::Turnstile;
use super::{Phase, PlaneHandles, PlaneSettings, Tally, connection};
use crate::audit::{LocalRecorder, Recorder};
use crate::gate::Peer;
use crate::http::problem::Problem;
use crate::limits::STORE_READS_PENDING_MAX;

/// What a worker is told.
pub(super) enum Message {
    Connection(Box<Accepted>),
    /// Hand the counters over, then answer.
    HandOver(oneshot::Sender<()>),
}

/// What a worker grows from, sent into its thread.
pub(super) struct Seed {
    pub(super) settings: Arc<PlaneSettings>,
    pub(super) tls: Option<Handshakes>,
    pub(super) turns: Arc<Turns>,
    pub(super) handles: PlaneHandles,
    pub(super) recorder: Recorder,
    pub(super) messages: mpsc::UnboundedReceiver<Message>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// What the requests of one worker share; nothing in it leaves the thread.
pub(crate) struct Worker {
    pub(crate) settings: Arc<PlaneSettings>,
    pub(crate) handles: PlaneHandles,
    pub(crate) recorder: LocalRecorder,
    pub(crate) tally: Tally,
    pub(super) tls: Option<Handshakes>,
    pub(super) turns: Arc<Turns>,
    pub(super) table: Rc<Table>,
    /// Answers are written into this and split off: one allocation for hundreds.
    scratch: RefCell<BytesMut>,
    random: RefCell<SmallRng>,
    /// Places for readings of the stores that are under way or wait for a thread.
    store_reads: Arc<Semaphore>,
    turnstile: Turnstile,
    draining: Cell<bool>,
    /// Tells those who wait for something else that it drains.
    drain_begun: Notify,
}

/// Bytes of scratch space taken at once.
const SCRATCH_BYTES: usize = 64 * 1024;

impl Worker {
    /// Lets `write` append an answer to the scratch space and takes it.
    pub(crate) fn write_body(&self, write: impl FnOnce(&mut BytesMut)) -> bytes::Bytes {
        let mut scratch = self.scratch.borrow_mut();
        if scratch.capacity() < 1024 {
            scratch.reserve(SCRATCH_BYTES);
        }
        write(&mut scratch);
        scratch.split().freeze()
    }

    /// A number for a request identifier.
    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    /// Reads history or evidence on a blocking thread.
    ///
    /// # Errors
    /// 503 `overloaded` when as many wait already as may; 500 when the reading
    /// panicked.
    pub(crate) async fn read_store<T: Send + 'static>(
        &self,
        reading: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let place = Arc::clone(&self.store_reads).try_acquire_owned().map_err(|_| Problem::overloaded())?;
        // The reading keeps its place itself: a stream that is reset meanwhile
        // leaves it in the queue.
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            reading()
        });
        reading.await.map_err(|_| Problem::internal())
    }

    /// Waits for the turn of a stranger's refusal.
    pub(crate) async fn turn_of_refusal(&self, now: Instant) {
        let wait = self.turnstile.wait(now);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits until a message without a certain end is refused to this peer; a drain
    /// waits for nobody's turn.
    pub(super) async fn turn_of_malformed(&self, peer: &Peer) {
        let wait = self.turns.wait_of_malformed(peer, Instant::now());
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.drains() => {}
            }
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Resolves once the plane drains.
    pub(crate) async fn drains(&self) {
        let begun = self.drain_begun.notified();
        if !self.is_draining() {
            begun.await;
        }
    }
}

/// Runs a worker until the plane drains.
pub(super) fn run(seed: Seed) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // History look-ups and fetched evidence; both bounded by this.
        .max_blocking_threads(4)
        .build_local(tokio::runtime::LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(work(seed)),
        Err(error) => tracing::error!(%error, "a verification worker has no runtime"),
    }
}

async fn work(seed: Seed) {
    let Seed { settings, tls, turns, handles, recorder, mut messages, phase } = seed;
    let recorder = match LocalRecorder::new(recorder) {
        Ok(recorder) => recorder,
        Err(error) => {
            tracing::error!(%error, "a verification worker cannot record");
            return;
        }
    };
    let worker = Rc::new(Worker {
        settings,
        handles,
        recorder,
        tally: Tally::new(),
        tls,
        turns,
        table: Rc::default(),
        scratch: RefCell::new(BytesMut::with_capacity(SCRATCH_BYTES)),
        random: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
        store_reads: Arc::new(Semaphore::new(STORE_READS_PENDING_MAX)),
        turnstile: Turnstile::new(Instant::now()),
        draining: Cell::new(false),
        drain_begun: Notify::new(),
    });
    let mut pump = {
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move { worker.recorder.pump().await })
    };
    let mut look_out = tokio::task::spawn_local(look_out(Rc::clone(&worker)));
    let mut drained = std::pin::pin!(drained(Rc::clone(&worker), phase));
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(Message::Connection(accepted)) => {
                    tokio::task::spawn_local(connection::serve(Rc::clone(&worker), *accepted));
                }
                Some(Message::HandOver(done)) => {
                    worker.tally.hand_over();
                    // Whoever asked may have stopped waiting.
                    let _gone = done.send(());
                }
                None => break,
            },
            () = &mut drained => break,
            // Both go on for ever: without them nothing is answered, or nobody is late.
            _ = &mut pump => break tracing::error!("a verification worker's records stand still"),
            _ = &mut look_out => break tracing::error!("a verification worker lost its deadlines"),
        }
    }
    worker.tally.hand_over();
    look_out.abort();
    pump.abort();
}

/// Looks over deadlines and hands the counters over, a few times a second.
async fn look_out(worker: Rc<Worker>) {
    let times = TimeOuts::of(&worker.settings);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.table.look(Instant::now(), &times);
        worker.tally.hand_over();
    }
}

/// Resolves once the plane drains and no connection is left, or the deadline
/// of the drain has passed.
async fn drained(worker: Rc<Worker>, mut phase: watch::Receiver<Phase>) {
    // A sender that is gone means the same as Draining.
    let asked = phase.wait_for(|phase| *phase == Phase::Draining).await;
    drop(asked);
    worker.draining.set(true);
    worker.drain_begun.notify_waiters();
    worker.table.retire_all();
    let deadline = Instant::now() + worker.settings.drain_timeout;
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(10));
    while !worker.table.is_empty() {
        ticks.tick().await;
        if Instant::now() > deadline {
            tracing::warn!("the drain's deadline cut connections");
            worker.table.kill_all();
            tokio::task::yield_now().await;
            return;
        }
    }
}
