//! A small world for tests: a store in a temporary directory, a clock and a time
//! that are moved by hand.

use std::future::Future;
use std::num::NonZeroU32;
use std::path::PathBuf;

use governor::clock::FakeRelativeClock;
use tempfile::TempDir;

use super::store::Store;
use super::time::{LimiterTime, Ticks};
use super::writer::{Opener, open_with};
use super::*;
use crate::clock::{Clock, ClockHand, Moment};
use crate::environment::Environment;
use crate::secret::PlainCredential;

pub(crate) struct World {
    pub(crate) reader: DirectoryReader,
    pub(crate) writer: AccessWriter,
    pub(crate) thread: Option<AccessThread>,
    pub(crate) hand: ClockHand,
    pub(crate) ticks: FakeRelativeClock,
    pub(crate) environment: Environment,
    /// Shared with the world that a restart makes.
    directory: std::sync::Arc<TempDir>,
}

pub(crate) fn moment(text: &str) -> Moment {
    Moment::parse(text).expect("moment")
}

pub(crate) fn limits(per_second: u32, burst: u32, per_day: u64) -> KeyLimits {
    KeyLimits::new(per_second, burst, per_day).expect("limits")
}

pub(crate) fn cells(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not zero")
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
}

pub(crate) fn world(environment: Environment) -> World {
    let directory = std::sync::Arc::new(tempfile::tempdir().expect("temporary directory"));
    start(directory, environment)
}

pub(crate) fn test_world() -> World {
    world(Environment::Test)
}

fn start(directory: std::sync::Arc<TempDir>, environment: Environment) -> World {
    let path = directory.path().join("access.redb");
    if !path.exists() {
        create(&path, environment).expect("made");
    }
    with_opener(Box::new(move || Store::open(&path, environment)), directory, environment)
}

fn with_opener(opener: Opener, directory: std::sync::Arc<TempDir>, environment: Environment) -> World {
    let (clock, hand) = Clock::manual(moment("2026-11-21T11:00:00Z"));
    let (manual, ticks) = Ticks::manual();
    let opened = open_with(opener, environment, LimiterTime::new(clock, manual), limits(100, 1_000, 10_000));
    let (reader, writer, thread) = opened.expect("opens");
    World { reader, writer, thread: Some(thread), hand, ticks, environment, directory }
}

/// A world whose store is opened by this.
pub(super) fn world_over(open: impl Fn(PathBuf) -> Result<Store, OpenError> + Send + 'static) -> World {
    let directory = std::sync::Arc::new(tempfile::tempdir().expect("temporary directory"));
    let path = directory.path().join("access.redb");
    with_opener(Box::new(move || open(path.clone())), directory, Environment::Test)
}

impl World {
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("access.redb")
    }

    /// Closes everything and opens it again.
    pub(crate) fn restart(mut self) -> Self {
        if let Some(thread) = self.thread.take() {
            thread.close();
        }
        start(std::sync::Arc::clone(&self.directory), self.environment)
    }

    pub(crate) fn new_key(&self, addresses: &[&str]) -> NewKey {
        NewKey {
            institution: Institution {
                name: Name::parse("Bank Spółdzielczy w Łodzi").expect("name"),
                regon: Some(Regon::parse("123456785").expect("regon")),
                krs: Some(Krs::parse("0000012345").expect("krs")),
            },
            system: Name::parse("Kredyty").expect("name"),
            addresses: AllowList::parse(addresses, self.environment).expect("addresses"),
            limits: None,
        }
    }

    pub(crate) fn issue(&self, new: NewKey) -> (std::sync::Arc<KeyRecord>, PlainCredential) {
        let issued = wait(self.writer.issue_key(new, None)).expect("issued");
        (issued.record, issued.plain.expect("shown once"))
    }

    pub(crate) fn issue_token(&self, new: NewToken) -> (std::sync::Arc<TokenRecord>, PlainCredential) {
        let issued = wait(self.writer.issue_token(new, None)).expect("issued");
        (issued.record, issued.plain.expect("shown once"))
    }

    /// Issues many keys at once, in batches that share commits.
    pub(crate) fn issue_many(&self, news: Vec<NewKey>) -> Vec<(std::sync::Arc<KeyRecord>, PlainCredential)> {
        wait(async {
            let mut issued = Vec::with_capacity(news.len());
            for chunk in news.chunks(crate::limits::ACCESS_COMMANDS_PENDING_MAX / 2) {
                let mut tasks = Vec::with_capacity(chunk.len());
                for new in chunk {
                    let (writer, new) = (self.writer.clone(), new.clone());
                    tasks.push(tokio::spawn(async move { writer.issue_key(new, None).await }));
                }
                for task in tasks {
                    let one = task.await.expect("no panic").expect("issued");
                    issued.push((one.record, one.plain.expect("shown once")));
                }
            }
            issued
        })
    }
}

/// Everything of a record that lies on disk.
pub(super) fn shown(key: &KeyRecord) -> String {
    format!(
        "{} {} {:?} {} {:?} {:?} {} {:?} {:?}",
        key.id(),
        key.environment(),
        key.institution(),
        key.system(),
        key.addresses(),
        key.limits(),
        key.created_at(),
        key.deactivated_at(),
        key.hash().as_bytes()
    )
}
