//! The audit trail: what the gateway exists for. No answer without a durable
//! record.
//!
//! ```text
//! worker: record -> staging --pump--> inbox -> writer: group -> pwrite -> fdatasync
//!         Pending <- slots  <--pump-- mailbox <-------- settle ------------'
//! ```
//!
//! A [`LocalRecorder`] stages a record and gives a [`Pending`]; awaiting it gives
//! a [`Receipt`], which nothing else makes. Beside the writer, a preparer keeps
//! the next segment ready; a start ([`open`]) verifies and repairs the end of the
//! trail, and in two steps ([`find()`]) says what it found before it writes; [`check()`] and [`dump()`] read it offline. A [`TrailExtent`] gives the
//! bytes up to a durable place, a [`TrailImport`] makes a trail of them.
//!
//! The file format is specified in `segment.rs`, the bytes of a record in
//! `codec.rs`.

mod check;
mod codec;
mod damage;
mod disk;
mod dump;
mod exchange;
mod extent;
mod find;
mod id;
mod import;
mod meters;
mod pending;
mod receipt;
mod record;
mod recorder;
mod recover;
mod segment;
mod shared;
mod spare;
mod start;
mod trail;
mod walk;
mod window;
mod writer;

#[cfg(test)]
mod tests;

/// The bytes that a record's body encodes to once it is decoded; `None` when it
/// does not decode. For the fuzz target of the codec.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[must_use]
pub fn reencoded(body: &[u8]) -> Option<Vec<u8>> {
    codec::reencoded(body)
}

pub use check::{CheckReport, Ending, check};
pub use damage::{Damage, DecodeError, Flaw, ReadError, TornTail};
pub use dump::{DumpError, DumpFilter, Dumped, dump};
pub use extent::{SegmentExtent, TrailExtent};
pub use id::{NotAnId, VerificationId};
pub use import::TrailImport;
pub use pending::Pending;
pub use receipt::{AuditUnavailable, Receipt, RecordRefused};
pub use record::{Item, Refusal, RegisterState, Shape, Told, Verification, VerificationRecord};
pub use recorder::{LocalRecorder, Recorder};
pub use recover::{Found, Recovered};
pub use shared::{Durability, TrailFailure};
pub use start::{FoundTrail, create, find, open};
pub use trail::{OpenError, Trail, TrailConfig, TrailHealth, TrailStatus, TrailThread};
