//! `GET /v1/limits`, and the `RateLimit` fields of good answers
//! (draft-ietf-httpapi-ratelimit-headers).

use bytes::{BufMut, BytesMut};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use serde_json::json;

use super::{identify, now};
use crate::access::LimitsView;
use crate::http::plane::{Connection, Worker};
use crate::http::problem::Problem;
use crate::http::reply::{self, Reply};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Says what a key may do and what is left of it; costs nothing.
pub(super) fn of_key(connection: &Connection, headers: &HeaderMap) -> Result<Reply, Problem> {
    let identity = identify(connection, headers)?;
    let gate = &connection.worker.handles.gate;
    let visit = gate.visit(&connection.peer, identity)?;
    let (view, record) = (visit.remaining(), visit.key());
    let addresses: Vec<String> = record.addresses().networks().map(|network| network.to_string()).collect();
    let body = json!({
        "key_id": record.id(),
        "environment": record.environment(),
        "institution": record.institution().name.as_str(),
        "system": record.system().as_str(),
        "addresses": addresses,
        "limits": {"per_second": view.per_second, "burst": view.burst, "per_day": view.per_day},
        "remaining": {"burst": view.burst_remaining, "day": view.day_remaining},
        "day_resets_at": view.day_resets_at,
    });
    let mut response: Response<_> = reply::json(serde_json::to_vec(&body).unwrap_or_default().into());
    add_fields(&connection.worker, response.headers_mut(), &view);
    Ok(response)
}

/// Adds the two fields to an answer.
pub(super) fn add_fields(worker: &Worker, headers: &mut HeaderMap, view: &LimitsView) {
    let day_resets_in_s =
        u64::try_from(view.day_resets_at.unix_seconds() - now(worker).unix_seconds()).unwrap_or(0);
    let burst_window = u64::from(view.burst.div_ceil(view.per_second.max(1))).max(1);
    let policy = worker.write_body(|out| {
        policy(out, "burst", u64::from(view.burst), burst_window);
        out.put_slice(b", ");
        policy(out, "day", view.per_day, 86_400);
    });
    let left = worker.write_body(|out| {
        let missing = view.burst.saturating_sub(view.burst_remaining);
        remaining(
            out,
            "burst",
            u64::from(view.burst_remaining),
            u64::from(missing.div_ceil(view.per_second.max(1))),
        );
        out.put_slice(b", ");
        remaining(out, "day", view.day_remaining, day_resets_in_s);
    });
    // Both texts are digits, quotes and ASCII words.
    if let (Ok(policy), Ok(left)) =
        (HeaderValue::from_maybe_shared(policy), HeaderValue::from_maybe_shared(left))
    {
        headers.insert(RATELIMIT_POLICY, policy);
        headers.insert(RATELIMIT, left);
    }
}

fn policy(out: &mut BytesMut, name: &str, quota: u64, window_s: u64) {
    field(out, name, b";q=", quota, b";w=", window_s);
}

fn remaining(out: &mut BytesMut, name: &str, left: u64, resets_in_s: u64) {
    field(out, name, b";r=", left, b";t=", resets_in_s);
}

fn field(out: &mut BytesMut, name: &str, first: &[u8], value: u64, second: &[u8], seconds: u64) {
    out.put_u8(b'"');
    out.put_slice(name.as_bytes());
    out.put_u8(b'"');
    out.put_slice(first);
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
    out.put_slice(second);
    out.put_slice(itoa::Buffer::new().format(seconds).as_bytes());
}
