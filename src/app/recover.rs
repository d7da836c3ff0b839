//! `peselgate token recover`: another operator token in a directory whose own are
//! deactivated or lost. Whoever may write the directory is its operator.

use std::path::Path;

use super::init::issue_operator;
use super::instance::InstanceError;
use crate::clock::Clock;
use crate::datadir::DataDir;
use crate::secret::KeyId;
use crate::secret_file::SecretFile;

/// Issues one more operator token into a new file, mode 0600, and tells its id; the
/// tokens that are on record stay as they are.
///
/// # Errors
/// When a gateway holds the directory, a store is missing, the access store cannot be
/// read or written, or the file is there already or cannot be written.
pub fn recover(data_directory: &Path, token_file: &Path) -> Result<KeyId, InstanceError> {
    let unwritten = |error: std::io::Error| InstanceError::new(&token_file.display().to_string(), error);
    let data =
        DataDir::lock_made(data_directory).map_err(|error| InstanceError::new("token recover", error))?;
    let environment = crate::access::environment_of(&data.access())
        .map_err(|error| InstanceError::new("token recover", error))?;
    // The file comes first: what cannot be kept must not be issued.
    let file = SecretFile::create(token_file).map_err(unwritten)?;
    let (id, plain) = issue_operator(&data, environment, Clock::system(), "recovered operator")?;
    file.keep(plain.reveal()).map_err(|error| {
        let lost = format!("{error}; token {id} is issued and lost: recover another and deactivate it");
        InstanceError::new(&token_file.display().to_string(), lost)
    })?;
    Ok(id)
}
