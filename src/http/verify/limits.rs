//! `GET /v1/limits`, and the `RateLimit` fields of good answers and of what a limit
//! refuses (draft-ietf-httpapi-ratelimit-headers).

use bytes::{BufMut, BytesMut};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use serde_json::json;

use super::identify;
use crate::access::LimitsView;
use crate::clock::Moment;
use crate::http::plane::Connection;
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
    add_fields(connection, response.headers_mut(), &view, connection.worker.handles.clock.now());
    Ok(response)
}

/// The `RateLimit-Policy` field of a key's limits, kept per connection.
pub(crate) struct Policy {
    per_second: u32,
    burst: u32,
    per_day: u64,
    field: HeaderValue,
}

impl Policy {
    fn suits(&self, view: &LimitsView) -> bool {
        (self.per_second, self.burst, self.per_day) == (view.per_second, view.burst, view.per_day)
    }
}

/// Adds the two fields to an answer.
pub(super) fn add_fields(connection: &Connection, headers: &mut HeaderMap, view: &LimitsView, now: Moment) {
    let worker = &connection.worker;
    let day_resets_in_s = u64::try_from(view.day_resets_at.unix_seconds() - now.unix_seconds()).unwrap_or(0);
    let left = worker.write_body(|out| {
        let missing = view.burst.saturating_sub(view.burst_remaining);
        let full_in_s = u64::from(missing.div_ceil(view.per_second.max(1)));
        field(out, "burst", b";r=", u64::from(view.burst_remaining), b";t=", full_in_s);
        out.put_slice(b", ");
        field(out, "day", b";r=", view.day_remaining, b";t=", day_resets_in_s);
    });
    // Digits, quotes and ASCII words alone.
    if let Ok(left) = HeaderValue::from_maybe_shared(left) {
        headers.insert(RATELIMIT, left);
    }
    if let Some(policy) = policy(connection, view) {
        headers.insert(RATELIMIT_POLICY, policy);
    }
}

fn policy(connection: &Connection, view: &LimitsView) -> Option<HeaderValue> {
    let mut kept = connection.policy.borrow_mut();
    if !kept.as_ref().is_some_and(|policy| policy.suits(view)) {
        let window_s = u64::from(view.burst.div_ceil(view.per_second.max(1))).max(1);
        let mut text = BytesMut::new();
        field(&mut text, "burst", b";q=", u64::from(view.burst), b";w=", window_s);
        text.put_slice(b", ");
        field(&mut text, "day", b";q=", view.per_day, b";w=", 86_400);
        let field = HeaderValue::from_maybe_shared(text.freeze()).ok()?;
        let LimitsView { per_second, burst, per_day, .. } = *view;
        *kept = Some(Policy { per_second, burst, per_day, field });
    }
    kept.as_ref().map(|policy| policy.field.clone())
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
