//! Problem documents (RFC 9457): the one total mapping from what went wrong to
//! a status, a code and a body.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use crate::access::LimitsView;
use crate::clock::Moment;
use crate::http::reply::{Reply, ReplyBody};
use crate::http::request_id::RequestId;
use crate::pesel::PeselError;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $title:literal;)*) => {
        /// Every code that a problem document can carry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code, in order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as clients see it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// Bad JSON, an unknown or missing field, a wrong type.
    MalformedRequest = "malformed-request", 400, "The request is not of the contract's form";
    /// No key, unknown, wrong secret, deactivated: one answer for all of them.
    Unauthenticated = "unauthenticated", 401, "No valid credential";
    /// A credential of the other environment.
    WrongEnvironment = "wrong-environment", 401, "The credential belongs to the other environment";
    /// Prefix, shape or checksum of the credential are wrong: a typing error.
    MalformedKey = "malformed-key", 401, "The credential is mistyped";
    /// The caller's address is not in the key's allow-list.
    AddressNotAllowed = "address-not-allowed", 403, "The caller's address is not in the key's allow-list";
    /// The token's role does not cover the call.
    Forbidden = "forbidden", 403, "The token's role does not cover this call";
    /// No such path, or nothing there for this caller.
    NotFound = "not-found", 404, "Not found";
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", 405, "Method not allowed";
    /// Head or body came too slowly.
    RequestTimeout = "request-timeout", 408, "The request came too slowly";
    /// An import that would change more of the register than one import may.
    MassChange = "mass-change", 409, "The import would change too much of the register";
    /// A backup is being made already.
    BackupRunning = "backup-running", 409, "A backup is being made already";
    /// The same idempotency key with another request.
    IdempotencyMismatch = "idempotency-mismatch", 409, "The idempotency key was used for another request";
    /// Deactivating the only token that could issue another.
    LastOperator = "last-operator", 409, "The token is the last operator's";
    /// Messages of a feed before this one are missing; `expected` is the first.
    FeedGap = "feed-gap", 409, "Messages of the feed are missing before this one";
    /// Taken so long ago that its answer is not remembered.
    FeedForgotten = "feed-forgotten", 409, "The feed is far beyond this message";
    /// Reserving what is reserved.
    AlreadyReserved = "already-reserved", 409, "The number is already reserved";
    /// Withdrawing what is not reserved.
    NotReserved = "not-reserved", 409, "The number is not reserved";
    /// Filing within 30 minutes after a withdrawal.
    FilingTooSoon = "filing-too-soon", 409, "A reservation may not be filed yet";
    /// The channel reserves only.
    ChannelMayNotWithdraw = "channel-may-not-withdraw", 422, "This channel may not withdraw";
    /// The applicant reserves only.
    ApplicantMayNotWithdraw = "applicant-may-not-withdraw", 422, "This applicant may not withdraw";
    /// The applicant must come to a gmina.
    ApplicantNeedsGmina = "applicant-needs-gmina", 422, "This applicant may act at a gmina only";
    /// A proxy acts only for an obstacle.
    ObstacleRequired = "obstacle-required", 422, "A proxy needs an obstacle";
    /// Only the e-service takes a re-reservation moment.
    TemporaryWithdrawalByEServiceOnly = "temporary-withdrawal-by-e-service-only", 422, "Temporary withdrawal is for the e-service only";
    /// The re-reservation moment is less than 30 minutes ahead.
    ReReservationTooSoon = "re-reservation-too-soon", 422, "The re-reservation moment is too soon";
    /// Under age.
    NotOfAge = "not-of-age", 422, "The person is not of age";
    /// Body, batch or line too large.
    ContentTooLarge = "content-too-large", 413, "The content is too large";
    /// URI too long.
    UriTooLong = "uri-too-long", 414, "The URI is too long";
    /// Not a media type of the contract, or a content coding.
    UnsupportedMediaType = "unsupported-media-type", 415, "Unsupported media type";
    /// The text is no PESEL; `reason` tells why.
    InvalidPesel = "invalid-pesel", 422, "Not a valid PESEL";
    /// `at` lies in the future.
    FutureMoment = "future-moment", 422, "The moment lies in the future";
    /// A value that is well-formed and not acceptable.
    InvalidValue = "invalid-value", 422, "A value is not acceptable";
    /// The per-second limit or the failures of this address.
    RateLimited = "rate-limited", 429, "Too many requests";
    /// The daily limit.
    QuotaExceeded = "quota-exceeded", 429, "The daily quota is used up";
    /// Header fields too large.
    HeaderFieldsTooLarge = "header-fields-too-large", 431, "The header fields are too large";
    /// A handler failed; counted, the server goes on.
    InternalError = "internal-error", 500, "Internal error";
    /// The register does not know.
    RegisterUnavailable = "register-unavailable", 503, "The register is unavailable";
    /// The trail cannot be written.
    AuditUnavailable = "audit-unavailable", 503, "The audit trail is unavailable";
    /// The access store cannot be written.
    AccessUnavailable = "access-unavailable", 503, "The access store is unavailable";
    /// Queues are full.
    Overloaded = "overloaded", 503, "Overloaded";
    /// The instance is shutting down.
    Draining = "draining", 503, "Shutting down";
}

/// An error on its way to the client.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    to_stranger: bool,
    /// Boxed: problems of a key's limits alone have it, and errors should be small.
    left: Option<Box<LimitsView>>,
    fields: Map<String, Value>,
}

impl Problem {
    /// A problem with this code; `detail` never contains a number or a secret.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: None,
            allow: None,
            to_stranger: false,
            left: None,
            fields: Map::new(),
        }
    }

    /// What it will be counted as.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Why, for a person.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Said to somebody who has shown no good key.
    #[must_use]
    pub const fn is_to_stranger(&self) -> bool {
        self.to_stranger
    }

    /// Marks it as said to somebody who has shown no good key.
    #[must_use]
    pub const fn to_stranger(mut self) -> Self {
        self.to_stranger = true;
        self
    }

    /// Tells what is left of the limits of the key that asked.
    pub(super) fn with_left(mut self, left: LimitsView) -> Self {
        self.left = Some(Box::new(left));
        self
    }

    /// What is left of the limits of the key that asked, where one of them refused.
    pub(crate) fn left(&self) -> Option<&LimitsView> {
        self.left.as_deref()
    }

    /// Adds a field that a program can act on.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Says when to come again; rounded up to whole seconds, at least one.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "nothing here; see the contract for the paths of this plane")
    }

    /// 405 with what is allowed.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(Code::MethodNotAllowed, format!("allowed here: {allow}")) }
    }

    /// 422 with the reason.
    #[must_use]
    pub fn invalid_pesel(error: PeselError) -> Self {
        Self::new(Code::InvalidPesel, error.to_string()).with("reason", error.reason())
    }

    /// 503 of the trail, with the moment since when.
    #[must_use]
    pub fn audit_unavailable(since: Moment) -> Self {
        Self::new(Code::AuditUnavailable, "answers cannot be put on record, so none is given")
            .with("unavailable_since", since.to_string())
            .retry_after(Duration::from_secs(5))
    }

    /// 503 of the register, with the moment since when.
    #[must_use]
    pub fn register_unavailable(since: Moment) -> Self {
        Self::new(Code::RegisterUnavailable, "the register cannot be asked, so no answer is given")
            .with("unavailable_since", since.to_string())
            .retry_after(Duration::from_secs(5))
    }

    /// 503 of a clock that lies behind what is on record.
    #[must_use]
    pub fn clock_behind() -> Self {
        // Since when, nobody knows: it is the clock that is in doubt.
        Self::new(
            Code::RegisterUnavailable,
            "the gateway's clock lies behind what is on record, so nothing is answered and no change taken",
        )
        .retry_after(Duration::from_secs(5))
    }

    /// 503 of a full queue.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(Code::Overloaded, "too much work is waiting").retry_after(Duration::from_secs(1))
    }

    /// 503 of a shutdown.
    #[must_use]
    pub fn draining() -> Self {
        Self::new(Code::Draining, "this instance is shutting down").retry_after(Duration::from_secs(2))
    }

    /// 500 of a handler that panicked.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(Code::InternalError, "the request could not be handled; it was counted")
    }

    /// The document's bytes.
    #[must_use]
    pub fn document(&self, request_id: &str) -> Vec<u8> {
        serde_json::to_vec(&Document { problem: self, request_id }).unwrap_or_default()
    }

    /// The last line of an answer that flows and cannot go on.
    #[must_use]
    pub fn last_line(&self) -> Bytes {
        let Self { code, detail, retry_after, .. } = self;
        let mut line = json!({"error": code.name(), "detail": detail});
        if let Some(wait) = retry_after {
            line["retry_after"] = whole_seconds(*wait).into();
        }
        format!("{line}\n").into()
    }

    /// The response; the common headers are added where every response leaves.
    #[must_use]
    pub fn into_response(self, request_id: &RequestId) -> Reply {
        let body = self.document(request_id.as_str());
        let mut response = Response::new(ReplyBody::full(body.into()));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.code.status() == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"peselgate\""));
        }
        response
    }
}

/// The document, written field by field: a flood of refusals builds no tree each.
struct Document<'a> {
    problem: &'a Problem,
    request_id: &'a str,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Problem { code, detail, retry_after, fields, .. } = self.problem;
        let mut document = serializer.serialize_map(None)?;
        document.serialize_entry("type", &format_args!("urn:peselgate:problem:{}", code.name()))?;
        document.serialize_entry("title", code.title())?;
        document.serialize_entry("status", &code.status())?;
        document.serialize_entry("code", code.name())?;
        document.serialize_entry("detail", detail)?;
        document.serialize_entry("request_id", self.request_id)?;
        if let Some(wait) = retry_after {
            document.serialize_entry("retry_after", &whole_seconds(*wait))?;
        }
        for (name, value) in fields {
            document.serialize_entry(name, value)?;
        }
        document.end()
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_statuses_are_errors() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| (400..600).contains(&code.status())));
        assert!(Code::ALL.iter().enumerate().all(|(index, code)| *code as usize == index));
    }

    #[test]
    fn a_wait_is_whole_seconds_and_never_zero() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1_001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
    }
}
