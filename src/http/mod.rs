//! The edge: three planes over HTTP, and the only room that knows status codes.
//!
//! - [`plane`]: the verification plane's sockets: the acceptor, a worker per
//!   core, TLS, connections and their deadlines.
//! - [`verify`]: the verification plane's endpoints; the pipeline in order.
//! - [`admin`]: the admin plane.
//! - [`ops`]: the operations plane.
//! - [`readiness`]: whether traffic should come here, and what the log says of it.
//! - [`control`]: how the admin and operations planes are listened on.
//! - `shares`: how many connections of a plane one address may have.
//! - `stall`: what becomes of their clients that leave answers unread.
//! - `flow`: how answers that are made line by line end.
//! - `closing`: how an HTTP/1.1 connection of any of them ends.
//! - [`readings`]: since when a store cannot be read.
//! - [`problem`], [`message`], [`reply`], [`request_id`]: what they share.

pub mod plane;

pub mod verify;

pub mod admin;

pub mod ops;
pub mod readiness;

pub mod control;
mod shares;
mod stall;
mod unread;

mod closing;
mod denied;
mod flow;
pub mod message;
mod panic;
pub mod problem;
pub mod readings;
pub mod reply;
pub mod request_id;
