//! The command lines of `reserve`, `withdraw` and `entry`.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::args::{AdminArgs, NumberArg};
use super::words::Lang;
use crate::register::{Applicant, Channel, DocumentSeen, Obstacle};

pub(super) const EXIT_CHANGE: &str = "Exit status: 0 recorded, 1 refused (with --json the refusal's code is on standard \
    output), 2 not done or not known.\n\n\
    The number may be an argument, but every user of the machine can read arguments \
    in the list of processes: `-` reads it from standard input.";
pub(super) const EXIT_ENTRY: &str = "Exit status: 0 shown, 1 refused, 2 not done.\n\n\
    `-` reads the number from standard input, where no list of processes shows it.";

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The number, or `-` to read it from standard input (recommended).
    #[arg(value_name = "PESEL|-", allow_hyphen_values = true)]
    pub(crate) pesel: NumberArg,
    /// The way it came in: the token's own channel.
    #[arg(long, default_value = "gmina", value_parser = PossibleValuesParser::new(Channel::ALL.iter().map(|word| word.name())))]
    pub(crate) channel: String,
    /// Who registers it: the token's own registrant.
    #[arg(long, value_name = "NAME")]
    pub(crate) registrant: String,
    /// In whose name.
    #[arg(long, value_parser = PossibleValuesParser::new(Applicant::ALL.iter().map(|word| word.name())))]
    pub(crate) applicant: Option<String>,
    /// Why a proxy comes.
    #[arg(long, value_parser = PossibleValuesParser::new(Obstacle::ALL.iter().map(|word| word.name())))]
    pub(crate) obstacle: Option<String>,
    /// The kind of document that was seen.
    #[arg(long, value_parser = PossibleValuesParser::new(DocumentSeen::ALL.iter().map(|word| word.name())))]
    pub(crate) document_seen: Option<String>,
    /// State that a person of 16 or 17 is of age by marriage.
    #[arg(long)]
    pub(crate) majority_by_marriage: bool,
    /// The language of sentences.
    #[arg(long, value_enum, default_value = "pl")]
    pub(crate) lang: Lang,
    /// Print the event, or the code of the refusal, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    /// Withdraw for a time: the moment (RFC 3339) at which it is reserved again by itself.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) until: Option<String>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EntryArgs {
    /// The number, or `-` to read it from standard input (recommended).
    #[arg(value_name = "PESEL|-", allow_hyphen_values = true)]
    pub(crate) pesel: NumberArg,
    /// The language of sentences.
    #[arg(long, value_enum, default_value = "pl")]
    pub(crate) lang: Lang,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}
