//! Who may use the API: domains, projects, users, roles and what users prove themselves with, as they are stored.
//!
//! Ids are Keystone's: 32 hexadecimal digits, and `default` for the domain that every installation has. Secrets are
//! here only as what is left of them ([`Secret`], [`TokenId`]): nothing stored lets anybody in.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// A text that is not the id it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 32 hexadecimal digits")]
pub struct BadId;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Bounds of all ids, for ranges over keys that begin with one.
            pub const MIN: Self = Self(Uuid::nil());
            pub const MAX: Self = Self(Uuid::max());

            /// A fresh random id (UUID version 4).
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    uuid if uuid.is_nil() => f.write_str(DEFAULT),
                    uuid => uuid.simple().fmt(f),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                if text == DEFAULT {
                    return Ok(Self(Uuid::nil()));
                }
                Uuid::parse_str(text).map(Self).map_err(|_| BadId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// How the nil id is written: that of the domain `default`; nothing else has it.
const DEFAULT: &str = "default";

ids! {
    DomainId
    ProjectId
    UserId
    RoleId
    ApplicationCredentialId
}

impl DomainId {
    /// The domain that every installation has.
    pub const DEFAULT: Self = Self::MIN;
}

/// SHA-256 of a token: who reads the store cannot use it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 32]);

impl TokenId {
    pub const MIN: Self = Self([0; 32]);
    pub const MAX: Self = Self([0xff; 32]);
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(BadId);
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * i..2 * i + 2).ok_or(BadId)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| BadId)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is kept of a password: Argon2id (RFC 9106) and all it takes to check one, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
    pub salt: String,
    pub hash: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub id: DomainId,
    pub name: String,
    pub description: String,
    pub enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub id: ProjectId,
    pub domain: DomainId,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub tags: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub domain: DomainId,
    pub name: String,
    pub description: String,
    pub email: Option<String>,
    pub enabled: bool,
    pub default_project: Option<ProjectId>,
    /// None: the user cannot log in with a password.
    pub password: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    pub description: String,
}

/// Where a role holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Project(ProjectId),
    Domain(DomainId),
    System,
}

/// A user has a role somewhere. It is its own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Assignment {
    pub user: UserId,
    pub target: Target,
    pub role: RoleId,
}

/// `USER/project:PROJECT/ROLE`.
impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, target, role } = self;
        match target {
            Target::Project(project) => write!(f, "{user}/project:{project}/{role}"),
            Target::Domain(domain) => write!(f, "{user}/domain:{domain}/{role}"),
            Target::System => write!(f, "{user}/system/{role}"),
        }
    }
}

impl FromStr for Assignment {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let mut parts = text.split('/');
        let (Some(user), Some(target), Some(role), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadId);
        };
        let target = match target.split_once(':') {
            Some(("project", id)) => Target::Project(id.parse()?),
            Some(("domain", id)) => Target::Domain(id.parse()?),
            None if target == "system" => Target::System,
            _ => return Err(BadId),
        };
        Ok(Self { user: user.parse()?, target, role: role.parse()? })
    }
}

/// A secret of a user for one project, with at most the roles it was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationCredential {
    pub id: ApplicationCredentialId,
    pub user: UserId,
    pub project: ProjectId,
    pub name: String,
    pub description: String,
    pub roles: Vec<RoleId>,
    pub secret: Secret,
    /// Seconds since 1970.
    pub expires_at: Option<i64>,
    /// May make further ones.
    pub unrestricted: bool,
}

/// A token that was given out. What its roles are is looked up whenever it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub user: UserId,
    /// None: unscoped.
    pub target: Option<Target>,
    /// Keystone's names of the ways the user proved itself.
    pub methods: Vec<String>,
    /// Its own first, then that of the token it came from.
    pub audit_ids: Vec<String>,
    /// Microseconds since 1970.
    pub issued_at_us: i64,
    /// Seconds since 1970.
    pub expires_at: i64,
    pub application_credential: Option<ApplicationCredentialId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_keystone_writes_them() {
        assert_eq!(DomainId::DEFAULT.to_string(), "default");
        let id: UserId = "4d0b9d8c2c7b4d6f8f2b1f0e5a6c7d8e".parse().unwrap();
        assert_eq!(id.to_string(), "4d0b9d8c2c7b4d6f8f2b1f0e5a6c7d8e");
        assert_eq!("admin".parse::<UserId>(), Err(BadId));
    }

    #[test]
    fn keys_survive_the_round_trip() {
        let (user, role) = (UserId::random(), RoleId::random());
        for target in
            [Target::System, Target::Domain(DomainId::DEFAULT), Target::Project(ProjectId::random())]
        {
            let assignment = Assignment { user, target, role };
            assert_eq!(assignment.to_string().parse(), Ok(assignment));
        }
        let token = TokenId(std::array::from_fn(|i| i as u8));
        assert_eq!(token.to_string().parse(), Ok(token));
        for bad in ["", "a/b", "default/system", "default/project:x/default", "default/system/default/x"] {
            assert!(bad.parse::<Assignment>().is_err(), "{bad}");
        }
    }
}
