//! Classify: reads Ethernet, IPv4 (RFC 791) and transport headers into the working memory and forms the
//! session key. The IPv4 total length is authoritative: padding behind it is never looked at.

use crate::address::Address;
use crate::bounds::FRAME_BYTES;
use crate::fragment::{Fragment, FragmentKey};
use crate::runtime::{Packet, Tables};
use crate::stage::{acl, icmp_error, service};
use crate::verdict::{Punt, Reason, Stage, Verdict};
use crate::walk::{Headers, Hook, Step, Walk, deny};
use packet::{ethernet, icmp, ipv4, tcp, udp, view};
use zerocopy::FromBytes;

const PROTOCOL_DCCP: u8 = 33;
const PROTOCOL_SCTP: u8 = 132;
const PROTOCOL_UDP_LITE: u8 = 136;

const ETHERNET_LEN: u32 = ethernet::LEN as u32;

/// What every packet that is carried begins with; ARP is longer.
#[repr(C)]
#[derive(Clone, Copy, FromBytes)]
struct Start {
    ethernet: ethernet::Header,
    ipv4: ipv4::Header,
}

/// The Ethernet header; `ipv4` holds what follows it, whatever that is.
#[inline(always)]
pub(crate) fn ethernet<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let Ok(bytes) = walk.packet.load::<{ ethernet::LEN + ipv4::LEN }>(0) else {
        return deny(Stage::Classify, Reason::Truncated);
    };
    let Start { ethernet: header, ipv4 } = view(bytes);
    walk.work.ipv4 = ipv4;
    let headers = &mut walk.work.headers;
    headers.dst_mac = header.dst;
    headers.src_mac = header.src;
    headers.ethertype = header.ethertype.get();
    Ok(())
}

/// Fills headers and `key`, with `vni` as the key's network.
#[inline(always)]
pub(crate) fn ipv4<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<()> {
    network(walk, vni)?;
    match walk.work.headers.fragment {
        Headers::FRAGMENT_LATER => return later_fragment(walk),
        Headers::FRAGMENT_FIRST => {
            transport(walk)?;
            first_fragment(walk);
        }
        _ => transport(walk)?,
    }
    if icmp_error::is_error(walk.work.headers.icmp_type) {
        return icmp_error::classify(walk);
    }
    Ok(())
}

/// The IPv4 header.
#[inline(never)]
fn network<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<()> {
    let header = walk.work.ipv4;
    let (header_len, ip_len) = (header.header_len(), u32::from(header.total_len.get()));
    let fits = ip_len.wrapping_add(ETHERNET_LEN) <= walk.packet.len();
    if header.version() != 4 || header_len < ipv4::LEN as u32 || ip_len < header_len || !fits {
        return deny(Stage::Classify, Reason::MalformedIpv4);
    }
    let [first, ..] = header.src;
    // Of a VM that has none yet, the address is looked at again where it is served.
    let unset = walk.hook == Hook::Port && service::has_no_address(&header);
    if first >= 224 || (first == 0 && !unset) {
        return deny(Stage::Classify, Reason::SourceMulticast);
    }
    let offset = header.flags_fragment.get() & ipv4::FRAGMENT_OFFSET;
    let headers = &mut walk.work.headers;
    headers.l4_offset = ETHERNET_LEN + header_len;
    headers.ip_len = ip_len;
    headers.l4_len = 0;
    headers.ttl = header.ttl;
    headers.protocol = header.protocol;
    headers.tcp_flags = 0;
    headers.icmp_type = 0xff;
    headers.icmp_code = 0;
    headers.fragment = match (header.is_fragment(), offset) {
        (false, _) => 0,
        (true, 0) => Headers::FRAGMENT_FIRST,
        (true, _) => Headers::FRAGMENT_LATER,
    };
    headers.has_ports = 0;
    headers.src = Address::v4(header.src);
    headers.error_offset = 0;
    let key = &mut walk.work.key;
    key.vni = vni;
    key.src = Address::v4(header.src);
    key.dst = Address::v4(header.dst);
    key.src_port = 0;
    key.dst_port = 0;
    key.protocol = header.protocol;
    key.zero = [0; 3];
    if walk.work.headers.fragment != 0 {
        fill_fragment_key(walk, header.identification.get());
        // RFC 3128: behind the first 20 bytes nothing can reach into the header that was checked.
        if offset != 0 && u32::from(offset) << 3 < tcp::LEN as u32 {
            return deny(Stage::Classify, Reason::FragmentOverlap);
        }
    }
    Ok(())
}

#[inline(always)]
fn fill_fragment_key<P, T>(walk: &mut Walk<'_, P, T>, identification: u16) {
    let work = &mut *walk.work;
    work.fragment_key = FragmentKey {
        vni: work.key.vni,
        ingress: work.ingress,
        src: work.key.src,
        dst: work.key.dst,
        identification,
        protocol: work.key.protocol,
        zero: 0,
    };
}

/// The first fragment leaves its ports for the others.
#[inline(never)]
fn first_fragment<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) {
    let work = &mut *walk.work;
    if work.headers.has_ports == 0 {
        return;
    }
    let (src_port, dst_port) = (work.key.src_port, work.key.dst_port);
    let (seen_ns, icmp_type) = (walk.tables.now_ns(), work.headers.icmp_type);
    let end = work.headers.ip_len.wrapping_add(ETHERNET_LEN).wrapping_sub(work.headers.l4_offset) as u16;
    let first = Fragment { seen_ns, src_port, dst_port, icmp_type, state: Fragment::KNOWN, end };
    let known = walk.tables.fragment(&work.fragment_key);
    walk.tables.insert_fragment(&work.fragment_key, &first, true);
    if known.is_some_and(|known| known.state == Fragment::AWAITED && known.is_fresh(seen_ns)) {
        let vni = walk.work.key.vni;
        walk.emit(Punt::FirstFragment, vni, 0);
    }
}

#[inline(never)]
fn later_fragment<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let now_ns = walk.tables.now_ns();
    let found = walk.tables.fragment(&walk.work.fragment_key);
    match found {
        Some(first) if first.state == Fragment::KNOWN && first.is_fresh(now_ns) => {
            let offset = u32::from(walk.work.ipv4.flags_fragment.get() & ipv4::FRAGMENT_OFFSET) << 3;
            if offset < u32::from(first.end) {
                return deny(Stage::Classify, Reason::FragmentOverlap);
            }
            walk.work.headers.icmp_type = first.icmp_type;
            ports(walk, first.src_port, first.dst_port);
            Ok(())
        }
        // An entry that is too old is of another datagram, which had the same identification.
        Some(found) => early_fragment(walk, !found.is_fresh(now_ns)),
        None => early_fragment(walk, false),
    }
}

/// A fragment that overtook the first of its datagram: the agent holds it for a while. `stale`: there is an entry of
/// another datagram in the way.
#[inline(never)]
fn early_fragment<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, stale: bool) -> Step<()> {
    if walk.given_back || walk.packet.len() > FRAME_BYTES as u32 {
        return deny(Stage::Classify, Reason::FragmentUnordered);
    }
    let verdict = walk.punt_frame(Stage::Classify, Punt::EarlyFragment, 0);
    if matches!(verdict, Verdict::Punt(_)) {
        let seen_ns = walk.tables.now_ns();
        let awaited = Fragment { seen_ns, state: Fragment::AWAITED, ..Fragment::default() };
        // If the first came this very moment, its entry stands; the agent looks once more.
        walk.tables.insert_fragment(&walk.work.fragment_key, &awaited, stale);
    }
    Err(verdict)
}

/// Ports, flags and ICMP type.
#[inline(never)]
pub(crate) fn transport<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let offset = walk.work.headers.l4_offset;
    let available = walk.work.headers.ip_len.wrapping_add(ETHERNET_LEN).wrapping_sub(offset);
    let malformed = deny(Stage::Classify, Reason::MalformedL4);
    match walk.work.headers.protocol {
        ipv4::PROTOCOL_TCP => {
            let Ok(bytes) = walk.packet.load::<{ tcp::LEN }>(offset) else { return malformed };
            let header: tcp::Header = view(bytes);
            let header_len = header.header_len();
            if available < tcp::LEN as u32 || header_len < tcp::LEN as u32 || header_len > available {
                return malformed;
            }
            walk.work.headers.tcp_flags = header.flags;
            walk.work.headers.l4_len = header_len;
            ports(walk, header.src_port.get(), header.dst_port.get());
        }
        ipv4::PROTOCOL_UDP => {
            let Ok(bytes) = walk.packet.load::<{ udp::LEN }>(offset) else { return malformed };
            let header: udp::Header = view(bytes);
            if available < udp::LEN as u32 {
                return malformed;
            }
            walk.work.headers.l4_len = udp::LEN as u32;
            ports(walk, header.src_port.get(), header.dst_port.get());
        }
        ipv4::PROTOCOL_ICMP => {
            let Ok(bytes) = walk.packet.load::<{ icmp::LEN }>(offset) else { return malformed };
            let header: icmp::Header = view(bytes);
            if available < icmp::LEN as u32 {
                return malformed;
            }
            walk.work.headers.icmp_type = header.kind;
            walk.work.headers.icmp_code = header.code;
            if header.is_echo() {
                ports(walk, header.id.get(), header.id.get());
            } else if !icmp_error::is_error(header.kind) {
                // What one type was allowed says nothing of another; what answers it is its session's other end.
                walk.work.key.src_port = acl::icmp_selector(header.kind, header.code);
                walk.work.key.dst_port = acl::icmp_selector(acl::icmp_answer(header.kind), header.code);
            }
        }
        PROTOCOL_DCCP | PROTOCOL_SCTP | PROTOCOL_UDP_LITE => {
            // Nothing but rules looks at them: NAT carries none of these.
            let Ok([a, b, c, d]) = walk.packet.load::<4>(offset) else { return malformed };
            if available < 4 {
                return malformed;
            }
            walk.work.key.src_port = u16::from_be_bytes([a, b]);
            walk.work.key.dst_port = u16::from_be_bytes([c, d]);
        }
        _ => {}
    }
    Ok(())
}

#[inline(always)]
pub(crate) fn ports<P, T>(walk: &mut Walk<'_, P, T>, src_port: u16, dst_port: u16) {
    walk.work.headers.has_ports = 1;
    walk.work.key.src_port = src_port;
    walk.work.key.dst_port = dst_port;
}
