//! An instance without planes, with rows in every table.

use std::path::Path;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::access::{
    AccessThread, AccessWriter, AllowList, IdempotencyKey, Institution, KeyLimits, Name, NewKey, NewToken,
};
use crate::audit::{Durability, Trail, TrailConfig, TrailThread};
use crate::backup::*;
use crate::clock::{Clock, ClockHand, Moment};
use crate::datadir::DemoFacts;
use crate::environment::Environment;
use crate::pesel::Ordinal;
use crate::register::{
    Applicant, Change, Channel, Command, Commander, Delivery, FeedSequence, Idempotency, Reader,
    RegisterConfig, Registrant, Stamp, Submission, WriterThread,
};

const START: i64 = 1_795_000_000;

/// A small instance without planes.
pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) runtime: Runtime,
    pub(super) backups: Backups,
    pub(super) commander: Commander,
    pub(super) access: AccessWriter,
    _hand: ClockHand,
    _threads: (WriterThread, AccessThread, TrailThread),
}

pub(super) fn moment(seconds: i64) -> Moment {
    Moment::from_unix_seconds(START + seconds)
}

pub(super) fn open_trail(dir: &Path, clock: &Clock) -> (Trail, TrailThread) {
    let config = TrailConfig {
        dir: dir.join("trail"),
        durability: Durability::Flush,
        segment_bytes: 2048,
        pending_bytes_max: 1 << 20,
        start_check_bytes: u64::MAX,
    };
    let (trail, thread, _) =
        crate::audit::open(config, clock.clone(), "0.1.0", Environment::Test).expect("a trail");
    (trail, thread)
}

impl World {
    pub(super) fn in_dir(dir: TempDir) -> Self {
        let (clock, hand) = Clock::manual(moment(0));
        let config = RegisterConfig { path: dir.path().join("register.redb"), cache_bytes: 1 << 20 };
        if !config.path.exists() {
            crate::register::create(&config.path, moment(0)).expect("a register");
        }
        let (reader, commander, register_thread) =
            crate::register::open(&config, clock.clone()).expect("a register");
        let limits = KeyLimits::new(1, 2, 3).expect("limits");
        let path = dir.path().join("access.redb");
        if !path.exists() {
            crate::access::create(&path, Environment::Test).expect("an access store");
        }
        let (_, access, access_thread) =
            crate::access::open(&path, Environment::Test, clock.clone(), limits).expect("an access store");
        let (trail, trail_thread) = open_trail(dir.path(), &clock);
        let backups = backups(&dir, trail, reader, access.clone(), &clock);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let threads = (register_thread, access_thread, trail_thread);
        Self { dir, runtime, backups, commander, access, _hand: hand, _threads: threads }
    }

    /// With rows in every table, and a trail of several segments.
    pub(super) fn full() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (clock, _hand) = Clock::manual(moment(-10));
        for _ in 0..8 {
            let (_, thread) = open_trail(dir.path(), &clock);
            thread.close().expect("closed");
        }
        let world = Self::in_dir(dir);
        for person in 0..20 {
            world.submit(person, Change::Reservation, person % 3 == 0);
        }
        let again = Some(Stamp::try_from(moment(90_000)).expect("a stamp"));
        for person in 0..5 {
            world.submit(person, Change::Withdrawal { reserve_again_at: again }, false);
        }
        world.runtime.block_on(async {
            let renumbering = crate::register::Renumbering {
                old: ordinal(3),
                new: ordinal(77),
                at: Stamp::try_from(moment(-5)).expect("a stamp"),
                channel: Channel::PeselRegister,
                registrant: Registrant::new("Rejestr PESEL").expect("a name"),
            };
            let delivery = Delivery::new(FeedSequence::FIRST, b"the first message");
            world.commander.renumber(renumbering, None, Some(delivery)).await.expect("renumbered");
            let label = Name::parse("operator").expect("a name");
            let operator = NewToken::operator(label);
            let idempotency = IdempotencyKey::parse(
                world.access.issue_token(operator.clone(), None).await.expect("issued").record.id(),
                b"once",
            );
            world.access.issue_token(operator, idempotency.ok()).await.expect("issued");
            let key = NewKey {
                institution: Institution {
                    name: Name::parse("Bank Źródło").expect("a name"),
                    regon: None,
                    krs: None,
                },
                system: Name::parse("s").expect("a name"),
                addresses: AllowList::parse(["10.0.0.0/8"], Environment::Test).expect("a list"),
                limits: None,
            };
            world.access.issue_key(key, None).await.expect("issued");
        });
        DemoFacts { reserved: 20, seed: 7 }.write(&world.dir.path().join("demo.json")).expect("written");
        world
    }

    pub(super) fn submit(&self, person: u32, change: Change, is_remembered: bool) {
        let command = Command {
            ordinal: ordinal(person),
            change,
            channel: Channel::EService,
            registrant: Registrant::new("Kancelaria").expect("a name"),
            applicant: Some(Applicant::ALL[0]),
            obstacle: None,
            document_seen: None,
            majority_by_marriage: false,
        };
        let idempotency = is_remembered.then(|| Idempotency::new("scope", &person.to_string(), b"request"));
        self.runtime
            .block_on(self.commander.submit(Submission { command, idempotency, delivery: None }))
            .expect("recorded");
    }

    pub(super) fn begin(&self) -> Result<Backup, NotBegun> {
        self.runtime.block_on(self.backups.begin())
    }

    /// The pieces of a whole archive.
    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut lasts = 0;
        let written = self.begin().expect("begun").write(&mut |piece| {
            pieces.push(match piece {
                Piece::Middle(bytes) => bytes,
                Piece::Last(bytes) => {
                    lasts += 1;
                    bytes
                }
            });
            Ok(())
        });
        assert_eq!(written.expect("written"), pieces.iter().map(|piece| piece.len() as u64).sum::<u64>());
        assert_eq!(lasts, 1);
        pieces
    }

    pub(super) fn archive(&self) -> Vec<u8> {
        self.pieces().concat()
    }
}

pub(super) fn backups(
    dir: &TempDir,
    trail: Trail,
    register: Reader,
    access: AccessWriter,
    clock: &Clock,
) -> Backups {
    let demo = dir.path().join("demo.json");
    Backups::new(trail, register, access, Environment::Test, clock.clone(), demo)
}

pub(super) fn ordinal(person: u32) -> Ordinal {
    Ordinal::new(18_262 * 10_000 + person).expect("in range")
}
