//! Answers as JSON, written by hand: this is the hot path.
//!
//! Every function that writes the answer to a verification takes the
//! [`Receipt`]: without a durable record there is nothing to render from.

use bytes::{BufMut, BytesMut};

use crate::audit::Receipt;
use crate::clock::Moment;
use crate::http::verify::ask::LineError;
use crate::pesel::Pesel;
use crate::query::{Answer, Unknown};
use crate::register::Snapshot;

/// The register's state that an answer was taken from.
#[derive(Debug, Clone, Copy)]
pub(super) struct RegisterState {
    pub(super) sequence: u64,
    pub(super) as_of: Moment,
}

impl RegisterState {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { sequence: snapshot.sequence().value(), as_of: snapshot.as_of() }
    }
}

impl From<RegisterState> for crate::audit::RegisterState {
    fn from(state: RegisterState) -> Self {
        Self { sequence: state.sequence, as_of: state.as_of }
    }
}

/// The body of a single answer.
pub(super) fn single(out: &mut BytesMut, receipt: &Receipt, answer: &Answer, register: RegisterState) {
    out.reserve(384);
    out.put_slice(b"{\"verification_id\":\"");
    out.put_slice(&receipt.verification_id().text());
    out.put_u8(b'"');
    answer_fields(out, answer);
    moments(out, receipt, register);
    out.put_u8(b'}');
}

/// The head of a batch's body, up to the results.
pub(super) fn batch_head(out: &mut BytesMut, receipt: &Receipt, register: RegisterState) {
    out.put_slice(b"{\"verification_id\":\"");
    out.put_slice(&receipt.verification_id().text());
    out.put_u8(b'"');
    moments(out, receipt, register);
    out.put_slice(b",\"results\":[");
}

/// One result of a batch.
pub(super) fn batch_item(out: &mut BytesMut, pesel: &Pesel, answer: &Answer) {
    out.put_slice(b"{\"pesel\":\"");
    out.put_slice(pesel.digit_bytes());
    out.put_u8(b'"');
    answer_fields(out, answer);
    out.put_u8(b'}');
}

/// One refused number of a batch, with the text as it was sent.
pub(super) fn batch_refusal(out: &mut BytesMut, text: &str, reason: &str) {
    out.put_slice(b"{\"pesel\":");
    out.put_slice(&serde_json::to_vec(text).unwrap_or_default());
    out.put_slice(b",\"error\":\"invalid-pesel\",\"reason\":\"");
    out.put_slice(reason.as_bytes());
    out.put_slice(b"\"}");
}

/// One number of a batch about which nobody knows.
pub(super) fn batch_unknown(out: &mut BytesMut, pesel: &Pesel, unknown: Unknown) {
    out.put_slice(b"{\"pesel\":\"");
    out.put_slice(pesel.digit_bytes());
    out.put_slice(b"\",\"error\":\"register-unavailable\"");
    since(out, unknown);
    out.put_u8(b'}');
}

/// From when the outage of a number counts, where that is known.
fn since(out: &mut BytesMut, unknown: Unknown) {
    if let Unknown::Overdue { since } | Unknown::NotLoaded { since } = unknown {
        out.put_slice(b",\"unavailable_since\":\"");
        out.put_slice(&since.rfc3339());
        out.put_u8(b'"');
    }
}

/// One answered line of a stream, and the moment that it asked about, if it named
/// one; the chunk's first line carries `head`.
pub(super) fn stream_line(
    out: &mut BytesMut,
    receipt: &Receipt,
    index: u64,
    (pesel, asked_at): (&Pesel, Option<Moment>),
    answer: &Answer,
    head: Option<RegisterState>,
) {
    out.reserve(384);
    out.put_slice(b"{\"index\":");
    out.put_slice(itoa::Buffer::new().format(index).as_bytes());
    out.put_slice(b",\"pesel\":\"");
    out.put_slice(pesel.digit_bytes());
    out.put_u8(b'"');
    answer_fields(out, answer);
    out.put_slice(b",\"verification_id\":\"");
    out.put_slice(&receipt.verification_id().text());
    out.put_u8(b'"');
    // A moment without words is that of the chunk.
    let mut at = asked_at;
    if let Some(register) = head {
        register_field(out, register);
        out.put_slice(b",\"answered_at\":\"");
        out.put_slice(&receipt.answered_at().rfc3339());
        out.put_u8(b'"');
        at = at.or(Some(receipt.at()));
    }
    if let Some(at) = at {
        out.put_slice(b",\"at\":\"");
        out.put_slice(&at.rfc3339());
        out.put_u8(b'"');
    }
    out.put_slice(b"}\n");
}

/// One refused line of a stream.
pub(super) fn stream_refusal(out: &mut BytesMut, index: u64, refusal: LineRefusal) {
    out.put_slice(b"{\"index\":");
    out.put_slice(itoa::Buffer::new().format(index).as_bytes());
    out.put_slice(b",\"error\":\"");
    let (code, reason) = match refusal {
        LineRefusal::Line(LineError::Pesel(error)) => ("invalid-pesel", Some(error.reason())),
        LineRefusal::Line(LineError::Malformed) => ("malformed-request", None),
        LineRefusal::FutureMoment => ("future-moment", None),
        LineRefusal::Unknown(_) => ("register-unavailable", None),
    };
    out.put_slice(code.as_bytes());
    if let Some(reason) = reason {
        out.put_slice(b"\",\"reason\":\"");
        out.put_slice(reason.as_bytes());
    }
    out.put_u8(b'"');
    if let LineRefusal::Unknown(unknown) = refusal {
        since(out, unknown);
    }
    out.put_slice(b"}\n");
}

/// Why a line has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineRefusal {
    Line(LineError),
    FutureMoment,
    Unknown(Unknown),
}

fn answer_fields(out: &mut BytesMut, answer: &Answer) {
    out.put_slice(if answer.reserved() { b",\"reserved\":true" } else { b",\"reserved\":false" });
    if let Some(moment) = answer.reserved_at() {
        out.put_slice(b",\"reserved_at\":\"");
        out.put_slice(&moment.rfc3339());
        out.put_u8(b'"');
    }
    if let Some(moment) = answer.withdrawn_at() {
        out.put_slice(b",\"withdrawn_at\":\"");
        out.put_slice(&moment.rfc3339());
        out.put_u8(b'"');
    }
}

fn moments(out: &mut BytesMut, receipt: &Receipt, register: RegisterState) {
    let answered_at = receipt.answered_at().rfc3339();
    // A question about now, as nearly all are, has one moment for both.
    let now = receipt.at() == receipt.answered_at();
    let at = if now { answered_at } else { receipt.at().rfc3339() };
    out.put_slice(b",\"at\":\"");
    out.put_slice(&at);
    out.put_slice(b"\",\"answered_at\":\"");
    out.put_slice(&answered_at);
    out.put_u8(b'"');
    register_field(out, register);
}

fn register_field(out: &mut BytesMut, register: RegisterState) {
    out.put_slice(b",\"register\":{\"sequence\":");
    out.put_slice(itoa::Buffer::new().format(register.sequence).as_bytes());
    out.put_slice(b",\"as_of\":\"");
    out.put_slice(&register.as_of.rfc3339());
    out.put_slice(b"\"}");
}
