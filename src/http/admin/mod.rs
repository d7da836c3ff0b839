//! The admin plane: register changes, keys and tokens, for the operator's
//! staff, officials and the register's channels.
//!
//! Every handler begins with `Caller`: no call is handled without a token,
//! and what it may do is asked by role. One with a JSON body begins with `Asked`,
//! which has a caller of after the body; what takes longer asks again itself.

mod backup;
mod body;
mod feeds;
mod import;
mod issued;
mod keys;
mod places;
mod register;
mod renumbering;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::routing::{any, get, post, put};
use axum::{Extension, Router};

use super::control::{leave, method_not_allowed, not_found};
use super::message::has_no_query;
use super::problem::{Code, Problem};
use crate::access::{AccessError, AccessWriter, DirectoryReader, Role};
use crate::backup::Backups;
use crate::clock::Clock;
use crate::gate::{AdminIdentity, Officer, authenticate_admin};
use crate::http::readings::StoreReadings;
use crate::register::{Commander, Reader};

/// What the plane works with: the writers are here and nowhere else.
pub struct AdminHandles {
    /// Tokens and keys as they are.
    pub directory: DirectoryReader,
    /// Changes them.
    pub access: AccessWriter,
    /// The register as it is.
    pub register: Reader,
    /// Changes it.
    pub commander: Commander,
    /// Makes backups of everything.
    pub backups: Backups,
    /// How the readings of register and trail go.
    pub readings: StoreReadings,
    /// What time it is.
    pub clock: Clock,
    /// Longest wait for a complete line of an import.
    pub import_idle_timeout: Duration,
}

type Handles = Arc<AdminHandles>;

/// The plane's routes.
pub fn router(handles: AdminHandles) -> Router {
    Router::new()
        .route("/admin/v1/reservations", post(register::reserve))
        .route("/admin/v1/withdrawals", post(register::withdraw))
        .route("/admin/v1/renumberings", post(renumbering::renumber))
        .route("/admin/v1/entries/query", post(register::entry))
        .route("/admin/v1/events", get(register::events))
        .route("/admin/v1/feeds", get(feeds::list))
        .route("/admin/v1/import", post(import::import))
        // Every method is its own to judge: `get` would take HEAD as well.
        .route("/admin/v1/backup", any(backup::backup))
        .route("/admin/v1/keys", post(keys::issue).get(keys::list))
        .route("/admin/v1/keys/{id}/deactivate", post(keys::deactivate))
        .route("/admin/v1/keys/{id}/addresses", put(keys::set_addresses))
        .route("/admin/v1/keys/{id}/limits", put(keys::set_limits))
        .route("/admin/v1/tokens", post(tokens::issue).get(tokens::list))
        .route("/admin/v1/tokens/{id}/deactivate", post(tokens::deactivate))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(Extension(places::ImportPlaces::default()))
        .layer(axum::middleware::from_fn(leave))
        .with_state(Arc::new(handles))
}

/// The paths that take a query.
const WITH_QUERY: [&str; 2] = ["/admin/v1/events", "/admin/v1/import"];

/// Whoever calls, by a token that proved itself on this very request.
struct Caller {
    identity: AdminIdentity,
    idempotency_key: Option<Vec<u8>>,
}

impl FromRequestParts<Handles> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, handles: &Handles) -> Result<Self, Problem> {
        let authorization = one_value(&parts.headers, &AUTHORIZATION)?;
        let identity = authenticate_admin(&handles.directory, authorization.as_deref())?;
        if !WITH_QUERY.contains(&parts.uri.path()) {
            has_no_query(&parts.uri)?;
        }
        let name = axum::http::HeaderName::from_static("idempotency-key");
        Ok(Self { identity, idempotency_key: one_value(&parts.headers, &name)? })
    }
}

fn one_value(headers: &HeaderMap, name: &axum::http::HeaderName) -> Result<Option<Vec<u8>>, Problem> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.as_bytes().to_vec());
    match values.next() {
        Some(_) => Err(Problem::new(Code::MalformedRequest, format!("more than one `{name}` field"))),
        None => Ok(value),
    }
}

impl Caller {
    /// The same caller, judged again; see [`body::Asked`].
    fn judged_again(self, handles: &Handles) -> Result<Self, Problem> {
        Ok(Self { identity: self.identity.judged_again(&handles.directory)?, ..self })
    }

    /// Is one of these roles the caller's?
    fn needs(&self, roles: &[Role]) -> Result<Officer, Problem> {
        self.identity.require_any(roles).map_err(|_| {
            let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
            Problem::new(Code::Forbidden, format!("this call needs the role {}", names.join(" or ")))
                .with("roles", names)
        })
    }

    /// The idempotency key of an access change, scoped to the caller's token.
    fn access_idempotency(&self) -> Result<Option<crate::access::IdempotencyKey>, Problem> {
        self.idempotency_key
            .as_deref()
            .map(|text| crate::access::IdempotencyKey::parse(self.identity.token_id(), text))
            .transpose()
            .map_err(|error| Problem::new(Code::MalformedRequest, error.to_string()))
    }
}

/// When to come again while the access store cannot be written.
const ACCESS_RETRY: Duration = Duration::from_secs(5);

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let detail = error.to_string();
        match error {
            AccessError::NotFound => Self::not_found(),
            AccessError::Deactivated => Self::new(Code::InvalidValue, detail),
            AccessError::IdempotencyMismatch => Self::new(Code::IdempotencyMismatch, detail),
            AccessError::LastOperator => Self::new(Code::LastOperator, detail),
            AccessError::AddressesOfOtherEnvironment | AccessError::EveryRoleInProduction => {
                Self::new(Code::InvalidValue, detail)
            }
            AccessError::Full => Self::new(Code::AccessUnavailable, detail).retry_after(ACCESS_RETRY),
            AccessError::Overloaded => Self::overloaded(),
            AccessError::Unavailable { since } => Self::new(Code::AccessUnavailable, detail)
                .with("unavailable_since", since.to_string())
                .retry_after(ACCESS_RETRY),
            AccessError::NoRandomness => Self::new(Code::AccessUnavailable, detail).retry_after(ACCESS_RETRY),
        }
    }
}
