//! ICMP error messages about a frame (RFC 792; when to be silent and how to fill the IPv4 header: RFC 1812
//! §4.3.2; the next-hop MTU: RFC 1191 §4).

use super::{DATAGRAM_MAX, Frame, TAG_LEN};
use crate::{MacAddr, U16, checksum, ethernet, icmp, ipv4};

/// Bytes of the offending datagram that fit behind the two headers.
const QUOTE_MAX: usize = DATAGRAM_MAX - ipv4::LEN - icmp::LEN;
/// What RFC 792 demands of the quote behind the offending IPv4 header.
const QUOTE_PAYLOAD_MIN: usize = 8;
const TTL: u8 = 64;
/// Precedence 6 "internetwork control", and which bits of the offender's service field are kept: not its
/// precedence and not ECN (RFC 1812 §4.3.2.5).
const SERVICE_CONTROL: u8 = 0xc0;
const SERVICE_KEPT: u8 = 0x1c;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// The TTL ran out in transit (11/0).
    TimeExceeded,
    /// Too big for the next hop, and must not be fragmented (3/4). `mtu`: of the next hop, bytes of IPv4.
    FragmentationNeeded { mtu: u16 },
    /// No route (3/0).
    NetUnreachable,
    /// The next hop does not answer (3/1).
    HostUnreachable,
    /// Nobody listens on the port (3/3).
    PortUnreachable,
    /// Policy forbids it (3/13).
    AdminProhibited,
}

impl IcmpError {
    /// Type, code, and the last two bytes of the header.
    const fn fields(self) -> (u8, u8, u16) {
        match self {
            Self::TimeExceeded => (icmp::TYPE_TIME_EXCEEDED, 0, 0),
            Self::FragmentationNeeded { mtu } => {
                (icmp::TYPE_UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED, mtu)
            }
            Self::NetUnreachable => (icmp::TYPE_UNREACHABLE, icmp::CODE_NET_UNREACHABLE, 0),
            Self::HostUnreachable => (icmp::TYPE_UNREACHABLE, icmp::CODE_HOST_UNREACHABLE, 0),
            Self::PortUnreachable => (icmp::TYPE_UNREACHABLE, icmp::CODE_PORT_UNREACHABLE, 0),
            Self::AdminProhibited => (icmp::TYPE_UNREACHABLE, icmp::CODE_ADMIN_PROHIBITED, 0),
        }
    }
}

/// Why no error may be sent about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too few bytes to quote, or to tell what it is.
    Truncated,
    NotIpv4,
    /// The IPv4 header contradicts itself or its checksum.
    Malformed,
    /// An ICMP error, or an ICMP message of unknown type, which might be one.
    AboutIcmpError,
    LaterFragment,
    /// Sent to a group or to everybody, on either layer.
    DestinationNotUnicast,
    /// Nobody in particular could be told.
    SourceNotUnicast,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "too few bytes of the offending frame",
            Self::NotIpv4 => "the offending frame is not IPv4",
            Self::Malformed => "the offending IPv4 header is malformed",
            Self::AboutIcmpError => "no ICMP error about an ICMP error",
            Self::LaterFragment => "no ICMP error about a fragment other than the first",
            Self::DestinationNotUnicast => "no ICMP error about broadcast or multicast",
            Self::SourceNotUnicast => "the offending source is no single station",
        })
    }
}

impl core::error::Error for Refusal {}

/// Who sends the error: the router that could not forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorSender {
    pub mac: MacAddr,
    pub ip: [u8; 4],
    /// The 802.1Q tag, if the offender's network has one.
    pub vlan: Option<u16>,
}

/// The frame that tells the source of `offending` about `error`, addressed to the MAC it came from.
///
/// `offending`: the frame from its Ethernet header, or its beginning: with options up to 94 bytes suffice,
/// more is quoted. One 802.1Q tag in it is skipped.
pub fn icmp_error(error: IcmpError, offending: &[u8], sender: &ErrorSender) -> Result<Frame, Refusal> {
    let (ethernet, datagram) = link(offending)?;
    let header = validated(datagram)?;
    may_be_told(&ethernet, &header, datagram)?;
    let quote = quote(&header, datagram)?;

    let total_len = ipv4::LEN + icmp::LEN + quote.len();
    let mut outer = ipv4::Header {
        version_ihl: 0x45,
        dscp_ecn: SERVICE_CONTROL | (header.dscp_ecn & SERVICE_KEPT),
        // At most DATAGRAM_MAX.
        total_len: U16::new(total_len as u16),
        // Never fragmented, so the identification needs not be unique (RFC 6864 §4.1).
        identification: U16::new(0),
        flags_fragment: U16::new(ipv4::FLAG_DF),
        ttl: TTL,
        protocol: ipv4::PROTOCOL_ICMP,
        checksum: U16::new(0),
        src: sender.ip,
        dst: header.src,
    };
    outer.checksum = U16::new(checksum::checksum(&crate::bytes::<_, { ipv4::LEN }>(outer)));
    let (kind, code, last) = error.fields();
    let mut message =
        icmp::Header { kind, code, checksum: U16::new(0), id: U16::new(0), sequence: U16::new(last) };
    let sum = checksum::sum(&crate::bytes::<_, { icmp::LEN }>(message)).wrapping_add(checksum::sum(quote));
    message.checksum = U16::new(!checksum::fold(sum));

    let mut frame = Frame::new(ethernet.src, sender.mac, sender.vlan, ethernet::TYPE_IPV4);
    frame.push(&crate::bytes::<_, { ipv4::LEN }>(outer));
    frame.push(&crate::bytes::<_, { icmp::LEN }>(message));
    frame.push(quote);
    Ok(frame)
}

/// The Ethernet header and what follows it and a tag.
fn link(frame: &[u8]) -> Result<(ethernet::Header, &[u8]), Refusal> {
    let ethernet: ethernet::Header = crate::read(frame, 0).ok_or(Refusal::Truncated)?;
    let (ethertype, start) = match ethernet.ethertype.get() {
        ethernet::TYPE_VLAN => {
            let inner: U16 = crate::read(frame, ethernet::LEN + 2).ok_or(Refusal::Truncated)?;
            (inner.get(), ethernet::LEN + TAG_LEN)
        }
        ethertype => (ethertype, ethernet::LEN),
    };
    if ethertype != ethernet::TYPE_IPV4 {
        return Err(Refusal::NotIpv4);
    }
    Ok((ethernet, frame.get(start..).ok_or(Refusal::Truncated)?))
}

/// The IPv4 header, if it is one a router may act on (RFC 1812 §5.2.2).
fn validated(datagram: &[u8]) -> Result<ipv4::Header, Refusal> {
    let header: ipv4::Header = crate::read(datagram, 0).ok_or(Refusal::Truncated)?;
    let header_len = header.header_len() as usize;
    if header.version() != 4 || header_len < ipv4::LEN || usize::from(header.total_len.get()) < header_len {
        return Err(Refusal::Malformed);
    }
    let with_options = datagram.get(..header_len).ok_or(Refusal::Truncated)?;
    if checksum::checksum(with_options) != 0 {
        return Err(Refusal::Malformed);
    }
    Ok(header)
}

/// RFC 1812 §4.3.2.7: what an ICMP error must never be about.
fn may_be_told(ethernet: &ethernet::Header, header: &ipv4::Header, datagram: &[u8]) -> Result<(), Refusal> {
    if header.flags_fragment.get() & ipv4::FRAGMENT_OFFSET != 0 {
        return Err(Refusal::LaterFragment);
    }
    let [first, ..] = header.dst;
    // Class D, class E and the limited broadcast address.
    if ethernet.dst.is_multicast() || first >= 224 {
        return Err(Refusal::DestinationNotUnicast);
    }
    let [first, ..] = header.src;
    if ethernet.src.is_multicast() || ethernet.src.is_zero() || matches!(first, 0 | 127 | 224..) {
        return Err(Refusal::SourceNotUnicast);
    }
    if header.protocol == ipv4::PROTOCOL_ICMP {
        let kind = datagram.get(header.header_len() as usize).ok_or(Refusal::Truncated)?;
        if !is_query(*kind) {
            return Err(Refusal::AboutIcmpError);
        }
    }
    Ok(())
}

/// ICMP messages that are no errors (RFC 1812 §4.3.1): echo, router discovery, timestamp, information and
/// address mask. An unknown type could be an error.
const fn is_query(kind: u8) -> bool {
    matches!(kind, icmp::TYPE_ECHO_REPLY | icmp::TYPE_ECHO_REQUEST | 9 | 10 | 13..=18)
}

/// The offending datagram, as much of it as there is and fits; Ethernet's padding is not part of it.
fn quote<'a>(header: &ipv4::Header, datagram: &'a [u8]) -> Result<&'a [u8], Refusal> {
    let total_len = usize::from(header.total_len.get());
    let quote_len = total_len.min(datagram.len()).min(QUOTE_MAX);
    if quote_len < total_len.min(header.header_len() as usize + QUOTE_PAYLOAD_MIN) {
        return Err(Refusal::Truncated);
    }
    datagram.get(..quote_len).ok_or(Refusal::Truncated)
}

#[cfg(test)]
mod tests;
