//! JSON bodies and identifiers of the admin plane, read strictly and without
//! repeating them.
//!
//! A JSON body is to be had through [`Asked`] alone, whose caller is judged when the
//! body is there: nothing is done for a token that was deactivated meanwhile.

use std::fmt;
use std::marker::PhantomData;

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};

use super::{Caller, Handles};
use crate::http::message::{MediaType, has_length, media_type};
use crate::http::problem::{Code, Problem};
use crate::http::verify::ask::malformed;
use crate::limits::ADMIN_BODY_BYTES_MAX;
use crate::secret::KeyId;

/// From the end of a head to the end of its body; places at the plane are few.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked for in a JSON body of this type, and who asks as of when it was
/// read. Unknown fields are for the type to refuse.
pub(super) struct Asked<T> {
    pub(super) caller: Caller,
    pub(super) body: T,
}

impl<T: DeserializeOwned> FromRequest<Handles> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, handles: &Handles) -> Result<Self, Problem> {
        let (mut head, body) = request.into_parts();
        // By the head first: nobody's body is read who is unknown.
        let caller = Caller::from_request_parts(&mut head, handles).await?;
        let body = read(&head.headers, body).await?;
        let caller = caller.judged_again(handles)?;
        let Object(body) = serde_json::from_slice(&body)
            .map_err(|error| malformed(&error, "see the contract for the fields of this call"))?;
        Ok(Self { caller, body })
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    if media_type(headers)? != MediaType::Json {
        return Err(Problem::new(Code::UnsupportedMediaType, "send content-type: application/json"));
    }
    has_length(headers)?;
    let reading = Limited::new(body, ADMIN_BODY_BYTES_MAX).collect();
    let read = tokio::time::timeout(BODY_READ_TIMEOUT, reading).await;
    let read = read.map_err(|_| Problem::new(Code::RequestTimeout, "the body was not complete in time"))?;
    read.map(Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Problem::new(Code::ContentTooLarge, format!("a body of at most {ADMIN_BODY_BYTES_MAX} bytes"))
        } else {
            Problem::new(Code::MalformedRequest, "the body broke off")
        }
    })
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
