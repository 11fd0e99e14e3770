//! NAT state: endpoint-independent mappings (RFC 4787 REQ-1) and the claim on their external port.
//!
//! `mappings` is read outbound: internal endpoint to external endpoint, whatever the destination.
//! `bindings` is the claim: external endpoint to internal endpoint, inserted only if absent, so two flows on
//! two CPUs never get one port. The agent removes both when the last session is gone and the mapping's time
//! is over: binding last, so a port is free only when nothing points to it.

use crate::address::Address;
use crate::tables::table_type;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

table_type! {
    /// Key of `mappings`: an internal endpoint of a router.
    pub struct MappingKey {
        pub router_vni: u32,
        pub address: Address,
        /// Host order; ICMP: the echo identifier.
        pub port: u16,
        pub protocol: u8,
        pub zero: u8,
    }
}

table_type! {
    /// An external endpoint.
    pub struct Mapping {
        pub external_vni: u32,
        pub address: Address,
        pub port: u16,
        pub zero: u16,
        /// The network of the internal endpoint.
        pub inside_vni: u32,
        pub zero_end: u32,
        pub created_ns: u64,
    }
}

table_type! {
    /// Key of `bindings`: an external endpoint. The value is the [`MappingKey`].
    pub struct BindingKey {
        pub external_vni: u32,
        pub address: Address,
        pub port: u16,
        pub protocol: u8,
        pub zero: u8,
    }
}
