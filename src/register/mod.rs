//! The register.
mod entry;
mod event;
mod law;
mod snapshot;
mod words;
