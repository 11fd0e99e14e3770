//! Subnet pools and address scopes: where subnets get their prefixes from.

use crate::ip::IpVersion;
use crate::resource::Standard;
use crate::{AddressScopeId, SubnetPoolId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Prefixes that subnets are cut from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetPool {
    pub id: SubnetPoolId,
    pub standard: Standard,
    pub ip_version: IpVersion,
    /// Disjoint, ascending, as few as there can be; all of the pool's version.
    pub prefixes: Vec<IpNet>,
    pub prefix_lens: PrefixLens,
    /// Most that one project may have of it: IPv4 addresses, or IPv6 prefixes of 64 bits.
    pub default_quota: Option<u64>,
    pub shared: bool,
    /// The one of its version that is taken when a subnet asks for the default.
    pub is_default: bool,
    pub address_scope: Option<AddressScopeId>,
}

/// Lengths of the prefixes that a pool gives; min <= default <= max.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixLens {
    pub min: u8,
    pub default: u8,
    pub max: u8,
}

/// Within a scope no two pools have an address in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressScope {
    pub id: AddressScopeId,
    pub standard: Standard,
    pub ip_version: IpVersion,
    pub shared: bool,
}
