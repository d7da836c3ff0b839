//! `verify`: one number.

use std::io::Read as _;
use std::path::Path;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::VerifyArgs;
use super::client::{Client, ClientError};
use super::console;
use super::error::{CliError, Exit};
use crate::clock::Moment;
use crate::limits;
use crate::pesel::Pesel;

/// Bytes of standard input that are looked at: a number and white space.
const INPUT_BYTES_MAX: u64 = 4 * 1024;

#[derive(Deserialize)]
struct Verdict {
    verification_id: String,
    reserved: bool,
    reserved_at: Option<Moment>,
    withdrawn_at: Option<Moment>,
    at: Moment,
}

pub(super) async fn run(args: &VerifyArgs, client: &Client) -> Result<Exit, CliError> {
    let body = question(args)?;
    let answer: Value = client.json(Method::POST, "/v1/verify", Some(&body)).await?;
    let verdict =
        Verdict::deserialize(&answer).map_err(|error| ClientError::Unexpected(error.to_string()))?;
    console::say(&if args.json { answer.to_string() } else { verdict.sentence() })?;
    Ok(if verdict.reserved { Exit::Partly } else { Exit::Done })
}

impl Verdict {
    fn sentence(&self) -> String {
        let state = match (self.reserved, self.reserved_at, self.withdrawn_at) {
            (true, Some(since), _) => format!("reserved since {}", since.in_poland()),
            (true, None, _) => "reserved".to_owned(),
            (false, _, Some(since)) => format!("not reserved, withdrawn {}", since.in_poland()),
            (false, _, None) => "not reserved".to_owned(),
        };
        format!("{state} (at {}, verification {})", self.at.in_poland(), self.verification_id)
    }
}

fn question(args: &VerifyArgs) -> Result<Value, CliError> {
    let mut text = Zeroizing::new(args.pesel.0.clone());
    if text.as_str() == "-" {
        text.clear();
        std::io::stdin()
            .take(INPUT_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(CliError::file(Path::new("standard input")))?;
    }
    // The gateway would say the same; this spares it the sight of a typing error.
    let pesel = Pesel::parse(text.trim().as_bytes())
        .map_err(|error| CliError::Usage(format!("invalid-pesel: {error}")))?;
    let mut body = json!({ "pesel": pesel.digits() });
    if let Some(at) = &args.at {
        let at = Moment::parse(at).map_err(|error| CliError::Usage(format!("--at: {error}")))?;
        body["at"] = json!(at);
    }
    if let Some(reference) = &args.reference {
        if reference.chars().count() > limits::REFERENCE_CHARS_MAX {
            let message = format!("--reference: at most {} characters", limits::REFERENCE_CHARS_MAX);
            return Err(CliError::Usage(message));
        }
        body["reference"] = json!(reference);
    }
    Ok(body)
}
