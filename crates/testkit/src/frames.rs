//! Frames as VMs and outside hosts send them, built and checked with etherparse.

use etherparse::{
    Icmpv4Slice, Icmpv4Type, Icmpv6Type, IpHeaders, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket,
    TransportSlice,
};
use packet::{MacAddr, arp, bytes, ethernet, nd};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Addresses of a packet: MACs, IPs and, where there are any, ports.
#[derive(Clone, Copy, Debug)]
pub struct Ends<A = Ipv4Addr> {
    pub src_mac: MacAddr,
    pub dst_mac: MacAddr,
    pub src: A,
    pub dst: A,
    pub src_port: u16,
    pub dst_port: u16,
}

/// Addresses of a family.
pub trait Ip: Copy {
    /// A packet as far as its IP header.
    fn builder(ends: &Ends<Self>, ttl: u8) -> PacketBuilderStep<IpHeaders>;
    /// A whole echo request (`reply` false) or reply with `src_port` as its identifier.
    fn echo(ends: &Ends<Self>, reply: bool, data: &[u8]) -> Vec<u8>;
}

impl Ip for Ipv4Addr {
    fn builder(ends: &Ends, ttl: u8) -> PacketBuilderStep<IpHeaders> {
        let link = PacketBuilder::ethernet2(ends.src_mac.0, ends.dst_mac.0);
        link.ipv4(ends.src.octets(), ends.dst.octets(), ttl)
    }

    fn echo(ends: &Ends, reply: bool, data: &[u8]) -> Vec<u8> {
        let (builder, id) = (Self::builder(ends, 64), ends.src_port);
        let echo = if reply { builder.icmpv4_echo_reply(id, 1) } else { builder.icmpv4_echo_request(id, 1) };
        let mut frame = Vec::new();
        echo.write(&mut frame, data).expect("a vector takes every write");
        frame
    }
}

impl Ip for Ipv6Addr {
    fn builder(ends: &Ends<Self>, ttl: u8) -> PacketBuilderStep<IpHeaders> {
        let link = PacketBuilder::ethernet2(ends.src_mac.0, ends.dst_mac.0);
        link.ipv6(ends.src.octets(), ends.dst.octets(), ttl)
    }

    fn echo(ends: &Ends<Self>, reply: bool, data: &[u8]) -> Vec<u8> {
        let (builder, id) = (Self::builder(ends, 64), ends.src_port);
        let echo = if reply { builder.icmpv6_echo_reply(id, 1) } else { builder.icmpv6_echo_request(id, 1) };
        let mut frame = Vec::new();
        echo.write(&mut frame, data).expect("a vector takes every write");
        frame
    }
}

pub fn udp<A: Ip>(ends: &Ends<A>, payload: &[u8]) -> Vec<u8> {
    udp_ttl(ends, payload, 64)
}

pub fn udp_ttl<A: Ip>(ends: &Ends<A>, payload: &[u8], ttl: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = A::builder(ends, ttl).udp(ends.src_port, ends.dst_port);
    builder.write(&mut frame, payload).expect("a vector takes every write");
    frame
}

/// TCP flags that a segment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Syn,
    SynAck,
    Ack,
    Fin,
    Rst,
}

pub fn tcp<A: Ip>(ends: &Ends<A>, segment: Segment, payload: &[u8]) -> Vec<u8> {
    let builder = A::builder(ends, 64).tcp(ends.src_port, ends.dst_port, 1000, 65_000);
    let builder = match segment {
        Segment::Syn => builder.syn(),
        Segment::SynAck => builder.syn().ack(1),
        Segment::Ack => builder.ack(1),
        Segment::Fin => builder.fin().ack(1),
        Segment::Rst => builder.rst(),
    };
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a vector takes every write");
    frame
}

/// An echo request (`reply` false) or reply with `src_port` as its identifier.
pub fn echo<A: Ip>(ends: &Ends<A>, reply: bool) -> Vec<u8> {
    echo_of(ends, reply, b"echo data")
}

/// Likewise, with data.
pub fn echo_of<A: Ip>(ends: &Ends<A>, reply: bool, data: &[u8]) -> Vec<u8> {
    A::echo(ends, reply, data)
}

/// The IPv4 header (20 bytes) of a frame with its checksum put right.
pub fn with_header_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    frame[24..26].fill(0);
    let checksum = packet::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The frame with DF taken off.
pub fn may_fragment(mut frame: Vec<u8>) -> Vec<u8> {
    frame[20] &= 0xbf;
    with_header_checksum(frame)
}

/// A frame's datagram in fragments with `payload` bytes each, a multiple of 8.
pub fn fragments(frame: &[u8], payload: usize) -> Vec<Vec<u8>> {
    let (headers, body) = frame.split_at(34);
    let count = body.len().div_ceil(payload);
    let pieces = body.chunks(payload).enumerate();
    pieces
        .map(|(index, piece)| {
            let more = if index + 1 < count { packet::ipv4::FLAG_MF } else { 0 };
            let field = more | ((index * payload) / 8) as u16;
            let mut fragment = [headers, piece].concat();
            fragment[16..18].copy_from_slice(&((20 + piece.len()) as u16).to_be_bytes());
            fragment[18..20].copy_from_slice(&[0x12, 0x34]);
            fragment[20..22].copy_from_slice(&field.to_be_bytes());
            with_header_checksum(fragment)
        })
        .collect()
}

/// The frame of the datagram that fragments make, in any order.
///
/// # Panics
/// If the headers of the fragments differ in more than fragmentation does, or bytes are missing.
pub fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
    let offset = |fragment: &Vec<u8>| {
        usize::from(u16::from_be_bytes([fragment[20], fragment[21]]) & packet::ipv4::FRAGMENT_OFFSET) * 8
    };
    let mut sorted: Vec<&Vec<u8>> = fragments.iter().collect();
    sorted.sort_by_key(|fragment| offset(fragment));
    let mut whole = sorted[0][..34].to_vec();
    for fragment in sorted {
        assert_eq!(fragment[26..34], whole[26..34], "addresses differ");
        assert_eq!(offset(fragment), whole.len() - 34, "a piece is missing");
        let end = 14 + usize::from(u16::from_be_bytes([fragment[16], fragment[17]]));
        whole.extend_from_slice(&fragment[34..end]);
    }
    let len = (whole.len() - 14) as u16;
    whole[16..18].copy_from_slice(&len.to_be_bytes());
    whole[20..22].fill(0);
    with_header_checksum(whole)
}

/// A broadcast ARP request "who has `target`, tell `sender`".
pub fn arp_request(sender: (MacAddr, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let ether = ethernet::Header {
        dst: MacAddr::BROADCAST,
        src: sender.0,
        ethertype: packet::U16::new(ethernet::TYPE_ARP),
    };
    let message =
        arp::Header::new(arp::OP_REQUEST, (sender.0, sender.1.octets()), (MacAddr::ZERO, target.octets()));
    let mut frame = bytes::<_, { ethernet::LEN }>(ether).to_vec();
    frame.extend_from_slice(&bytes::<_, { arp::LEN }>(message));
    frame
}

/// A neighbour solicitation "who has `target`, tell `sender`", as it is sent when nobody is known yet.
pub fn solicitation(sender: (MacAddr, Ipv6Addr), target: Ipv6Addr) -> Vec<u8> {
    let group = nd::solicited_node(&target.octets());
    let message = nd::Message::solicitation(target.octets(), sender.0);
    neighbor_message((sender.0, sender.1), (nd::multicast_mac(&group), group.into()), message)
}

/// A message of neighbour discovery with its option.
pub fn neighbor_message(from: (MacAddr, Ipv6Addr), to: (MacAddr, Ipv6Addr), message: nd::Message) -> Vec<u8> {
    let packet = nd::Packet::new(from.1.octets(), to.1.octets(), message);
    let mut frame = ethernet6(from.0, to.0);
    frame.extend_from_slice(&bytes::<_, { nd::Packet::LEN }>(packet));
    frame
}

/// Any ICMPv6 message, its checksum put right.
pub fn icmp6(ends: &Ends<Ipv6Addr>, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let sum = packet::icmp6::checksum(&ends.src.octets(), &ends.dst.octets(), &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::new();
    let builder = Ipv6Addr::builder(ends, hop_limit);
    builder.write(&mut frame, etherparse::IpNumber::IPV6_ICMP, &message).expect("a vector takes every write");
    frame
}

/// The frame with extension headers in front of what its IPv6 header announces: each is its number and its bytes,
/// whose first is overwritten.
pub fn with_extensions(frame: &[u8], extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let (headers, body) = frame.split_at(ethernet::LEN + packet::ipv6::LEN);
    let mut whole = headers.to_vec();
    let mut next = 20;
    for (number, extension) in extensions {
        let follows = std::mem::replace(&mut whole[next], *number);
        next = whole.len();
        whole.extend_from_slice(extension);
        whole[next] = follows;
    }
    whole.extend_from_slice(body);
    let len = (whole.len() - ethernet::LEN - packet::ipv6::LEN) as u16;
    whole[18..20].copy_from_slice(&len.to_be_bytes());
    whole
}

fn ethernet6(src: MacAddr, dst: MacAddr) -> Vec<u8> {
    let header = ethernet::Header { dst, src, ethertype: packet::U16::new(ethernet::TYPE_IPV6) };
    bytes::<_, { ethernet::LEN }>(header).to_vec()
}

/// An ICMP error from `src` about a frame: type, code, and the quotation that RFC 792 asks for.
pub fn icmp_error(ends: &Ends, code: (u8, u8), about: &[u8]) -> Vec<u8> {
    icmp_error_quoting(ends, code, about, 28)
}

/// Likewise, with as many bytes of the packet, if it has them.
pub fn icmp_error_quoting(ends: &Ends, (kind, code): (u8, u8), about: &[u8], bytes: usize) -> Vec<u8> {
    let quoted = &about[ethernet::LEN..about.len().min(ethernet::LEN + bytes)];
    let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(quoted);
    let checksum = packet::checksum::checksum(&icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = Vec::new();
    let builder = Ipv4Addr::builder(ends, 64);
    builder.write(&mut frame, etherparse::IpNumber::ICMP, &icmp).expect("a vector takes every write");
    frame
}

/// What the packet quoted by an ICMP error says: source and destination with ports or echo identifier.
///
/// # Panics
/// If the frame is no ICMP error with a whole quotation, or the quoted header's checksum is wrong.
pub fn quotation(frame: &[u8]) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let quoted: packet::ipv4::Header = packet::view::<_, 20>(frame[42..62].try_into().expect("20 bytes"));
    assert_eq!(packet::checksum::checksum(&frame[42..62]), 0, "the quoted header's checksum");
    let l4: [u8; 8] = frame[62..70].try_into().expect("8 bytes");
    let [a, b, c, d, e, f, ..] = l4;
    let (src_port, dst_port) = if quoted.protocol == packet::ipv4::PROTOCOL_ICMP {
        (u16::from_be_bytes([e, f]), u16::from_be_bytes([e, f]))
    } else {
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    };
    ((quoted.src.into(), src_port), (quoted.dst.into(), dst_port))
}

/// What a frame says, with every checksum in it verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<A = Ipv4Addr> {
    pub src_mac: MacAddr,
    pub dst_mac: MacAddr,
    pub src: A,
    pub dst: A,
    /// ICMP echo: the identifier in both.
    pub src_port: u16,
    pub dst_port: u16,
    pub protocol: u8,
    pub ttl: u8,
    /// ICMP type, 0xff otherwise.
    pub icmp_type: u8,
}

/// Reads an IPv4 frame.
///
/// # Panics
/// If it is malformed or one of its checksums is wrong: the test has failed.
pub fn read(frame: &[u8]) -> Read {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a well-formed frame");
    let (src_mac, dst_mac) = macs(&sliced);
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4: {frame:02x?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
    let mut read = Read {
        src_mac,
        dst_mac,
        src: header.source.into(),
        dst: header.destination.into(),
        src_port: 0,
        dst_port: 0,
        protocol: header.protocol.0,
        ttl: header.time_to_live,
        icmp_type: 0xff,
    };
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => {
            let wanted = udp.to_header().calc_checksum_ipv4(&header, udp.payload());
            assert!(udp.checksum() == 0 || Ok(udp.checksum()) == wanted, "UDP checksum");
            (read.src_port, read.dst_port) = (udp.source_port(), udp.destination_port());
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let wanted = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload());
            assert_eq!(Ok(tcp.checksum()), wanted, "TCP checksum");
            (read.src_port, read.dst_port) = (tcp.source_port(), tcp.destination_port());
        }
        Some(TransportSlice::Icmpv4(icmp)) => read_icmp(&mut read, icmp),
        _ => {}
    }
    read
}

/// Reads an IPv6 frame; ICMPv6 of other types than echo has the type and no ports.
///
/// # Panics
/// As [`read`].
pub fn read6(frame: &[u8]) -> Read<Ipv6Addr> {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a well-formed frame");
    let (src_mac, dst_mac) = macs(&sliced);
    let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("not IPv6: {frame:02x?}") };
    let header = ip.header().to_header();
    let mut read = Read {
        src_mac,
        dst_mac,
        src: header.source.into(),
        dst: header.destination.into(),
        src_port: 0,
        dst_port: 0,
        protocol: ip.payload().ip_number.0,
        ttl: header.hop_limit,
        icmp_type: 0xff,
    };
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => {
            let wanted = udp.to_header().calc_checksum_ipv6(&header, udp.payload());
            assert_eq!(Ok(udp.checksum()), wanted, "UDP checksum");
            (read.src_port, read.dst_port) = (udp.source_port(), udp.destination_port());
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let wanted = tcp.to_header().calc_checksum_ipv6(&header, tcp.payload());
            assert_eq!(Ok(tcp.checksum()), wanted, "TCP checksum");
            (read.src_port, read.dst_port) = (tcp.source_port(), tcp.destination_port());
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            assert!(icmp.is_checksum_valid(header.source, header.destination), "ICMPv6 checksum");
            read.icmp_type = icmp.type_u8();
            if let Icmpv6Type::EchoRequest(echo) | Icmpv6Type::EchoReply(echo) = icmp.icmp_type() {
                (read.src_port, read.dst_port) = (echo.id, echo.id);
            }
        }
        _ => {}
    }
    read
}

/// Source and destination.
fn macs(sliced: &SlicedPacket<'_>) -> (MacAddr, MacAddr) {
    let link = sliced.link.as_ref().expect("an Ethernet header").to_header();
    let link = link.and_then(etherparse::LinkHeader::ethernet2).expect("Ethernet II");
    (MacAddr(link.source), MacAddr(link.destination))
}

fn read_icmp(read: &mut Read, icmp: &Icmpv4Slice<'_>) {
    let kind = icmp.icmp_type();
    assert_eq!(icmp.checksum(), kind.calc_checksum(icmp.payload()), "ICMP checksum");
    read.icmp_type = icmp.type_u8();
    if let Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo) = kind {
        (read.src_port, read.dst_port) = (echo.id, echo.id);
    }
}

/// BFD between hosts on the underlay, inside the tunnel as it must be; fields are changed to get it wrong.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    pub geneve: bool,
    pub tunnel_port: u16,
    /// Of the outer header.
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub inner_from: Ipv4Addr,
    pub inner_to: Ipv4Addr,
    pub inner_ttl: u8,
    pub port: u16,
    pub vni: u32,
    /// Geneve's control bit.
    pub control: bool,
}

impl Liveness {
    pub fn new(geneve: bool, tunnel_port: u16, from: Ipv4Addr, to: Ipv4Addr) -> Self {
        Self {
            geneve,
            tunnel_port,
            from,
            to,
            inner_from: from,
            inner_to: Ipv4Addr::LOCALHOST,
            inner_ttl: 255,
            port: pipeline::liveness::PORT,
            vni: pipeline::liveness::MANAGEMENT_VNI,
            control: geneve,
        }
    }

    /// The inner frame, with a UDP checksum.
    pub fn inner(&self, payload: &[u8]) -> Vec<u8> {
        let macs = (MacAddr([2, 0, 0x5e, 0, 0x52, 2]), MacAddr([0, 0, 0x5e, 0, 0x52, 2]));
        let ends = Ends {
            src_mac: macs.0,
            dst_mac: macs.1,
            src: self.inner_from,
            dst: self.inner_to,
            src_port: 50_000,
            dst_port: self.port,
        };
        udp_ttl(&ends, payload, self.inner_ttl)
    }

    /// The whole, without an outer UDP checksum.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let tunnel: [u8; 8] = if self.geneve {
            let flags = if self.control { packet::geneve::FLAG_CONTROL } else { 0 };
            bytes(packet::geneve::Header { flags, ..packet::geneve::Header::new(self.vni) })
        } else {
            bytes(packet::vxlan::Header::new(self.vni))
        };
        let ends = Ends {
            src_mac: MacAddr([2, 0, 0, 0, 9, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 9, 2]),
            src: self.from,
            dst: self.to,
            src_port: 50_001,
            dst_port: self.tunnel_port,
        };
        let mut inside = tunnel.to_vec();
        inside.extend(self.inner(payload));
        let mut frame = udp(&ends, &inside);
        frame[40..42].fill(0);
        frame
    }
}
