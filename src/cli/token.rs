//! `token …`: issue, list, deactivate; see `server` for `recover`.

use http::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::console;
use super::error::{CliError, Exit};
use super::issued::Kind;
use super::table::{aligned, cell, moment_cell};
use super::token_args::{TokenIssueArgs, TokenRequest};

const TOKEN: Kind = Kind { word: "token", path: "/admin/v1/tokens" };

pub(super) async fn run(command: &TokenRequest, client: &Client) -> Result<Exit, CliError> {
    match command {
        TokenRequest::Issue(args) => {
            TOKEN.issue(&request(args)?, (args.output.as_deref(), args.json), client).await?;
        }
        TokenRequest::List { json, .. } => {
            let answer: Value = client.json(Method::GET, TOKEN.path, None).await?;
            console::say(&if *json { answer.to_string() } else { table(&answer)? })?;
        }
        TokenRequest::Deactivate { id, json, .. } => {
            let path = TOKEN.of(id, "deactivate")?;
            let record: Value = client.json(Method::POST, &path, Some(&json!({}))).await?;
            console::say(&if *json { record.to_string() } else { format!("{id} is deactivated") })?;
        }
    }
    Ok(Exit::Done)
}

/// A role and what that role is bound to, no more.
fn request(args: &TokenIssueArgs) -> Result<Value, CliError> {
    let bound_to: &[&str] = match args.role.as_str() {
        "official" => &["registrant", "teryt"],
        "source" => &["registrant", "channel"],
        _ => &[],
    };
    let mut body = json!({ "role": args.role, "label": args.label });
    for (name, value) in
        [("registrant", &args.registrant), ("teryt", &args.teryt), ("channel", &args.channel)]
    {
        let Some(value) = value else { continue };
        if !bound_to.contains(&name) {
            return Err(CliError::Usage(format!("the role {} has no --{name}", args.role)));
        }
        body[name] = json!(value);
    }
    Ok(body)
}

/// The list for people: one line a token.
fn table(answer: &Value) -> Result<String, CliError> {
    let tokens =
        answer["tokens"].as_array().ok_or_else(|| ClientError::Unexpected("no list of tokens".into()))?;
    let head = ["ID", "STATE", "ENVIRONMENT", "ROLES", "LABEL", "REGISTRANT", "TERYT", "CHANNEL", "CREATED"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(tokens.iter().map(row));
    Ok(aligned(&rows))
}

fn row(token: &Value) -> [String; 9] {
    let roles: Vec<_> = token["roles"].as_array().into_iter().flatten().map(cell).collect();
    [
        cell(&token["id"]),
        if token["deactivated_at"].is_null() { "active".into() } else { "deactivated".into() },
        cell(&token["environment"]),
        roles.join(","),
        cell(&token["label"]),
        cell(&token["registrant"]),
        cell(&token["teryt"]),
        cell(&token["channel"]),
        moment_cell(&token["created_at"]),
    ]
}
