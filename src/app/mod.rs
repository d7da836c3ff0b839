//! The composition root: builds the parts from their own small configurations,
//! hands each just its handles, and takes them down in order.
//!
//! - [`blueprint`]: what an instance is built from.
//! - [`instance`]: the parts at work, from bound sockets to a clean end.
//! - `parts`: register, access and trail, opened together.
//! - `certificates`: those of the planes, as a start, a check and SIGHUP take them.
//! - [`reload`]: what SIGHUP exchanges in them.
//! - [`demo`]: the test environment in one go.
//! - [`serve`], [`init`], [`recover`], [`audit`], [`snapshot`], [`restore`]: the server
//!   commands.

pub mod audit;
pub mod blueprint;
mod certificates;
pub mod demo;
mod demo_data;
pub mod init;
pub mod instance;
mod notify;
mod parts;
mod process;
pub mod recover;
pub mod reload;
pub mod restore;
pub mod serve;
mod shell;
mod signals;
pub mod snapshot;
mod sockets;
