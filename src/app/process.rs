//! The process itself: as many files as it may have, no core on disk, and no huge
//! pages for traffic.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

use crate::limits;

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

/// Connections of the verification plane that the open files allow, `wanted` at the
/// most.
pub(super) fn connections_max(wanted: usize) -> usize {
    let possible = getrlimit(Resource::Nofile).current.map_or(wanted, limits::connections_of_files);
    possible.min(wanted)
}

/// Connections that each control plane may have.
pub(super) fn control_connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current;
    files.map_or(limits::CONTROL_CONNECTIONS_MAX, limits::control_connections_of_files)
}
