//! The command lines of `token …`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::args::{AdminArgs, EXIT_PLAIN};
use crate::register::Channel;

const EXIT_RECOVER: &str = "Exit status: 0 done, 2 not done.\n\n\
    For a gateway that is stopped and whose operator tokens are lost: those on record stay as they are, \
    and the new one can deactivate them. It is labelled `recovered operator`.";

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    #[command(flatten)]
    Asking(TokenRequest),
    /// Issue another operator token in the directory of a stopped gateway.
    #[command(after_help = EXIT_RECOVER)]
    Recover(TokenRecoverArgs),
}

/// What a running gateway is asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenRequest {
    /// Issue a token; it is shown this once.
    #[command(after_help = EXIT_PLAIN)]
    Issue(TokenIssueArgs),
    /// List all tokens.
    #[command(after_help = EXIT_PLAIN)]
    List {
        /// Print the gateway's answer as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Deactivate a token, at once and for ever.
    #[command(after_help = EXIT_PLAIN)]
    Deactivate {
        /// The token identifier.
        id: String,
        /// Print the token's record as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenRecoverArgs {
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The new file for the token, mode 0600.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TokenIssueArgs {
    /// What it is for: keys and tokens, a gmina's filings, one channel's, or reading.
    #[arg(long, value_parser = PossibleValuesParser::new(["operator", "official", "source", "auditor"]))]
    pub(crate) role: String,
    /// A name to know it by.
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: String,
    /// Who it speaks for (official, source).
    #[arg(long, value_name = "NAME", required_if_eq_any([("role", "official"), ("role", "source")]))]
    pub(crate) registrant: Option<String>,
    /// The gmina's TERYT code, 7 digits (official).
    #[arg(long, value_name = "DIGITS", required_if_eq("role", "official"))]
    pub(crate) teryt: Option<String>,
    /// The one channel it speaks through (source).
    #[arg(long, required_if_eq("role", "source"), value_parser = PossibleValuesParser::new(Channel::ALL.iter().map(|word| word.name())))]
    pub(crate) channel: Option<String>,
    /// Write the token to this new file, mode 0600, instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print the token's record as JSON (with the token only when there is no --output).
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}
