//! Events: what the pipeline tells the agent through the ring buffer.

use crate::address::Address;
use crate::bounds::{EVENT_PACKET_BYTES, FRAME_BYTES};
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

/// What is said of a whole frame that the agent is handed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FrameHead {
    /// [`crate::verdict::Punt`] as a number.
    pub punt: u32,
    /// [`crate::Ingress::id`] of where it came from.
    pub ingress: u32,
    /// The network it was looked up on.
    pub vni: u32,
    /// Fragment: the MTU.
    pub detail: u32,
    /// [`crate::walk::Hook`] as a number.
    pub hook: u32,
    /// Tunnel: the VNI it came with. Uplink: the VLAN.
    pub origin: u32,
    /// The host it came from, if it came through the tunnel.
    pub vtep: Address,
    /// Bytes of the frame, which follow.
    pub frame_len: u32,
    pub zero: u32,
}

/// A frame that the programs could not finish with, as it was before any rewriting, without its VLAN tag. Only
/// the head and the frame's bytes are written to the ring.
#[repr(C)]
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FrameEvent {
    pub head: FrameHead,
    pub frame: [u8; FRAME_BYTES],
}
