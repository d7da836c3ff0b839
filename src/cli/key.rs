//! `key …`: issue, list, deactivate, addresses, limits.

use http::Method;
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::console;
use super::error::{CliError, Exit};
use super::issued::Kind;
use super::key_args::{KeyCommand, KeyIssueArgs, KeyLimitsArgs};
use super::table::{aligned, cell, moment_cell};

const KEY: Kind = Kind { word: "key", path: "/admin/v1/keys" };

pub(super) async fn run(command: &KeyCommand, client: &Client) -> Result<Exit, CliError> {
    match command {
        KeyCommand::Issue(args) => {
            KEY.issue(&request(args), (args.output.as_deref(), args.json), client).await?;
        }
        KeyCommand::List { json, .. } => {
            let answer: Value = client.json(Method::GET, KEY.path, None).await?;
            console::say(&if *json { answer.to_string() } else { table(&answer)? })?;
        }
        KeyCommand::Deactivate { id, json, .. } => {
            let path = KEY.of(id, "deactivate")?;
            // A change with an empty body still says what it is.
            let record: Value = client.json(Method::POST, &path, Some(&json!({}))).await?;
            console::say(&if *json { record.to_string() } else { format!("{id} is deactivated") })?;
        }
        KeyCommand::Addresses { id, addresses, json, .. } => {
            let path = KEY.of(id, "addresses")?;
            let body = json!({ "addresses": texts(addresses) });
            let record: Value = client.json(Method::PUT, &path, Some(&body)).await?;
            let sentence = || format!("{id} may be used from {}", texts(addresses).join(", "));
            console::say(&if *json { record.to_string() } else { sentence() })?;
        }
        KeyCommand::Limits(args) => {
            let KeyLimitsArgs { id, per_second, burst, per_day, json, .. } = args;
            let path = KEY.of(id, "limits")?;
            let body = json!({ "per_second": per_second, "burst": burst, "per_day": per_day });
            let record: Value = client.json(Method::PUT, &path, Some(&body)).await?;
            let sentence = || format!("{id} may ask {per_second}/s, {burst} at once, {per_day}/day");
            console::say(&if *json { record.to_string() } else { sentence() })?;
        }
    }
    Ok(Exit::Done)
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
        moment_cell(&key["created_at"]),
    ]
}
