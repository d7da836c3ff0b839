//! The record of an admin token and its roles.

use serde::{Deserialize, Serialize};

use super::names::{ChannelName, Name, Teryt};
use crate::clock::Moment;
use crate::environment::Environment;
use crate::secret::{CredentialHash, KeyId};

/// What the holder of a token may do on the admin plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Access and outages: everything about keys.
    Operator,
    /// Changes of the register as a gmina.
    Official,
    /// Changes of the register as one named channel.
    Source,
    /// Reads.
    Auditor,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Operator, Self::Official, Self::Source, Self::Auditor];

    /// The word in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Official => "official",
            Self::Source => "source",
            Self::Auditor => "auditor",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of roles; never empty: one role, or every role (the demo's token).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    pub(super) const fn one(role: Role) -> Self {
        Self(role.bit())
    }

    pub(super) const fn every() -> Self {
        Self(0b1111)
    }

    /// Whether the role is among them.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// The roles in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    pub(super) const fn is_every(self) -> bool {
        self.0 == Self::every().0
    }
}

/// What is asked for when a token is issued. There is a constructor for each
/// kind of token: one role with what that role is bound to, or, in the test
/// environment only, every role.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub(super) roles: Roles,
    pub(super) label: Name,
    pub(super) channel: Option<ChannelName>,
    pub(super) registrant: Option<Name>,
    pub(super) teryt: Option<Teryt>,
}

impl NewToken {
    /// A token for access and outages.
    #[must_use]
    pub const fn operator(label: Name) -> Self {
        Self { roles: Roles::one(Role::Operator), label, channel: None, registrant: None, teryt: None }
    }

    /// A token that reads.
    #[must_use]
    pub const fn auditor(label: Name) -> Self {
        Self { roles: Roles::one(Role::Auditor), label, channel: None, registrant: None, teryt: None }
    }

    /// A token for the officials of one gmina, named by its TERYT code.
    #[must_use]
    pub const fn official(label: Name, registrant: Name, teryt: Teryt) -> Self {
        let roles = Roles::one(Role::Official);
        Self { roles, label, channel: None, registrant: Some(registrant), teryt: Some(teryt) }
    }

    /// A token for one registrant that feeds the register through one channel.
    #[must_use]
    pub const fn source(label: Name, channel: ChannelName, registrant: Name) -> Self {
        let roles = Roles::one(Role::Source);
        Self { roles, label, channel: Some(channel), registrant: Some(registrant), teryt: None }
    }

    /// A token with every role, bound to no channel and no gmina; the writer
    /// issues it in the test environment only.
    #[must_use]
    pub const fn every_role(label: Name) -> Self {
        Self { roles: Roles::every(), label, channel: None, registrant: None, teryt: None }
    }
}

/// An admin token as the directory holds it; never changes.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    pub(super) id: KeyId,
    pub(super) hash: CredentialHash,
    pub(super) environment: Environment,
    pub(super) roles: Roles,
    pub(super) label: Name,
    pub(super) channel: Option<ChannelName>,
    pub(super) registrant: Option<Name>,
    pub(super) teryt: Option<Teryt>,
    pub(super) created_at: Moment,
    pub(super) deactivated_at: Option<Moment>,
}

impl TokenRecord {
    /// Its public identifier.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The environment it opens.
    #[must_use]
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// What it allows.
    #[must_use]
    pub const fn roles(&self) -> Roles {
        self.roles
    }

    /// What people call it.
    #[must_use]
    pub const fn label(&self) -> &Name {
        &self.label
    }

    /// The one channel it may write through; `None` for a token that is no
    /// source, or for one with every role.
    #[must_use]
    pub const fn channel(&self) -> Option<&ChannelName> {
        self.channel.as_ref()
    }

    /// In whose name it changes the register (podmiot rejestrujący).
    #[must_use]
    pub const fn registrant(&self) -> Option<&Name> {
        self.registrant.as_ref()
    }

    /// The gmina of an official's token.
    #[must_use]
    pub const fn teryt(&self) -> Option<&Teryt> {
        self.teryt.as_ref()
    }

    /// When it was issued.
    #[must_use]
    pub const fn created_at(&self) -> Moment {
        self.created_at
    }

    /// When it was deactivated, if it was.
    #[must_use]
    pub const fn deactivated_at(&self) -> Option<Moment> {
        self.deactivated_at
    }

    /// Whether it opens anything.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.deactivated_at.is_none()
    }

    pub(crate) const fn hash(&self) -> &CredentialHash {
        &self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_role_or_every_role() {
        let name = |text| Name::parse(text).expect("name");
        let official =
            NewToken::official(name("t"), name("Gmina Łódź"), Teryt::parse("1061011").expect("teryt"));
        let source = NewToken::source(name("t"), ChannelName::parse("bank").expect("channel"), name("Bank"));
        for (token, role) in [
            (NewToken::operator(name("t")), Role::Operator),
            (NewToken::auditor(name("t")), Role::Auditor),
            (official, Role::Official),
            (source, Role::Source),
        ] {
            assert_eq!(token.roles.iter().collect::<Vec<_>>(), [role]);
            assert!(!token.roles.is_every());
        }
        assert_eq!(NewToken::every_role(name("t")).roles.iter().collect::<Vec<_>>(), Role::ALL);
    }
}
