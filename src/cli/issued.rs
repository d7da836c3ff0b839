//! A credential that was issued, key or token: shown once, or kept in a file of its own.

use std::path::Path;

use http::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use super::client::{Client, ClientError};
use super::console;
use super::error::CliError;
use crate::secret::KeyId;
use crate::secret_file::SecretFile;

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
        let file = output.map(|path| SecretFile::create(path).map_err(CliError::file(path))).transpose()?;
        let mut record: Value = client.json(Method::POST, self.path, Some(request)).await?;
        let text = |record: &Value, name: &str| record[name].as_str().map(str::to_owned);
        let missing = |name: &str| ClientError::Unexpected(format!("no `{name}` in it"));
        let id = text(&record, "id").ok_or_else(|| missing("id"))?;
        let secret = Zeroizing::new(text(&record, word).ok_or_else(|| missing(word))?);
        if let (Some(file), Some(path)) = (file, output) {
            file.keep(&secret).map_err(|error| {
                CliError::Input(format!(
                    "{}: {error}; {word} {id} is issued and lost: deactivate it and issue another",
                    path.display()
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
