//! Why a gateway gave no answer: it could not be reached, or it refused.

use std::fmt;
use std::io;
use std::time::Duration;

use http::Response;
use http::header::RETRY_AFTER;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::endpoint::{Endpoint, NotAnEndpoint};
use super::tls;
use crate::clock::Moment;

/// Bytes of a refusal.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// Why a gateway gave no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The URL is none.
    Url(NotAnEndpoint),
    /// No authority to trust.
    Trust(tls::NoTrust),
    /// No connection.
    Connect { endpoint: Endpoint, error: io::Error },
    /// The gateway's certificate or its TLS.
    Tls { endpoint: Endpoint, error: io::Error },
    /// No answer in time.
    Timeout(&'static str),
    /// The connection broke, or what came was no HTTP.
    Http(hyper::Error),
    /// The gateway refused.
    Refused(Box<Refusal>),
    /// The gateway answered something else than agreed.
    Unexpected(String),
}

/// A refusal by the gateway (RFC 9457).
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The `code` of the problem, or the status when there is none.
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) request_id: Option<String>,
    /// From when the same would be allowed, where waiting helps.
    pub(crate) allowed_from: Option<Moment>,
    /// When to come again.
    pub(crate) retry_after: Option<Duration>,
    /// Which value is not acceptable.
    pub(crate) field: Option<String>,
    /// The roles that the call needs one of, where the token's is another.
    pub(crate) roles: Vec<String>,
    /// Whether the gateway, not the request, is at fault.
    passing: bool,
}

impl ClientError {
    /// Whether the same request may succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout(_) | Self::Http(_) => true,
            Self::Refused(refusal) => refusal.passing,
            // A connection that broke in the handshake; not a certificate, which
            // stays wrong.
            Self::Tls { error, .. } => {
                !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other)
            }
            Self::Url(_) | Self::Trust(_) | Self::Unexpected(_) => false,
        }
    }

    /// When the gateway asked to come again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(error) => error.fmt(f),
            Self::Trust(error) => error.fmt(f),
            Self::Connect { endpoint, error } => write!(f, "{endpoint} cannot be reached: {error}"),
            Self::Tls { endpoint, error } => write!(f, "{endpoint}: TLS: {error}"),
            Self::Timeout(what) => write!(f, "no {what} in time"),
            Self::Http(error) => {
                write!(f, "the connection failed: {error}")?;
                match std::error::Error::source(error) {
                    Some(source) => write!(f, ": {source}"),
                    None => Ok(()),
                }
            }
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unexpected(what) => write!(f, "the gateway's answer is not as agreed: {what}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl Refusal {
    #[cfg(test)]
    pub(crate) fn of_test(code: &str, allowed_from: Option<Moment>) -> Self {
        Self {
            code: code.to_owned(),
            detail: "detail".to_owned(),
            request_id: None,
            allowed_from,
            retry_after: None,
            field: None,
            roles: Vec::new(),
            passing: false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.code, self.detail, again(self.retry_after))?;
        match &self.request_id {
            Some(id) => write!(f, " (request id {id})"),
            None => Ok(()),
        }
    }
}

/// When it may go on, for the end of a sentence.
pub(crate) fn again(after: Option<Duration>) -> String {
    let Some(seconds) = after.map(|after| after.as_secs()).filter(|seconds| *seconds > 0) else {
        return String::new();
    };
    let minutes = seconds.div_ceil(60);
    match minutes {
        0..=2 => format!("; again in {seconds} s"),
        3..=120 => format!("; again in {minutes} min"),
        _ => format!("; again in {} h {} min", minutes / 60, minutes % 60),
    }
}

/// Lets a success through; reads the problem of anything else.
pub(crate) async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
    #[derive(Default, Deserialize)]
    struct Problem {
        code: Option<String>,
        title: Option<String>,
        detail: Option<String>,
        request_id: Option<String>,
        allowed_from: Option<Moment>,
        field: Option<String>,
        #[serde(default)]
        roles: Vec<String>,
    }
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(response.into_body(), PROBLEM_BYTES_MAX).collect().await;
    let problem = body.ok().and_then(|body| serde_json::from_slice::<Problem>(&body.to_bytes()).ok());
    let Problem { code, title, detail, request_id, allowed_from, field, roles } = problem.unwrap_or_default();
    let code = code.unwrap_or_else(|| status.as_str().to_owned());
    Err(ClientError::Refused(Box::new(Refusal {
        // A day's quota does not come back while one waits.
        passing: (status.is_server_error() || retry_after.is_some()) && code != "quota-exceeded",
        detail: detail
            .or(title)
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("no detail").to_owned()),
        code,
        request_id,
        allowed_from,
        retry_after: retry_after.map(Duration::from_secs),
        field,
        roles,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_when_to_come_again() {
        let told = |seconds| again(Some(Duration::from_secs(seconds)));
        assert_eq!((again(None), told(0)), (String::new(), String::new()));
        assert_eq!([1, 120].map(told), ["; again in 1 s", "; again in 120 s"]);
        assert_eq!([121, 7_200].map(told), ["; again in 3 min", "; again in 120 min"]);
        assert_eq!([7_201, 86_400].map(told), ["; again in 2 h 1 min", "; again in 24 h 0 min"]);
    }
}
