//! Security groups: which packets a port may send and receive, as a project says it.
//!
//! A port's groups add up: what any rule of any of them allows passes, everything else is dropped. How that
//! becomes tables is the compiler's.

use crate::resource::Standard;
use crate::{AddressGroupId, DefaultSecurityGroupRuleId, SecurityGroupId, SecurityGroupRuleId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub id: SecurityGroupId,
    pub standard: Standard,
    /// Answers to what was allowed pass without a rule. Otherwise each packet asks the rules.
    pub stateful: bool,
    /// The group of its project that ports get which name none. There is one at most.
    pub is_default: bool,
}

/// What a group allows. Rules never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    pub id: SecurityGroupRuleId,
    /// Without a name.
    pub standard: Standard,
    pub group: SecurityGroupId,
    pub direction: Direction,
    pub ethertype: Ethertype,
    /// None: every protocol.
    pub protocol: Option<Protocol>,
    /// First destination port of TCP, UDP, SCTP, DCCP and UDP-Lite; the type of ICMP, 0 to 255. None: all.
    pub port_range_min: Option<u16>,
    /// Last destination port, included; the code of ICMP, 0 to 255. None: all.
    pub port_range_max: Option<u16>,
    pub remote: Remote,
}

/// What a new group begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultSecurityGroupRule {
    pub id: DefaultSecurityGroupRuleId,
    pub description: String,
    pub direction: Direction,
    pub ethertype: Ethertype,
    pub protocol: Option<Protocol>,
    pub port_range_min: Option<u16>,
    pub port_range_max: Option<u16>,
    /// None: the new group itself.
    pub remote: Option<Remote>,
    /// By projects' default groups.
    pub used_in_default_sg: bool,
    /// By all others.
    pub used_in_non_default_sg: bool,
    /// One of [`DefaultSecurityGroupRule::first`] that was deleted.
    #[serde(default)]
    pub removed: bool,
}

impl DefaultSecurityGroupRule {
    /// Those there are before anybody makes or deletes one: every group lets everything out, and default groups their
    /// own members in.
    pub fn first() -> [Self; 4] {
        let rule = |number, direction, ethertype| {
            let egress = direction == Direction::Egress;
            let way = if egress { "egress" } else { "ingress" };
            Self {
                id: DefaultSecurityGroupRuleId::from_uuid(uuid::Uuid::from_u128(FIRST_RULE + number)),
                description: format!("Legacy default SG rule for {way} traffic"),
                direction,
                ethertype,
                protocol: None,
                port_range_min: None,
                port_range_max: None,
                remote: egress.then_some(Remote::Any),
                used_in_default_sg: true,
                used_in_non_default_sg: egress,
                removed: false,
            }
        };
        [
            rule(0, Direction::Egress, Ethertype::Ipv4),
            rule(1, Direction::Egress, Ethertype::Ipv6),
            rule(2, Direction::Ingress, Ethertype::Ipv4),
            rule(3, Direction::Ingress, Ethertype::Ipv6),
        ]
    }
}

/// Id of the first of them, a UUID of version 4 like all others.
const FIRST_RULE: u128 = 0xb5d6_1ac8_0c4e_4f3a_9d27_6e83_51f0_c210;

/// As seen from the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the VM.
    Ingress,
    /// From the VM.
    Egress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ethertype {
    #[default]
    #[serde(rename = "IPv4")]
    Ipv4,
    #[serde(rename = "IPv6")]
    Ipv6,
}

impl std::fmt::Display for Ethertype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// An IP protocol and how the client called it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    pub number: u8,
    /// A name such as `tcp`, or the number.
    pub text: String,
}

/// The names that clients may use.
const PROTOCOLS: [(&str, u8); 25] = [
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("hopopt", 0),
    ("icmp", 1),
    ("icmpv6", 58),
    ("igmp", 2),
    ("ip", 0),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

impl Protocol {
    /// By name, in whatever case, or number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        let number = named.or_else(|| text.parse().ok())?;
        Some(Self { number, text })
    }

    /// All names, for messages.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROTOCOLS.iter().map(|(name, _)| *name)
    }

    /// DCCP, SCTP, TCP, UDP or UDP-Lite.
    pub const fn has_ports(&self) -> bool {
        matches!(self.number, 6 | 17 | 33 | 132 | 136)
    }

    /// ICMP, or that of IPv6.
    pub const fn is_icmp(&self) -> bool {
        matches!(self.number, 1 | 58)
    }

    /// One that only IPv6 has.
    pub const fn is_ipv6_only(&self) -> bool {
        matches!(self.number, 41 | 43 | 44 | 58 | 59 | 60)
    }
}

/// The other end of what a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of", rename_all = "snake_case")]
pub enum Remote {
    /// Anyone.
    Any,
    /// As the client wrote it, with bits behind the prefix.
    Prefix(IpNet),
    /// The addresses of the ports with that group.
    Group(SecurityGroupId),
    AddressGroup(AddressGroupId),
}

/// A named set of prefixes that rules may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressGroup {
    pub id: AddressGroupId,
    pub standard: Standard,
    pub addresses: BTreeSet<IpNet>,
}
