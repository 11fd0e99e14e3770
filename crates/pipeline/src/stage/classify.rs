//! Classify: reads Ethernet, IPv4 (RFC 791) and transport headers into the working memory and forms the
//! session key. The IPv4 total length is authoritative: padding behind it is never looked at.

use crate::address::Address;
use crate::runtime::{Packet, Tables};
use crate::session::SessionKey;
use crate::stage::icmp_error;
use crate::verdict::{Reason, Stage};
use crate::walk::{Step, Walk, deny};
use packet::{ethernet, icmp, ipv4, tcp, udp, view};

const ETHERNET_LEN: u32 = ethernet::LEN as u32;

#[inline(always)]
pub(crate) fn ethernet<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let Ok(bytes) = walk.packet.load::<{ ethernet::LEN }>(0) else {
        return deny(Stage::Classify, Reason::Truncated);
    };
    let header: ethernet::Header = view(bytes);
    let headers = &mut walk.work.headers;
    headers.dst_mac = header.dst;
    headers.src_mac = header.src;
    headers.ethertype = header.ethertype.get();
    Ok(())
}

/// Fills headers and `key`, with `vni` as the key's network.
#[inline(never)]
pub(crate) fn ipv4<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<()> {
    let Ok(bytes) = walk.packet.load::<{ ipv4::LEN }>(ETHERNET_LEN) else {
        return deny(Stage::Classify, Reason::Truncated);
    };
    let header: ipv4::Header = view(bytes);
    let (header_len, ip_len) = (header.header_len(), u32::from(header.total_len.get()));
    let fits = ip_len.wrapping_add(ETHERNET_LEN) <= walk.packet.len();
    if header.version() != 4 || header_len < ipv4::LEN as u32 || ip_len < header_len || !fits {
        return deny(Stage::Classify, Reason::MalformedIpv4);
    }
    let [first, ..] = header.src;
    if first >= 224 || first == 0 {
        return deny(Stage::Classify, Reason::SourceMulticast);
    }
    let headers = &mut walk.work.headers;
    headers.l4_offset = ETHERNET_LEN + header_len;
    headers.ip_len = ip_len;
    headers.ttl = header.ttl;
    headers.protocol = header.protocol;
    headers.tcp_flags = 0;
    headers.icmp_type = 0xff;
    headers.fragment = u8::from(header.is_fragment());
    headers.has_ports = 0;
    headers.src = Address::v4(header.src);
    headers.error_offset = 0;
    walk.work.key = SessionKey {
        vni,
        src: Address::v4(header.src),
        dst: Address::v4(header.dst),
        src_port: 0,
        dst_port: 0,
        protocol: header.protocol,
        zero: [0; 3],
    };
    if header.is_fragment() {
        return Ok(());
    }
    transport(walk, ip_len - header_len)
}

/// Ports, flags and ICMP type; `available`: bytes of the IP payload.
#[inline(always)]
fn transport<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, available: u32) -> Step<()> {
    let offset = walk.work.headers.l4_offset;
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
            ports(walk, header.src_port.get(), header.dst_port.get());
        }
        ipv4::PROTOCOL_UDP => {
            let Ok(bytes) = walk.packet.load::<{ udp::LEN }>(offset) else { return malformed };
            let header: udp::Header = view(bytes);
            if available < udp::LEN as u32 {
                return malformed;
            }
            ports(walk, header.src_port.get(), header.dst_port.get());
        }
        ipv4::PROTOCOL_ICMP => {
            let Ok(bytes) = walk.packet.load::<{ icmp::LEN }>(offset) else { return malformed };
            let header: icmp::Header = view(bytes);
            if available < icmp::LEN as u32 {
                return malformed;
            }
            walk.work.headers.icmp_type = header.kind;
            if header.is_echo() {
                ports(walk, header.id.get(), header.id.get());
            } else if icmp_error::is_error(header.kind) {
                return icmp_error::classify(walk);
            }
        }
        _ => {}
    }
    Ok(())
}

#[inline(always)]
fn ports<P, T>(walk: &mut Walk<'_, P, T>, src_port: u16, dst_port: u16) {
    walk.work.headers.has_ports = 1;
    walk.work.key.src_port = src_port;
    walk.work.key.dst_port = dst_port;
}
