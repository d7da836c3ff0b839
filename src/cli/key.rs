//! `key …`: issue, list, deactivate, addresses.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use http::Method;
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::{Client, ClientError};
use super::console;
use super::error::{CliError, Exit};
use super::key_args::{KeyCommand, KeyIssueArgs};
use super::table::{aligned, cell};
use crate::secret::KeyId;

const KEYS: &str = "/admin/v1/keys";

pub(super) async fn run(command: &KeyCommand, client: &Client) -> Result<Exit, CliError> {
    match command {
        KeyCommand::Issue(args) => issue(args, client).await?,
        KeyCommand::List { json, .. } => {
            let answer: Value = client.json(Method::GET, KEYS, None).await?;
            console::say(&if *json { answer.to_string() } else { table(&answer)? })?;
        }
        KeyCommand::Deactivate { id, json, .. } => {
            let path = format!("{KEYS}/{}/deactivate", key_id(id)?);
            // A change with an empty body still says what it is.
            let record: Value = client.json(Method::POST, &path, Some(&json!({}))).await?;
            console::say(&if *json { record.to_string() } else { format!("{id} is deactivated") })?;
        }
        KeyCommand::Addresses { id, addresses, json, .. } => {
            let path = format!("{KEYS}/{}/addresses", key_id(id)?);
            let body = json!({ "addresses": texts(addresses) });
            let record: Value = client.json(Method::PUT, &path, Some(&body)).await?;
            let sentence = || format!("{id} may be used from {}", texts(addresses).join(", "));
            console::say(&if *json { record.to_string() } else { sentence() })?;
        }
    }
    Ok(Exit::Done)
}

async fn issue(args: &KeyIssueArgs, client: &Client) -> Result<(), CliError> {
    // The file comes first: a key that cannot be kept must not be issued.
    let mut file = args.output.as_deref().map(KeyFile::create).transpose()?;
    let mut record: Value = client.json(Method::POST, KEYS, Some(&request(args))).await?;
    let text = |record: &Value, name: &str| record[name].as_str().map(str::to_owned);
    let missing = |name: &str| ClientError::Unexpected(format!("no `{name}` in it"));
    let id = text(&record, "id").ok_or_else(|| missing("id"))?;
    let key = Zeroizing::new(text(&record, "key").ok_or_else(|| missing("key"))?);
    if let Some(file) = &mut file {
        file.keep(&key).map_err(|error| {
            CliError::Input(format!("{error}; key {id} is issued and lost: deactivate it and issue another"))
        })?;
        record["key"].take();
        if let Some(fields) = record.as_object_mut() {
            fields.remove("key");
        }
    }
    match (args.json, &args.output) {
        (true, _) => console::say(&record.to_string()),
        (false, Some(path)) => console::say(&format!("key {id} is in {}", path.display())),
        (false, None) => {
            console::note(&format!("key {id}, shown this once:"));
            console::say(&key)
        }
    }
}

fn request(args: &KeyIssueArgs) -> Value {
    let mut institution = json!({ "name": args.institution });
    for (name, value) in [("regon", &args.regon), ("krs", &args.krs)] {
        if let Some(value) = value {
            institution[name] = json!(value);
        }
    }
    let mut body =
        json!({ "institution": institution, "system": args.system, "addresses": texts(&args.addresses) });
    if let (Some(per_second), Some(burst), Some(per_day)) = (args.per_second, args.burst, args.per_day) {
        body["limits"] = json!({ "per_second": per_second, "burst": burst, "per_day": per_day });
    }
    body
}

/// A new file for a key, taken away again unless the key gets into it.
struct KeyFile {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl KeyFile {
    fn create(path: &Path) -> Result<Self, CliError> {
        let mut options = OpenOptions::new();
        let file =
            options.write(true).create_new(true).mode(0o600).open(path).map_err(CliError::file(path))?;
        Ok(Self { path: path.to_owned(), file, is_kept: false })
    }

    fn keep(&mut self, key: &str) -> Result<(), CliError> {
        self.file
            .write_all(key.as_bytes())
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.sync_all())
            .map_err(CliError::file(&self.path))?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if !self.is_kept {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// An identifier goes into a path: nothing but an identifier may.
fn key_id(text: &str) -> Result<KeyId, CliError> {
    KeyId::parse(text.as_bytes())
        .ok_or_else(|| CliError::Usage("the key identifier has ten characters a-z and 2-7".into()))
}

fn texts(addresses: &[Ipv4Net]) -> Vec<String> {
    addresses.iter().map(Ipv4Net::to_string).collect()
}

/// The list for people: one line a key.
fn table(answer: &Value) -> Result<String, CliError> {
    let keys = answer
        .as_array()
        .or_else(|| answer["keys"].as_array())
        .ok_or_else(|| ClientError::Unexpected("no list of keys".into()))?;
    let head = ["ID", "STATE", "ENVIRONMENT", "INSTITUTION", "SYSTEM", "ADDRESSES", "LIMITS", "CREATED"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(keys.iter().map(row));
    Ok(aligned(&rows))
}

fn row(key: &Value) -> [String; 8] {
    let addresses: Vec<_> = key["addresses"].as_array().into_iter().flatten().map(cell).collect();
    let limit = |name: &str| key["limits"][name].to_string();
    let institution =
        if key["institution"].is_string() { &key["institution"] } else { &key["institution"]["name"] };
    [
        cell(&key["id"]),
        if key["deactivated_at"].is_null() { "active".into() } else { "deactivated".into() },
        cell(&key["environment"]),
        cell(institution),
        cell(&key["system"]),
        addresses.join(","),
        format!("{}/s {} {}/day", limit("per_second"), limit("burst"), limit("per_day")),
        cell(&key["created_at"]),
    ]
}
