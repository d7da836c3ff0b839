//! Panics of redb. It trusts what it wrote, and may panic on a file that was altered
//! behind its back: for us that is a store that failed, not the end of a writer.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is said of such a file.
pub(crate) const NO_SENSE: &str = "redb cannot make sense of the file";

/// Runs what works with a store; its panic becomes the failure that `damaged` makes.
/// Whatever was at work must not be used again: the file is opened anew.
pub(crate) fn caught<T, E>(run: impl FnOnce() -> Result<T, E>, damaged: impl FnOnce() -> E) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(damaged()))
}
