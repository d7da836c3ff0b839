//! The command line as written. Secrets have no place in it: an option may only
//! name the file that holds one.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::backup_args::{BackupArgs, EXIT_BACKUP, EXIT_RESTORE, RestoreArgs};
use super::change_args::{ChangeArgs, EXIT_CHANGE, EXIT_ENTRY, EntryArgs, WithdrawArgs};
use super::feeds::{EXIT_FEEDS, FeedsArgs};
use super::key_args::KeyCommand;
use super::token_args::TokenCommand;
use crate::app::demo::RESERVED_MAX;
use crate::environment::Environment;

pub(super) const EXIT_PLAIN: &str = "Exit status: 0 done, 2 not done.";
const EXIT_GATEWAY: &str = "Exit status: 0 ended as asked, 2 not done, 74 the audit trail could not be \
    written: start again only on a sound disk.";
const EXIT_VERIFY: &str = "Exit status: 0 not reserved, 1 reserved, 2 no answer.\n\n\
    The number may be an argument, but every user of the machine can read arguments \
    in the list of processes: `-` reads it from standard input.";
const EXIT_BULK: &str = "Exit status: 0 every row was answered, 1 some rows were wrong (see the column \
    `error`), 2 it could not finish.\n\n\
    With --output, work goes to FILE.part (mode 0600, as FILE will be) and its state to FILE.resume; after an interruption the same \
    command, with the same gateway and key, goes on behind the last complete row. Rows with more or fewer columns than the header are not \
    asked (error `row-length`).";
const EXIT_IMPORT: &str = "Exit status: 0 every line was accepted, 1 some chunks were refused, 2 it could \
    not finish.\n\nEach line is {\"pesel\",\"kind\",\"moment\",\"channel\",\"registrant\"}. A chunk of 10 000 lines \
    is taken whole or not at all; sending a file again skips what is already there.";
const EXIT_AUDIT: &str = "Exit status: 0 whole, 1 damaged or torn, 2 could not be read.";

/// Verification gateway of the register of reserved PESEL numbers.
#[derive(Debug, Parser)]
#[command(name = "peselgate", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the test environment in one go, with fictional data.
    #[command(after_help = EXIT_GATEWAY)]
    Demo(DemoArgs),
    /// Run a gateway on a directory that `init` or `restore` made.
    #[command(after_help = EXIT_GATEWAY)]
    Serve(ServeArgs),
    /// Make a data directory, its register empty, and the first operator token for it.
    #[command(after_help = EXIT_PLAIN)]
    Init(InitArgs),
    /// Ask whether one number is reserved.
    #[command(after_help = EXIT_VERIFY)]
    Verify(VerifyArgs),
    /// Check a whole CSV file by streaming.
    #[command(after_help = EXIT_BULK)]
    Bulk(BulkArgs),
    /// Reserve a number (zastrzeżenie), as an official or a channel.
    #[command(after_help = EXIT_CHANGE)]
    Reserve(ChangeArgs),
    /// Withdraw a reservation (cofnięcie zastrzeżenia), for ever or for a time.
    #[command(after_help = EXIT_CHANGE)]
    Withdraw(WithdrawArgs),
    /// Show a number's entry with its whole history.
    #[command(after_help = EXIT_ENTRY)]
    Entry(EntryArgs),
    /// Load register events from NDJSON.
    #[command(after_help = EXIT_IMPORT)]
    Import(ImportArgs),
    /// Show where each feed stands: the last message taken of each source.
    #[command(after_help = EXIT_FEEDS)]
    Feeds(FeedsArgs),
    /// API keys of institutions.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Tokens of the admin plane.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The reserved numbers as a file for exchange.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Back up the whole data directory of a running gateway.
    #[command(after_help = EXIT_BACKUP)]
    Backup(BackupArgs),
    /// Make a new data directory of a backup, or check one.
    #[command(after_help = EXIT_RESTORE)]
    Restore(RestoreArgs),
    /// Read the audit trail of a data directory, also while a gateway writes it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Directory of all state; an existing one is kept, and refused if it lacks a store.
    #[arg(long, value_name = "DIR", default_value = "data/demo")]
    pub(crate) data_dir: PathBuf,
    /// Reserved numbers to make [default: 1000000]; refused when the directory was made with another.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=RESERVED_MAX as i64))]
    pub(crate) reserved: Option<u32>,
    /// Seed of the made data [default: 1]; refused when the directory was made with another.
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Address of the verification plane.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Address of the admin plane.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub(crate) admin_listen: SocketAddr,
    /// Address of the operations plane.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8082")]
    pub(crate) ops_listen: SocketAddr,
    /// Threads of the verification plane [default: the machine's cores].
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Verification plane over TLS 1.3; its authority is written as demo-ca.pem.
    #[arg(long)]
    pub(crate) tls: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration; see peselgate.example.toml.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Judge the configuration, and the certificates it names, and end.
    #[arg(long)]
    pub(crate) check_config: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The directory to make.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The environment that its keys and tokens will be for.
    #[arg(long, value_parser = environment, value_name = "test|production")]
    pub(crate) environment: Environment,
    /// Where to write the operator token, mode 0600 [default: DIR/operator-token].
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

fn environment(text: &str) -> Result<Environment, String> {
    match text {
        "test" => Ok(Environment::Test),
        "production" => Ok(Environment::Production),
        _ => Err("`test` or `production`".into()),
    }
}

/// How to reach the verification plane.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// The verification plane.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// File that holds the API key (`-`: standard input) [default: the variable PESELGATE_KEY].
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// PEM file of the authority to trust [default: the system's].
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// How to reach the admin plane.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The admin plane.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub(crate) admin_url: String,
    /// File that holds the admin token (`-`: standard input) [default: the variable PESELGATE_ADMIN_TOKEN].
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// PEM file of the authority to trust [default: the system's].
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The number, or `-` to read it from standard input (recommended).
    #[arg(value_name = "PESEL|-", allow_hyphen_values = true)]
    pub(crate) pesel: NumberArg,
    /// Ask about this past moment (RFC 3339) instead of now.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) at: Option<String>,
    /// A text of your own for the evidence, up to 64 characters.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reference: Option<String>,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
}

/// A number on the command line, kept from every log by its `Debug`.
#[derive(Clone)]
pub(crate) struct NumberArg(pub(crate) String);

impl From<String> for NumberArg {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for NumberArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NumberArg(redacted)")
    }
}

#[derive(Debug, Args)]
pub(crate) struct BulkArgs {
    /// The CSV file with a header, or `-` for standard input.
    #[arg(value_name = "FILE.csv|-")]
    pub(crate) file: PathBuf,
    /// Where the result goes [default: standard output]; can be resumed. No device and no link.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The column that holds the number.
    #[arg(long, value_name = "NAME", default_value = "pesel")]
    pub(crate) column: String,
    /// The character between columns.
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    pub(crate) delimiter: u8,
    /// Begin anew: throw away what an interrupted run left beside --output.
    #[arg(long, requires = "output")]
    pub(crate) restart: bool,
    /// Print the summary as JSON (on standard error).
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n\0".contains(byte) => {
            Ok(*byte)
        }
        _ => Err("one character such as , or ; or \\t".into()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The NDJSON file, or `-` for standard input.
    #[arg(value_name = "FILE.ndjson|-")]
    pub(crate) file: PathBuf,
    /// Let it shrink or grow the register by more than one import may (1 % and 20 %).
    #[arg(long)]
    pub(crate) allow_mass_change: bool,
    /// Write the lines that were not taken to this file, as `line,code`, without the numbers.
    #[arg(long, value_name = "FILE")]
    pub(crate) rejected: Option<PathBuf>,
    /// Print the summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Write the reserved numbers of a stopped gateway to a file: portable roaring bytes, framed.
    #[command(after_help = EXIT_PLAIN)]
    Export {
        /// The gateway's data directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The new file, mode 0600.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Print what was written as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check such a file and say what it holds.
    #[command(after_help = EXIT_PLAIN)]
    Inspect {
        /// The file.
        file: PathBuf,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print every verification as NDJSON.
    #[command(after_help = EXIT_AUDIT)]
    Dump(AuditDumpArgs),
    /// Verify the trail's integrity from its first record to its last.
    #[command(after_help = EXIT_AUDIT)]
    Check(AuditCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AuditDumpArgs {
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AuditCheckArgs {
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
