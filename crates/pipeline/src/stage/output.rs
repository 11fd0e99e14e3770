//! Output: the size and TTL checks, then rewriting and the way out. Checks come before the first byte is
//! changed, so an event always shows the packet as it came.

use crate::address::Address;
use crate::bounds::FRAME_BYTES;
use crate::runtime::{CHECKSUM_MANGLED_ZERO, CHECKSUM_PSEUDO, Packet, PacketError, Tables};
use crate::session::Path;
use crate::stage::{icmp_error, resolve};
use crate::tunnel;
use crate::verdict::{Punt, Reason, Stage, Verdict};
use crate::walk::{Headers, Hook, Step, Walk, deny};
use packet::{bytes, ethernet, icmp, icmp6, ipv4, ipv6, tcp, udp};

const ETHERNET_LEN: u32 = ethernet::LEN as u32;
const TTL_DEFAULT: u8 = 64;

/// Whether the packet may go the path at all: TTL and size.
#[inline(never)]
pub(crate) fn check<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Output);
    let vni = walk.work.key.vni;
    if walk.work.path.flags & Path::FLAG_ROUTED != 0 && walk.work.headers.ttl <= 1 {
        return Err(walk.punt(Stage::Output, Punt::TtlExceeded, vni, 0));
    }
    let mtu = u32::from(walk.work.path.mtu);
    if walk.work.headers.ip_len <= mtu || mtu == 0 || segment_len(walk) <= mtu {
        return Ok(());
    }
    if may_be_cut(walk) {
        return Err(walk.punt_frame(Stage::Output, Punt::Fragment, mtu));
    }
    Err(walk.punt(Stage::Output, Punt::FragmentationNeeded, vni, mtu))
}

/// Whether a packet that is too big goes on in pieces (RFC 4787 REQ-13a). A super-packet's sender is told the MTU:
/// it counts on segments of its own size.
#[inline(always)]
fn may_be_cut<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> bool {
    !walk.work.headers.is_ipv6()
        && !walk.work.ipv4.dont_fragment()
        && !walk.given_back
        && walk.packet.gso_size() == 0
        && walk.packet.len() <= FRAME_BYTES as u32
}

/// IP length of the packets a super-packet becomes on the wire.
#[inline(always)]
fn segment_len<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> u32 {
    match walk.packet.gso_size() {
        0 => walk.work.headers.ip_len,
        gso_size => walk.work.headers.len().wrapping_add(gso_size),
    }
}

/// Rewrites the packet by `translated` and `path` and sends it.
#[inline(never)]
pub(crate) fn send<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Verdict> {
    let rewritten = decrement_ttl(walk).and_then(|()| translate(walk)).and_then(|()| leave(walk));
    match rewritten {
        Ok(verdict) => Ok(verdict),
        Err(PacketError) => deny(Stage::Output, Reason::OutputFailed),
    }
}

#[inline(always)]
fn decrement_ttl<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<(), PacketError> {
    if walk.work.path.flags & Path::FLAG_ROUTED == 0 {
        return Ok(());
    }
    let ttl = walk.work.headers.ttl;
    set_ttl(walk, ttl.wrapping_sub(1))
}

#[inline(always)]
fn set_ttl<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, ttl: u8) -> Result<(), PacketError> {
    if walk.work.headers.is_ipv6() {
        return walk.packet.store(ETHERNET_LEN + ipv6::OFFSET_HOP_LIMIT, &[ttl]);
    }
    let (old, protocol) = (walk.work.headers.ttl, walk.work.headers.protocol);
    let word = |ttl: u8| u32::from(u16::from_ne_bytes([ttl, protocol]));
    walk.packet.replace_l3_checksum(ETHERNET_LEN + ipv4::OFFSET_CHECKSUM, word(old), word(ttl), 2)?;
    walk.packet.store(ETHERNET_LEN + ipv4::OFFSET_TTL, &[ttl])
}

#[inline(always)]
fn translate<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<(), PacketError> {
    if walk.work.translated.flags == 0 {
        return Ok(());
    }
    if walk.work.headers.error_offset != 0 {
        return icmp_error::translate(walk);
    }
    translate_addresses(walk)?;
    translate_ports(walk)
}

#[inline(always)]
fn translate_addresses<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<(), PacketError> {
    let word = |address: &Address| u32::from_ne_bytes(address.to_v4());
    let (old, new) = (&walk.work.key, &walk.work.translated);
    let (old_src, new_src, old_dst, new_dst) =
        (word(&old.src), word(&new.src), word(&old.dst), word(&new.dst));
    if new_src != old_src {
        replace_address(walk, ipv4::OFFSET_SRC, old_src, new_src)?;
    }
    if new_dst != old_dst {
        replace_address(walk, ipv4::OFFSET_DST, old_dst, new_dst)?;
    }
    Ok(())
}

/// `from` and `to`: IPv4 addresses, the wire bytes read in memory order.
#[inline(never)]
pub(crate) fn replace_address<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    offset: u32,
    from: u32,
    to: u32,
) -> Result<(), PacketError> {
    if let Some((checksum, flags)) = pseudo_checksum(walk) {
        walk.packet.replace_l4_checksum(checksum, from, to, 4, flags | CHECKSUM_PSEUDO)?;
    }
    walk.packet.replace_l3_checksum(ETHERNET_LEN + ipv4::OFFSET_CHECKSUM, from, to, 4)?;
    walk.packet.store::<4>(ETHERNET_LEN + offset, &to.to_ne_bytes())
}

/// Offset and flags of a transport checksum that covers the pseudo header.
#[inline(always)]
fn pseudo_checksum<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> Option<(u32, u32)> {
    if walk.work.headers.fragment == Headers::FRAGMENT_LATER {
        return None;
    }
    let offset = walk.work.headers.l4_offset;
    match walk.work.headers.protocol {
        ipv4::PROTOCOL_TCP => Some((offset + tcp::OFFSET_CHECKSUM, 0)),
        ipv4::PROTOCOL_UDP => Some((offset + udp::OFFSET_CHECKSUM, CHECKSUM_MANGLED_ZERO)),
        _ => None,
    }
}

#[inline(always)]
fn translate_ports<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<(), PacketError> {
    let (old, new) = (&walk.work.key, &walk.work.translated);
    let (old_src, new_src, old_dst, new_dst) = (old.src_port, new.src_port, old.dst_port, new.dst_port);
    if walk.work.headers.protocol == ipv4::PROTOCOL_ICMP {
        if new_src != old_src && walk.work.headers.fragment != Headers::FRAGMENT_LATER {
            let checksum = walk.work.headers.l4_offset + icmp::OFFSET_CHECKSUM;
            replace_port(walk, icmp::OFFSET_ECHO_ID, (old_src, new_src), checksum, 0)?;
        }
        return Ok(());
    }
    let Some((checksum, flags)) = pseudo_checksum(walk) else { return Ok(()) };
    if new_src != old_src {
        replace_port(walk, tcp::OFFSET_SRC_PORT, (old_src, new_src), checksum, flags)?;
    }
    if new_dst != old_dst {
        replace_port(walk, tcp::OFFSET_DST_PORT, (old_dst, new_dst), checksum, flags)?;
    }
    Ok(())
}

#[inline(always)]
fn replace_port<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    offset: u32,
    (old, new): (u16, u16),
    checksum: u32,
    flags: u32,
) -> Result<(), PacketError> {
    let (from, to) = (u32::from(old.to_be()), u32::from(new.to_be()));
    walk.packet.replace_l4_checksum(checksum, from, to, 2, flags)?;
    let offset = walk.work.headers.l4_offset + offset;
    walk.packet.store::<2>(offset, &new.to_be_bytes())
}

/// Writes the last header and chooses the way out.
#[inline(always)]
fn leave<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<Verdict, PacketError> {
    let (ifindex, vlan) = (walk.work.path.ifindex, walk.work.path.vlan);
    match walk.work.path.output {
        Path::OUT_PORT => {
            write_macs(walk)?;
            let (segments, len) = (walk.packet.gso_segments(), walk.packet.len());
            walk.tables.count_port(ifindex, false, segments, len);
            Ok(Verdict::Port { ifindex })
        }
        Path::OUT_UPLINK => {
            write_macs(walk)?;
            if vlan != 0 {
                walk.packet.push_vlan(vlan)?;
            }
            Ok(Verdict::Uplink { ifindex })
        }
        Path::OUT_TUNNEL => {
            tunnel::push(walk.packet, walk.work)?;
            Ok(Verdict::Tunnel { ifindex })
        }
        _ => Err(PacketError),
    }
}

#[inline(always)]
fn write_macs<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<(), PacketError> {
    let macs = [walk.work.path.dst_mac, walk.work.path.src_mac];
    walk.packet.store::<12>(0, &bytes(macs))
}

/// Turns an echo request to the router into the reply, back the way it came.
#[inline(never)]
pub(crate) fn answer_echo<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Verdict> {
    walk.tables.enter(Stage::Output);
    let hook = walk.hook;
    if hook == Hook::Overlay {
        return deny(Stage::Output, Reason::NotForRouter);
    }
    if hook == Hook::Transit {
        resolve::back(walk)?;
    }
    let written = write_echo_reply(walk).and_then(|()| match hook {
        Hook::Transit => tunnel::push(walk.packet, walk.work),
        _ => Ok(()),
    });
    match (written, hook) {
        (Err(PacketError), _) => deny(Stage::Output, Reason::OutputFailed),
        (Ok(()), Hook::Port) => Ok(Verdict::Port { ifindex: walk.work.ingress }),
        (Ok(()), Hook::Transit) => Ok(Verdict::Tunnel { ifindex: walk.work.path.ifindex }),
        (Ok(()), _) => Ok(Verdict::Uplink { ifindex: walk.work.ingress }),
    }
}

#[inline(always)]
fn write_echo_reply<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<(), PacketError> {
    set_ttl(walk, TTL_DEFAULT)?;
    exchange_addresses(walk)?;
    if walk.work.headers.fragment != Headers::FRAGMENT_LATER {
        let l4 = walk.work.headers.l4_offset;
        let kind = |kind: u8| u32::from(u16::from_ne_bytes([kind, 0]));
        let (request, reply) = if walk.work.headers.is_ipv6() {
            (icmp6::TYPE_ECHO_REQUEST, icmp6::TYPE_ECHO_REPLY)
        } else {
            (icmp::TYPE_ECHO_REQUEST, icmp::TYPE_ECHO_REPLY)
        };
        walk.packet.replace_l4_checksum(l4 + icmp::OFFSET_CHECKSUM, kind(request), kind(reply), 2, 0)?;
        walk.packet.store::<1>(l4 + icmp::OFFSET_TYPE, &[reply])?;
    }
    let macs = [walk.work.headers.src_mac, walk.work.headers.dst_mac];
    walk.packet.store::<12>(0, &bytes(macs))?;
    if walk.work.vlan != 0 {
        walk.packet.push_vlan(walk.work.vlan as u16)?;
    }
    Ok(())
}

/// The packet goes back to its sender. No checksum changes: the sums cover both addresses alike.
#[inline(always)]
fn exchange_addresses<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<(), PacketError> {
    let key = &walk.work.key;
    if walk.work.headers.is_ipv6() {
        walk.packet.store::<16>(ETHERNET_LEN + ipv6::OFFSET_SRC, &key.dst.octets())?;
        return walk.packet.store::<16>(ETHERNET_LEN + ipv6::OFFSET_DST, &key.src.octets());
    }
    walk.packet.store::<4>(ETHERNET_LEN + ipv4::OFFSET_SRC, &key.dst.to_v4())?;
    walk.packet.store::<4>(ETHERNET_LEN + ipv4::OFFSET_DST, &key.src.to_v4())
}
