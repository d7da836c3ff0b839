//! Register, access and trail as one archive, and back.
//!
//! ```text
//! Backups::begin -> Backup::write -> frames ...... -> read -> Restoring -> Held
//!   (a running gateway)            a file, a pipe      (offline)
//! ```
//!
//! [`Backups`] fixes the trail's durable end first and takes the register's and
//! the access store's transactions after it: whatever an answer on the backed-up
//! trail names is in the backup. [`read()`] gives an archive's content, frame by
//! frame and in its order, to whoever takes it: nobody (a check of the
//! transport), or a [`Restoring`], which judges it as a start would, and makes a
//! data directory of it if it is told where.
//!
//! What lies in a frame is each room's own: the register's and the access store's
//! rows, the trail's bytes. This room knows their order and holds them together.

mod error;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzed;
mod manifest;
mod read;
mod restore;
mod source;

#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use manifest::{Manifest, ManifestRegister, ManifestTrail};
pub use read::{Content, Received, read};
pub use restore::{Held, Restoring};
pub use source::{Backup, Backups, Gone, NotBegun, Piece, WriteError};
