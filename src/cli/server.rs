//! The seam to the composition root: the commands that are a gateway or read its
//! files, rather than ask one.

use super::args::{AuditCheckArgs, AuditDumpArgs, DemoArgs, InitArgs, ServeArgs, SnapshotCommand};
use super::console;
use super::error::{CliError, Exit};
use super::token_args::TokenRecoverArgs;
use crate::app::audit::Verdict;
use crate::app::demo::DemoOptions;
use crate::app::instance::InstanceError;

impl From<InstanceError> for CliError {
    fn from(error: InstanceError) -> Self {
        Self::Instance(error)
    }
}

pub(super) fn demo(args: &DemoArgs) -> Result<Exit, CliError> {
    crate::app::demo::demo(&DemoOptions {
        data_directory: args.data_dir.clone(),
        reserved: args.reserved,
        seed: args.seed,
        listen: args.listen,
        admin_listen: args.admin_listen,
        ops_listen: args.ops_listen,
        threads: args.threads,
        tls: args.tls,
    })?;
    Ok(Exit::Done)
}

pub(super) fn serve(args: &ServeArgs) -> Result<Exit, CliError> {
    if args.check_config {
        console::say(&crate::app::serve::check(&args.config)?)?;
    } else {
        crate::app::serve::serve(&args.config)?;
    }
    Ok(Exit::Done)
}

pub(super) fn init(args: &InitArgs) -> Result<Exit, CliError> {
    let token_file = crate::app::init::init(&args.data_dir, args.environment, args.token_file.as_deref())?;
    console::say(&format!(
        "{}: made for the {} environment; the first operator token is in {}",
        args.data_dir.display(),
        args.environment,
        token_file.display()
    ))?;
    Ok(Exit::Done)
}

pub(super) fn token_recover(args: &TokenRecoverArgs) -> Result<Exit, CliError> {
    let id = crate::app::recover::recover(&args.data_dir, &args.token_file)?;
    console::say(&format!("operator token {id} is in {}", args.token_file.display()))?;
    Ok(Exit::Done)
}

pub(super) fn snapshot(command: &SnapshotCommand) -> Result<Exit, CliError> {
    console::say(&match command {
        SnapshotCommand::Export { data_dir, output, json } => {
            crate::app::snapshot::export(data_dir, output, *json)?
        }
        SnapshotCommand::Inspect { file, json } => crate::app::snapshot::inspect(file, *json)?,
    })?;
    Ok(Exit::Done)
}

pub(super) fn audit_dump(args: &AuditDumpArgs) -> Result<Exit, CliError> {
    Ok(judged(crate::app::audit::dump(&args.data_dir)?))
}

pub(super) fn audit_check(args: &AuditCheckArgs) -> Result<Exit, CliError> {
    Ok(judged(crate::app::audit::check(&args.data_dir, args.json)?))
}

const fn judged(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Intact => Exit::Done,
        Verdict::TornTail | Verdict::Damaged => Exit::Partly,
    }
}
