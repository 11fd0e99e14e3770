//! Frames in words: composing what is described, reading what came out, and answering it.

use model::trace::{Headers, Tunnel};
use packet::{
    MacAddr, U16, U32, arp, bytes, checksum, ethernet, geneve, icmp, ipv4, ipv6, nd, tcp, udp, vxlan,
};
use std::net::{IpAddr, Ipv4Addr};

mod v6;

/// Bytes in front of the inner frame of a tunnel packet.
const OUTER_LEN: usize = ethernet::LEN + ipv4::LEN + udp::LEN + geneve::LEN;
/// Payload of a packet whose length was not given: what `ping` sends.
const PAYLOAD_DEFAULT: usize = 56;
const TCP_WINDOW: u16 = 65_000;

/// A packet that makes no sense, by field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPacket {
    #[error("length: {length} bytes are fewer than the {headers} of the headers")]
    TooShort { length: u16, headers: usize },
    #[error("tcp_flags: '{0}' is none of syn, ack, fin, rst, psh, urg")]
    Flag(String),
    #[error("source_ip: {src} and the receiver's {dst} are not of one IP version")]
    Families { src: IpAddr, dst: IpAddr },
    #[error("dont_fragment: no router fragments IPv6, so it has no such bit")]
    Ipv6DontFragment,
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// An echo request.
    Echo {
        id: u16,
    },
    Tcp {
        src: u16,
        dst: u16,
        flags: u8,
    },
    Udp {
        src: u16,
        dst: u16,
    },
    /// A protocol by number, without ports.
    Other(u8),
}

/// A packet in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src_mac: MacAddr,
    pub dst_mac: MacAddr,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub transport: Transport,
    /// IPv6: the hop limit.
    pub ttl: u8,
    pub dont_fragment: bool,
    /// Bytes of the IP packet.
    pub length: Option<u16>,
}

/// `syn,ack` as the bits of the header.
///
/// # Errors
/// One of them is no flag.
pub fn tcp_flags(text: &str) -> Result<u8, NotAPacket> {
    let names = [
        ("fin", tcp::FLAG_FIN),
        ("syn", tcp::FLAG_SYN),
        ("rst", tcp::FLAG_RST),
        ("psh", 8),
        ("ack", tcp::FLAG_ACK),
        ("urg", 32),
    ];
    let bit = |name: &str| {
        let known = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
        known.map(|(_, bit)| *bit).ok_or_else(|| NotAPacket::Flag(name.to_owned()))
    };
    text.split(',').try_fold(0, |flags, name| Ok(flags | bit(name)?))
}

impl Packet {
    /// The frame, with right checksums.
    ///
    /// # Errors
    /// The length has no room for the headers, the ends are not of one family, or IPv6 has no such field.
    pub fn compose(&self) -> Result<Vec<u8>, NotAPacket> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.compose_ipv4((src, dst)),
            (IpAddr::V6(src), IpAddr::V6(dst)) => v6::compose(self, (src, dst)),
            (src, dst) => Err(NotAPacket::Families { src, dst }),
        }
    }

    fn compose_ipv4(&self, ends: (Ipv4Addr, Ipv4Addr)) -> Result<Vec<u8>, NotAPacket> {
        let mut segment = self.transport_header();
        let headers = ipv4::LEN + segment.len();
        let length = self.length.map_or(headers + PAYLOAD_DEFAULT, usize::from);
        let payload = length.checked_sub(headers);
        let payload = payload.ok_or(NotAPacket::TooShort { length: length as u16, headers })?;
        segment.resize(segment.len() + payload, 0);
        if let Transport::Udp { .. } = self.transport {
            let len = segment.len() as u16;
            segment.splice(4..6, len.to_be_bytes());
        }
        self.fill_checksum(&mut segment, ends);
        let ethernet = ethernet::Header {
            dst: self.dst_mac,
            src: self.src_mac,
            ethertype: U16::new(ethernet::TYPE_IPV4),
        };
        let mut frame = bytes::<_, { ethernet::LEN }>(ethernet).to_vec();
        frame.extend(bytes::<_, { ipv4::LEN }>(self.ipv4(length as u16, ends)));
        frame.extend(segment);
        Ok(frame)
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Echo { .. } => ipv4::PROTOCOL_ICMP,
            Transport::Tcp { .. } => ipv4::PROTOCOL_TCP,
            Transport::Udp { .. } => ipv4::PROTOCOL_UDP,
            Transport::Other(number) => number,
        }
    }

    fn ipv4(&self, total_len: u16, (src, dst): (Ipv4Addr, Ipv4Addr)) -> ipv4::Header {
        let mut header = ipv4::Header {
            version_ihl: 0x45,
            dscp_ecn: 0,
            total_len: U16::new(total_len),
            identification: U16::new(0),
            flags_fragment: U16::new(if self.dont_fragment { ipv4::FLAG_DF } else { 0 }),
            ttl: self.ttl,
            protocol: self.protocol(),
            checksum: U16::new(0),
            src: src.octets(),
            dst: dst.octets(),
        };
        header.checksum = U16::new(checksum::checksum(&bytes::<_, { ipv4::LEN }>(header)));
        header
    }

    fn transport_header(&self) -> Vec<u8> {
        let none = U16::new(0);
        match self.transport {
            Transport::Echo { id } => {
                let (id, sequence) = (U16::new(id), U16::new(1));
                let header =
                    icmp::Header { kind: icmp::TYPE_ECHO_REQUEST, code: 0, checksum: none, id, sequence };
                bytes::<_, { icmp::LEN }>(header).to_vec()
            }
            Transport::Tcp { src, dst, flags } => {
                let header = tcp::Header {
                    src_port: U16::new(src),
                    dst_port: U16::new(dst),
                    sequence: U32::new(1),
                    acknowledgment: U32::new(u32::from(flags & tcp::FLAG_ACK != 0)),
                    data_offset: (tcp::LEN as u8 / 4) << 4,
                    flags,
                    window: U16::new(TCP_WINDOW),
                    checksum: none,
                    urgent: none,
                };
                bytes::<_, { tcp::LEN }>(header).to_vec()
            }
            Transport::Udp { src, dst } => {
                let header = udp::Header {
                    src_port: U16::new(src),
                    dst_port: U16::new(dst),
                    len: none,
                    checksum: none,
                };
                bytes::<_, { udp::LEN }>(header).to_vec()
            }
            Transport::Other(_) => Vec::new(),
        }
    }

    fn fill_checksum(&self, segment: &mut [u8], (src, dst): (Ipv4Addr, Ipv4Addr)) {
        let (offset, pseudo) = match self.transport {
            Transport::Echo { .. } => (icmp::OFFSET_CHECKSUM, false),
            Transport::Tcp { .. } => (tcp::OFFSET_CHECKSUM, true),
            Transport::Udp { .. } => (udp::OFFSET_CHECKSUM, true),
            Transport::Other(_) => return,
        };
        put_checksum(segment, offset as usize, pseudo.then_some((src, dst, self.protocol())));
    }
}

/// Writes a transport checksum; `pseudo`: addresses and protocol that it covers too.
fn put_checksum(segment: &mut [u8], offset: usize, pseudo: Option<(Ipv4Addr, Ipv4Addr, u8)>) {
    if let Some(field) = segment.get_mut(offset..offset + 2) {
        field.fill(0);
    }
    let mut sum = checksum::sum(segment);
    if let Some((src, dst, protocol)) = pseudo {
        sum = sum
            .wrapping_add(checksum::sum(&src.octets()))
            .wrapping_add(checksum::sum(&dst.octets()))
            .wrapping_add(u32::from(protocol))
            .wrapping_add(segment.len() as u32);
    }
    let sum = !checksum::fold(sum);
    let sum = if sum == 0 && pseudo.is_some() { 0xffff } else { sum };
    if let Some(field) = segment.get_mut(offset..offset + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// What whoever gets this frame would answer: an echo reply, the segment that follows, or a datagram back. None:
/// nothing answers it.
pub fn answer_to(frame: &[u8]) -> Option<Vec<u8>> {
    match packet::read::<ethernet::Header>(frame, 0)?.ethertype.get() {
        ethernet::TYPE_IPV4 => answer_to_ipv4(frame),
        ethernet::TYPE_IPV6 => v6::answer_to(frame),
        _ => None,
    }
}

fn answer_to_ipv4(frame: &[u8]) -> Option<Vec<u8>> {
    let mut answer = frame.to_vec();
    let header: ipv4::Header = packet::read(frame, ethernet::LEN)?;
    let ethernet: ethernet::Header = packet::read(frame, 0)?;
    if header.is_fragment() {
        return None;
    }
    answer.splice(..12, [ethernet.src.0, ethernet.dst.0].concat());
    let back = ipv4::Header { src: header.dst, dst: header.src, ttl: 64, checksum: U16::new(0), ..header };
    let header_len = header.header_len() as usize;
    answer.splice(ethernet::LEN..ethernet::LEN + ipv4::LEN, bytes::<_, { ipv4::LEN }>(back));
    let sum = checksum::checksum(answer.get(ethernet::LEN..ethernet::LEN + header_len)?);
    answer.splice(ethernet::LEN + 10..ethernet::LEN + 12, sum.to_be_bytes());
    let end = ethernet::LEN + usize::from(header.total_len.get());
    let segment = answer.get_mut(ethernet::LEN + header_len..end)?;
    let pseudo = Some((back.src.into(), back.dst.into(), header.protocol));
    match header.protocol {
        ipv4::PROTOCOL_ICMP => {
            let kind = segment.first_mut().filter(|kind| **kind == icmp::TYPE_ECHO_REQUEST)?;
            *kind = icmp::TYPE_ECHO_REPLY;
            put_checksum(segment, icmp::OFFSET_CHECKSUM as usize, None);
        }
        ipv4::PROTOCOL_TCP => {
            answer_tcp(segment)?;
            put_checksum(segment, tcp::OFFSET_CHECKSUM as usize, pseudo);
        }
        ipv4::PROTOCOL_UDP => {
            swap_ports(segment)?;
            put_checksum(segment, udp::OFFSET_CHECKSUM as usize, pseudo);
        }
        _ => return None,
    }
    Some(answer)
}

/// None: nothing answers a reset.
fn answer_tcp(segment: &mut [u8]) -> Option<()> {
    swap_ports(segment)?;
    let flags = segment.get_mut(13).filter(|flags| **flags & tcp::FLAG_RST == 0)?;
    *flags = *flags & tcp::FLAG_SYN | tcp::FLAG_ACK;
    Some(())
}

fn swap_ports(segment: &mut [u8]) -> Option<()> {
    let (src, rest) = segment.split_at_mut_checked(2)?;
    src.swap_with_slice(rest.get_mut(..2)?);
    Some(())
}

/// The link's question for the MAC of an address, by ARP or neighbour discovery; untagged. None: the asker's address
/// is of the other family.
pub fn neighbor_question((mac, address): (MacAddr, IpAddr), wanted: IpAddr) -> Option<Vec<u8>> {
    match (address, wanted) {
        (IpAddr::V4(address), IpAddr::V4(wanted)) => Some(arp_request((mac, address), wanted)),
        (IpAddr::V6(address), IpAddr::V6(wanted)) => Some(v6::solicitation((mac, address), wanted)),
        _ => None,
    }
}

fn arp_request((mac, address): (MacAddr, Ipv4Addr), wanted: Ipv4Addr) -> Vec<u8> {
    let sender = packet::compose::ArpSender { mac, ip: address.octets(), vlan: None };
    packet::compose::arp_request(&sender, wanted.octets()).to_vec()
}

/// Who says to have which address, if the frame is such an answer.
pub fn neighbor_answer(frame: &[u8]) -> Option<(MacAddr, IpAddr)> {
    let arp = arp_answer(frame).map(|(mac, address)| (mac, address.into()));
    arp.or_else(|| v6::advertised(frame).map(|(mac, address)| (mac, address.into())))
}

fn arp_answer(frame: &[u8]) -> Option<(MacAddr, Ipv4Addr)> {
    let ethernet: ethernet::Header = packet::read(frame, 0)?;
    let message: arp::Header = packet::read(frame, ethernet::LEN)?;
    let reply = ethernet.ethertype.get() == ethernet::TYPE_ARP && message.operation.get() == arp::OP_REPLY;
    reply.then_some((message.sender_mac, message.sender_ip.into()))
}

/// The MAC that frames to a multicast address go to; none: it is another, and a neighbour is asked for.
pub fn multicast_mac(address: IpAddr) -> Option<MacAddr> {
    match address {
        IpAddr::V6(address) if address.is_multicast() => Some(nd::multicast_mac(&address.octets())),
        _ => None,
    }
}

/// The address that an interface gives itself by its MAC.
pub fn link_local(mac: MacAddr) -> IpAddr {
    IpAddr::from(nd::link_local(mac))
}

/// A frame's MACs: destination and source.
pub fn macs(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    packet::read::<ethernet::Header>(frame, 0).map(|header| (header.dst, header.src))
}

/// A frame with other MACs.
pub fn with_macs(mut frame: Vec<u8>, dst: MacAddr, src: MacAddr) -> Vec<u8> {
    if frame.len() >= ethernet::LEN {
        frame.splice(..12, [dst.0, src.0].concat());
    }
    frame
}

/// The headers of a frame. `tunnel_port`: UDP port of tunnel packets, whose inner headers are told.
pub fn headers(frame: &[u8], vlan: Option<u16>, tunnel_port: Option<(u16, bool)>) -> Headers {
    if let Some((port, geneve)) = tunnel_port
        && let Some(tunnel) = outer(frame, port, geneve)
    {
        let inner = headers(frame.get(OUTER_LEN..).unwrap_or_default(), None, None);
        return Headers { tunnel: Some(tunnel), ..inner };
    }
    let Some(ethernet) = packet::read::<ethernet::Header>(frame, 0) else {
        return Headers { text: "no Ethernet frame".to_owned(), vlan, ..Headers::default() };
    };
    let base = Headers {
        src_mac: ethernet.src.to_string(),
        dst_mac: ethernet.dst.to_string(),
        vlan,
        ..Headers::default()
    };
    match ethernet.ethertype.get() {
        ethernet::TYPE_IPV4 => ip(frame, base),
        ethernet::TYPE_IPV6 => v6::headers(frame, base),
        ethernet::TYPE_ARP => arp_text(frame, base),
        other => {
            Headers { text: format!("EtherType {other:#06x}"), protocol: format!("{other:#06x}"), ..base }
        }
    }
}

/// The outer headers of a tunnel packet.
fn outer(frame: &[u8], port: u16, geneve: bool) -> Option<Tunnel> {
    let ethernet: ethernet::Header = packet::read(frame, 0)?;
    let header: ipv4::Header = packet::read(frame, ethernet::LEN)?;
    let datagram: udp::Header = packet::read(frame, ethernet::LEN + ipv4::LEN)?;
    let tunnel = ethernet.ethertype.get() == ethernet::TYPE_IPV4
        && header.protocol == ipv4::PROTOCOL_UDP
        && datagram.dst_port.get() == port;
    let offset = ethernet::LEN + ipv4::LEN + udp::LEN;
    let (protocol, vni) = if geneve {
        ("geneve", packet::read::<geneve::Header>(frame, offset)?.vni())
    } else {
        ("vxlan", packet::read::<vxlan::Header>(frame, offset)?.vni())
    };
    tunnel.then(|| Tunnel {
        src: header.src.into(),
        dst: header.dst.into(),
        protocol: protocol.to_owned(),
        vni,
    })
}

/// The inner frame of a tunnel packet.
pub fn inner(frame: &[u8]) -> Option<Vec<u8>> {
    frame.get(OUTER_LEN..).map(<[u8]>::to_vec)
}

fn arp_text(frame: &[u8], base: Headers) -> Headers {
    let Some(message) = packet::read::<arp::Header>(frame, ethernet::LEN) else {
        return Headers { text: "truncated ARP".to_owned(), protocol: "arp".to_owned(), ..base };
    };
    let (sender, target) = (Ipv4Addr::from(message.sender_ip), Ipv4Addr::from(message.target_ip));
    let text = match message.operation.get() {
        arp::OP_REQUEST => format!("ARP who has {target}, tell {sender}"),
        arp::OP_REPLY => format!("ARP {sender} is at {}", message.sender_mac),
        other => format!("ARP operation {other}"),
    };
    Headers { text, protocol: "arp".to_owned(), src: Some(sender.into()), dst: Some(target.into()), ..base }
}

fn ip(frame: &[u8], base: Headers) -> Headers {
    let Some(header) = packet::read::<ipv4::Header>(frame, ethernet::LEN) else {
        return Headers { text: "truncated IPv4".to_owned(), ..base };
    };
    let offset = ethernet::LEN + header.header_len() as usize;
    let (src, dst) = (Ipv4Addr::from(header.src), Ipv4Addr::from(header.dst));
    let base = Headers {
        src: Some(src.into()),
        dst: Some(dst.into()),
        ttl: Some(header.ttl),
        length: Some(header.total_len.get()),
        protocol: protocol_name(header.protocol),
        ..base
    };
    let later = header.flags_fragment.get() & ipv4::FRAGMENT_OFFSET != 0;
    let (ports, what) =
        if later { (None, "fragment".to_owned()) } else { transport(frame, offset, header.protocol) };
    let ends = match ports {
        Some((a, b)) if header.protocol != ipv4::PROTOCOL_ICMP => format!("{src}:{a} > {dst}:{b}"),
        _ => format!("{src} > {dst}"),
    };
    let df = if header.dont_fragment() { " DF" } else { "" };
    let text = format!("{what} {ends}, {} bytes, TTL {}{df}", header.total_len.get(), header.ttl);
    Headers { text, src_port: ports.map(|ports| ports.0), dst_port: ports.map(|ports| ports.1), ..base }
}

/// The name of a protocol, or its number.
pub fn protocol_name(number: u8) -> String {
    match number {
        ipv4::PROTOCOL_ICMP => "icmp".to_owned(),
        ipv6::PROTOCOL_ICMP => "icmpv6".to_owned(),
        ipv4::PROTOCOL_TCP => "tcp".to_owned(),
        ipv4::PROTOCOL_UDP => "udp".to_owned(),
        other => other.to_string(),
    }
}

/// Ports and a few words.
fn transport(frame: &[u8], offset: usize, protocol: u8) -> (Option<(u16, u16)>, String) {
    match protocol {
        ipv4::PROTOCOL_ICMP => match packet::read::<icmp::Header>(frame, offset) {
            Some(header) if header.is_echo() => {
                let id = header.id.get();
                let what = if header.kind == icmp::TYPE_ECHO_REQUEST { "request" } else { "reply" };
                (Some((id, id)), format!("ICMP echo {what} id {id}"))
            }
            Some(header) => (None, format!("ICMP {}/{}", header.kind, header.code)),
            None => (None, "truncated ICMP".to_owned()),
        },
        ipv4::PROTOCOL_TCP => match packet::read::<tcp::Header>(frame, offset) {
            Some(header) => {
                let ports = (header.src_port.get(), header.dst_port.get());
                (Some(ports), format!("TCP {}", flag_names(header.flags)))
            }
            None => (None, "truncated TCP".to_owned()),
        },
        ipv4::PROTOCOL_UDP => match packet::read::<udp::Header>(frame, offset) {
            Some(header) => (Some((header.src_port.get(), header.dst_port.get())), "UDP".to_owned()),
            None => (None, "truncated UDP".to_owned()),
        },
        other => (None, format!("IP protocol {other}")),
    }
}

fn flag_names(flags: u8) -> String {
    let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let set = names.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(transport: Transport) -> Packet {
        Packet {
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            src: [192, 168, 10, 11].into(),
            dst: [8, 8, 8, 8].into(),
            transport,
            ttl: 64,
            dont_fragment: false,
            length: None,
        }
    }

    #[test]
    fn a_packet_is_told_as_it_was_described_and_answered_in_the_other_direction() {
        let table = [
            (
                Transport::Echo { id: 7 },
                "ICMP echo request id 7 192.168.10.11 > 8.8.8.8, 84 bytes, TTL 64",
                "ICMP echo reply id 7 8.8.8.8 > 192.168.10.11, 84 bytes, TTL 64",
            ),
            (
                Transport::Tcp { src: 4000, dst: 443, flags: tcp::FLAG_SYN },
                "TCP syn 192.168.10.11:4000 > 8.8.8.8:443, 96 bytes, TTL 64",
                "TCP syn,ack 8.8.8.8:443 > 192.168.10.11:4000, 96 bytes, TTL 64",
            ),
            (
                Transport::Udp { src: 4000, dst: 53 },
                "UDP 192.168.10.11:4000 > 8.8.8.8:53, 84 bytes, TTL 64",
                "UDP 8.8.8.8:53 > 192.168.10.11:4000, 84 bytes, TTL 64",
            ),
        ];
        for (transport, there, back) in table {
            let frame = packet(transport).compose().unwrap();
            assert_eq!(headers(&frame, None, None).text, there);
            let answer = answer_to(&frame).unwrap();
            assert_eq!(headers(&answer, None, None).text, back);
            assert_eq!(macs(&answer), Some((MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]))));
            for frame in [&frame, &answer] {
                assert_eq!(checksum::checksum(&frame[14..34]), 0, "{there}: header checksum");
                let mut sum = checksum::sum(&frame[34..]);
                if frame[23] != ipv4::PROTOCOL_ICMP {
                    sum += checksum::sum(&frame[26..34]) + u32::from(frame[23]) + (frame.len() - 34) as u32;
                }
                assert_eq!(checksum::fold(sum), 0xffff, "{there}: transport checksum");
            }
        }
        assert_eq!(answer_to(&packet(Transport::Other(47)).compose().unwrap()), None, "nobody answers GRE");
    }

    #[test]
    fn what_cannot_be_is_said_by_field() {
        let short = Packet { length: Some(27), ..packet(Transport::Echo { id: 1 }) };
        assert_eq!(short.compose(), Err(NotAPacket::TooShort { length: 27, headers: 28 }));
        assert_eq!(tcp_flags("syn,ack"), Ok(tcp::FLAG_SYN | tcp::FLAG_ACK));
        assert_eq!(tcp_flags("syn,ak"), Err(NotAPacket::Flag("ak".to_owned())));
    }

    #[test]
    fn frames_cut_off_anywhere_are_told_without_a_panic() {
        let frame = packet(Transport::Tcp { src: 1, dst: 2, flags: 2 }).compose().unwrap();
        for len in 0..frame.len() {
            let cut = &frame[..len];
            let _ =
                (headers(cut, None, Some((6081, true))), answer_to(cut), neighbor_answer(cut), inner(cut));
        }
    }
}
