//! A file for a credential that is shown this once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::datadir::sync_name;
use crate::secret::PlainCredential;

/// A new file that its owner alone reads, taken away again unless the credential gets
/// into it: half of one is in the way, and opens nothing.
pub(crate) struct SecretFile {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl SecretFile {
    /// Makes it, before anything is issued that could not be kept.
    ///
    /// # Errors
    /// When it is there already, or the file system refuses.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file, is_kept: false })
    }

    /// Puts the text of a credential into it, durably.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn keep(mut self, secret: &str) -> io::Result<()> {
        writeln!(self.file, "{secret}")?;
        self.file.sync_all()?;
        sync_name(&self.path)?;
        self.is_kept = true;
        Ok(())
    }

    /// Makes it of a credential that is there.
    ///
    /// # Errors
    /// As the two of which it consists.
    pub(crate) fn write(path: &Path, plain: &PlainCredential) -> io::Result<()> {
        Self::create(path)?.keep(plain.reveal())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.is_kept {
            drop(std::fs::remove_file(&self.path));
        }
    }
}
