//! The command lines of `key …`.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::Ipv4Net;

use super::args::{AdminArgs, EXIT_PLAIN};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Issue a key; it is shown this once.
    #[command(after_help = EXIT_PLAIN)]
    Issue(KeyIssueArgs),
    /// List all keys.
    #[command(after_help = EXIT_PLAIN)]
    List {
        /// Print the gateway's answer as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Deactivate a key, at once and for ever.
    #[command(after_help = EXIT_PLAIN)]
    Deactivate {
        /// The key identifier.
        id: String,
        /// Print the key's record as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Replace the addresses that a key may be used from.
    #[command(after_help = EXIT_PLAIN)]
    Addresses {
        /// The key identifier.
        id: String,
        /// IPv4 addresses or networks.
        #[arg(required = true, value_name = "CIDR", value_parser = network)]
        addresses: Vec<Ipv4Net>,
        /// Print the key's record as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Replace a key's limits; what was used of the day stays used.
    #[command(after_help = EXIT_PLAIN)]
    Limits(KeyLimitsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeyLimitsArgs {
    /// The key identifier.
    pub(crate) id: String,
    /// Numbers a second, sustained.
    #[arg(long, value_name = "N")]
    pub(crate) per_second: NonZeroU32,
    /// Numbers at once.
    #[arg(long, value_name = "N")]
    pub(crate) burst: NonZeroU32,
    /// Numbers a day.
    #[arg(long, value_name = "N")]
    pub(crate) per_day: NonZeroU64,
    /// Print the key's record as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KeyIssueArgs {
    /// Name of the institution.
    #[arg(long, value_name = "NAME")]
    pub(crate) institution: String,
    /// Its REGON, 9 or 14 digits.
    #[arg(long, value_name = "DIGITS")]
    pub(crate) regon: Option<String>,
    /// Its KRS number, 10 digits.
    #[arg(long, value_name = "DIGITS")]
    pub(crate) krs: Option<String>,
    /// Name of the calling system.
    #[arg(long, value_name = "NAME")]
    pub(crate) system: String,
    /// IPv4 addresses or networks that the key may be used from.
    #[arg(long = "address", required = true, num_args = 1.., value_name = "CIDR", value_parser = network)]
    pub(crate) addresses: Vec<Ipv4Net>,
    /// Numbers a second, sustained; the three limits go together.
    #[arg(long, value_name = "N", requires_all = ["burst", "per_day"])]
    pub(crate) per_second: Option<NonZeroU32>,
    /// Numbers at once.
    #[arg(long, value_name = "N", requires_all = ["per_second", "per_day"])]
    pub(crate) burst: Option<NonZeroU32>,
    /// Numbers a day.
    #[arg(long, value_name = "N", requires_all = ["per_second", "burst"])]
    pub(crate) per_day: Option<NonZeroU64>,
    /// Write the key to this new file, mode 0600, instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print the key's record as JSON (with the key only when there is no --output).
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// A network, or an address as the network of itself.
fn network(text: &str) -> Result<Ipv4Net, String> {
    text.parse::<Ipv4Net>()
        .or_else(|_| text.parse::<std::net::Ipv4Addr>().map(Ipv4Net::from))
        .map_err(|_| "an IPv4 address or network such as 192.0.2.7 or 192.0.2.0/24".into())
}
