//! `GET /openapi.yaml`: the contract, for everybody.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::http::reply::{Reply, ReplyBody};

/// The document as an operator finds it in `config/`; built in, so that an
/// instance never tells another contract than the one it was made for.
const OPENAPI: &str = include_str!("../../../config/openapi.yaml");

pub(super) fn reply() -> Reply {
    let mut reply = Reply::new(ReplyBody::full(Bytes::from_static(OPENAPI.as_bytes())));
    // RFC 9512.
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    reply
}
