//! The command lines of `backup` and `restore`.

use std::path::PathBuf;

use clap::Args;

use super::args::AdminArgs;

pub(super) const EXIT_BACKUP: &str = "Exit status: 0 whole and checked, 2 not done.\n\n\
    It needs an operator's token. Work goes to FILE.partial, which becomes FILE once its last byte is \
    checked and on the disk. `peselgate restore FILE --verify-only` checks a backup in depth. What was \
    answered before it began is in it; secrets are not, only their hashes.";
pub(super) const EXIT_RESTORE: &str = "Exit status: 0 restored, or whole; 2 not.\n\n\
    Every frame, event, record and credential is judged before DIR is there at all; work goes to \
    DIR.partial. Never start a restored directory while the original runs.";

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The new file, mode 0600, or `-` for standard output.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) output: PathBuf,
    /// Print the summary as JSON (on standard error with `--output -`).
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup, or `-` for standard input.
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// The directory to make; it must not be there, or be empty.
    #[arg(long, value_name = "DIR", required_unless_present = "verify_only")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Judge the backup, say what it holds and write nothing.
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) verify_only: bool,
    /// Print what the backup holds as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
