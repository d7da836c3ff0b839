//! What the writer's thread does: decide, append, apply, publish.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::decide::{self, Issue, KeyChange};
use super::directory::Directory;
use super::error::AccessError;
use super::export::AccessExport;
use super::health::Health;
use super::idempotency::{Fingerprint, IdempotencyKey, Remembered};
use super::key::{KeyRecord, NewKey};
use super::key_limits::KeyLimits;
use super::limiter::KeyLimiter;
use super::store::{Entry, OpenError, Store, StoreError, guarded, guarded_opening};
use super::time::LimiterTime;
use super::token::{NewToken, TokenRecord};
use super::writer::{Command, Issued, Opener, Reply};
use crate::clock::Moment;
use crate::environment::Environment;
use crate::limits::ACCESS_COMMANDS_PER_COMMIT_MAX;
use crate::secret::{KeyId, PlainCredential, Plane};

/// How often the day's usage is put on record.
const USAGE_EVERY: Duration = Duration::from_secs(10);

/// The writer's state; its thread's alone.
pub(super) struct Desk {
    pub(super) opener: Opener,
    /// `None` after a failed write: the file must be opened and read anew, since
    /// nobody knows whether that write is in it.
    pub(super) store: Option<Store>,
    /// As published.
    pub(super) directory: Directory,
    /// What the readers load.
    pub(super) current: Arc<ArcSwap<Directory>>,
    pub(super) environment: Environment,
    /// The limits of a key issued without any, as of now: what a request says is told
    /// apart by what it says, not by what they were then.
    pub(super) defaults: Arc<ArcSwap<KeyLimits>>,
    pub(super) time: Arc<LimiterTime>,
    pub(super) health: Arc<Health>,
}

/// One batch of commands as decided so far: it becomes the directory when it is
/// on record, and nothing if it isn't.
struct Draft {
    directory: Directory,
    entries: Vec<Entry>,
    remembered: HashMap<IdempotencyKey, Remembered>,
    /// Keys whose limits change, with the old and the new ones.
    carried: Vec<(Arc<KeyLimiter>, KeyLimits, KeyLimits)>,
    now: Moment,
}

impl Draft {
    fn put(&mut self, entry: Entry) {
        decide::apply(&mut self.directory, &entry);
        self.entries.push(entry);
    }
}

/// Sends a command's answer, or the failure of the commit it was part of.
type Answer = Box<dyn FnOnce(Result<(), AccessError>)>;

/// A command failed because the store did.
enum Failed {
    Refused(AccessError),
    Store(StoreError),
}

impl From<AccessError> for Failed {
    fn from(error: AccessError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Desk {
    /// Works until it is closed or nobody is left to send.
    pub(super) fn run(&mut self, inbox: &Receiver<Command>) {
        let mut save_at = Instant::now() + USAGE_EVERY;
        loop {
            let wait = save_at.saturating_duration_since(Instant::now());
            let (batch, open) = match inbox.recv_timeout(wait) {
                Ok(first) => collect(first, inbox),
                Err(RecvTimeoutError::Timeout) => (Vec::new(), true),
                Err(RecvTimeoutError::Disconnected) => (Vec::new(), false),
            };
            if !batch.is_empty() {
                self.work(batch);
            }
            if Instant::now() >= save_at || !open {
                if self.save_usage().is_err() {
                    tracing::warn!("the usage of the keys is not on record");
                }
                save_at = Instant::now() + USAGE_EVERY;
            }
            if !open {
                return;
            }
        }
    }

    /// Decides a batch, appends it as one, publishes it, and answers.
    fn work(&mut self, batch: Vec<Command>) {
        if let Err(error) = self.reopen_if_lost() {
            return batch.into_iter().for_each(|command| refuse(command, error));
        }
        let mut draft = Draft {
            directory: self.directory.clone(),
            entries: Vec::new(),
            remembered: HashMap::new(),
            carried: Vec::new(),
            now: self.time.clock.now(),
        };
        let mut answers = Vec::with_capacity(batch.len());
        let mut failure = None;
        for command in batch {
            match failure {
                None => match guarded(|| self.decide(&mut draft, command)) {
                    Ok(answer) => answers.push(answer),
                    Err(error) => failure = Some(self.lost(&error)),
                },
                Some(error) => refuse(command, error),
            }
        }
        let outcome = match failure {
            Some(error) => Err(error),
            None => self.append_and_publish(draft),
        };
        for answer in answers {
            answer(outcome);
        }
    }

    fn append_and_publish(&mut self, draft: Draft) -> Result<(), AccessError> {
        if draft.entries.is_empty() {
            return Ok(());
        }
        let appended = match &self.store {
            Some(store) => guarded(|| store.append(&draft.entries, draft.now)),
            None => return Err(self.health.gone()),
        };
        appended.map_err(|error| self.lost(&error))?;
        for (limiter, old, new) in &draft.carried {
            limiter.carry_over(old, new);
        }
        metrics::counter!("peselgate_access_changes_total").increment(draft.entries.len() as u64);
        self.publish(draft.directory);
        Ok(())
    }

    fn publish(&mut self, directory: Directory) {
        self.current.store(Arc::new(directory.clone()));
        self.directory = directory;
    }

    /// Decides one command on the draft. An `Err` is the store's failure, the
    /// command's sender then learns of it by the answer dropped.
    fn decide(&self, draft: &mut Draft, command: Command) -> Result<Answer, StoreError> {
        match command {
            Command::IssueKey(new, idempotency, reply) => {
                answer(reply, self.issue_key(draft, *new, idempotency))
            }
            Command::IssueToken(new, idempotency, reply) => {
                answer(reply, self.issue_token(draft, *new, idempotency))
            }
            Command::ChangeKey(id, change, reply) => answer(reply, change_key(draft, id, change)),
            Command::DeactivateToken(id, reply) => answer(reply, deactivate_token(draft, id)),
            Command::SaveUsage(reply) => answer(reply, self.write_usage().map_err(Failed::Store)),
            Command::Export(reply) => answer(reply, self.export()),
            Command::Close => Ok(Box::new(|_| ())),
        }
    }

    fn issue_key(
        &self,
        draft: &mut Draft,
        new: NewKey,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Issued<KeyRecord>, Failed> {
        let content = (&new.institution, &new.system, &new.addresses, &new.limits);
        let request = Fingerprint::of("key", &content);
        if let Issue::Again(id) = self.issue(draft, idempotency, &request)? {
            let record = draft.directory.key(&id).ok_or(AccessError::IdempotencyMismatch)?;
            return Ok(Issued { record: Arc::clone(record), plain: None });
        }
        let plain = PlainCredential::generate(Plane::Verification, self.environment)
            .map_err(|_| AccessError::NoRandomness)?;
        let limiter = Arc::new(KeyLimiter::new(Arc::clone(&self.time), None));
        let record = Arc::new(decide::issue_key(
            &draft.directory,
            self.environment,
            new,
            **self.defaults.load(),
            &plain,
            limiter,
            draft.now,
        )?);
        draft.put(Entry::Key(Arc::clone(&record)));
        remember(draft, idempotency, request, record.id());
        Ok(Issued { record, plain: Some(plain) })
    }

    fn issue_token(
        &self,
        draft: &mut Draft,
        new: NewToken,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Issued<TokenRecord>, Failed> {
        let roles: Vec<_> = new.roles.iter().collect();
        let content = (roles, &new.label, &new.channel, &new.registrant, &new.teryt);
        let request = Fingerprint::of("token", &content);
        if let Issue::Again(id) = self.issue(draft, idempotency, &request)? {
            let record = draft.directory.token(&id).ok_or(AccessError::IdempotencyMismatch)?;
            return Ok(Issued { record: Arc::clone(record), plain: None });
        }
        let plain = PlainCredential::generate(Plane::Admin, self.environment)
            .map_err(|_| AccessError::NoRandomness)?;
        let record =
            Arc::new(decide::issue_token(&draft.directory, self.environment, new, &plain, draft.now)?);
        draft.put(Entry::Token(Arc::clone(&record)));
        remember(draft, idempotency, request, record.id());
        Ok(Issued { record, plain: Some(plain) })
    }

    fn issue(
        &self,
        draft: &Draft,
        idempotency: Option<IdempotencyKey>,
        request: &Fingerprint,
    ) -> Result<Issue, Failed> {
        let Some(key) = idempotency else { return Ok(Issue::New) };
        let remembered = match (draft.remembered.get(&key), &self.store) {
            (Some(remembered), _) => Some(*remembered),
            (None, Some(store)) => store.remembered(&key)?,
            (None, None) => return Err(self.health.gone().into()),
        };
        Ok(decide::issue(remembered, request, draft.now)?)
    }

    fn save_usage(&mut self) -> Result<(), AccessError> {
        self.reopen_if_lost()?;
        guarded(|| self.write_usage()).map_err(|error| self.lost(&error))
    }

    fn write_usage(&self) -> Result<(), StoreError> {
        let changed: Vec<_> = self
            .directory
            .unsorted_keys()
            .filter_map(|key| key.limiter().unsaved_usage().map(|usage| (key, usage)))
            .collect();
        let (Some(store), false) = (&self.store, changed.is_empty()) else { return Ok(()) };
        let usages: Vec<_> = changed.iter().map(|(key, usage)| (key.id(), *usage)).collect();
        store.save_usage(&usages)?;
        changed.iter().for_each(|(key, usage)| key.limiter().mark_saved(*usage));
        Ok(())
    }

    /// Everything that was answered before, and what the keys have spent so far.
    fn export(&self) -> Result<AccessExport, Failed> {
        self.write_usage()?;
        match &self.store {
            Some(store) => Ok(store.export()?),
            None => Err(self.health.gone().into()),
        }
    }

    /// After a failed write: opens the store and publishes what is really in it.
    fn reopen_if_lost(&mut self) -> Result<(), AccessError> {
        if self.store.is_some() {
            return Ok(());
        }
        let opened = guarded_opening(|| {
            let store = (self.opener)()?;
            let known = &self.directory;
            let directory = store.load(|id, usage| match known.key(&id) {
                Some(key) => Arc::clone(&key.limiter),
                None => Arc::new(KeyLimiter::new(Arc::clone(&self.time), usage)),
            })?;
            store.try_a_commit().map_err(OpenError::Store)?;
            Ok((store, directory))
        });
        let (store, directory) = opened.map_err(|error| {
            tracing::error!(%error, "the store of access can't be opened again");
            // Counted each time: who looks at the counter sees that it goes on.
            metrics::counter!("peselgate_access_store_failures_total").increment(1);
            self.health.gone()
        })?;
        for key in directory.unsorted_keys() {
            if let Some(known) = self.directory.key(&key.id()) {
                key.limiter().carry_over(known.limits(), key.limits());
            }
        }
        self.store = Some(store);
        self.publish(directory);
        self.health.found();
        tracing::info!("the store of access can be written again");
        Ok(())
    }

    fn lost(&mut self, error: &StoreError) -> AccessError {
        tracing::error!(%error, "the store of access can't be written");
        metrics::counter!("peselgate_access_store_failures_total").increment(1);
        self.health.lost();
        let store = self.store.take();
        // Its own last words are known already, and may be a panic as well.
        guarded(|| {
            drop(store);
            Ok(())
        })
        .ok();
        self.health.gone()
    }
}

fn change_key(draft: &mut Draft, id: KeyId, change: KeyChange) -> Result<Arc<KeyRecord>, Failed> {
    let record = Arc::clone(draft.directory.key(&id).ok_or(AccessError::NotFound)?);
    let Some(next) = decide::change_key(&record, change, draft.now)? else { return Ok(record) };
    let next = Arc::new(next);
    if record.limits != next.limits {
        draft.carried.push((Arc::clone(&next.limiter), record.limits, next.limits));
    }
    draft.put(Entry::Key(Arc::clone(&next)));
    Ok(next)
}

fn deactivate_token(draft: &mut Draft, id: KeyId) -> Result<Arc<TokenRecord>, Failed> {
    let record = Arc::clone(draft.directory.token(&id).ok_or(AccessError::NotFound)?);
    let next = decide::deactivate_token(&draft.directory, &record, draft.now)?;
    let Some(next) = next else { return Ok(record) };
    let next = Arc::new(next);
    draft.put(Entry::Token(Arc::clone(&next)));
    Ok(next)
}

fn remember(draft: &mut Draft, idempotency: Option<IdempotencyKey>, request: Fingerprint, id: KeyId) {
    let Some(key) = idempotency else { return };
    let remembered = Remembered { request, id, at: draft.now };
    draft.remembered.insert(key, remembered);
    draft.put(Entry::Remembered(key, remembered));
}

/// Takes what else waits, up to one commit's worth; `false` when the desk is to
/// be closed after it.
fn collect(first: Command, inbox: &Receiver<Command>) -> (Vec<Command>, bool) {
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(command) = next {
        if matches!(command, Command::Close) {
            return (batch, false);
        }
        batch.push(command);
        next = if batch.len() < ACCESS_COMMANDS_PER_COMMIT_MAX { inbox.try_recv().ok() } else { None };
    }
    (batch, true)
}

fn answer<T: 'static>(reply: Reply<T>, decided: Result<T, Failed>) -> Result<Answer, StoreError> {
    let decided = match decided {
        Ok(value) => Ok(value),
        Err(Failed::Refused(error)) => Err(error),
        Err(Failed::Store(error)) => return Err(error),
    };
    // Whoever asked may have gone; what was decided stands all the same.
    Ok(Box::new(move |committed| drop(reply.send(committed.and(decided)))))
}

fn refuse(command: Command, error: AccessError) {
    match command {
        Command::IssueKey(_, _, reply) => drop(reply.send(Err(error))),
        Command::IssueToken(_, _, reply) => drop(reply.send(Err(error))),
        Command::ChangeKey(_, _, reply) => drop(reply.send(Err(error))),
        Command::DeactivateToken(_, reply) => drop(reply.send(Err(error))),
        Command::SaveUsage(reply) => drop(reply.send(Err(error))),
        Command::Export(reply) => drop(reply.send(Err(error))),
        Command::Close => {}
    }
}
