//! What the pipeline asks of its surroundings: a packet and the tables. Implemented by the eBPF object over
//! `__sk_buff` and maps, and by [`crate::host`] over byte vectors and hash maps.

use crate::address::Address;
use crate::bounds::FRAME_BYTES;
use crate::event::{Event, FrameEvent};
use crate::fragment::{Fragment, FragmentKey};
use crate::nat::{BindingKey, ContactKey, Mapping, MappingKey, PortBits, PortBitsKey};
use crate::session::{Session, SessionKey};
use crate::tables::*;
use crate::verdict::{Stage, Verdict};
use crate::walk::{Hook, Work};
use core::ops::Deref;

/// An access beyond the packet's end, or a change the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketError;

/// A frame, offsets from its Ethernet header. The semantics are those of the BPF helpers named.
#[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
pub trait Packet {
    /// Bytes of the frame (a super-packet counts as the one it is).
    fn len(&self) -> u32;
    /// Payload bytes per wire packet of a super-packet, 0 for a lone one (`gso_size`).
    fn gso_size(&self) -> u32;
    /// Wire packets in it, at least 1 (`gso_segs`).
    fn gso_segments(&self) -> u32;
    /// VLAN id of the tag the kernel took off, if there was one; also priority-tagged frames give `Some(0)`.
    fn vlan(&self) -> Option<u16>;
    /// `bpf_skb_load_bytes`.
    fn load<const N: usize>(&self, offset: u32) -> Result<[u8; N], PacketError>;
    /// As many bytes from the start as fit in `buffer`; returns how many.
    fn load_start(&self, buffer: &mut [u8; crate::bounds::EVENT_PACKET_BYTES]) -> u32;
    /// `bpf_skb_load_bytes` of `len` bytes, 1 to [`FRAME_BYTES`].
    fn load_some(&self, offset: u32, len: u32, buffer: &mut [u8; FRAME_BYTES]) -> Result<(), PacketError>;
    /// Ones' complement sum of `len` bytes, 1 to [`crate::bounds::ICMP_ERROR_BYTES_MAX`], folded to 16 bits
    /// (`bpf_csum_diff`; in which byte order is the runtime's choice, 0xffff is all that can be relied on).
    /// `buffer` holds anything afterwards.
    fn sum(&self, offset: u32, len: u32, buffer: &mut [u8; FRAME_BYTES]) -> Result<u16, PacketError>;
    /// `bpf_skb_store_bytes` without flags.
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), PacketError>;
    /// `bpf_l3_csum_replace`: the IPv4 header checksum at `offset`, a field of `size` 2 or 4 bytes changed;
    /// `from` and `to` are the wire bytes read in memory order.
    fn replace_l3_checksum(&mut self, offset: u32, from: u32, to: u32, size: u32) -> Result<(), PacketError>;
    /// `bpf_l4_csum_replace`: likewise for a transport checksum. `flags`: [`CHECKSUM_PSEUDO`],
    /// [`CHECKSUM_MANGLED_ZERO`].
    fn replace_l4_checksum(
        &mut self,
        offset: u32,
        from: u32,
        to: u32,
        size: u32,
        flags: u32,
    ) -> Result<(), PacketError>;
    /// Makes room of [`crate::tunnel::OUTER_LEN`] bytes for the outer headers in front of the IP packet
    /// (`bpf_skb_adjust_room`); the caller then writes everything up to and including the inner Ethernet
    /// header. Refused for anything but IPv4 and IPv6.
    fn push_outer(&mut self) -> Result<(), PacketError>;
    /// The reverse: what follows the first Ethernet header shrinks by [`crate::tunnel::OUTER_LEN`] bytes.
    fn pop_outer(&mut self) -> Result<(), PacketError>;
    /// `bpf_skb_vlan_push` of an 802.1Q tag with priority 0.
    fn push_vlan(&mut self, vlan: u16) -> Result<(), PacketError>;
    /// `bpf_skb_vlan_pop`.
    fn pop_vlan(&mut self) -> Result<(), PacketError>;
}

/// The changed field is part of the pseudo header (`BPF_F_PSEUDO_HDR`).
pub const CHECKSUM_PSEUDO: u32 = 1;
/// A UDP checksum: zero means "none" and stays so (`BPF_F_MARK_MANGLED_0`).
pub const CHECKSUM_MANGLED_ZERO: u32 = 2;

/// The entry was there already, or the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    Exists,
    Full,
}

const SECOND_NS: u64 = 1_000_000_000;

/// What one VM may have of its router's mappings; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub ports_max: u32,
    pub mappings_per_second: u32,
}

impl Share {
    /// What one mapping costs of the bucket's second, nanoseconds.
    #[inline(always)]
    pub const fn mapping_ns(&self) -> u64 {
        match self.mappings_per_second {
            0 => 0,
            rate => SECOND_NS / rate as u64,
        }
    }

    /// When the bucket of a VM that has used `usage` is full again with one mapping more; or why there is none more.
    #[inline(always)]
    pub fn admit(&self, usage: &Usage, now_ns: u64) -> Result<u64, Reserved> {
        if self.ports_max != 0 && usage.ports >= self.ports_max {
            return Err(Reserved::Full);
        }
        let paid_ns = usage.full_at_ns.max(now_ns).wrapping_add(self.mapping_ns());
        if paid_ns.wrapping_sub(now_ns) > SECOND_NS { Err(Reserved::TooFast) } else { Ok(paid_ns) }
    }
}

/// How asking for one more mapping ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    Granted,
    /// The VM has as many as it may have.
    Full,
    /// It makes them faster than it may.
    TooFast,
}

/// The tables of a host, its clock and its source of randomness.
pub trait Tables {
    /// A session as the table holds it, for updates in place.
    type SessionRef<'a>: Deref<Target = Session>
    where
        Self: 'a;

    /// Bits of a port block, likewise.
    type PortBitsRef<'a>: Deref<Target = PortBits>
    where
        Self: 'a;

    fn config(&self) -> Config;
    fn port(&self, key: &PortKey) -> Option<Port>;
    fn port_address(&self, key: &PortAddressKey) -> bool;
    /// Whether a prefix covers it.
    fn port_prefix(&self, key: &PortAddressKey) -> bool;
    /// Longest-prefix match; false: none, and `classes` is as it was.
    fn acl_remote(&self, key: &AclRemoteKey, classes: &mut AclClasses) -> bool;
    /// Longest-prefix match: bits of [`allow`].
    fn acl_rule(&self, key: &AclRuleKey) -> u32;
    fn network(&self, key: &NetworkKey) -> Option<Network>;
    fn station(&self, key: &StationKey) -> Option<Station>;
    fn neighbor(&self, key: &NeighborKey) -> Option<Neighbor>;
    /// Longest-prefix match over all 160 bits.
    fn route(&self, key: &RouteKey) -> Option<Route>;
    fn external(&self, key: &NetworkKey) -> Option<External>;
    fn uplink(&self, key: &UplinkKey) -> Option<NetworkKey>;
    fn gateway(&self, key: &GatewayKey) -> Option<GatewayValue>;
    fn external_address(&self, key: &ExternalAddressKey) -> Option<ExternalAddress>;
    fn forwarding(&self, key: &BindingKey) -> Option<Forwarding>;
    fn floating_by_fixed(&self, key: &FixedKey) -> Option<Floating>;
    fn snat(&self, key: &RouterKey) -> Option<Snat>;
    fn own_block(&self, key: &BlockKey) -> Option<PortBlock>;
    fn block_owner(&self, key: &BlockOwnerKey) -> Option<BlockOwner>;
    fn vtep(&self, key: &VtepKey) -> Option<Vtep>;
    fn service(&self, key: &ServiceKey) -> Option<Service>;

    fn session(&self, key: &SessionKey) -> Option<Self::SessionRef<'_>>;
    /// Inserts only if absent.
    fn insert_session(&self, key: &SessionKey, session: &Session) -> Result<(), InsertError>;
    fn remove_session(&self, key: &SessionKey);
    fn reply(&self, key: &SessionKey) -> Option<SessionKey>;
    /// Inserts only if absent.
    fn insert_reply(&self, key: &SessionKey, forward: &SessionKey) -> Result<(), InsertError>;
    fn remove_reply(&self, key: &SessionKey);

    fn mapping(&self, key: &MappingKey) -> Option<Mapping>;
    /// Inserts only if absent.
    fn insert_mapping(&self, key: &MappingKey, mapping: &Mapping) -> Result<(), InsertError>;
    fn binding(&self, key: &BindingKey) -> Option<MappingKey>;
    /// Inserts only if absent: the claim on an external port.
    fn insert_binding(&self, key: &BindingKey, mapping: &MappingKey) -> Result<(), InsertError>;
    fn remove_binding(&self, key: &BindingKey);

    /// Whether the endpoint was used towards the address.
    fn contact(&self, key: &ContactKey) -> bool;
    /// Notes that it is; a full table forgets it.
    fn insert_contact(&self, key: &ContactKey);
    /// Whether its VM opened the mapping of an external endpoint to anyone.
    fn opening(&self, key: &BindingKey) -> bool;

    /// Counts one more mapping of a fixed address in `port_usage`, within its share.
    fn reserve_port(&self, owner: &FixedKey, share: &Share) -> Reserved;
    fn release_port(&self, owner: &FixedKey);
    /// What is known of a block's ports.
    fn port_bits(&self, key: &PortBitsKey) -> Option<Self::PortBitsRef<'_>>;
    /// Inserts, only if absent, that nothing is known.
    fn insert_port_bits(&self, key: &PortBitsKey, none: &PortBits);
    /// Counts one more session of a port in `port_sessions`, unless it has `max` already. Interfaces that are no
    /// ports have no share and are not counted.
    fn reserve_session(&self, ifindex: u32, max: u32) -> bool;
    fn release_session(&self, ifindex: u32);

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;
    /// Inserts at the cost of the entry that was not used for longest; over an entry that is there only if told
    /// to `replace` it.
    fn insert_fragment(&self, key: &FragmentKey, fragment: &Fragment, replace: bool);

    /// Adds to a slot of [`crate::verdict::counter`].
    fn count(&self, slot: u32, packets: u64);
    /// Adds a packet to the counters of a port: `sent` by the VM or delivered to it.
    fn count_port(&self, ifindex: u32, sent: bool, packets: u32, bytes: u32);
    /// Takes one token of the ingress's slow-path bucket.
    fn punt_allowed(&self, ingress: u32) -> bool;
    /// Hands an event to the agent; false if the ring is full.
    fn emit(&self, event: &Event) -> bool;
    /// Takes one token of the ingress's bucket of whole frames.
    fn frame_allowed(&self, ingress: u32) -> bool;
    /// Hands a whole frame to the agent; false if the ring is full.
    fn emit_frame(&self, event: &FrameEvent) -> bool;
    /// Monotonic clock, nanoseconds; may be some milliseconds old.
    fn now_ns(&self) -> u64;
    /// Unpredictable bits.
    fn random(&self) -> u32;

    /// Calls `step` until it returns true, at most `times_max` times (`bpf_loop`, whose steps the verifier walks
    /// once for all, and not one after the other).
    #[inline(always)]
    fn repeat(&self, times_max: u32, mut step: impl FnMut() -> bool) {
        for _ in 0..times_max {
            if step() {
                return;
            }
        }
    }

    /// The walk comes to a stage: for who looks on; nothing in the build that packets meet otherwise.
    #[inline(always)]
    fn enter(&self, _stage: Stage) {}

    /// A packet comes in, likewise.
    #[inline(always)]
    fn arrive<P: Packet>(&self, _packet: &P, _hook: Hook, _ingress: u32) {}

    /// Its walk has ended, likewise.
    #[inline(always)]
    fn leave<P: Packet>(&self, _packet: &P, _work: &Work, _verdict: Verdict) {}
}

/// Where a packet came from: the identity it has, whatever it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// A VM's port.
    Port { ifindex: u32 },
    /// Decapsulated from a host's tunnel.
    Tunnel { vni: u32, vtep: Address },
    /// An uplink.
    Uplink { ifindex: u32 },
}

impl Ingress {
    /// [`Ingress::id`] of everything from the tunnel; interface indexes have the top bit clear.
    pub const TUNNEL_ID: u32 = 0x8000_0000;

    /// A number that sessions compare: the interface, or the tunnel.
    #[inline(always)]
    pub const fn id(self) -> u32 {
        match self {
            Self::Port { ifindex } | Self::Uplink { ifindex } => ifindex,
            Self::Tunnel { .. } => Self::TUNNEL_ID,
        }
    }
}
