//! Who is asking on the admin plane, and in which role.

use std::sync::Arc;

use super::credential::{self, OnRecord};
use super::denied::Denied;
use crate::access::{ChannelName, DirectoryReader, Name, Role, Teryt, TokenRecord};
use crate::secret::{KeyId, Plane};

/// Finds out who presents this `authorization` on the admin plane; an API key is
/// no token. An unknown id, a wrong secret and a deactivated token are one answer
/// at one cost.
///
/// # Errors
/// [`Denied::MissingCredential`], [`Denied::Malformed`],
/// [`Denied::WrongEnvironment`] and [`Denied::Unauthenticated`].
pub fn authenticate_admin(
    reader: &DirectoryReader,
    authorization: Option<&[u8]>,
) -> Result<AdminIdentity, Denied> {
    let presented = credential::read(authorization, Plane::Admin, reader.environment())?;
    let directory = reader.load();
    let token = directory.token(&presented.id());
    let on_record = token.map(|token| OnRecord { hash: token.hash(), active: token.is_active() });
    match (token, credential::prove(&presented, on_record)) {
        (Some(token), Some(_)) => Ok(AdminIdentity { token: Arc::clone(token) }),
        _ => Err(Denied::Unauthenticated),
    }
}

/// What the directory holds now of a token that was proved before; nothing, once it
/// is deactivated.
fn in_force(token: &TokenRecord, reader: &DirectoryReader) -> Option<Arc<TokenRecord>> {
    let directory = reader.load();
    directory.token(&token.id()).filter(|now| now.is_active() && now.hash().matches(token.hash())).cloned()
}

/// The holder of an active admin token, proved for this request. Made by
/// [`authenticate_admin`] alone.
#[derive(Debug)]
pub struct AdminIdentity {
    token: Arc<TokenRecord>,
}

/// The token does not have the role that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden {
    /// A role that would do.
    pub needed: Role,
}

impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this needs a token with the role {}", self.needed.name())
    }
}

impl std::error::Error for Forbidden {}

impl AdminIdentity {
    /// The token's identifier.
    #[must_use]
    pub fn token_id(&self) -> KeyId {
        self.token.id()
    }

    /// The same holder as of now: a token may have been deactivated while the rest of
    /// its request was waited for.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`] when it was.
    pub fn judged_again(self, reader: &DirectoryReader) -> Result<Self, Denied> {
        in_force(&self.token, reader).map(|token| Self { token }).ok_or(Denied::Unauthenticated)
    }

    /// The holder in this role.
    ///
    /// # Errors
    /// [`Forbidden`] when the token does not have it.
    pub fn require(&self, role: Role) -> Result<Officer, Forbidden> {
        self.require_any(&[role]).map_err(|_| Forbidden { needed: role })
    }

    /// The holder in the first of these roles that the token has.
    ///
    /// # Errors
    /// [`Forbidden`] when it has none of them.
    pub fn require_any(&self, roles: &[Role]) -> Result<Officer, Forbidden> {
        let held = roles.iter().copied().find(|role| self.token.roles().has(*role));
        match held {
            Some(role) => Ok(Officer { token: Arc::clone(&self.token), role }),
            None => Err(Forbidden { needed: roles.first().copied().unwrap_or(Role::Operator) }),
        }
    }
}

/// The holder of a token in a role that was asked for. Made by
/// [`AdminIdentity::require`] alone.
#[derive(Debug, Clone)]
pub struct Officer {
    token: Arc<TokenRecord>,
    role: Role,
}

impl Officer {
    /// Whether they may still act: asked again before each step of what takes long.
    #[must_use]
    pub fn is_in_office(&self, reader: &DirectoryReader) -> bool {
        in_force(&self.token, reader).is_some_and(|token| token.roles().has(self.role))
    }

    /// The token's identifier.
    #[must_use]
    pub fn token_id(&self) -> KeyId {
        self.token.id()
    }

    /// The role in which they act.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What people call the token.
    #[must_use]
    pub fn label(&self) -> &Name {
        self.token.label()
    }

    /// The one channel they may write through; `None` when they are bound to none.
    #[must_use]
    pub fn channel(&self) -> Option<&ChannelName> {
        self.token.channel()
    }

    /// The registrant they act for; `None` when they are bound to none.
    #[must_use]
    pub fn registrant(&self) -> Option<&Name> {
        self.token.registrant()
    }

    /// Their gmina; `None` when they are bound to none.
    #[must_use]
    pub fn teryt(&self) -> Option<&Teryt> {
        self.token.teryt()
    }
}
