//! `reserve`, `withdraw` and `entry`: an official's work from a shell.

use std::io::Read as _;
use std::path::Path;

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::NumberArg;
use super::change_args::{ChangeArgs, EntryArgs, WithdrawArgs};
use super::client::{Client, ClientError};
use super::console;
use super::error::{CliError, Exit};
use super::words::Lang;
use crate::clock::Moment;
use crate::pesel::Pesel;

/// Bytes of standard input that are looked at: a number and white space.
const INPUT_BYTES_MAX: u64 = 4 * 1024;

#[derive(Deserialize)]
struct Recorded {
    event_id: String,
    sequence: u64,
    kind: String,
    moment: Moment,
    channel: String,
    registrant: String,
    reserve_again_at: Option<Moment>,
    #[serde(default)]
    scheduled: bool,
}

#[derive(Deserialize)]
struct Entry {
    reserved: bool,
    reserved_at: Option<Moment>,
    withdrawn_at: Option<Moment>,
    reserve_again_at: Option<Moment>,
    events: Vec<Recorded>,
}

pub(super) async fn reserve(args: &ChangeArgs, client: &Client) -> Result<Exit, CliError> {
    change(args, None, "/admin/v1/reservations", client).await
}

pub(super) async fn withdraw(args: &WithdrawArgs, client: &Client) -> Result<Exit, CliError> {
    let until = args.until.as_deref().map(Moment::parse).transpose();
    let until = until.map_err(|error| CliError::Usage(format!("--until: {error}")))?;
    change(&args.change, until, "/admin/v1/withdrawals", client).await
}

async fn change(
    args: &ChangeArgs,
    until: Option<Moment>,
    path: &str,
    client: &Client,
) -> Result<Exit, CliError> {
    let pesel = number(&args.pesel, args.lang)?;
    let mut body = json!({ "pesel": pesel.digits(), "channel": args.channel, "registrant": args.registrant });
    let optional = [
        ("applicant", &args.applicant),
        ("obstacle", &args.obstacle),
        ("document_seen", &args.document_seen),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if args.majority_by_marriage {
        body["majority_by_marriage"] = json!(true);
    }
    if let Some(until) = until {
        body["reserve_again_at"] = json!(until);
    }
    let answer = client.json(Method::POST, path, Some(&body)).await;
    tell(answer, args.lang, args.json, Recorded::sentence)
}

pub(super) async fn entry(args: &EntryArgs, client: &Client) -> Result<Exit, CliError> {
    let pesel = number(&args.pesel, args.lang)?;
    let body = json!({ "pesel": pesel.digits() });
    let answer = client.json(Method::POST, "/admin/v1/entries/query", Some(&body)).await;
    tell(answer, args.lang, args.json, Entry::text)
}

/// Tells an answer to a person, or as it is to a program; a refusal likewise.
pub(super) fn tell<T: DeserializeOwned>(
    answer: Result<Value, ClientError>,
    lang: Lang,
    as_json: bool,
    text: impl FnOnce(&T, Lang) -> String,
) -> Result<Exit, CliError> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return refused(error, lang, as_json),
    };
    if as_json {
        console::say(&answer.to_string())?;
    } else {
        console::say(&text(&serde_json::from_value(answer).map_err(unexpected)?, lang))?;
    }
    Ok(Exit::Done)
}

/// Tells a refusal: 1 when the request is at fault, 2 when it was not answered.
fn refused(error: ClientError, lang: Lang, as_json: bool) -> Result<Exit, CliError> {
    let ClientError::Refused(refusal) = &error else { return Err(error.into()) };
    if as_json {
        let mut told = json!({ "error": refusal.code, "detail": refusal.detail });
        if let Some(moment) = refusal.allowed_from {
            told["allowed_from"] = json!(moment);
        }
        console::say(&told.to_string())?;
    } else {
        console::note(&lang.refusal(refusal));
    }
    Ok(if error.is_passing() { Exit::Failed } else { Exit::Partly })
}

fn unexpected(error: serde_json::Error) -> ClientError {
    ClientError::Unexpected(error.to_string())
}

fn number(argument: &NumberArg, lang: Lang) -> Result<Pesel, CliError> {
    let mut text = Zeroizing::new(argument.0.clone());
    if text.as_str() == "-" {
        text.clear();
        std::io::stdin()
            .take(INPUT_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(CliError::file(Path::new("standard input")))?;
    }
    Pesel::parse(text.trim().as_bytes()).map_err(|error| CliError::Usage(lang.invalid_pesel(error)))
}

impl Recorded {
    fn sentence(&self, lang: Lang) -> String {
        let at = self.moment.in_poland();
        let what = match self.kind.as_str() {
            "reservation" => lang.pick("Zastrzeżono numer PESEL", "reserved"),
            _ => lang.pick("Cofnięto zastrzeżenie numeru PESEL", "withdrawn"),
        };
        let again = self.reserve_again_at.map_or_else(String::new, |again_at| {
            let text = lang.pick("Ponowne zastrzeżenie nastąpi samo", "it will be reserved again");
            format!("{text}: {}. ", again_at.in_poland())
        });
        let event = lang.pick("Zdarzenie", "Event");
        format!("{what}: {at}. {again}{event} {} ({}).", self.sequence, self.event_id)
    }

    fn line(&self, lang: Lang) -> String {
        // A registrant with a control character must not reach a terminal.
        let registrant = self.registrant.replace(char::is_control, " ");
        let mut line = format!(
            "{}  {}  {}, {registrant}",
            self.moment.in_poland(),
            lang.kind(&self.kind),
            lang.channel(&self.channel),
        );
        if let Some(again_at) = self.reserve_again_at {
            let until = lang.pick("czasowo, do", "until");
            line.push_str(&format!(" [{until} {}]", again_at.in_poland()));
        }
        if self.scheduled {
            line.push_str(lang.pick(" [samo, po czasowym cofnięciu]", " [by the clock]"));
        }
        line
    }
}

impl Entry {
    fn text(&self, lang: Lang) -> String {
        let state = match (self.reserved, self.reserved_at, self.withdrawn_at) {
            (true, Some(since), _) => {
                format!(
                    "{} {}",
                    lang.pick("Numer PESEL jest zastrzeżony od", "reserved since"),
                    since.in_poland()
                )
            }
            (false, _, Some(since)) => {
                let text = lang.pick(
                    "Numer PESEL nie jest zastrzeżony; zastrzeżenie cofnięto",
                    "not reserved, withdrawn",
                );
                format!("{text} {}", since.in_poland())
            }
            _ => lang.pick("Numer PESEL nie jest zastrzeżony", "not reserved").to_owned(),
        };
        let again = self.reserve_again_at.map(|again_at| {
            format!("{} {}", lang.pick("Ponowne zastrzeżenie:", "reserved again:"), again_at.in_poland())
        });
        let lines = self.events.iter().map(|event| event.line(lang));
        std::iter::once(state).chain(again).chain(lines).collect::<Vec<_>>().join("\n")
    }
}
