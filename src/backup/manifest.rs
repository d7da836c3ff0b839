//! What a backup says of itself, before everything else.

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::datadir::DemoFacts;
use crate::environment::Environment;

/// What it is a backup of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The environment of the instance.
    pub environment: Environment,
    /// The program's version.
    pub version: String,
    /// When the backup began: what was answered before is in it.
    pub made_at: Moment,
    /// The register in it.
    pub register: ManifestRegister,
    /// The trail in it.
    pub trail: ManifestTrail,
    /// What a demo was made with; none for a real instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demo: Option<DemoFacts>,
    /// About how many bytes the archive has, to show progress by.
    pub expected_bytes: u64,
}

/// The register's state in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestRegister {
    /// The last event.
    pub sequence: u64,
    /// Its moment.
    pub as_of: Moment,
    /// Reserved numbers.
    pub reserved: u64,
    /// Numbers that ever had an event.
    pub entries: u64,
}

/// The trail's extent in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestTrail {
    /// Segments.
    pub segments: u64,
    /// Records of every kind.
    pub records: u64,
}
