//! ICMP errors (RFC 792; RFC 5508 REQ-3 to REQ-6): found by the packet they quote, translated outside and
//! inside, passed on without touching the session's life.
//!
//! An error travels against the packet it quotes, so its session key is the quoted packet's, turned round.
//! Transport checksums inside the quotation are left alone: RFC 5508 REQ-3 tells receivers not to look at
//! them, and the quotation rarely holds what they cover.

use crate::address::Address;
use crate::bounds::ICMP_ERROR_BYTES_MAX;
use crate::runtime::{Packet, PacketError, Tables};
use crate::session::SessionKey;
use crate::verdict::{Reason, Stage};
use crate::walk::{Step, Walk, deny};
use packet::{ethernet, icmp, ipv4, tcp, view};

const ETHERNET_LEN: u32 = ethernet::LEN as u32;

/// Whether a type quotes the packet that caused it and is translated.
#[inline(always)]
pub(crate) const fn is_error(kind: u8) -> bool {
    matches!(kind, icmp::TYPE_UNREACHABLE | icmp::TYPE_TIME_EXCEEDED | icmp::TYPE_PARAMETER_PROBLEM)
}

/// Reads the quotation into `key` and `error_offset`.
#[inline(never)]
pub(crate) fn classify<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let offset = walk.work.headers.l4_offset + icmp::LEN as u32;
    let end = walk.work.headers.ip_len + ETHERNET_LEN;
    if walk.work.headers.fragment == 0 && !verified(walk) {
        return deny(Stage::Classify, Reason::IcmpChecksum);
    }
    let Ok(bytes) = walk.packet.load::<{ ipv4::LEN }>(offset) else {
        return deny(Stage::Classify, Reason::MalformedL4);
    };
    let quoted: ipv4::Header = view(bytes);
    // RFC 5508 REQ-3a; options would be part of the sum.
    if quoted.header_len() == ipv4::LEN as u32 && !sums_up(&bytes) {
        return deny(Stage::Classify, Reason::IcmpErrorNotTranslated);
    }
    let l4_offset = offset + quoted.header_len();
    let readable = quoted.version() == 4
        && quoted.header_len() >= ipv4::LEN as u32
        && l4_offset + 8 <= end
        && quoted.flags_fragment.get() & ipv4::FRAGMENT_OFFSET == 0;
    if !readable || Address::v4(quoted.src) != walk.work.key.dst {
        return deny(Stage::Classify, Reason::IcmpErrorNotTranslated);
    }
    let Ok(l4) = walk.packet.load::<8>(l4_offset) else {
        return deny(Stage::Classify, Reason::MalformedL4);
    };
    let [a, b, c, d, e, f, ..] = l4;
    let (src_port, dst_port) = match quoted.protocol {
        ipv4::PROTOCOL_ICMP if a == icmp::TYPE_ECHO_REQUEST || a == icmp::TYPE_ECHO_REPLY => {
            let id = u16::from_be_bytes([e, f]);
            (id, id)
        }
        ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        _ => return deny(Stage::Classify, Reason::IcmpErrorNotTranslated),
    };
    walk.work.headers.error_offset = offset;
    walk.work.headers.error_l4_offset = l4_offset;
    walk.work.headers.has_ports = 1;
    walk.work.key = SessionKey {
        vni: walk.work.key.vni,
        src: Address::v4(quoted.dst),
        dst: Address::v4(quoted.src),
        src_port: dst_port,
        dst_port: src_port,
        protocol: quoted.protocol,
        zero: [0; 3],
    };
    Ok(())
}

/// Whether the checksum of the whole message is right (RFC 5508 REQ-3). A message far larger than any error may be
/// is taken for wrong.
#[inline(never)]
fn verified<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> bool {
    let offset = walk.work.headers.l4_offset;
    let len = (walk.work.headers.ip_len + ETHERNET_LEN).wrapping_sub(offset);
    if len >= ICMP_ERROR_BYTES_MAX || len < icmp::LEN as u32 {
        return false;
    }
    walk.packet.sum(offset, len, &mut walk.work.frame.frame) == Ok(0xffff)
}

/// Whether a header's checksum is right (RFC 1071).
#[inline(always)]
fn sums_up(header: &[u8; ipv4::LEN]) -> bool {
    let (words, _) = header.as_chunks::<2>();
    let mut sum = 0u32;
    for word in words {
        sum += u32::from(u16::from_be_bytes(*word));
    }
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// Rewrites the error's own addresses and the quotation's.
#[inline(never)]
pub(crate) fn translate<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Result<(), PacketError> {
    let word = |address: &Address| u32::from_ne_bytes(address.to_v4());
    let (old, new) = (&walk.work.key, &walk.work.translated);
    let (src, new_src) = (word(&old.src), word(&new.src));
    let (dst, new_dst) = (word(&old.dst), word(&new.dst));
    let (src_port, new_src_port) = (old.src_port, new.src_port);
    let (dst_port, new_dst_port) = (old.dst_port, new.dst_port);
    let quoted = walk.work.headers.error_offset;
    if new_dst != dst {
        replace_address(walk, ETHERNET_LEN, ipv4::OFFSET_DST, (dst, new_dst))?;
        replace_address(walk, quoted, ipv4::OFFSET_SRC, (dst, new_dst))?;
    }
    if new_src != src {
        // Whoever inside sent the error, outside it comes from the connection's own address (RFC 5508 REQ-5).
        let sender = word(&walk.work.headers.src);
        replace_address(walk, ETHERNET_LEN, ipv4::OFFSET_SRC, (sender, new_src))?;
        replace_address(walk, quoted, ipv4::OFFSET_DST, (src, new_src))?;
    }
    if walk.work.key.protocol == ipv4::PROTOCOL_ICMP {
        return replace_port(walk, icmp::OFFSET_ECHO_ID, (dst_port, new_dst_port));
    }
    replace_port(walk, tcp::OFFSET_SRC_PORT, (dst_port, new_dst_port))?;
    replace_port(walk, tcp::OFFSET_DST_PORT, (src_port, new_src_port))
}

/// An address of the IPv4 header at `header`. Inside the quotation the header's own checksum absorbs the
/// change, so the ICMP checksum over both stays right.
#[inline(never)]
fn replace_address<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    header: u32,
    field: u32,
    (from, to): (u32, u32),
) -> Result<(), PacketError> {
    walk.packet.replace_l3_checksum(header + ipv4::OFFSET_CHECKSUM, from, to, 4)?;
    walk.packet.store::<4>(header + field, &to.to_ne_bytes())
}

/// A port of the quotation, which the ICMP checksum covers.
#[inline(always)]
fn replace_port<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    field: u32,
    (old, new): (u16, u16),
) -> Result<(), PacketError> {
    if old == new {
        return Ok(());
    }
    let (checksum, port) =
        (walk.work.headers.l4_offset + icmp::OFFSET_CHECKSUM, walk.work.headers.error_l4_offset + field);
    walk.packet.replace_l4_checksum(checksum, u32::from(old.to_be()), u32::from(new.to_be()), 2, 0)?;
    walk.packet.store::<2>(port, &new.to_be_bytes())
}
