//! BFD between hosts inside the tunnel (RFC 8971, RFC 9521): the one kind of frame that is for a host itself.
//!
//! A control packet travels in the management VNI, which no tenant network can have, from the sender's tunnel
//! address to 127.0.0.1, with TTL 255. The program on the underlay takes the tunnel off, checks that it is
//! exactly that and from a host of the cluster, and leaves it to the host's own stack with this host's tunnel
//! address as the destination. So a host hears others only while its programs are attached and its tables are
//! there. BFD that comes without the tunnel is refused then ([`Config::FLAG_TUNNEL_LIVENESS`]).

use crate::address::Address;
use crate::runtime::{CHECKSUM_MANGLED_ZERO, CHECKSUM_PSEUDO, Packet, PacketError};
use crate::tables::Config;
use crate::walk::Work;
use packet::{ethernet, geneve, ipv4, udp, view, vxlan};
use zerocopy::FromBytes;

/// UDP destination port of BFD control packets (RFC 5881 §4), outside and inside the tunnel.
pub const PORT: u16 = 3784;
/// The VNI of what hosts say to each other.
pub const MANAGEMENT_VNI: u32 = 0;

const IPV4_OFFSET: u32 = ethernet::LEN as u32;
const UDP_OFFSET: u32 = IPV4_OFFSET + ipv4::LEN as u32;
const TTL: u8 = 255;
const LOOPBACK_FIRST_OCTET: u8 = 127;

#[repr(C)]
#[derive(Clone, Copy, FromBytes)]
struct Start {
    ethernet: ethernet::Header,
    ipv4: ipv4::Header,
    udp: udp::Header,
}

/// A tunnel header of the management VNI. In Geneve it has the control bit (RFC 9521 §4.1).
#[inline(always)]
pub(crate) fn is_management(config: &Config, tunnel: [u8; 8]) -> bool {
    if config.flags & Config::FLAG_GENEVE != 0 {
        let header: geneve::Header = view(tunnel);
        header.version_options == 0
            && header.flags == geneve::FLAG_CONTROL
            && header.protocol.get() == ethernet::TYPE_TEB
            && header.vni() == MANAGEMENT_VNI
    } else {
        let header: vxlan::Header = view(tunnel);
        header.is_valid() && header.vni() == MANAGEMENT_VNI
    }
}

/// Readdresses a decapsulated frame of the management VNI to this host's stack. False: it is something else,
/// or not from `work.peer`.
#[inline(never)]
pub(crate) fn accept<P: Packet>(packet: &mut P, work: &Work) -> bool {
    let Ok(bytes) = packet.load::<{ ethernet::LEN + ipv4::LEN + udp::LEN }>(0) else { return false };
    let Start { ethernet: _, ipv4: header, udp: datagram } = view(bytes);
    let [first, ..] = header.dst;
    let exact = header.version_ihl == 0x45
        && !header.is_fragment()
        && header.protocol == ipv4::PROTOCOL_UDP
        && header.ttl == TTL
        && first == LOOPBACK_FIRST_OCTET
        && Address::v4(header.src) == work.peer
        && datagram.dst_port.get() == PORT;
    exact && readdress(packet, header.dst, work.config.vtep.to_v4()).is_ok()
}

#[inline(always)]
fn readdress<P: Packet>(packet: &mut P, from: [u8; 4], to: [u8; 4]) -> Result<(), PacketError> {
    let (old, new) = (u32::from_ne_bytes(from), u32::from_ne_bytes(to));
    let flags = CHECKSUM_PSEUDO | CHECKSUM_MANGLED_ZERO;
    packet.replace_l4_checksum(UDP_OFFSET + udp::OFFSET_CHECKSUM, old, new, 4, flags)?;
    packet.replace_l3_checksum(IPV4_OFFSET + ipv4::OFFSET_CHECKSUM, old, new, 4)?;
    packet.store::<4>(IPV4_OFFSET + ipv4::OFFSET_DST, &to)
}
