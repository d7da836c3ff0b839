//! The decisions: from the directory as it is and a command to the records that
//! will stand. Pure: no clock, no randomness, no store.

use std::sync::Arc;

use super::addresses::AllowList;
use super::directory::Directory;
use super::error::AccessError;
use super::idempotency::Remembered;
use super::key::{KeyRecord, NewKey};
use super::key_limits::KeyLimits;
use super::limiter::KeyLimiter;
use super::store::Entry;
use super::token::{NewToken, Role, TokenRecord};
use crate::clock::Moment;
use crate::environment::Environment;
use crate::limits::CREDENTIALS_MAX;
use crate::secret::{KeyId, PlainCredential};

/// A change of one key.
#[derive(Debug, Clone)]
pub(super) enum KeyChange {
    Deactivate,
    Addresses(AllowList),
    Limits(KeyLimits),
}

/// What a request to issue means, given what its idempotency key led to before.
pub(super) enum Issue {
    New,
    /// The same request again: it has this id already.
    Again(KeyId),
}

pub(super) fn issue(
    remembered: Option<Remembered>,
    request: &super::idempotency::Fingerprint,
    now: Moment,
) -> Result<Issue, AccessError> {
    match remembered.filter(|remembered| remembered.holds(now)) {
        None => Ok(Issue::New),
        Some(remembered) if remembered.request == *request => Ok(Issue::Again(remembered.id)),
        Some(_) => Err(AccessError::IdempotencyMismatch),
    }
}

pub(super) fn issue_key(
    directory: &Directory,
    environment: Environment,
    new: NewKey,
    default_limits: KeyLimits,
    credential: &PlainCredential,
    limiter: Arc<KeyLimiter>,
    now: Moment,
) -> Result<KeyRecord, AccessError> {
    if !new.addresses.suits(environment) {
        return Err(AccessError::AddressesOfOtherEnvironment);
    }
    if directory.key_count() >= CREDENTIALS_MAX {
        return Err(AccessError::Full);
    }
    let id = unused(directory, credential)?;
    Ok(KeyRecord {
        id,
        hash: credential.hash(),
        deactivated_at: None,
        limits: new.limits.unwrap_or(default_limits),
        limiter,
        addresses: new.addresses,
        institution: new.institution,
        system: new.system,
        environment,
        created_at: now,
    })
}

pub(super) fn issue_token(
    directory: &Directory,
    environment: Environment,
    new: NewToken,
    credential: &PlainCredential,
    now: Moment,
) -> Result<TokenRecord, AccessError> {
    if new.roles.is_every() && environment != Environment::Test {
        return Err(AccessError::EveryRoleInProduction);
    }
    if directory.token_count() >= CREDENTIALS_MAX {
        return Err(AccessError::Full);
    }
    let id = unused(directory, credential)?;
    Ok(TokenRecord {
        id,
        hash: credential.hash(),
        environment,
        roles: new.roles,
        label: new.label,
        channel: new.channel,
        registrant: new.registrant,
        teryt: new.teryt,
        created_at: now,
        deactivated_at: None,
    })
}

/// The key's next record, or `None` when it stands already as asked.
pub(super) fn change_key(
    record: &KeyRecord,
    change: KeyChange,
    now: Moment,
) -> Result<Option<KeyRecord>, AccessError> {
    if !record.is_active() {
        return match change {
            KeyChange::Deactivate => Ok(None),
            KeyChange::Addresses(_) | KeyChange::Limits(_) => Err(AccessError::Deactivated),
        };
    }
    let mut next = record.clone();
    match change {
        KeyChange::Deactivate => next.deactivated_at = Some(now),
        KeyChange::Addresses(addresses) if !addresses.suits(record.environment) => {
            return Err(AccessError::AddressesOfOtherEnvironment);
        }
        KeyChange::Addresses(addresses) if addresses == record.addresses => return Ok(None),
        KeyChange::Addresses(addresses) => next.addresses = addresses,
        KeyChange::Limits(limits) if limits == record.limits => return Ok(None),
        KeyChange::Limits(limits) => next.limits = limits,
    }
    Ok(Some(next))
}

/// The token's next record, or `None` when it is deactivated already. The last active
/// operator's stays: keys and tokens would be nobody's to change any more.
pub(super) fn deactivate_token(
    directory: &Directory,
    record: &TokenRecord,
    now: Moment,
) -> Result<Option<TokenRecord>, AccessError> {
    if !record.is_active() {
        return Ok(None);
    }
    let is_operator = |token: &TokenRecord| token.is_active() && token.roles.has(Role::Operator);
    let is_other = |token: &Arc<TokenRecord>| token.id != record.id && is_operator(token);
    if is_operator(record) && !directory.unsorted_tokens().any(is_other) {
        return Err(AccessError::LastOperator);
    }
    Ok(Some(TokenRecord { deactivated_at: Some(now), ..record.clone() }))
}

/// Applies an entry to the directory that will be published.
pub(super) fn apply(directory: &mut Directory, entry: &Entry) {
    match entry {
        Entry::Key(record) => directory.put_key(Arc::clone(record)),
        Entry::Token(record) => directory.put_token(Arc::clone(record)),
        Entry::Remembered(..) => {}
    }
}

/// Ids have 50 random bits: among a million a double is a matter of luck, and
/// would hand one institution's record to another.
fn unused(directory: &Directory, credential: &PlainCredential) -> Result<KeyId, AccessError> {
    let id = credential.id();
    let free = directory.key(&id).is_none() && directory.token(&id).is_none();
    free.then_some(id).ok_or(AccessError::NoRandomness)
}
