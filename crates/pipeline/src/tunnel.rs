//! The tunnel: outer headers for Geneve (RFC 8926) and VXLAN (RFC 7348) over IPv4, without options, and the
//! program on the underlay that takes lone packets.

use crate::address::Address;
use crate::hash::flow_hash;
use crate::liveness;
use crate::runtime::{Packet, PacketError, Tables};
use crate::session::SessionKey;
use crate::tables::{Config, VtepKey};
use crate::verdict::{Reason, Stage, Total, Verdict, counter};
use crate::walk::{self, TunnelKey, Work};
use packet::{MacAddr, U16, bytes, checksum, ethernet, geneve, ipv4, udp, view, vxlan};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

/// Bytes in front of the inner Ethernet header without the outer Ethernet header, plus the inner Ethernet
/// header: what a packet grows by (IPv4, UDP, tunnel, Ethernet).
pub const OUTER_LEN: u32 = 50;
const ETHERNET_LEN: u32 = ethernet::LEN as u32;
const UDP_OFFSET: u32 = ETHERNET_LEN + ipv4::LEN as u32;
const TUNNEL_OFFSET: u32 = UDP_OFFSET + udp::LEN as u32;
/// Largest tunnel frame with TCP in it that is taken alone, bytes: acknowledgements, requests, short answers.
const LONE_TCP_FRAME_MAX: u32 = 700;
/// Outer TTL: the underlay may be routed.
const OUTER_TTL: u8 = 64;
/// First port of the dynamic range that RFC 7348 §5 and RFC 8926 §3.3 recommend for the source port.
pub(crate) const SOURCE_PORT_FIRST: u16 = 49152;

/// Everything from the outer to the inner Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, Unaligned)]
struct Outer {
    ethernet: ethernet::Header,
    ipv4: ipv4::Header,
    udp: udp::Header,
    tunnel: [u8; 8],
    inner: ethernet::Header,
}

/// Encapsulates the packet for `path`. Outer MACs are zero: the kernel's neighbour table fills them. The
/// outer UDP checksum is zero, as both RFCs allow over IPv4; outer DF is set: the tunnel never fragments.
#[inline(never)]
pub(crate) fn push<P: Packet>(packet: &mut P, work: &Work) -> Result<(), PacketError> {
    let inner_len = packet.len();
    packet.push_outer()?;
    let udp_len = inner_len.wrapping_add((udp::LEN + vxlan::LEN) as u32).min(65_515) as u16;
    let config = &work.config;
    let tunnel: [u8; 8] = if config.flags & Config::FLAG_GENEVE != 0 {
        bytes(geneve::Header::new(work.path.vni))
    } else {
        bytes(vxlan::Header::new(work.path.vni))
    };
    let outer = Outer {
        ethernet: ethernet::Header {
            dst: MacAddr::ZERO,
            src: MacAddr::ZERO,
            ethertype: U16::new(ethernet::TYPE_IPV4),
        },
        ipv4: outer_ipv4(config.vtep, work.path.vtep, udp_len),
        udp: udp::Header {
            src_port: U16::new(work.path.source_port),
            dst_port: U16::new(config.tunnel_port),
            len: U16::new(udp_len),
            checksum: U16::new(0),
        },
        tunnel,
        inner: ethernet::Header {
            dst: work.path.dst_mac,
            src: work.path.src_mac,
            ethertype: U16::new(work.headers.ethertype),
        },
    };
    // By reference: a copy would double the stack.
    packet.store::<64>(0, zerocopy::transmute_ref!(&outer))
}

/// The UDP source port of a flow: as many bits of its hash as the range has.
#[inline(always)]
pub(crate) fn source_port(key: &SessionKey) -> u16 {
    SOURCE_PORT_FIRST | (flow_hash(key) as u16 & 0x3fff)
}

#[inline(always)]
fn outer_ipv4(src: Address, dst: Address, udp_len: u16) -> ipv4::Header {
    let mut header = ipv4::Header {
        version_ihl: 0x45,
        dscp_ecn: 0,
        total_len: U16::new(udp_len.wrapping_add(ipv4::LEN as u16)),
        identification: U16::new(0),
        flags_fragment: U16::new(ipv4::FLAG_DF),
        ttl: OUTER_TTL,
        protocol: ipv4::PROTOCOL_UDP,
        checksum: U16::new(0),
        src: src.to_v4(),
        dst: dst.to_v4(),
    };
    header.checksum = U16::new(checksum::checksum(&bytes::<_, { ipv4::LEN }>(header)));
    header
}

/// What a packet on the underlay is.
enum Underlay {
    /// Not a tunnel packet for this host, or one for the kernel's device.
    Host,
    UnknownPeer,
    /// A lone packet, decapsulated; `peer` and `tunnel_vni` are filled.
    Lone,
    /// A lone packet that the kernel refused to decapsulate.
    Failed,
    /// A frame of the management VNI, decapsulated; `peer` is filled.
    Liveness,
    /// BFD that did not come as it must.
    BadLiveness,
}

/// Ingress of the underlay NIC: takes lone tunnel packets, leaves everything else to the host. Packets that
/// pass are not counted here: the host's own traffic is none of ours, and super-packets are counted when
/// the kernel's device delivers them.
#[inline(always)]
pub fn from_underlay<P: Packet, T: Tables>(packet: &mut P, tables: &T, work: &mut Work) -> Verdict {
    let drop = |reason| {
        tables.count(counter::total(Total::InTunnelLone), 1);
        tables.count(counter::total(Total::Dropped), 1);
        tables.count(counter::drop(Stage::Classify, reason), 1);
        Verdict::Drop(Stage::Classify, reason)
    };
    match take(packet, tables, work) {
        Ok(Underlay::Lone) => {
            let key = TunnelKey { vni: work.tunnel_vni, vtep: work.peer, lone: true };
            walk::from_tunnel(packet, tables, work, key)
        }
        Ok(Underlay::UnknownPeer) => drop(Reason::UnknownVtep),
        Ok(Underlay::Failed) => drop(Reason::OutputFailed),
        Ok(Underlay::Liveness) if liveness::accept(packet, work) => {
            tables.count(counter::total(Total::InTunnelLone), 1);
            tables.count(counter::total(Total::OutHost), 1);
            Verdict::Pass
        }
        Ok(Underlay::Liveness | Underlay::BadLiveness) => drop(Reason::LivenessRefused),
        Ok(Underlay::Host) | Err(PacketError) => Verdict::Pass,
    }
}

/// Decapsulates a lone packet. A function of its own, so that its stack is free again for the walk.
#[inline(never)]
fn take<P: Packet, T: Tables>(packet: &mut P, tables: &T, work: &mut Work) -> Result<Underlay, PacketError> {
    work.config = tables.config();
    let config = &work.config;
    let Outer { ethernet: frame, ipv4: outer, udp: datagram, tunnel, inner } =
        view(packet.load::<{ OUTER_LEN as usize + ethernet::LEN }>(0)?);
    if config.epoch == 0 || frame.ethertype.get() != ethernet::TYPE_IPV4 || packet.vlan().is_some() {
        return Ok(Underlay::Host);
    }
    let (src, dst) = (Address::v4(outer.src), Address::v4(outer.dst));
    let plain = outer.version_ihl == 0x45 && !outer.is_fragment();
    let ours = plain && outer.protocol == ipv4::PROTOCOL_UDP && dst == config.vtep;
    if !ours || datagram.dst_port.get() != config.tunnel_port {
        let refused = ours
            && datagram.dst_port.get() == liveness::PORT
            && config.flags & Config::FLAG_TUNNEL_LIVENESS != 0;
        return Ok(if refused { Underlay::BadLiveness } else { Underlay::Host });
    }
    if tables.vtep(&VtepKey { address: src }).is_none() {
        return Ok(Underlay::UnknownPeer);
    }
    let management = liveness::is_management(config, tunnel);
    let vni = if management { Some(liveness::MANAGEMENT_VNI) } else { plain_vni(config, tunnel) };
    let Some(vni) = vni else { return Ok(Underlay::Host) };
    let lone = packet.gso_size() == 0
        && inner.ethertype.get() == ethernet::TYPE_IPV4
        && datagram.checksum.get() == 0
        && !is_bulk(packet)
        && (management || config.flags & Config::FLAG_LONE_PATH != 0);
    if lone {
        work.tunnel_vni = vni;
        work.peer = src;
        let popped = packet.pop_outer().and_then(|()| packet.store::<{ ethernet::LEN }>(0, &bytes(inner)));
        return Ok(match popped {
            Ok(()) if management => Underlay::Liveness,
            Ok(()) => Underlay::Lone,
            Err(PacketError) => Underlay::Failed,
        });
    }
    if management {
        return Ok(Underlay::BadLiveness);
    }
    if config.flags & Config::FLAG_GENEVE_AS_VXLAN != 0 && datagram.checksum.get() == 0 {
        // The VXLAN device that stands in for geneve.ko reads the first word as VXLAN's flags.
        packet.store::<4>(TUNNEL_OFFSET, &[vxlan::FLAG_VNI, 0, 0, 0])?;
    }
    Ok(Underlay::Host)
}

/// Whether the packet is one of a stream that fills its packets: the kernel's device puts those together once
/// more (GRO), and none of them may overtake those that already are.
#[inline(always)]
fn is_bulk<P: Packet>(packet: &P) -> bool {
    const PROTOCOL_OFFSET: u32 = OUTER_LEN + ETHERNET_LEN + ipv4::OFFSET_PROTOCOL;
    packet.len() > LONE_TCP_FRAME_MAX && packet.load(PROTOCOL_OFFSET) == Ok([ipv4::PROTOCOL_TCP])
}

/// The VNI of a tunnel header that carries Ethernet and nothing unusual.
#[inline(always)]
fn plain_vni(config: &Config, tunnel: [u8; 8]) -> Option<u32> {
    if config.flags & Config::FLAG_GENEVE != 0 {
        let header: geneve::Header = view(tunnel);
        header.is_plain().then_some(header.vni())
    } else {
        let header: vxlan::Header = view(tunnel);
        header.is_valid().then_some(header.vni())
    }
}
