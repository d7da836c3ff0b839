//! JSON bodies and identifiers of the admin plane, read strictly and without
//! repeating them.

use std::fmt;
use std::marker::PhantomData;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path};
use axum::http::Request;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};

use crate::http::message::{MediaType, has_length, media_type};
use crate::http::problem::{Code, Problem};
use crate::http::verify::ask::malformed;
use crate::limits::ADMIN_BODY_BYTES_MAX;
use crate::secret::KeyId;

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
        has_length(request.headers())?;
        let reading = axum::body::to_bytes(request.into_body(), ADMIN_BODY_BYTES_MAX);
        let read = tokio::time::timeout(BODY_READ_TIMEOUT, reading).await;
        let read =
            read.map_err(|_| Problem::new(Code::RequestTimeout, "the body was not complete in time"))?;
        let body = read.map_err(|_| {
            Problem::new(Code::ContentTooLarge, format!("a body of at most {ADMIN_BODY_BYTES_MAX} bytes"))
        })?;
        let Object(value) = serde_json::from_slice(&body)
            .map_err(|error| malformed(&error, "see the contract for the fields of this call"))?;
        Ok(Self(value))
    }
}

/// A JSON object and nothing else: derived readers take an array of the fields in
/// their order as well, which the contract does not have.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// The `{id}` of a path. One that cannot exist is one that is not there.
pub(super) struct Id(pub(super) KeyId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // axum's own refusal would be plain text, of a path with broken escapes.
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::not_found())?;
        KeyId::parse(text.as_bytes()).map(Self).ok_or_else(Problem::not_found)
    }
}
