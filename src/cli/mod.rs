//! The command line: flags, and the client commands, which speak HTTP to a
//! gateway like anybody else.
//!
//! Secrets come from files, standard input or the environment, never from
//! arguments; a PESEL may be an argument of `verify`, `reserve`, `withdraw` and
//! `entry`. Neither reaches an
//! error text: what clap would repeat of a command line is redacted.

mod args;
mod backup;
mod backup_args;
mod bulk;
mod change;
mod change_args;
mod client;
mod console;
mod credential;
mod endpoint;
mod error;
mod feeds;
mod import;
mod issued;
mod key;
mod key_args;
mod lines;
mod place;
mod progress;
mod refusal;
mod rejected;
mod restore;
mod server;
mod table;
#[cfg(test)]
mod testing;
mod tls;
mod token;
mod token_args;
mod verify;
mod words;

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{AdminArgs, AuditCommand, Cli, Command, GatewayArgs};
use change_args::WithdrawArgs;
use client::Client;
use credential::{ADMIN_TOKEN, Bearer, KEY};
use error::{CliError, Exit};
use key_args::KeyCommand;
use token_args::{TokenCommand, TokenRequest};

/// Runs one command. The exit statuses are in each command's help; 2 is always
/// "not done", a wrong command line included, and a gateway whose trail fails has its own.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let exit = dispatch(&cli.command).unwrap_or_else(|error| {
        if !error.is_logged() {
            console::note(&format!("peselgate: {error}"));
        }
        error.exit()
    });
    ExitCode::from(exit.status())
}

fn dispatch(command: &Command) -> Result<Exit, CliError> {
    match command {
        Command::Demo(args) => server::demo(args),
        Command::Serve(args) => server::serve(args),
        Command::Init(args) => server::init(args),
        Command::Snapshot(command) => server::snapshot(command),
        Command::Backup(args) => {
            let client = admin(&args.admin)?;
            block_on(backup::run(args, &client))
        }
        Command::Restore(args) => restore::run(args),
        Command::Audit(AuditCommand::Dump(args)) => server::audit_dump(args),
        Command::Audit(AuditCommand::Check(args)) => server::audit_check(args),
        Command::Verify(args) => {
            one_standard_input(args.pesel.0 == "-", args.gateway.key_file.as_deref())?;
            let client = gateway(&args.gateway)?;
            block_on(verify::run(args, &client))
        }
        Command::Bulk(args) => {
            one_standard_input(args.file == Path::new("-"), args.gateway.key_file.as_deref())?;
            let client = gateway(&args.gateway)?;
            block_on(bulk::run(args, client))
        }
        Command::Import(args) => {
            one_standard_input(args.file == Path::new("-"), args.admin.admin_token_file.as_deref())?;
            let client = admin(&args.admin)?;
            block_on(import::run(args, &client))
        }
        Command::Reserve(args) => {
            one_standard_input(args.pesel.0 == "-", args.admin.admin_token_file.as_deref())?;
            let client = admin(&args.admin)?;
            block_on(change::reserve(args, &client))
        }
        Command::Withdraw(args) => {
            let WithdrawArgs { change, .. } = args;
            one_standard_input(change.pesel.0 == "-", change.admin.admin_token_file.as_deref())?;
            let client = admin(&change.admin)?;
            block_on(change::withdraw(args, &client))
        }
        Command::Entry(args) => {
            one_standard_input(args.pesel.0 == "-", args.admin.admin_token_file.as_deref())?;
            let client = admin(&args.admin)?;
            block_on(change::entry(args, &client))
        }
        Command::Feeds(args) => {
            let client = admin(&args.admin)?;
            block_on(feeds::run(args, &client))
        }
        Command::Key(command) => {
            let client = admin(match command {
                KeyCommand::Issue(args) => &args.admin,
                KeyCommand::Limits(args) => &args.admin,
                KeyCommand::List { admin, .. }
                | KeyCommand::Deactivate { admin, .. }
                | KeyCommand::Addresses { admin, .. } => admin,
            })?;
            block_on(key::run(command, &client))
        }
        Command::Token(TokenCommand::Recover(args)) => server::token_recover(args),
        Command::Token(TokenCommand::Asking(request)) => {
            let client = admin(match request {
                TokenRequest::Issue(args) => &args.admin,
                TokenRequest::List { admin, .. } | TokenRequest::Deactivate { admin, .. } => admin,
            })?;
            block_on(token::run(request, &client))
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "peselgate", &mut text);
            console::say(String::from_utf8_lossy(&text).trim_end())?;
            Ok(Exit::Done)
        }
    }
}

fn gateway(args: &GatewayArgs) -> Result<Client, CliError> {
    let bearer = Bearer::read(KEY, args.key_file.as_deref(), &variable)?;
    checked(Client::new(&args.url, args.ca_file.as_deref(), bearer)?)
}

fn admin(args: &AdminArgs) -> Result<Client, CliError> {
    let bearer = Bearer::read(ADMIN_TOKEN, args.admin_token_file.as_deref(), &variable)?;
    checked(Client::new(&args.admin_url, args.ca_file.as_deref(), bearer)?)
}

fn checked(client: Client) -> Result<Client, CliError> {
    if client.endpoint().is_in_the_clear() {
        console::note(&format!(
            "peselgate: warning: what is sent to {} can be read on the way",
            client.endpoint()
        ));
    }
    Ok(client)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn one_standard_input(input: bool, credential_file: Option<&Path>) -> Result<(), CliError> {
    if input && credential_file == Some(Path::new("-")) {
        return Err(CliError::Usage("standard input cannot be both the credential and the input".into()));
    }
    Ok(())
}

fn block_on<T>(command: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::file(Path::new("runtime")))?;
    runtime.block_on(command)
}

/// Prints help and versions as they are, and what clap says of a wrong command
/// line without the numbers and secrets that may stand in it.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let printed = error.print();
        return ExitCode::from(if printed.is_ok() { Exit::Done } else { Exit::Failed }.status());
    }
    console::note(redacted(&error.render().to_string()).trim_end());
    ExitCode::from(Exit::Failed.status())
}

/// Bounds that clap tells of a number; none of them is a PESEL.
const BOUNDS: [&str; 3] = ["4294967295", "18446744073709551615", "50000000"];

/// Replaces runs of eight or more digits, and what begins like a credential; what an
/// option allows stays.
fn redacted(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let has_number = !BOUNDS.contains(&word)
            && word.as_bytes().split(|b| !b.is_ascii_digit()).any(|run| run.len() >= 8);
        let is_secret = word.starts_with("pg_") || word.starts_with("pga_");
        shown.push_str(if has_number || is_secret { "[redacted]" } else { word });
        let next = after.chars().next().map_or(0, char::len_utf8);
        shown.push_str(&after[..next]);
        rest = &after[next..];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// No option takes a secret: only files that hold one.
    #[test]
    fn secrets_are_no_arguments() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                for word in ["key", "token", "secret", "password"] {
                    assert!(!id.contains(word) || id.ends_with("_file"), "{}: {id}", command.get_name());
                }
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
        for line in [
            ["peselgate", "verify", "-", "--key=pg_test_abc"],
            ["peselgate", "verify", "--key-file", "-"],
            ["peselgate", "key", "list", "--admin-token=pga_test_abc"],
        ] {
            let error = Cli::try_parse_from(line).expect_err("refused").render().to_string();
            assert!(!redacted(&error).contains("_test_"), "{error}");
        }
    }

    #[test]
    fn a_number_in_a_wrong_command_line_is_not_repeated() {
        let line = ["peselgate", "verify", "44851401353", "4485140135x", "--at"];
        let error = Cli::try_parse_from(line).expect_err("two numbers").render().to_string();
        assert!(!redacted(&error).contains("4485140135"), "{}", redacted(&error));
        let cli = Cli::try_parse_from(["peselgate", "verify", "44851401353"]).expect("one number");
        assert!(!format!("{cli:?}").contains("44851401353"));
        assert_eq!(redacted("ż: --limit 1000 '44851401353'"), "ż: --limit 1000 '[redacted]'");
        let line = ["peselgate", "demo", "--reserved", "44851401353"];
        let error = redacted(&Cli::try_parse_from(line).expect_err("too many").render().to_string());
        assert!(error.contains(&format!("is not in 0..={}", crate::app::demo::RESERVED_MAX)), "{error}");
        assert!(!error.contains("44851401353"), "{error}");
        assert_eq!(redacted("--x=a_44851401353 pg_test_x."), "--x=[redacted] [redacted].");
    }

    #[test]
    fn limits_of_a_key_go_together() {
        let issue =
            ["peselgate", "key", "issue", "--institution", "B", "--system", "S", "--address", "192.0.2.7"];
        assert!(Cli::try_parse_from(issue).is_ok());
        let with =
            |more: &[&'static str]| Cli::try_parse_from(issue.iter().copied().chain(more.iter().copied()));
        assert!(with(&["192.0.2.0/24", "--per-second", "1", "--burst", "2", "--per-day", "3"]).is_ok());
        assert!(with(&["--per-second", "1"]).is_err());
        assert!(with(&["--address", "::1"]).is_err());
    }

    #[test]
    fn one_standard_input_feeds_one_thing() {
        assert!(one_standard_input(true, Some(Path::new("-"))).is_err());
        assert!(one_standard_input(true, Some(Path::new("key"))).is_ok());
        assert!(one_standard_input(false, Some(Path::new("-"))).is_ok());
    }
}
