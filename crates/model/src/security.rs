//! Security groups: which packets a port may send and receive, as a project says it.
//!
//! A port's groups add up: what any rule of any of them allows passes, everything else is dropped. How that
//! becomes tables is the compiler's.

use crate::resource::Standard;
use crate::{AddressGroupId, SecurityGroupId, SecurityGroupRuleId};
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

/// As seen from the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the VM.
    Ingress,
    /// From the VM.
    Egress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ethertype {
    #[serde(rename = "IPv4")]
    Ipv4,
    #[serde(rename = "IPv6")]
    Ipv6,
}

/// An IP protocol and how the client called it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    pub number: u8,
    /// A name such as `tcp`, or the number.
    pub text: String,
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
