//! IPv6 in frames: composing, reading and answering it, and asking for MACs by neighbour discovery (RFC 4861).

use super::{NotAPacket, PAYLOAD_DEFAULT, Packet, Transport, protocol_name, swap_ports, transport};
use model::trace::Headers;
use packet::nd::{self, Message};
use packet::{MacAddr, U16, U32, bytes, ethernet, icmp, icmp6, ipv4, ipv6, tcp, udp};
use std::net::Ipv6Addr;

/// Extension headers that are stepped over.
const EXTENSIONS_MAX: usize = 8;
const TRANSPORT: usize = ethernet::LEN + ipv6::LEN;
const HOP_LIMIT_ANSWER: u8 = 64;

type Ends = (Ipv6Addr, Ipv6Addr);

/// What stands behind the extension headers.
#[derive(Clone, Copy, Debug)]
struct Upper {
    protocol: u8,
    offset: usize,
    /// A part of a datagram.
    fragment: bool,
    /// Not its first part, so there is no transport header.
    later: bool,
}

impl Upper {
    fn of(frame: &[u8], header: &ipv6::Header) -> Self {
        let mut upper =
            Self { protocol: header.next_header, offset: TRANSPORT, fragment: false, later: false };
        for _ in 0..EXTENSIONS_MAX {
            match upper.next(frame) {
                Some(next) => upper = next,
                None => break,
            }
        }
        upper
    }

    /// None: this is no extension header, or its end is missing.
    fn next(self, frame: &[u8]) -> Option<Self> {
        match self.protocol {
            ipv6::PROTOCOL_HOP_BY_HOP | ipv6::PROTOCOL_DESTINATION_OPTIONS => {
                let options: ipv6::Options = packet::read(frame, self.offset)?;
                let offset = self.offset + options.bytes() as usize;
                Some(Self { protocol: options.next_header, offset, ..self })
            }
            ipv6::PROTOCOL_FRAGMENT => {
                let part: ipv6::Fragment = packet::read(frame, self.offset)?;
                let later = part.offset_more.get() & 0xfff8 != 0;
                let offset = self.offset + ipv6::Fragment::LEN;
                let fragment = !part.is_atomic();
                (!self.later).then_some(Self { protocol: part.next_header, offset, fragment, later })
            }
            _ => None,
        }
    }
}

pub(super) fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Echo { .. } => ipv6::PROTOCOL_ICMP,
        Transport::Tcp { .. } => ipv4::PROTOCOL_TCP,
        Transport::Udp { .. } => ipv4::PROTOCOL_UDP,
        Transport::Other(number) => number,
    }
}

/// As [`Packet::compose`].
pub(super) fn compose(packet: &Packet, ends: Ends) -> Result<Vec<u8>, NotAPacket> {
    if packet.dont_fragment {
        return Err(NotAPacket::Ipv6DontFragment);
    }
    let mut segment = packet.transport_header();
    let headers = ipv6::LEN + segment.len();
    let length = packet.length.map_or(headers + PAYLOAD_DEFAULT, usize::from);
    let payload = length.checked_sub(headers);
    let payload = payload.ok_or(NotAPacket::TooShort { length: length as u16, headers })?;
    segment.resize(segment.len() + payload, 0);
    let protocol = protocol(packet.transport);
    match packet.transport {
        Transport::Echo { .. } => {
            if let Some(kind) = segment.first_mut() {
                *kind = icmp6::TYPE_ECHO_REQUEST;
            }
        }
        Transport::Udp { .. } => {
            let len = segment.len() as u16;
            segment.splice(4..6, len.to_be_bytes());
        }
        Transport::Tcp { .. } | Transport::Other(_) => {}
    }
    put_checksum(&mut segment, ends, protocol);
    Ok(framed((packet.src_mac, packet.dst_mac), ends, (protocol, packet.ttl), &segment))
}

fn framed(
    (src_mac, dst_mac): (MacAddr, MacAddr),
    (src, dst): Ends,
    (next_header, hop_limit): (u8, u8),
    segment: &[u8],
) -> Vec<u8> {
    let ethernet = ethernet::Header { dst: dst_mac, src: src_mac, ethertype: U16::new(ethernet::TYPE_IPV6) };
    let header = ipv6::Header {
        version_class_label: U32::new(6 << 28),
        payload_len: U16::new(segment.len() as u16),
        next_header,
        hop_limit,
        src: src.octets(),
        dst: dst.octets(),
    };
    let mut frame = bytes::<_, { ethernet::LEN }>(ethernet).to_vec();
    frame.extend(bytes::<_, { ipv6::LEN }>(header));
    frame.extend(segment);
    frame
}

/// Of protocols that have one.
fn put_checksum(segment: &mut [u8], (src, dst): Ends, protocol: u8) {
    let offset = match protocol {
        ipv6::PROTOCOL_ICMP => icmp::OFFSET_CHECKSUM,
        ipv4::PROTOCOL_TCP => tcp::OFFSET_CHECKSUM,
        ipv4::PROTOCOL_UDP => udp::OFFSET_CHECKSUM,
        _ => return,
    } as usize;
    if let Some(field) = segment.get_mut(offset..offset + 2) {
        field.fill(0);
    }
    let sum = icmp6::transport_checksum(&src.octets(), &dst.octets(), protocol, segment);
    let sum = if sum == 0 && protocol == ipv4::PROTOCOL_UDP { 0xffff } else { sum };
    if let Some(field) = segment.get_mut(offset..offset + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// As [`super::answer_to`]. Extension headers are not sent back.
pub(super) fn answer_to(frame: &[u8]) -> Option<Vec<u8>> {
    let ethernet: ethernet::Header = packet::read(frame, 0)?;
    let header: ipv6::Header = packet::read(frame, ethernet::LEN)?;
    let upper = Upper::of(frame, &header);
    let ends = (Ipv6Addr::from(header.dst), Ipv6Addr::from(header.src));
    if upper.fragment || ends.0.is_multicast() {
        return None;
    }
    let end = TRANSPORT + usize::from(header.payload_len.get());
    let mut segment = frame.get(upper.offset..end)?.to_vec();
    match upper.protocol {
        ipv6::PROTOCOL_ICMP => {
            let kind = segment.first_mut().filter(|kind| **kind == icmp6::TYPE_ECHO_REQUEST)?;
            *kind = icmp6::TYPE_ECHO_REPLY;
        }
        ipv4::PROTOCOL_TCP => super::answer_tcp(&mut segment)?,
        ipv4::PROTOCOL_UDP => swap_ports(&mut segment)?,
        _ => return None,
    }
    put_checksum(&mut segment, ends, upper.protocol);
    Some(framed((ethernet.dst, ethernet.src), ends, (upper.protocol, HOP_LIMIT_ANSWER), &segment))
}

/// Asks for the MAC of an address, as its owner is asked on a link; untagged.
pub(super) fn solicitation((mac, address): (MacAddr, Ipv6Addr), wanted: Ipv6Addr) -> Vec<u8> {
    let group = nd::solicited_node(&wanted.octets());
    let message = Message::solicitation(wanted.octets(), mac);
    let packet = nd::Packet::new(address.octets(), group, message);
    let dst = nd::multicast_mac(&group);
    let ethernet = ethernet::Header { dst, src: mac, ethertype: U16::new(ethernet::TYPE_IPV6) };
    let mut frame = bytes::<_, { ethernet::LEN }>(ethernet).to_vec();
    frame.extend(bytes::<_, { nd::Packet::LEN }>(packet));
    frame
}

/// Who is advertised to have which address.
pub(super) fn advertised(frame: &[u8]) -> Option<(MacAddr, Ipv6Addr)> {
    let ethernet: ethernet::Header = packet::read(frame, 0)?;
    let header: ipv6::Header = packet::read(frame, ethernet::LEN)?;
    let message: Message = packet::read(frame, TRANSPORT)?;
    let advertisement = ethernet.ethertype.get() == ethernet::TYPE_IPV6
        && header.next_header == ipv6::PROTOCOL_ICMP
        && message.header.kind == icmp6::TYPE_NEIGHBOR_ADVERTISEMENT
        && message.option.kind == nd::OPTION_TARGET_MAC;
    advertisement.then(|| (message.option.mac, message.header.target.into()))
}

pub(super) fn headers(frame: &[u8], base: Headers) -> Headers {
    let Some(header) = packet::read::<ipv6::Header>(frame, ethernet::LEN) else {
        return Headers { text: "truncated IPv6".to_owned(), ..base };
    };
    let upper = Upper::of(frame, &header);
    let (src, dst) = (Ipv6Addr::from(header.src), Ipv6Addr::from(header.dst));
    let (ports, what) = match upper.protocol {
        _ if upper.later => (None, "fragment".to_owned()),
        ipv6::PROTOCOL_ICMP => message(frame, upper.offset),
        other => transport(frame, upper.offset, other),
    };
    let ends = match ports {
        Some((a, b)) if upper.protocol != ipv6::PROTOCOL_ICMP => format!("[{src}]:{a} > [{dst}]:{b}"),
        _ => format!("{src} > {dst}"),
    };
    let length = header.payload_len.get().saturating_add(ipv6::LEN as u16);
    let text = neighbor_text(frame, upper, src)
        .unwrap_or_else(|| format!("{what} {ends}, {length} bytes, hop limit {}", header.hop_limit));
    Headers {
        text,
        protocol: protocol_name(upper.protocol),
        src: Some(src.into()),
        dst: Some(dst.into()),
        ttl: Some(header.hop_limit),
        length: Some(length),
        src_port: ports.map(|ports| ports.0),
        dst_port: ports.map(|ports| ports.1),
        ..base
    }
}

/// A solicitation or advertisement as ARP would say it; none: it is none.
fn neighbor_text(frame: &[u8], upper: Upper, src: Ipv6Addr) -> Option<String> {
    let header: nd::Header = packet::read(frame, upper.offset)?;
    let target = Ipv6Addr::from(header.target);
    match header.kind {
        _ if upper.later || upper.protocol != ipv6::PROTOCOL_ICMP => None,
        icmp6::TYPE_NEIGHBOR_SOLICITATION => Some(format!("ICMPv6 who has {target}, tell {src}")),
        icmp6::TYPE_NEIGHBOR_ADVERTISEMENT => {
            let option = packet::read::<nd::Option>(frame, upper.offset + nd::LEN);
            let option = option.filter(|option| option.kind == nd::OPTION_TARGET_MAC);
            Some(option.map_or_else(
                || format!("ICMPv6 here is {target}"),
                |option| format!("ICMPv6 {target} is at {}", option.mac),
            ))
        }
        _ => None,
    }
}

/// An ICMPv6 message: the identifier of an echo, and a few words.
fn message(frame: &[u8], offset: usize) -> (Option<(u16, u16)>, String) {
    // Type, code and identifier stand where ICMP's do.
    let Some(header) = packet::read::<icmp::Header>(frame, offset) else {
        return (None, "truncated ICMPv6".to_owned());
    };
    let id = header.id.get();
    match header.kind {
        icmp6::TYPE_ECHO_REQUEST => (Some((id, id)), format!("ICMPv6 echo request id {id}")),
        icmp6::TYPE_ECHO_REPLY => (Some((id, id)), format!("ICMPv6 echo reply id {id}")),
        icmp6::TYPE_ROUTER_SOLICITATION => (None, "ICMPv6 router solicitation".to_owned()),
        icmp6::TYPE_ROUTER_ADVERTISEMENT => (None, "ICMPv6 router advertisement".to_owned()),
        icmp6::TYPE_UNREACHABLE => (None, format!("ICMPv6 unreachable, code {}", header.code)),
        icmp6::TYPE_PACKET_TOO_BIG => {
            let mtu = u32::from(id) << 16 | u32::from(header.sequence.get());
            (None, format!("ICMPv6 packet too big, MTU {mtu}"))
        }
        icmp6::TYPE_TIME_EXCEEDED => (None, "ICMPv6 time exceeded".to_owned()),
        kind => (None, format!("ICMPv6 {kind}/{}", header.code)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{answer_to, headers, macs, neighbor_answer, neighbor_question};
    use super::*;

    const VM: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x11);
    const OUTSIDE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 8);
    const VM_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn packet(transport: Transport) -> Packet {
        Packet {
            src_mac: VM_MAC,
            dst_mac: ROUTER_MAC,
            src: VM.into(),
            dst: OUTSIDE.into(),
            transport,
            ttl: 64,
            dont_fragment: false,
            length: None,
        }
    }

    /// A right checksum makes the sum of what it covers zero.
    fn checksum_holds(frame: &[u8]) -> bool {
        let (src, dst) = (frame[22..38].try_into().unwrap(), frame[38..54].try_into().unwrap());
        icmp6::transport_checksum(src, dst, frame[20], &frame[54..]) == 0
    }

    #[test]
    fn a_packet_is_told_as_it_was_described_and_answered_in_the_other_direction() {
        let table = [
            (
                Transport::Echo { id: 7 },
                "ICMPv6 echo request id 7 2001:db8:1::11 > 2001:db8:ffff::8, 104 bytes, hop limit 64",
                "ICMPv6 echo reply id 7 2001:db8:ffff::8 > 2001:db8:1::11, 104 bytes, hop limit 64",
            ),
            (
                Transport::Tcp { src: 4000, dst: 443, flags: tcp::FLAG_SYN },
                "TCP syn [2001:db8:1::11]:4000 > [2001:db8:ffff::8]:443, 116 bytes, hop limit 64",
                "TCP syn,ack [2001:db8:ffff::8]:443 > [2001:db8:1::11]:4000, 116 bytes, hop limit 64",
            ),
            (
                Transport::Udp { src: 4000, dst: 53 },
                "UDP [2001:db8:1::11]:4000 > [2001:db8:ffff::8]:53, 104 bytes, hop limit 64",
                "UDP [2001:db8:ffff::8]:53 > [2001:db8:1::11]:4000, 104 bytes, hop limit 64",
            ),
        ];
        for (transport, there, back) in table {
            let frame = packet(transport).compose().unwrap();
            assert_eq!(headers(&frame, None, None).text, there);
            let answer = answer_to(&frame).unwrap();
            let told = headers(&answer, None, None);
            assert_eq!(
                (told.text.as_str(), told.src, told.dst),
                (back, Some(OUTSIDE.into()), Some(VM.into()))
            );
            assert_eq!(macs(&answer), Some((VM_MAC, ROUTER_MAC)));
            assert!(checksum_holds(&frame) && checksum_holds(&answer), "{there}");
            for len in 0..frame.len() {
                let _ = (headers(&frame[..len], None, None), answer_to(&frame[..len]));
            }
        }
        assert_eq!(answer_to(&packet(Transport::Other(47)).compose().unwrap()), None, "nobody answers GRE");
    }

    #[test]
    fn extension_headers_are_stepped_over_and_not_sent_back() {
        let plain = packet(Transport::Udp { src: 4000, dst: 53 }).compose().unwrap();
        let with = |extensions: &[(u8, [u8; 8])]| {
            let mut frame = plain.clone();
            let mut next = &mut frame[20];
            let mut bytes = Vec::new();
            for (number, extension) in extensions {
                *next = *number;
                bytes.push(*extension);
                next = &mut bytes.last_mut().unwrap()[0];
            }
            *next = 17;
            let bytes = bytes.concat();
            frame[18..20].copy_from_slice(&(64 + bytes.len() as u16).to_be_bytes());
            frame.splice(54..54, bytes);
            frame
        };
        let (options, atomic, first, later) =
            ([0; 8], [0; 8], [0, 0, 0, 1, 0, 0, 0, 9], [0, 0, 0, 8, 0, 0, 0, 9]);
        let whole = with(&[(0, options), (60, options), (44, atomic)]);
        assert!(headers(&whole, None, None).text.starts_with("UDP [2001:db8:1::11]:4000 > "));
        assert_eq!(answer_to(&whole), answer_to(&plain));
        assert!(headers(&with(&[(44, first)]), None, None).text.starts_with("UDP"));
        assert!(headers(&with(&[(44, later)]), None, None).text.starts_with("fragment 2001:db8:1::11 > "));
        for fragment in [first, later] {
            assert_eq!(answer_to(&with(&[(44, fragment)])), None);
        }
        for len in 0..whole.len() {
            let _ = (headers(&whole[..len], None, None), answer_to(&whole[..len]));
        }
    }

    #[test]
    fn who_has_an_address_is_asked_and_heard() {
        let question = neighbor_question((VM_MAC, VM.into()), OUTSIDE.into()).unwrap();
        let told = headers(&question, None, None);
        assert_eq!(told.text, "ICMPv6 who has 2001:db8:ffff::8, tell 2001:db8:1::11");
        assert_eq!(told.dst_mac, "33:33:ff:00:00:08");
        assert!(checksum_holds(&question));
        assert_eq!(neighbor_answer(&question), None, "a question is no answer");
        let message = Message::advertisement(nd::FLAG_SOLICITED, OUTSIDE.octets(), ROUTER_MAC);
        let answer = nd::Packet::new(OUTSIDE.octets(), VM.octets(), message);
        let mut frame = question.clone();
        frame.splice(14.., bytes::<_, { nd::Packet::LEN }>(answer));
        assert_eq!(neighbor_answer(&frame), Some((ROUTER_MAC, OUTSIDE.into())));
        assert_eq!(headers(&frame, None, None).text, "ICMPv6 2001:db8:ffff::8 is at 02:00:00:00:00:02");
        for len in 0..frame.len() {
            assert_eq!(neighbor_answer(&frame[..len]), None);
        }
    }

    #[test]
    fn what_cannot_be_is_said_by_field() {
        let echo = packet(Transport::Echo { id: 1 });
        let short = Packet { length: Some(47), ..echo };
        assert_eq!(short.compose(), Err(NotAPacket::TooShort { length: 47, headers: 48 }));
        let df = Packet { dont_fragment: true, ..echo };
        assert_eq!(df.compose(), Err(NotAPacket::Ipv6DontFragment));
        let mixed = Packet { src: [10, 0, 0, 1].into(), ..echo };
        assert_eq!(mixed.compose(), Err(NotAPacket::Families { src: mixed.src, dst: mixed.dst }));
    }

    #[test]
    fn other_messages_are_told_in_one_line() {
        let head = "02000000000202000000000186dd6000000000083a40";
        let ends = "20010db8000000000000000000000001".to_owned() + "20010db8000000000000000000000002";
        for (payload, want) in [
            ("0104123400000000", "ICMPv6 unreachable, code 4"),
            ("0200123400000578", "ICMPv6 packet too big, MTU 1400"),
            ("0300123400000000", "ICMPv6 time exceeded"),
            ("8500123400000000", "ICMPv6 router solicitation"),
            ("8f00123400000001", "ICMPv6 143/0"),
        ] {
            let frame: model::trace::Hex = format!("{head}{ends}{payload}").parse().unwrap();
            let text = headers(&frame.0, None, None).text;
            assert_eq!(text, format!("{want} 2001:db8::1 > 2001:db8::2, 48 bytes, hop limit 64"));
        }
    }
}
