//! Security groups as a host is told them: the groups of its own ports, their rules, and who is behind the
//! groups that these rules name.

use crate::security::{Direction, Ethertype, Remote};
use crate::{AddressGroupId, PortId, SecurityGroupId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A security group of a port of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub name: String,
    /// Answers to what was allowed pass without a rule.
    pub stateful: bool,
}

/// A rule for one version of IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    pub group: SecurityGroupId,
    #[serde(default)]
    pub ethertype: Ethertype,
    pub direction: Direction,
    /// None: every protocol.
    pub protocol: Option<u8>,
    /// First destination port; of ICMP, the type. None: all.
    pub port_range_min: Option<u16>,
    /// Last destination port, included; of ICMP, the code. None: all.
    pub port_range_max: Option<u16>,
    pub remote: Remote,
}

/// A group that rules name as a remote end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum MemberOf {
    SecurityGroup(SecurityGroupId),
    AddressGroup(AddressGroupId),
}

/// Addresses that belong to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    pub of: MemberOf,
    pub addresses: IpNet,
}

/// How they came to belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// A port of the security group that has them; of several, the first. None: of an address group.
    pub port: Option<PortId>,
}

impl std::fmt::Display for MemberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.of {
            MemberOf::SecurityGroup(id) => write!(f, "security-group/{id}/{}", self.addresses),
            MemberOf::AddressGroup(id) => write!(f, "address-group/{id}/{}", self.addresses),
        }
    }
}

/// Text that is not `security-group/<id>/<prefix>` or `address-group/<id>/<prefix>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a member of the form security-group/<id>/<prefix> or address-group/<id>/<prefix>")]
pub struct NotAMemberId(String);

impl std::str::FromStr for MemberId {
    type Err = NotAMemberId;

    fn from_str(text: &str) -> Result<Self, NotAMemberId> {
        let parse = || {
            let (kind, rest) = text.split_once('/')?;
            let (id, addresses) = rest.split_once('/')?;
            let of = match kind {
                "security-group" => MemberOf::SecurityGroup(id.parse().ok()?),
                "address-group" => MemberOf::AddressGroup(id.parse().ok()?),
                _ => return None,
            };
            Some(Self { of, addresses: addresses.parse().ok()? })
        };
        parse().ok_or_else(|| NotAMemberId(text.to_owned()))
    }
}

impl Serialize for MemberId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{MemberId, MemberOf};
    use crate::{AddressGroupId, SecurityGroupId};

    #[test]
    fn a_member_is_the_same_after_it_was_written_and_read() {
        for of in [MemberOf::SecurityGroup(SecurityGroupId::MAX), MemberOf::AddressGroup(AddressGroupId::MIN)]
        {
            for addresses in ["10.1.0.0/16", "2001:db8::/32"] {
                let member = MemberId { of, addresses: addresses.parse().unwrap() };
                assert_eq!(member.to_string().parse(), Ok(member));
            }
        }
        for wrong in ["", "group/1/10.0.0.0/8", "address-group/x/10.0.0.0/8", "address-group/10.0.0.0"] {
            assert!(wrong.parse::<MemberId>().is_err(), "{wrong}");
        }
    }
}
