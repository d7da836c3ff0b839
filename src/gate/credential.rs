//! From the header to a proof, with the same work for every wrong credential.

use super::denied::Denied;
use crate::environment::Environment;
use crate::secret::{CredentialHash, Plane, Presented};

/// Reads the value of `authorization`: the scheme `Bearer` in any case, one
/// space, one credential (RFC 6750, section 2.1), of this plane and environment.
/// No secret is needed for any of it.
pub(super) fn read(
    authorization: Option<&[u8]>,
    plane: Plane,
    environment: Environment,
) -> Result<Presented<'_>, Denied> {
    let presented = Presented::parse(plane, bearer(authorization)?).map_err(|_| Denied::Malformed)?;
    if presented.environment() != environment {
        return Err(Denied::WrongEnvironment);
    }
    Ok(presented)
}

/// The credential after `Bearer`.
pub(super) fn bearer(authorization: Option<&[u8]>) -> Result<&[u8], Denied> {
    let Some((scheme, rest)) = authorization.and_then(|value| value.split_at_checked(6)) else {
        return Err(Denied::MissingCredential);
    };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Denied::MissingCredential);
    }
    match rest {
        [] | [b' '] => Err(Denied::MissingCredential),
        [b' ', credential @ ..] => Ok(credential),
        _ => Err(Denied::Malformed),
    }
}

/// What is on record under the id that was presented.
#[derive(Clone, Copy)]
pub(super) struct OnRecord<'a> {
    pub(super) hash: &'a CredentialHash,
    pub(super) active: bool,
}

/// Whether the credential is the one on record: always one SHA-256 and one
/// comparison in constant time, whether the id is unknown, the secret wrong or
/// the record deactivated; only then the record's state counts.
pub(super) fn prove(presented: &Presented<'_>, on_record: Option<OnRecord<'_>>) -> Option<CredentialHash> {
    #[cfg(test)]
    HASHES.with(|hashes| hashes.set(hashes.get() + 1));
    let hash = presented.hash();
    let stored = on_record.map_or(&CredentialHash::DUMMY, |on_record| on_record.hash);
    let matches = hash.matches(stored);
    (matches & on_record.is_some_and(|on_record| on_record.active)).then_some(hash)
}

#[cfg(test)]
thread_local! {
    /// How many credentials this thread has hashed.
    pub(super) static HASHES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_one_scheme_one_space_one_credential() {
        type Read = Result<&'static [u8], Denied>;
        let cases: [(Option<&[u8]>, Read); 12] = [
            (None, Err(Denied::MissingCredential)),
            (Some(b""), Err(Denied::MissingCredential)),
            (Some(b"Bearer"), Err(Denied::MissingCredential)),
            (Some(b"Bearer "), Err(Denied::MissingCredential)),
            (Some(b"Basic eDp5"), Err(Denied::MissingCredential)),
            (Some(b"Token x"), Err(Denied::MissingCredential)),
            (Some(b"Bearer x"), Ok(b"x")),
            (Some(b"bEARER x"), Ok(b"x")),
            (Some(b"Bearer\tx"), Err(Denied::Malformed)),
            (Some(b"Bearerx"), Err(Denied::Malformed)),
            // More than one space or credential: no credential has this shape.
            (Some(b"Bearer  x"), Ok(b" x")),
            (Some(b"Bearer x, y"), Ok(b"x, y")),
        ];
        for (header, credential) in cases {
            assert_eq!(bearer(header), credential);
        }
        for header in [&b"Bearer  x"[..], b"Bearer x, y", b"Bearer x "] {
            let read = read(Some(header), Plane::Verification, Environment::Test);
            assert!(matches!(read, Err(Denied::Malformed)));
        }
    }
}
