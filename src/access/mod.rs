//! Access: who holds which key, from where it may be used and what it may spend.
//!
//! - [`KeyRecord`] and [`TokenRecord`] are what is known of an API key and of an
//!   admin token; neither holds a secret, only its SHA-256.
//! - [`Directory`] is all of them as of one moment; a [`DirectoryReader`] loads
//!   it for each request.
//! - [`AccessWriter`] is the way to change it: one thread decides (pure), appends
//!   (durable), applies (pure) and publishes (one swap); the caller's answer comes
//!   after the swap, so the next request sees the change.
//!
//! Environments never mix: the store is marked with its own, and refuses to open
//! for the other.

mod addresses;
pub(crate) mod backlog;
mod decide;
mod desk;
mod directory;
mod error;
mod export;
mod health;
mod idempotency;
mod key;
mod key_limits;
mod limiter;
mod names;
mod store;
#[cfg(test)]
mod store_tests;
mod stored;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod token;
mod writer;

pub use addresses::{AllowList, AllowListError, NOT_PUBLIC, SpecialRange};
pub use directory::{Directory, DirectoryReader};
pub(crate) use directory::{Edition, KeptKey, KeySlot};
pub use error::AccessError;
pub use export::{AccessExport, AccessHeld, AccessImport};
pub use idempotency::{BadIdempotencyKey, IdempotencyKey};
pub use key::{KeyRecord, NewKey};
pub use key_limits::{BadLimits, KeyLimits, LimitsView};
pub use limiter::KeyLimiter;
pub(crate) use limiter::{Charged, OverLimit};
pub use names::{BadWord, ChannelName, Institution, Krs, Name, Regon, Teryt};
pub use store::{OpenError, StoreError};
pub use token::{NewToken, Role, Roles, TokenRecord};
pub use writer::{AccessThread, AccessWriter, Issued, create, environment_of, open};
