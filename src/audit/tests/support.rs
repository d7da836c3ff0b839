//! A trail without threads, driven step by step, and something to record.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::simulated::SimulatedDisk;
use crate::audit::exchange::{End, Settlement};
use crate::audit::shared::{Shared, TrailFailure};
use crate::audit::spare::Preparer;
use crate::audit::start::{Engine, FoundTrail, write_opened};
use crate::audit::writer::{Step, WriteFailure, Writer};
use crate::audit::{
    AuditUnavailable, Durability, Item, LocalRecorder, OpenError, Pending, Receipt, RecordRefused, Recorder,
    Recovered, RegisterState, Told, Trail, TrailConfig, Verification,
};
use crate::clock::{Clock, ClockHand, Moment};
use crate::environment::Environment;
use crate::pesel::Ordinal;
use crate::secret::KeyId;

/// Everything of a trail, on one thread.
pub(super) struct Machine {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    pub(super) preparer: Preparer,
    pub(super) recovered: Recovered,
    pub(super) recorder: LocalRecorder,
    pub(super) hand: ClockHand,
    settled: Vec<Settlement>,
}

pub(super) const SEGMENT_BYTES: u64 = 2048;
pub(super) const START: i64 = 1_795_000_000;

pub(super) fn config(segment_bytes: u64) -> TrailConfig {
    TrailConfig {
        dir: "trail".into(),
        durability: Durability::Flush,
        segment_bytes,
        pending_bytes_max: 1 << 20,
        start_check_bytes: u64::MAX,
    }
}

impl Machine {
    pub(super) fn start(disk: &SimulatedDisk) -> Result<Self, OpenError> {
        Self::start_with(disk, &config(SEGMENT_BYTES), START)
    }

    pub(super) fn start_with(
        disk: &SimulatedDisk,
        config: &TrailConfig,
        seconds: i64,
    ) -> Result<Self, OpenError> {
        let (clock, hand) = Clock::manual(Moment::from_unix_seconds(seconds));
        let found = FoundTrail::on(Arc::new(disk.clone()), config.clone(), clock, Environment::Test)?;
        let Engine { shared, mut writer, preparer, recovered } = Engine::new(found)?;
        preparer.step();
        write_opened(&shared, &mut writer, "0.1.0", Environment::Test, &recovered.found)?;
        preparer.step();
        let recorder = LocalRecorder::new(Recorder::new(Arc::clone(&shared))).expect("randomness");
        Ok(Self { shared, writer, preparer, recovered, recorder, hand, settled: Vec::new() })
    }

    pub(super) fn trail(&self) -> Trail {
        Trail::new(Arc::clone(&self.shared))
    }

    /// One tick: what is staged is handed over, written and settled, with the
    /// next segment prepared whenever one is wanted.
    pub(super) fn turn(&mut self) -> Result<(), WriteFailure> {
        self.recorder.hand_over();
        let stepped = self.step();
        self.recorder.settle(&mut self.settled);
        stepped
    }

    fn step(&mut self) -> Result<(), WriteFailure> {
        // A tick may need more than one group.
        while self.shared.inbox.pending_bytes() > 0 {
            self.preparer.step();
            if let Err(failure) = self.writer.step(false) {
                self.shared.end(Some(TrailFailure::of_disk(&failure)));
                return Err(failure);
            }
        }
        self.preparer.step();
        Ok(())
    }

    /// Records one verification and writes it.
    pub(super) fn record(&mut self, value: u32) -> Result<Receipt, Refused> {
        let pending = record(&self.recorder, value).map_err(Refused::AtOnce)?;
        let _failure = self.turn();
        finished(pending).map_err(Refused::Later)
    }

    pub(super) fn close(mut self) {
        self.shared.inbox.end(End::Close);
        while self.writer.step(false).expect("no fault") == Step::Continue {}
    }
}

#[derive(Debug)]
pub(super) enum Refused {
    AtOnce(RecordRefused),
    Later(AuditUnavailable),
}

pub(super) fn key_id() -> KeyId {
    KeyId::parse(b"abcdefgh23").expect("an id")
}

/// A number of somebody born in 1800 or little later.
pub(super) fn ordinal(value: u32) -> Ordinal {
    Ordinal::new(value).expect("in range")
}

pub(super) fn verification() -> Verification<'static> {
    Verification {
        answered_at: Moment::from_unix_seconds(START),
        asked_at: None,
        key_id: key_id(),
        institution: "Bank Spółdzielczy",
        address: Ipv4Addr::new(127, 0, 0, 1),
        register: RegisterState { sequence: 7, as_of: Moment::from_unix_seconds(START - 5) },
        reference: None,
    }
}

pub(super) fn told(value: u32) -> Told {
    let reserved = value.is_multiple_of(2);
    let reserved_at = reserved.then(|| Moment::from_unix_seconds(START - 1000));
    Told { reserved, reserved_at, withdrawn_at: None }
}

/// Stages a single verification of the number with this ordinal.
pub(super) fn record(recorder: &LocalRecorder, value: u32) -> Result<Pending, RecordRefused> {
    recorder.record_single(&verification(), Item::verified(ordinal(value), told(value)))
}

/// The outcome of a record that must be settled by now.
pub(super) fn finished(mut pending: Pending) -> Result<Receipt, AuditUnavailable> {
    match Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the record is not settled"),
    }
}
