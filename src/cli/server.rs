//! The seam to the composition root: the commands that are a gateway or read its
//! files, rather than ask one.
//!
//! Each function takes its judged arguments and hands them to [`crate::app`].

use super::args::{AuditCheckArgs, AuditDumpArgs, DemoArgs, InitArgs, ServeArgs};
use super::error::{CliError, Exit};

pub(super) fn demo(_args: &DemoArgs) -> Result<Exit, CliError> {
    Err(CliError::NotBuilt("demo"))
}

pub(super) fn serve(_args: &ServeArgs) -> Result<Exit, CliError> {
    Err(CliError::NotBuilt("serve"))
}

pub(super) fn init(_args: &InitArgs) -> Result<Exit, CliError> {
    Err(CliError::NotBuilt("init"))
}

pub(super) fn audit_dump(_args: &AuditDumpArgs) -> Result<Exit, CliError> {
    Err(CliError::NotBuilt("audit dump"))
}

pub(super) fn audit_check(_args: &AuditCheckArgs) -> Result<Exit, CliError> {
    Err(CliError::NotBuilt("audit check"))
}
