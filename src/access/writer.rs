//! The single writer of access: its handle and its thread.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::addresses::AllowList;
use super::decide::KeyChange;
use super::desk::Desk;
use super::directory::DirectoryReader;
use super::error::AccessError;
use super::export::AccessExport;
use super::health::{Ending, Health};
use super::idempotency::IdempotencyKey;
use super::key::{KeyRecord, NewKey};
use super::key_limits::KeyLimits;
use super::limiter::KeyLimiter;
use super::store::{OpenError, Store, guarded_opening};
use super::time::{LimiterTime, Ticks};
use super::token::{NewToken, TokenRecord};
use crate::clock::Clock;
use crate::environment::Environment;
use crate::limits::ACCESS_COMMANDS_PENDING_MAX;
use crate::secret::{KeyId, PlainCredential};

/// Makes an empty store of access in a new file.
///
/// # Errors
/// When there is a file already, or the disk fails.
pub fn create(path: &Path, environment: Environment) -> Result<(), OpenError> {
    Store::create(path, environment)?.close().map_err(OpenError::Store)
}

/// The environment whose keys and tokens a store of access holds.
///
/// # Errors
/// [`OpenError`]: the file is not there or can't be used, or does not say.
pub fn environment_of(path: &Path) -> Result<Environment, OpenError> {
    guarded_opening(|| Store::environment_of(path))
}

/// Opens the store of access, loads the directory and starts the writer's thread.
///
/// `defaults` are the limits of a key issued without any.
///
/// # Errors
/// [`OpenError`]: the file is not there or can't be used, is of another format or environment, or
/// holds a record that breaks a rule.
pub fn open(
    path: &Path,
    environment: Environment,
    clock: Clock,
    defaults: KeyLimits,
) -> Result<(DirectoryReader, AccessWriter, AccessThread), OpenError> {
    let path = path.to_owned();
    let opener = Box::new(move || Store::open(&path, environment));
    open_with(opener, environment, LimiterTime::new(clock, Ticks::system()), defaults)
}

/// Opens the store; called again after it failed.
pub(super) type Opener = Box<dyn Fn() -> Result<Store, OpenError> + Send>;

pub(super) fn open_with(
    opener: Opener,
    environment: Environment,
    time: LimiterTime,
    defaults: KeyLimits,
) -> Result<(DirectoryReader, AccessWriter, AccessThread), OpenError> {
    let time = Arc::new(time);
    let store = opener()?;
    let directory = store.load(|_, usage| Arc::new(KeyLimiter::new(Arc::clone(&time), usage)))?;
    let current = Arc::new(ArcSwap::from_pointee(directory.clone()));
    let health = Arc::new(Health::new(time.clock.clone()));
    let reader = DirectoryReader { current: Arc::clone(&current), environment, time: Arc::clone(&time) };
    let health_seen = Arc::clone(&health);
    let defaults = Arc::new(ArcSwap::from_pointee(defaults));
    let desk = Desk {
        opener,
        store: Some(store),
        directory,
        current,
        environment,
        defaults: Arc::clone(&defaults),
        time,
        health: health_seen,
    };
    let (commands, inbox) = sync_channel(ACCESS_COMMANDS_PENDING_MAX);
    let thread = spawn(desk, inbox).map_err(OpenError::Io)?;
    let writer = AccessWriter { commands: commands.clone(), health, defaults };
    Ok((reader, writer, AccessThread { commands, thread: Some(thread) }))
}

fn spawn(mut desk: Desk, inbox: Receiver<Command>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("access-writer".to_owned()).spawn(move || {
        let _ending = Ending(Arc::clone(&desk.health));
        desk.run(&inbox);
    })
}

/// What was issued.
#[derive(Debug)]
pub struct Issued<R> {
    /// The record as it stands.
    pub record: Arc<R>,
    /// The credential itself, shown this once; `None` when the same request came
    /// again under its idempotency key.
    pub plain: Option<PlainCredential>,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, AccessError>>;

pub(super) enum Command {
    IssueKey(Box<NewKey>, Option<IdempotencyKey>, Reply<Issued<KeyRecord>>),
    ChangeKey(KeyId, KeyChange, Reply<Arc<KeyRecord>>),
    IssueToken(Box<NewToken>, Option<IdempotencyKey>, Reply<Issued<TokenRecord>>),
    DeactivateToken(KeyId, Reply<Arc<TokenRecord>>),
    SaveUsage(Reply<()>),
    Export(Reply<AccessExport>),
    /// Everything before it is answered, usage is saved, the thread ends.
    Close,
}

/// Changes access; clones share the one thread. Every change is on disk and
/// published when its answer arrives: the next request sees it.
///
/// Every method fails with [`AccessError::Overloaded`] when too many changes wait
/// and with [`AccessError::Unavailable`] when the store can't be written.
#[derive(Clone)]
pub struct AccessWriter {
    commands: SyncSender<Command>,
    health: Arc<Health>,
    /// The desk reads them when it issues a key.
    defaults: Arc<ArcSwap<KeyLimits>>,
}

impl AccessWriter {
    /// Issues a key. The same idempotency key with the same request within 24
    /// hours gives the same record, without the credential: a secret is shown
    /// once, and one that got lost on its way is replaced by a new key.
    ///
    /// # Errors
    /// [`AccessError::IdempotencyMismatch`], [`AccessError::Full`],
    /// [`AccessError::AddressesOfOtherEnvironment`], [`AccessError::NoRandomness`].
    pub async fn issue_key(
        &self,
        new: NewKey,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Issued<KeyRecord>, AccessError> {
        self.send(|reply| Command::IssueKey(Box::new(new), idempotency, reply)).await
    }

    /// Exchanges the limits of keys that are issued without any from here on.
    pub fn set_default_limits(&self, defaults: KeyLimits) {
        self.defaults.store(Arc::new(defaults));
    }

    /// Deactivates a key for good; doing so again changes nothing.
    ///
    /// # Errors
    /// [`AccessError::NotFound`].
    pub async fn deactivate_key(&self, id: KeyId) -> Result<Arc<KeyRecord>, AccessError> {
        self.send(|reply| Command::ChangeKey(id, KeyChange::Deactivate, reply)).await
    }

    /// Replaces the allow-list; key and budget stay.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], [`AccessError::Deactivated`],
    /// [`AccessError::AddressesOfOtherEnvironment`].
    pub async fn set_addresses(
        &self,
        id: KeyId,
        addresses: AllowList,
    ) -> Result<Arc<KeyRecord>, AccessError> {
        self.send(|reply| Command::ChangeKey(id, KeyChange::Addresses(addresses), reply)).await
    }

    /// Replaces the limits; what was spent stays spent.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], [`AccessError::Deactivated`].
    pub async fn set_limits(&self, id: KeyId, limits: KeyLimits) -> Result<Arc<KeyRecord>, AccessError> {
        self.send(|reply| Command::ChangeKey(id, KeyChange::Limits(limits), reply)).await
    }

    /// Issues an admin token; idempotent like [`Self::issue_key`].
    ///
    /// # Errors
    /// [`AccessError::IdempotencyMismatch`], [`AccessError::Full`],
    /// [`AccessError::EveryRoleInProduction`], [`AccessError::NoRandomness`].
    pub async fn issue_token(
        &self,
        new: NewToken,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Issued<TokenRecord>, AccessError> {
        self.send(|reply| Command::IssueToken(Box::new(new), idempotency, reply)).await
    }

    /// Deactivates a token for good; doing so again changes nothing.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], [`AccessError::LastOperator`].
    pub async fn deactivate_token(&self, id: KeyId) -> Result<Arc<TokenRecord>, AccessError> {
        self.send(|reply| Command::DeactivateToken(id, reply)).await
    }

    /// Puts the day's usage of every key on record now. The thread does so by
    /// itself every ten seconds and when it is closed; a process that dies
    /// without being closed forgets at most that much of the usage, and always
    /// the state of the per-second rates.
    ///
    /// # Errors
    /// Those of every method.
    pub async fn save_usage(&self) -> Result<(), AccessError> {
        self.send(Command::SaveUsage).await
    }

    /// Everything on record now, the day's usage included, to be read at leisure.
    ///
    /// # Errors
    /// Those of every method.
    pub async fn export(&self) -> Result<AccessExport, AccessError> {
        self.send(Command::Export).await
    }

    /// Since when the store can't be written; `None` as long as it can.
    #[must_use]
    pub fn unavailable_since(&self) -> Option<crate::clock::Moment> {
        self.health.unavailable_since()
    }

    async fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, AccessError> {
        let (reply, answer) = oneshot::channel();
        match self.commands.try_send(command(reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(AccessError::Overloaded),
            Err(TrySendError::Disconnected(_)) => return Err(self.health.gone()),
        }
        answer.await.unwrap_or_else(|_| Err(self.health.gone()))
    }
}

impl std::fmt::Debug for AccessWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessWriter").field("unavailable_since", &self.unavailable_since()).finish()
    }
}

/// The writer's thread; closing or dropping it answers what was sent before,
/// saves usage and ends it.
#[derive(Debug)]
pub struct AccessThread {
    commands: SyncSender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl AccessThread {
    /// Ends the thread and waits for it; the store is closed afterwards.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // An error of either means that the thread has ended already.
        if self.commands.send(Command::Close).is_err() | thread.join().is_err() {
            tracing::error!("the writer of access had ended before it was closed");
        }
    }
}

impl Drop for AccessThread {
    fn drop(&mut self) {
        self.end();
    }
}
