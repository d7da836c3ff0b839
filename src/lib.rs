//! `peselgate`: the verification gateway of the register of reserved PESEL
//! numbers.
//!
//! # Bird's eye
//!
//! An institution asks "is this PESEL reserved?"; the gateway answers from
//! memory, only to a key that may ask, and only after the answer is on record.
//!
//! ```text
//! TcpStream -> Peer -> Identity -> Permit -> Query -> Answer -> Receipt -> Response
//!         accept  identify   admit    parse   answer   record    render
//! ```
//!
//! Each of these can be made only from the one before it, by one function, and
//! has private fields. A response to a verification is rendered from a
//! [`audit::Receipt`], and the audit alone makes receipts, after the record is
//! durable: "no answer without a trail" is checked by the compiler.
//!
//! A change goes `decide` (pure) -> `append` (durable) -> `apply` (pure) ->
//! `publish` (one atomic swap); its 201 leaves after the publish.
//!
//! # Map, in reading order; arrows between rooms point down this list only
//!
//! - [`cli`]: flags and the client commands; they speak HTTP to a gateway like
//!   anybody else.
//! - [`app`]: the composition root; builds each part from its own small
//!   configuration and hands it just its handles.
//! - [`config`]: the file as written, then as judged.
//! - [`http`]: the edge; the only room that knows status codes.
//! - [`gate`]: who is this, may they, how often.
//! - [`query`]: the pure answer.
//! - [`backup`]: register, access and trail as one archive, and back.
//! - [`audit`]: the trail, the receipts, reading it back.
//! - [`register`]: the law, the set of reserved numbers, its store and its
//!   single writer.
//! - [`access`]: API keys, admin tokens, the directory and its single writer.
//! - [`pesel`], [`clock`], [`environment`], [`secret`], [`limits`], [`datadir`],
//!   [`telemetry`], `rows`, `store_panic`:
//!   the words everybody shares.
//!
//! # Invariants of absence (held by `tests/tidy.rs`)
//!
//! `register` and `access` never import `http`, `gate`, `audit` or `config`;
//! the verification plane imports no writer; `query` imports no tokio and no
//! clock; status codes live under `http/`; the system clock is read in `clock`
//! alone; a PESEL and a key have neither `Display` nor content in `Debug`.
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub mod cli;

pub mod app;

pub mod config;

pub mod http;

pub mod gate;

pub mod query;

pub mod backup;

pub mod audit;

pub mod register;

pub mod access;

pub mod clock;
pub mod datadir;
pub mod environment;
pub mod limits;
pub mod pesel;
mod rows;

pub mod secret;
mod secret_file;
mod store_panic;
pub mod telemetry;
