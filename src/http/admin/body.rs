//! JSON bodies of the admin plane, read strictly and without repeating them.

use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequest;
use axum::http::Request;
use serde::de::DeserializeOwned;

use crate::http::message::{MediaType, media_type};
use crate::http::problem::{Code, Problem};
use crate::http::verify::ask::malformed;
use crate::limits::ADMIN_BODY_BYTES_MAX;

/// From the end of a head to the end of its body; places at the plane are few.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A JSON body of this type; unknown fields are for the type to refuse.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _state: &S) -> Result<Self, Problem> {
        if media_type(request.headers())? != MediaType::Json {
            return Err(Problem::new(Code::UnsupportedMediaType, "send content-type: application/json"));
        }
        let reading = axum::body::to_bytes(request.into_body(), ADMIN_BODY_BYTES_MAX);
        let read = tokio::time::timeout(BODY_READ_TIMEOUT, reading).await;
        let read =
            read.map_err(|_| Problem::new(Code::RequestTimeout, "the body was not complete in time"))?;
        let body = read.map_err(|_| {
            Problem::new(Code::ContentTooLarge, format!("a body of at most {ADMIN_BODY_BYTES_MAX} bytes"))
        })?;
        let value = serde_json::from_slice(&body)
            .map_err(|error| malformed(&error, "see the contract for the fields of this call"))?;
        Ok(Self(value))
    }
}
