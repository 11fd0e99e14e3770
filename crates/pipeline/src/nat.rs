//! NAT state: endpoint-independent mappings (RFC 4787 REQ-1) and the claim on their external port.
//!
//! `mappings` is read outbound: internal endpoint to external endpoint, whatever the destination.
//! `bindings` is the claim: external endpoint to internal endpoint, inserted only if absent, so two flows on
//! two CPUs never get one port. The agent removes both when the last session is gone and the mapping's time
//! is over: binding last, so a port is free only when nothing points to it.

use crate::address::Address;
use crate::atomic::AtomicU64;
use crate::bounds::BLOCK_WORDS_MAX;
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
    /// Key of `contacts`: an external endpoint and an address outside that it was used towards. Kept for
    /// routers that filter by address (RFC 4787 §5, address-dependent filtering); presence is permission.
    pub struct ContactKey {
        pub binding: BindingKey,
        pub remote: Address,
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

table_type! {
    /// `openings`, keyed by [`BindingKey`]: a mapping that its VM asked for by PCP (RFC 6887), which the agent made. Until
    /// the agent ends it, it needs no session to live, and anyone outside may send to it.
    pub struct Opening {
        /// What the VM named it by: who knows it may change it.
        pub nonce: [u8; 12],
        /// The VM's port.
        pub ifindex: u32,
        /// When it is over, nanoseconds of the monotonic clock.
        pub ends_ns: u64,
    }
}

/// Which of a router's SNAT addresses a VM has, by number (paired pooling, RFC 4787 REQ-2). `addresses`: how many there
/// are, not 0.
#[inline(always)]
pub const fn paired_address(internal: &Address, addresses: u32) -> u32 {
    let [_, _, _, last] = internal.words();
    let hash = u32::from_be(last).wrapping_mul(0x9e37_79b1) >> 16;
    match hash.checked_rem(addresses) {
        Some(number) => number,
        None => 0,
    }
}

table_type! {
    /// Key of `port_bits`: a port block of this host, by its first port, and a protocol.
    pub struct PortBitsKey {
        pub external_vni: u32,
        pub address: Address,
        pub first: u16,
        pub protocol: u8,
        pub zero: u8,
    }
}

/// The value of `port_bits`: which ports of a block were found taken, one bit each.
///
/// A hint, so that the last free ports of a full block are found: the claim is the entry of `bindings` alone. A
/// bit that is missing costs one attempt, which sets it; the agent takes back those of freed ports. Lost updates
/// of two CPUs are missing bits.
#[repr(transparent)]
#[derive(Debug, FromBytes, IntoBytes, KnownLayout)]
pub struct PortBits(pub [AtomicU64; BLOCK_WORDS_MAX as usize]);
