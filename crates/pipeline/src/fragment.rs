//! Fragments (RFC 791 §3.2, RFC 4787 REQ-14): the first one has the ports, the others are known by its
//! identification.
//!
//! `fragments` remembers what the first fragment said, for as long as a reassembly may take. It is the one
//! table that evicts: losing an entry costs a datagram, never a connection, and its size bounds what a flood
//! of fragments can hold. A fragment that overtakes the first is held by the agent, which gives it back to the walk
//! when the first has come. The ingress is part of the key, so nobody lends ports to another's fragments.

use crate::address::Address;
use crate::bounds::FRAGMENT_TIME_NS;
use crate::tables::table_type;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

table_type! {
    /// A datagram on its way through one ingress.
    pub struct FragmentKey {
        /// The network the packet was looked up on.
        pub vni: u32,
        /// [`crate::Ingress::id`].
        pub ingress: u32,
        pub src: Address,
        pub dst: Address,
        /// Identification of the datagram.
        pub identification: u16,
        pub protocol: u8,
        pub zero: u8,
    }
}

table_type! {
    /// What the first fragment said, or that it is waited for.
    pub struct Fragment {
        pub seen_ns: u64,
        pub src_port: u16,
        pub dst_port: u16,
        /// ICMP type, 0xff for other protocols.
        pub icmp_type: u8,
        /// [`Fragment::KNOWN`] or [`Fragment::AWAITED`].
        pub state: u8,
        /// Bytes of the datagram that the first fragment carries: what no other may overwrite.
        pub end: u16,
    }
}

impl Fragment {
    pub const KNOWN: u8 = 0;
    /// The agent holds fragments that overtook the first one, and wants to hear of it.
    pub const AWAITED: u8 = 1;

    /// The entry is of a datagram under way.
    #[inline(always)]
    pub const fn is_fresh(&self, now_ns: u64) -> bool {
        now_ns.wrapping_sub(self.seen_ns) < FRAGMENT_TIME_NS
    }
}
