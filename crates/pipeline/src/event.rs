//! Events: what the pipeline tells the agent through the ring buffer.

use crate::address::Address;
use crate::bounds::EVENT_PACKET_BYTES;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One event. The packet's beginning is as it was when the pipeline decided (after decapsulation, before
/// any rewriting).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// [`crate::verdict::Punt`] as a number.
    pub punt: u32,
    /// Where the packet came from: [`crate::Ingress::id`] of it.
    pub ingress: u32,
    /// The network the decision was about: the port's, or the external network of a next hop.
    pub vni: u32,
    /// FragmentationNeeded: the MTU. PortBlockLow: the router's transit VNI.
    pub detail: u32,
    /// ResolveNeighbor: the next hop.
    pub address: Address,
    /// The host the packet came from, if it came through the tunnel.
    pub vtep: Address,
    /// Length of the whole frame.
    pub frame_len: u32,
    /// How many bytes of `packet` are valid.
    pub packet_len: u32,
    pub packet: [u8; EVENT_PACKET_BYTES],
}
