//! The model: typed ids, addresses, resources and what a host is told of them.
//!
//! Pure: no IO, no time, no randomness. Constructors refuse what is not valid; after that nobody checks
//! again.

pub mod capture;
pub mod dhcp;
pub mod id;
pub mod identity;
pub mod ip;
pub mod mac;
pub mod metering;
pub mod moment;
pub mod question;
pub mod quota;
pub mod rbac;
pub mod rendezvous;
pub mod resource;
pub mod security;
pub mod slice;
pub mod subnet_pool;
pub mod timeouts;
pub mod trace;
pub mod vni;

pub use id::{
    AddressGroupId, AddressScopeId, DefaultSecurityGroupRuleId, FloatingIpId, HostId, MeteringLabelId,
    MeteringLabelRuleId, NetworkId, PortForwardingId, PortId, RbacPolicyId, RouterId, SecurityGroupId,
    SecurityGroupRuleId, SubnetId, SubnetPoolId,
};
pub use ip::IpVersion;
pub use mac::Mac;
pub use timeouts::NatTimeouts;
pub use vni::Vni;
