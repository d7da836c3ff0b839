//! How each way of not being let in is told.

use super::problem::{Code, Problem};
use crate::gate::Denied;

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let to_stranger = denied.is_of_stranger();
        let left = denied.left().copied();
        let problem = match denied {
            // One text for both planes: which of them was asked is known to the caller.
            Denied::MissingCredential | Denied::Unauthenticated => Self::new(
                Code::Unauthenticated,
                "send `authorization: Bearer <credential>`: a valid key, on the admin plane a valid token",
            ),
            Denied::Malformed => Self::new(
                Code::MalformedKey,
                "the credential's prefix, shape or checksum is wrong: a typing error, or a credential of another plane",
            ),
            Denied::WrongEnvironment => {
                Self::new(Code::WrongEnvironment, "a test key opens no production, and the other way round")
            }
            Denied::TooManyFailures { retry_after } => {
                Self::new(Code::RateLimited, "too many failed authentications from this address")
                    .retry_after(retry_after)
            }
            Denied::AddressNotAllowed { address } => Self::new(
                Code::AddressNotAllowed,
                format!("the address seen is {address}; it is not in the key's allow-list"),
            )
            .with("address", address.to_string()),
            Denied::RateLimited { retry_after, .. } => {
                Self::new(Code::RateLimited, "the key's limit per second is used up").retry_after(retry_after)
            }
            Denied::QuotaExceeded { retry_after, .. } => {
                Self::new(Code::QuotaExceeded, "the key's limit per day is used up").retry_after(retry_after)
            }
            Denied::BatchLargerThanBurst { burst, .. } => {
                Self::new(Code::ContentTooLarge, format!("the key's limits allow {burst} numbers at once"))
                    .with("burst", burst)
            }
        };
        let problem = if to_stranger { problem.to_stranger() } else { problem };
        match left {
            Some(left) => problem.with_left(left),
            None => problem,
        }
    }
}
