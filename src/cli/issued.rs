//! A credential that was issued, key or token: shown once, or kept in a file of its own.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use super::client::{Client, ClientError};
use super::console;
use super::error::CliError;
use crate::secret::KeyId;

/// What is issued: its word, which is also the field that holds it, and where.
pub(super) struct Kind {
    pub(super) word: &'static str,
    pub(super) path: &'static str,
}

impl Kind {
    /// Issues one and tells its record and, unless there is an `output`, itself.
    pub(super) async fn issue(
        &self,
        request: &Value,
        (output, as_json): (Option<&Path>, bool),
        client: &Client,
    ) -> Result<(), CliError> {
        let word = self.word;
        // The file comes first: what cannot be kept must not be issued.
        let mut file = output.map(SecretFile::create).transpose()?;
        let mut record: Value = client.json(Method::POST, self.path, Some(request)).await?;
        let text = |record: &Value, name: &str| record[name].as_str().map(str::to_owned);
        let missing = |name: &str| ClientError::Unexpected(format!("no `{name}` in it"));
        let id = text(&record, "id").ok_or_else(|| missing("id"))?;
        let secret = Zeroizing::new(text(&record, word).ok_or_else(|| missing(word))?);
        if let Some(file) = &mut file {
            file.keep(&secret).map_err(|error| {
                CliError::Input(format!(
                    "{error}; {word} {id} is issued and lost: deactivate it and issue another"
                ))
            })?;
            record[word].take();
            if let Some(fields) = record.as_object_mut() {
                fields.remove(word);
            }
        }
        match (as_json, output) {
            (true, _) => console::say(&record.to_string()),
            (false, Some(path)) => console::say(&format!("{word} {id} is in {}", path.display())),
            (false, None) => {
                console::note(&format!("{word} {id}, shown this once:"));
                console::say(&secret)
            }
        }
    }

    /// The path of one that was issued. An identifier goes into it: nothing else may.
    pub(super) fn of(&self, id: &str, end: &str) -> Result<String, CliError> {
        let id = KeyId::parse(id.as_bytes()).ok_or_else(|| {
            CliError::Usage(format!("the {} identifier has ten characters a-z and 2-7", self.word))
        })?;
        Ok(format!("{}/{id}/{end}", self.path))
    }
}

/// A new file for a secret, taken away again unless the secret gets into it.
struct SecretFile {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl SecretFile {
    fn create(path: &Path) -> Result<Self, CliError> {
        let mut options = OpenOptions::new();
        let file =
            options.write(true).create_new(true).mode(0o600).open(path).map_err(CliError::file(path))?;
        Ok(Self { path: path.to_owned(), file, is_kept: false })
    }

    fn keep(&mut self, secret: &str) -> Result<(), CliError> {
        self.file
            .write_all(secret.as_bytes())
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.sync_all())
            .map_err(CliError::file(&self.path))?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.is_kept {
            std::fs::remove_file(&self.path).ok();
        }
    }
}
