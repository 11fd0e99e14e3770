//! Classify, for IPv6 (RFC 8200, RFC 4443): reads headers into the working memory and forms the session key, as
//! [`super::classify`] does for IPv4. Nothing translates IPv6, so everything behind is the same walk.
//!
//! Extension headers that say nothing to a router are stepped over. A datagram in fragments is not carried: the ports
//! that groups and sessions go by are in its first piece only, and hosts find out the path's MTU.

use crate::address::Address;
use crate::bounds::EXTENSION_HEADERS_MAX;
use crate::runtime::{Packet, Tables};
use crate::session::SessionKey;
use crate::stage::{acl, classify};
use crate::verdict::{Reason, Stage};
use crate::walk::{Hook, Step, Walk, deny};
use packet::{ethernet, icmp, icmp6, ipv4, ipv6, tcp, view};

const ETHERNET_LEN: u32 = ethernet::LEN as u32;
const IPV6_LEN: u32 = ipv6::LEN as u32;
const PROTOCOL_ROUTING: u8 = 43;
/// What an extension header and an upper one begin with.
const START_LEN: usize = 8;

/// Fills headers and `key`, with `vni` as the key's network.
#[inline(never)]
pub(crate) fn classify<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<()> {
    network(walk, vni)?;
    extensions(walk)?;
    walk.work.key.protocol = walk.work.headers.protocol;
    match walk.work.headers.protocol {
        ipv6::PROTOCOL_ICMP => icmp(walk),
        ipv4::PROTOCOL_ICMP => deny(Stage::Classify, Reason::MalformedL4),
        _ => classify::transport(walk),
    }
}

/// The IPv6 header.
#[inline(never)]
fn network<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<()> {
    let Ok(bytes) = walk.packet.load::<{ ipv6::LEN }>(ETHERNET_LEN) else {
        return deny(Stage::Classify, Reason::Truncated);
    };
    let header: ipv6::Header = view(bytes);
    let ip_len = IPV6_LEN + u32::from(header.payload_len.get());
    let (src, dst) = (Address::v6(header.src), Address::v6(header.dst));
    // An address that stands for an IPv4 address would be taken for it.
    let mapped = src.is_v4() || dst.is_v4();
    if header.version() != 6 || mapped || ip_len + ETHERNET_LEN > walk.packet.len() {
        return deny(Stage::Classify, Reason::MalformedIpv6);
    }
    // Of a VM that has none yet, the address is looked at again where it is answered.
    if src.is_v6_multicast() || (src.is_zero() && walk.hook != Hook::Port) {
        return deny(Stage::Classify, Reason::SourceMulticast);
    }
    let headers = &mut walk.work.headers;
    headers.l4_offset = ETHERNET_LEN + IPV6_LEN;
    headers.ip_len = ip_len;
    headers.l4_len = 0;
    headers.ttl = header.hop_limit;
    headers.protocol = header.next_header;
    headers.tcp_flags = 0;
    headers.icmp_type = 0xff;
    headers.icmp_code = 0;
    headers.fragment = 0;
    headers.has_ports = 0;
    headers.src = src;
    headers.error_offset = 0;
    walk.work.key =
        SessionKey { vni, src, dst, src_port: 0, dst_port: 0, protocol: header.next_header, zero: [0; 3] };
    Ok(())
}

#[inline(always)]
fn extensions<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let mut left = EXTENSION_HEADERS_MAX;
    while is_extension(walk.work.headers.protocol) {
        if left == 0 {
            return deny(Stage::Classify, Reason::ExtensionHeader);
        }
        left -= 1;
        step_over(walk)?;
    }
    Ok(())
}

/// What stands between the header and a transport. Others, as AH, ESP and "no next header", are looked at no further.
#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        ipv6::PROTOCOL_HOP_BY_HOP
            | PROTOCOL_ROUTING
            | ipv6::PROTOCOL_FRAGMENT
            | ipv6::PROTOCOL_DESTINATION_OPTIONS
    )
}

#[inline(never)]
fn step_over<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let offset = walk.work.headers.l4_offset;
    let Ok(bytes) = walk.packet.load::<START_LEN>(offset) else {
        return deny(Stage::Classify, Reason::Truncated);
    };
    let [next, len, ..] = bytes;
    let len = match walk.work.headers.protocol {
        // The destination that counts would be another than the one that groups are asked about.
        PROTOCOL_ROUTING => return deny(Stage::Classify, Reason::ExtensionHeader),
        ipv6::PROTOCOL_FRAGMENT => {
            let fragment: ipv6::Fragment = view(bytes);
            if !fragment.is_atomic() {
                return deny(Stage::Classify, Reason::Ipv6Fragment);
            }
            START_LEN as u32
        }
        _ => (u32::from(len) + 1) << 3,
    };
    let headers = &mut walk.work.headers;
    headers.protocol = next;
    headers.l4_offset = offset + len;
    if headers.l4_offset > headers.ip_len + ETHERNET_LEN {
        return deny(Stage::Classify, Reason::MalformedIpv6);
    }
    Ok(())
}

#[inline(never)]
fn icmp<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let offset = walk.work.headers.l4_offset;
    let end = walk.work.headers.ip_len + ETHERNET_LEN;
    let loaded = walk.packet.load::<{ icmp::LEN }>(offset);
    let (Ok(bytes), true) = (loaded, offset + icmp::LEN as u32 <= end) else {
        return deny(Stage::Classify, Reason::MalformedL4);
    };
    let header: icmp::Header = view(bytes);
    let (kind, code) = (header.kind, header.code);
    walk.work.headers.icmp_type = kind;
    walk.work.headers.icmp_code = code;
    match kind {
        icmp6::TYPE_ECHO_REQUEST | icmp6::TYPE_ECHO_REPLY => {
            classify::ports(walk, header.id.get(), header.id.get());
            Ok(())
        }
        icmp6::TYPE_UNREACHABLE..=icmp6::TYPE_PARAMETER_PROBLEM => error(walk),
        _ => {
            walk.work.key.src_port = acl::icmp_selector(kind, code);
            walk.work.key.dst_port = acl::icmp_selector(acl::icmp_answer(kind), code);
            Ok(())
        }
    }
}

/// An error belongs to the packet it quotes: its session key is that one's, turned round. Its checksum is the
/// receiver's to verify: nothing is translated by it.
#[inline(never)]
fn error<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let offset = walk.work.headers.l4_offset + icmp::LEN as u32;
    let l4_offset = offset + IPV6_LEN;
    let end = walk.work.headers.ip_len + ETHERNET_LEN;
    let Ok(bytes) = walk.packet.load::<{ ipv6::LEN }>(offset) else {
        return deny(Stage::Classify, Reason::MalformedL4);
    };
    let quoted: ipv6::Header = view(bytes);
    let (src, dst) = (Address::v6(quoted.src), Address::v6(quoted.dst));
    let readable = quoted.version() == 6 && l4_offset + START_LEN as u32 <= end && !dst.is_v4();
    if !readable || src != walk.work.key.dst {
        return deny(Stage::Classify, Reason::IcmpErrorNotTranslated);
    }
    let Ok([a, b, c, d, e, f, ..]) = walk.packet.load::<START_LEN>(l4_offset) else {
        return deny(Stage::Classify, Reason::MalformedL4);
    };
    let (src_port, dst_port) = match quoted.next_header {
        ipv6::PROTOCOL_ICMP if a == icmp6::TYPE_ECHO_REQUEST || a == icmp6::TYPE_ECHO_REPLY => {
            let id = u16::from_be_bytes([e, f]);
            (id, id)
        }
        ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        _ => return deny(Stage::Classify, Reason::IcmpErrorNotTranslated),
    };
    const { assert!(tcp::OFFSET_DST_PORT == 2) };
    walk.work.headers.error_offset = offset;
    walk.work.headers.error_l4_offset = l4_offset;
    walk.work.headers.has_ports = 1;
    let key = &mut walk.work.key;
    key.src = dst;
    key.src_port = dst_port;
    key.dst_port = src_port;
    key.protocol = quoted.next_header;
    Ok(())
}
