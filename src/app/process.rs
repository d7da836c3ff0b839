//! The process itself: as many files as it may have, no core on disk, and no huge
//! pages for traffic.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

/// Raises the soft limit of open files to the hard one (a connection is a file),
/// and forbids core dumps: a core would hold numbers and keys.
pub(super) fn settle() {
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: files.maximum, maximum: files.maximum };
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    for (what, resource, limit) in
        [("open files", Resource::Nofile, raised), ("core", Resource::Core, no_core)]
    {
        if let Err(error) = setrlimit(resource, limit) {
            tracing::warn!(%error, what, "a process limit could not be set");
        }
    }
}

/// Takes no further huge pages; those it has stay. Called between the load of the
/// stores and the first connection: the set is read all over and gains by them, but
/// of what comes and goes with traffic one buffer would keep 2 MiB in memory.
pub(super) fn no_more_huge_pages() {
    // The flag is the whole process's, whatever thread sets it (prctl(2)).
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "huge pages could not be forbidden");
    }
}

/// Connections that the open files allow, `wanted` at the most: a few hundred
/// files are for the stores and the other planes.
pub(super) fn connections_max(wanted: usize) -> usize {
    match getrlimit(Resource::Nofile).current {
        Some(files) => wanted.min(usize::try_from(files.saturating_sub(512)).unwrap_or(wanted)).max(16),
        None => wanted,
    }
}
