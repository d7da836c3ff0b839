//! The decision by itself, for `benches/core.rs`: everything between a socket and
//! the trail.

use std::num::NonZeroU32;

use bytes::BytesMut;

use super::{ask, render};
use crate::audit::Receipt;
use crate::clock::Moment;
use crate::gate::{Gate, IdentityCache, Peer};
use crate::query::{self, Outcome, Query};
use crate::register::Snapshot;

/// Judges a caller, reads the question, answers it from memory and writes the
/// answer to `out`, as `POST /v1/verify` does; the record that it would wait for
/// is the receipt of another. Says whether the number is reserved; `None` when
/// the caller or the question is refused, or the past is asked for.
pub fn decide(
    (gate, peer, identities): (&Gate, &Peer, &mut IdentityCache),
    snapshot: &Snapshot,
    (now, receipt): (Moment, &Receipt),
    (authorization, body): (&[u8], &[u8]),
    out: &mut BytesMut,
) -> Option<bool> {
    let identity = gate.identify(peer, Some(authorization), identities).ok()?;
    let mut permit = gate.admit(peer, identity, NonZeroU32::MIN).ok()?;
    let asked = ask::single(body).ok()?;
    let query = Query::new(asked.pesel.ordinal(), asked.terms.at, now).ok()?;
    let Outcome::Answered(answer) = query::answer(&permit, &query, snapshot, now) else { return None };
    permit.spend();
    render::single(out, receipt, &answer, render::RegisterState::of(snapshot));
    Some(answer.reserved())
}
