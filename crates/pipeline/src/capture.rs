//! Looking on: what the programs tell of packets while somebody captures.
//!
//! Only a build whose [`crate::Tables`] look on has any of it; in the other, `arrive`, `enter` and `leave` are
//! empty. Nothing here changes a packet, a table of the walk or a verdict. A packet is told of if what stands in a
//! [`Slot`] fits it as it came or as it leaves; finer questions are answered where the records are read. Frames
//! are those inside the tunnel, and without their VLAN tags.

use crate::address::Address;
use crate::atomic::AtomicU64;
use crate::bounds::{CAPTURE_BURST, CAPTURE_SLOTS, FRAME_BYTES};
use crate::runtime::{Packet, PacketError, Tables};
use crate::session::Path;
use crate::tables::PortKey;
use crate::tunnel::OUTER_LEN;
use crate::verdict::{Stage, Verdict};
use crate::walk::{Hook, Work};
use core::sync::atomic::Ordering::Relaxed;
use packet::{arp, ethernet, ipv4, ipv6, view};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const ETHERNET_LEN: u32 = ethernet::LEN as u32;

/// The headers of a frame that packets are found by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tuple {
    /// IPv4, or what ARP says of its sender and target; in wire order.
    pub src: [u8; 4],
    pub dst: [u8; 4],
    /// TCP, UDP; 0: none, or in an earlier fragment.
    pub src_port: u16,
    pub dst_port: u16,
    /// 0: there is no such frame.
    pub ethertype: u16,
    pub ident: u16,
    /// The transport header's beginning, as it lies in the packet.
    pub transport: [u8; 8],
    pub protocol: u8,
    pub ttl: u8,
    pub zero: [u8; 2],
}

/// What both records of a walk say.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Head {
    /// Number of the walk: the CPU's number, then the walks it told of.
    pub walk: u64,
    /// Monotonic clock, nanoseconds.
    pub arrived_ns: u64,
    pub left_ns: u64,
    /// [`Head::ARRIVED`] or [`Head::LEFT`]: whose frame follows.
    pub point: u32,
    /// [`Hook`] as a number.
    pub hook: u32,
    /// [`crate::Ingress::id`].
    pub ingress: u32,
    /// [`verdict_words`].
    pub verdict: u32,
    pub detail: u32,
    /// One bit per [`Stage`] that was walked.
    pub stages: u32,
    /// One bit per slot that wants it.
    pub slots: u32,
    /// The network it came from and the one it goes to; 0: none.
    pub arrived_vni: u32,
    pub left_vni: u32,
    /// The router's transit network, where the walk learnt it.
    pub router_vni: u32,
    /// 1: routed.
    pub routed: u32,
    /// VLAN ids as they came and as they leave; 0: none.
    pub arrived_vlan: u16,
    pub left_vlan: u16,
    /// The hosts at the tunnel's other end.
    pub peer: Address,
    pub vtep: Address,
    pub before: Tuple,
    /// Of a packet that leaves.
    pub after: Tuple,
    /// Bytes of the frame, and how many of them follow.
    pub frame_len: u32,
    pub captured_len: u32,
}

impl Head {
    /// As it came.
    pub const ARRIVED: u32 = 0;
    /// As it leaves.
    pub const LEFT: u32 = 1;
}

/// One end of a walk. Only the head and the frame's bytes are written to the ring.
#[repr(C)]
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Record {
    pub head: Head,
    pub frame: [u8; FRAME_BYTES],
}

/// One end of what a slot wants: `address` and `port` matter where the masks have bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct End {
    /// Wire bytes read in memory order, as the mask.
    pub address: u32,
    pub address_mask: u32,
    pub port: u16,
    pub port_mask: u16,
}

/// What one capture wants, as far as the programs look. Either end may be the sender.
#[repr(C)]
#[derive(Debug, Default, FromBytes, IntoBytes, KnownLayout)]
pub struct Slot {
    /// Monotonic clock, nanoseconds: nothing is told after it, so that a capture ends with its agent. 0: free.
    pub until_ns: u64,
    /// Mean time between two walks that are told of, after a burst of [`CAPTURE_BURST`]; 0: all are.
    pub interval_ns: u64,
    /// The next may be told of from then on. Two CPUs may both take the same turn: one record more.
    pub next_ns: AtomicU64,
    pub ends: [End; 2],
    pub ethertype: u16,
    pub ethertype_mask: u16,
    pub protocol: u8,
    pub protocol_mask: u8,
    pub zero: [u8; 2],
    /// At either end of the walk; 0: any.
    pub ifindex: u32,
    /// 1: both ends of a walk are told of if one fits.
    pub whole: u32,
    /// Networks and routers, at either end; all 0: any.
    pub vnis: [u32; 4],
}

pub type Slots = [Slot; CAPTURE_SLOTS];

/// Working memory of one CPU, beside the two records.
#[repr(C)]
#[derive(Debug, FromBytes, KnownLayout)]
pub struct Memory {
    /// Number of the present walk.
    pub walk: u64,
    pub now_ns: u64,
    /// Slots that the packet fits as it came; as it leaves.
    pub arrived_fits: u32,
    pub left_fits: u32,
    pub stages: u32,
    pub zero: u32,
    pub head: Head,
}

/// A verdict as two numbers: kind, and interface, punt, or stage and reason.
#[inline(always)]
pub const fn verdict_words(verdict: Verdict) -> (u32, u32) {
    match verdict {
        Verdict::Pass => (0, 0),
        Verdict::Port { ifindex } => (1, ifindex),
        Verdict::Uplink { ifindex } => (2, ifindex),
        Verdict::Tunnel { ifindex } => (3, ifindex),
        Verdict::Punt(punt) => (4, punt as u32),
        Verdict::Drop(stage, reason) => (5, (stage as u32) << 8 | reason as u32),
    }
}

/// The walk comes to a stage.
#[inline(always)]
pub fn enter(memory: &mut Memory, stage: Stage) {
    memory.stages |= 1 << stage as u32;
}

/// A packet comes in; `memory.now_ns` is now. `record` gets its frame if somebody wants it.
#[inline(always)]
pub fn arrive<P: Packet>(
    packet: &P,
    memory: &mut Memory,
    record: &mut Record,
    slots: &Slots,
    (hook, ingress): (Hook, u32),
) {
    memory.walk = memory.walk.wrapping_add(1);
    memory.stages = 1 << Stage::Classify as u32;
    memory.head = Head {
        walk: memory.walk,
        arrived_ns: memory.now_ns,
        hook: hook as u32,
        ingress,
        arrived_vlan: packet.vlan().unwrap_or(0),
        ..Head::default()
    };
    read(packet, 0, &mut memory.head.before);
    memory.arrived_fits = fitting(&memory.head.before, slots, memory.now_ns);
    if memory.arrived_fits != 0 {
        copy_frame(packet, 0, record);
    }
}

/// The walk has ended. Returns whether `arrived`, the record of the packet as it came, is wanted, and whether `left`
/// is, which gets it as it leaves.
#[inline(always)]
pub fn leave<P: Packet, T: Tables>(
    packet: &P,
    (tables, work, verdict): (&T, &Work, Verdict),
    memory: &mut Memory,
    [arrived, left]: [&mut Record; 2],
    slots: &Slots,
) -> (bool, bool) {
    let leaves = matches!(verdict, Verdict::Port { .. } | Verdict::Uplink { .. } | Verdict::Tunnel { .. });
    let offset = if matches!(verdict, Verdict::Tunnel { .. }) { OUTER_LEN } else { 0 };
    memory.left_fits = 0;
    if leaves {
        read(packet, offset, &mut memory.head.after);
        memory.left_fits = fitting(&memory.head.after, slots, memory.now_ns);
    }
    if memory.arrived_fits | memory.left_fits == 0 {
        return (false, false);
    }
    // What did not fit as it came was not kept.
    let kept = memory.arrived_fits != 0;
    tell(packet, tables, memory, work, verdict);
    let whole = places(memory, slots);
    let arrived_wanted = kept && memory.arrived_fits | whole != 0;
    let left_wanted = leaves && memory.left_fits | whole != 0;
    if arrived_wanted {
        memory.head.slots = memory.arrived_fits | whole;
        fill(memory, arrived);
    }
    if left_wanted {
        memory.head.slots = memory.left_fits | whole;
        memory.head.point = Head::LEFT;
        copy_frame(packet, offset, left);
        fill(memory, left);
    }
    (arrived_wanted, left_wanted)
}

/// Writes the head of a record whose frame is there.
#[inline(never)]
fn fill(memory: &Memory, record: &mut Record) {
    let Head { frame_len, captured_len, .. } = record.head;
    record.head = Head { frame_len, captured_len, ..memory.head };
}

/// Fills in what the walk found out.
#[inline(never)]
fn tell<P: Packet, T: Tables>(packet: &P, tables: &T, memory: &mut Memory, work: &Work, verdict: Verdict) {
    const PORT: u32 = Hook::Port as u32;
    const UPLINK: u32 = Hook::Uplink as u32;
    let network_of =
        |ifindex| tables.port(&PortKey { ifindex }).map_or(0, |port: crate::tables::Port| port.network_vni);
    let head = &mut memory.head;
    head.left_ns = memory.now_ns;
    head.stages = memory.stages;
    (head.verdict, head.detail) = verdict_words(verdict);
    head.hook = work.hook;
    head.peer = work.peer;
    head.router_vni = work.router_vni;
    head.routed = u32::from(work.path.flags & Path::FLAG_ROUTED != 0);
    head.arrived_vni = match work.hook {
        PORT => network_of(work.ingress),
        UPLINK => work.external_vni,
        _ => work.origin,
    };
    match verdict {
        Verdict::Port { ifindex } => head.left_vni = network_of(ifindex),
        Verdict::Uplink { .. } => {
            head.left_vni = work.external_vni;
            head.left_vlan = packet.vlan().unwrap_or(0);
        }
        Verdict::Tunnel { .. } => {
            head.left_vni = work.path.vni;
            head.vtep = work.path.vtep;
        }
        Verdict::Pass | Verdict::Punt(_) | Verdict::Drop(..) => {}
    }
}

/// Takes out of `arrived_fits` and `left_fits` the slots whose places the walk did not touch or whose turn it is
/// not. Returns those of the rest that want both ends.
#[inline(never)]
fn places(memory: &mut Memory, slots: &Slots) -> u32 {
    let (mut keep, mut whole) = (0, 0);
    let head = &memory.head;
    for (number, slot) in slots.iter().enumerate() {
        let out = if head.verdict == 1 || head.verdict == 2 { head.detail } else { 0 };
        let link = slot.ifindex == 0 || slot.ifindex == head.ingress || slot.ifindex == out;
        let bit = 1 << (number & 31);
        if link && on_networks(slot, head) && (memory.arrived_fits | memory.left_fits) & bit != 0 {
            let unused = memory.now_ns.saturating_sub(slot.interval_ns.saturating_mul(CAPTURE_BURST));
            let next = slot.next_ns.load(Relaxed).max(unused);
            if next <= memory.now_ns {
                slot.next_ns.store(next.saturating_add(slot.interval_ns), Relaxed);
                keep |= bit;
                whole |= if slot.whole != 0 { bit } else { 0 };
            }
        }
    }
    memory.arrived_fits &= keep;
    memory.left_fits &= keep;
    whole
}

#[inline(never)]
fn on_networks(slot: &Slot, head: &Head) -> bool {
    let [a, b, c, d] = slot.vnis;
    let is = |vni: u32| vni != 0 && (vni == a || vni == b || vni == c || vni == d);
    a == 0 || is(head.arrived_vni) || is(head.left_vni) || is(head.router_vni)
}

/// One bit per slot that the headers fit.
#[inline(never)]
fn fitting(tuple: &Tuple, slots: &Slots, now_ns: u64) -> u32 {
    let mut fits = 0;
    for (number, slot) in slots.iter().enumerate() {
        if slot.until_ns > now_ns && slot.fits(tuple) {
            fits |= 1 << (number & 31);
        }
    }
    fits
}

impl Slot {
    #[inline(never)]
    fn fits(&self, tuple: &Tuple) -> bool {
        let differs = |end: &End, address: [u8; 4], port: u16| {
            (u32::from_ne_bytes(address) ^ end.address) & end.address_mask
                | u32::from((port ^ end.port) & end.port_mask)
        };
        let [a, b] = &self.ends;
        let there = differs(a, tuple.src, tuple.src_port) | differs(b, tuple.dst, tuple.dst_port);
        let back = differs(b, tuple.src, tuple.src_port) | differs(a, tuple.dst, tuple.dst_port);
        let kind = (tuple.ethertype ^ self.ethertype) & self.ethertype_mask
            | u16::from((tuple.protocol ^ self.protocol) & self.protocol_mask);
        kind == 0 && (there == 0 || back == 0)
    }
}

#[inline(always)]
fn copy_frame<P: Packet>(packet: &P, offset: u32, record: &mut Record) {
    let len = packet.len().saturating_sub(offset);
    record.head.frame_len = len;
    let kept = len.clamp(1, FRAME_BYTES as u32);
    record.head.captured_len = match packet.load_some(offset, kept, &mut record.frame) {
        Ok(()) => kept,
        Err(PacketError) => 1,
    };
}

/// Fills `tuple` from the frame at `offset`, as far as there is one.
#[inline(never)]
fn read<P: Packet>(packet: &P, offset: u32, tuple: &mut Tuple) {
    *tuple = Tuple::default();
    let _ = read_ethernet(packet, offset, tuple);
}

#[inline(always)]
fn read_ethernet<P: Packet>(packet: &P, offset: u32, tuple: &mut Tuple) -> Result<(), PacketError> {
    let frame: ethernet::Header = view(packet.load::<{ ethernet::LEN }>(offset)?);
    tuple.ethertype = frame.ethertype.get();
    let offset = offset.wrapping_add(ETHERNET_LEN);
    match tuple.ethertype {
        ethernet::TYPE_IPV4 => read_ipv4(packet, offset, tuple),
        ethernet::TYPE_IPV6 => read_ipv6(packet, offset, tuple),
        ethernet::TYPE_ARP => {
            let message: arp::Header = view(packet.load::<{ arp::LEN }>(offset)?);
            tuple.src = message.sender_ip;
            tuple.dst = message.target_ip;
            Ok(())
        }
        _ => Ok(()),
    }
}

#[inline(always)]
fn read_ipv4<P: Packet>(packet: &P, offset: u32, tuple: &mut Tuple) -> Result<(), PacketError> {
    let header: ipv4::Header = view(packet.load::<{ ipv4::LEN }>(offset)?);
    tuple.src = header.src;
    tuple.dst = header.dst;
    tuple.protocol = header.protocol;
    tuple.ttl = header.ttl;
    tuple.ident = header.identification.get();
    if header.flags_fragment.get() & 0x1fff != 0 {
        return Ok(());
    }
    let transport = offset.wrapping_add(u32::from(header.version_ihl & 0xf) << 2);
    read_transport(packet, transport, tuple)
}

/// Without its addresses, which are too long for a slot: whoever asks for some is told of all and chooses himself.
#[inline(always)]
fn read_ipv6<P: Packet>(packet: &P, offset: u32, tuple: &mut Tuple) -> Result<(), PacketError> {
    const NEXT_HEADER: u32 = 6;
    let [protocol, ttl] = packet.load::<2>(offset.wrapping_add(NEXT_HEADER))?;
    (tuple.protocol, tuple.ttl) = (protocol, ttl);
    read_transport(packet, offset.wrapping_add(ipv6::LEN as u32), tuple)
}

#[inline(always)]
fn read_transport<P: Packet>(packet: &P, offset: u32, tuple: &mut Tuple) -> Result<(), PacketError> {
    tuple.transport = packet.load::<8>(offset)?;
    if matches!(tuple.protocol, ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP) {
        let [a, b, c, d, ..] = tuple.transport;
        tuple.src_port = u16::from_be_bytes([a, b]);
        tuple.dst_port = u16::from_be_bytes([c, d]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: [u8; 4], dst: [u8; 4], protocol: u8, ports: (u16, u16)) -> Tuple {
        let (src_port, dst_port) = ports;
        Tuple { src, dst, src_port, dst_port, protocol, ethertype: ethernet::TYPE_IPV4, ..Tuple::default() }
    }

    fn host(address: [u8; 4]) -> End {
        End { address: u32::from_ne_bytes(address), address_mask: u32::MAX, ..End::default() }
    }

    #[test]
    fn a_slot_wants_what_it_says_and_its_ends_in_either_order() {
        let (vm, outside) = ([10, 0, 0, 1], [8, 8, 8, 8]);
        let there = tuple(vm, outside, 17, (4000, 53));
        let back = tuple(outside, vm, 17, (53, 4000));
        let wants = |slot: &Slot| (slot.fits(&there), slot.fits(&back));
        assert_eq!(wants(&Slot::default()), (true, true), "an empty slot wants all");
        assert_eq!(wants(&Slot { ends: [host(vm), End::default()], ..Slot::default() }), (true, true));
        assert_eq!(wants(&Slot { ends: [host(outside), host(vm)], ..Slot::default() }), (true, true));
        assert_eq!(wants(&Slot { ends: [host(vm), host(vm)], ..Slot::default() }), (false, false));
        let port = End { port: 53, port_mask: u16::MAX, ..host(vm) };
        assert_eq!(wants(&Slot { ends: [port, End::default()], ..Slot::default() }), (false, false));
        let tcp = Slot { protocol: 6, protocol_mask: 0xff, ..Slot::default() };
        assert_eq!(wants(&tcp), (false, false));
        let net = End {
            address: u32::from_ne_bytes([8, 0, 0, 0]),
            address_mask: u32::from_ne_bytes([255, 0, 0, 0]),
            ..End::default()
        };
        assert_eq!(wants(&Slot { ends: [net, End::default()], ..Slot::default() }), (true, true));
    }

    #[test]
    fn a_slot_whose_time_is_over_wants_nothing() {
        let mut slots = Slots::default();
        slots[2] = Slot { until_ns: 100, ..Slot::default() };
        slots[7] = Slot { until_ns: 200, ..Slot::default() };
        let tuple = tuple([1; 4], [2; 4], 1, (0, 0));
        assert_eq!(fitting(&tuple, &slots, 99), 1 << 2 | 1 << 7);
        assert_eq!(fitting(&tuple, &slots, 100), 1 << 7);
        assert_eq!(fitting(&tuple, &slots, 200), 0);
    }
}
