//! The forms in which records lie on disk: JSON that a person can read.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::addresses::AllowList;
use super::idempotency::{Fingerprint, Remembered};
use super::key::KeyRecord;
use super::key_limits::KeyLimits;
use super::limiter::{DayUsage, KeyLimiter};
use super::names::{ChannelName, Institution, Name, Teryt};
use super::time::CivilDay;
use super::token::{Role, Roles, TokenRecord};
use crate::clock::Moment;
use crate::environment::Environment;
use crate::secret::{CredentialHash, KeyId};

/// Why a stored record could not be read.
pub(super) type Unreadable = String;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    sha256: String,
    institution: Institution,
    system: Name,
    addresses: Vec<String>,
    limits: KeyLimits,
    created_at: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deactivated_at: Option<Moment>,
}

pub(super) fn write_key(record: &KeyRecord) -> Result<String, Unreadable> {
    write(&StoredKey {
        id: record.id.to_string(),
        sha256: HEXLOWER.encode(record.hash.as_bytes()),
        institution: record.institution.clone(),
        system: record.system.clone(),
        addresses: record.addresses.networks().map(|network| network.to_string()).collect(),
        limits: record.limits,
        created_at: record.created_at,
        deactivated_at: record.deactivated_at,
    })
}

/// Reads a key's record, judging it by the same rules as a new one.
pub(super) fn read_key(
    text: &str,
    environment: Environment,
    limiter: impl FnOnce(KeyId) -> Arc<KeyLimiter>,
) -> Result<KeyRecord, Unreadable> {
    let stored: StoredKey = read(text)?;
    let id = read_id(&stored.id)?;
    Ok(KeyRecord {
        id,
        hash: read_hash(&stored.sha256)?,
        deactivated_at: stored.deactivated_at,
        limits: stored.limits,
        limiter: limiter(id),
        addresses: AllowList::parse(&stored.addresses, environment).map_err(|error| error.to_string())?,
        institution: stored.institution,
        system: stored.system,
        environment,
        created_at: stored.created_at,
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredToken {
    id: String,
    sha256: String,
    roles: Vec<Role>,
    label: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<ChannelName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registrant: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    teryt: Option<Teryt>,
    created_at: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deactivated_at: Option<Moment>,
}

pub(super) fn write_token(record: &TokenRecord) -> Result<String, Unreadable> {
    write(&StoredToken {
        id: record.id.to_string(),
        sha256: HEXLOWER.encode(record.hash.as_bytes()),
        roles: record.roles.iter().collect(),
        label: record.label.clone(),
        channel: record.channel.clone(),
        registrant: record.registrant.clone(),
        teryt: record.teryt.clone(),
        created_at: record.created_at,
        deactivated_at: record.deactivated_at,
    })
}

pub(super) fn read_token(text: &str, environment: Environment) -> Result<TokenRecord, Unreadable> {
    let stored: StoredToken = read(text)?;
    let roles = match stored.roles.as_slice() {
        [role] => Roles::one(*role),
        roles if roles == Role::ALL && environment == Environment::Test => Roles::every(),
        _ => return Err("a token has one role, or every role in the test environment".to_owned()),
    };
    if roles == Roles::one(Role::Source) && (stored.channel.is_none() || stored.registrant.is_none()) {
        return Err("the token of a source is bound to a channel and a registrant".to_owned());
    }
    if roles == Roles::one(Role::Official) && (stored.teryt.is_none() || stored.registrant.is_none()) {
        return Err("the token of an official is bound to a gmina".to_owned());
    }
    Ok(TokenRecord {
        id: read_id(&stored.id)?,
        hash: read_hash(&stored.sha256)?,
        environment,
        roles,
        label: stored.label,
        channel: stored.channel,
        registrant: stored.registrant,
        teryt: stored.teryt,
        created_at: stored.created_at,
        deactivated_at: stored.deactivated_at,
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUsage {
    /// The civil day in Europe/Warsaw.
    day: String,
    numbers: u64,
}

pub(super) fn write_usage(usage: DayUsage) -> Result<String, Unreadable> {
    write(&StoredUsage { day: usage.day.iso(), numbers: usage.spent })
}

pub(super) fn read_usage(text: &str) -> Result<DayUsage, Unreadable> {
    let stored: StoredUsage = read(text)?;
    let day = CivilDay::parse(&stored.day).ok_or_else(|| "no day such as 2026-11-21".to_owned())?;
    Ok(DayUsage { day, spent: stored.numbers })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRemembered {
    request_sha256: String,
    id: String,
    at: Moment,
}

pub(super) fn write_remembered(remembered: &Remembered) -> Result<String, Unreadable> {
    write(&StoredRemembered {
        request_sha256: HEXLOWER.encode(&remembered.request.0),
        id: remembered.id.to_string(),
        at: remembered.at,
    })
}

pub(super) fn read_remembered(text: &str) -> Result<Remembered, Unreadable> {
    let stored: StoredRemembered = read(text)?;
    Ok(Remembered {
        request: Fingerprint(read_digest(&stored.request_sha256)?),
        id: read_id(&stored.id)?,
        at: stored.at,
    })
}

pub(super) fn read_id(text: &str) -> Result<KeyId, Unreadable> {
    KeyId::parse(text.as_bytes()).ok_or_else(|| "no identifier".to_owned())
}

fn read_hash(text: &str) -> Result<CredentialHash, Unreadable> {
    read_digest(text).map(CredentialHash::from_bytes)
}

fn read_digest(text: &str) -> Result<[u8; 32], Unreadable> {
    let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| "no SHA-256".to_owned())?;
    bytes.try_into().map_err(|_| "no SHA-256".to_owned())
}

fn write(form: &impl Serialize) -> Result<String, Unreadable> {
    serde_json::to_string(form).map_err(|error| error.to_string())
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Unreadable> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
