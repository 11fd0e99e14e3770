//! Typed ids: one type per resource, all UUIDs on the wire.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Bounds of all ids, for ranges over keys that begin with one.
            pub const MIN: Self = Self(Uuid::nil());
            pub const MAX: Self = Self(Uuid::max());

            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// A fresh random id (UUID version 4).
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    NetworkId
    SubnetId
    SubnetPoolId
    AddressScopeId
    PortId
    RouterId
    FloatingIpId
    PortForwardingId
    SecurityGroupId
    SecurityGroupRuleId
    AddressGroupId
    DefaultSecurityGroupRuleId
    RbacPolicyId
    MeteringLabelId
    MeteringLabelRuleId
    HostId
}

impl PortId {
    /// Name of the link the agent binds to this port: `tap` and the first eleven characters of the id, as
    /// Neutron and Nova name it.
    pub fn link_name(self) -> String {
        let text = self.0.to_string();
        format!("tap{}", &text[..11])
    }
}
