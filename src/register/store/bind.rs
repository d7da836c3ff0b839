//! Which data directory the register belongs to.

use redb::ReadableTable;

use super::error::StoreError;
use super::load::Store;
use super::{DIRECTORY_KEY, SETTINGS_TABLE};
use crate::datadir::Identity;

impl Store {
    /// Whether the register belongs to this directory. One that has not been told yet,
    /// being new, restored or of an earlier version, is told now, durably.
    pub(in super::super) fn belongs_to(&self, directory: Identity) -> Result<bool, StoreError> {
        let txn = self.begin()?;
        {
            let mut settings = txn.open_table(SETTINGS_TABLE)?;
            if let Some(found) = settings.get(DIRECTORY_KEY)? {
                return Ok(found.value() == directory.as_bytes());
            }
            settings.insert(DIRECTORY_KEY, directory.as_bytes().as_slice())?;
        }
        txn.commit()?;
        Ok(true)
    }
}
