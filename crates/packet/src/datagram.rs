//! UDP over IPv4 in an Ethernet frame: taking a datagram out, and the headers of an answer.

use crate::{MacAddr, U16, checksum, ethernet, ipv4, udp};

/// Ethernet, IPv4 without options, UDP.
pub const HEADERS_LEN: usize = ethernet::LEN + ipv4::LEN + udp::LEN;
const TTL: u8 = 64;

/// A datagram in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub ethernet: ethernet::Header,
    pub ip: ipv4::Header,
    pub udp: udp::Header,
    pub payload: &'a [u8],
}

/// The datagram of a frame; none if it is no whole one. The lengths in the headers count, not the frame's. The checksum
/// is not looked at: a VM may have left it to its virtual NIC.
pub fn read(frame: &[u8]) -> Option<Datagram<'_>> {
    let ethernet: ethernet::Header = crate::read(frame, 0)?;
    let datagram = frame.get(ethernet::LEN..)?;
    let ip: ipv4::Header = crate::read(datagram, 0)?;
    let header_len = ip.header_len() as usize;
    let sound = ethernet.ethertype.get() == ethernet::TYPE_IPV4
        && ip.version() == 4
        && header_len >= ipv4::LEN
        && ip.protocol == ipv4::PROTOCOL_UDP
        && !ip.is_fragment();
    let datagram = datagram.get(header_len..usize::from(ip.total_len.get())).filter(|_| sound)?;
    let udp: udp::Header = crate::read(datagram, 0)?;
    let payload = datagram.get(udp::LEN..usize::from(udp.len.get()))?;
    Some(Datagram { ethernet, ip, udp, payload })
}

/// From where to where. Addresses in wire order, ports in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub macs: (MacAddr, MacAddr),
    pub addresses: ([u8; 4], [u8; 4]),
    pub ports: (u16, u16),
}

/// The headers in front of `payload`, which fits a datagram.
pub fn headers(ends: &Ends, payload: &[u8]) -> [u8; HEADERS_LEN] {
    let udp_len = (udp::LEN + payload.len()) as u16;
    let mut ip = ipv4::Header {
        version_ihl: 0x45,
        dscp_ecn: 0,
        total_len: U16::new(ipv4::LEN as u16 + udp_len),
        identification: U16::new(0),
        flags_fragment: U16::new(ipv4::FLAG_DF),
        ttl: TTL,
        protocol: ipv4::PROTOCOL_UDP,
        checksum: U16::new(0),
        src: ends.addresses.0,
        dst: ends.addresses.1,
    };
    ip.checksum = U16::new(checksum::checksum(&crate::bytes::<_, { ipv4::LEN }>(ip)));
    let mut header = udp::Header {
        src_port: U16::new(ends.ports.0),
        dst_port: U16::new(ends.ports.1),
        len: U16::new(udp_len),
        checksum: U16::new(0),
    };
    header.checksum = U16::new(udp_checksum(&ip, &header, payload));
    let link =
        ethernet::Header { dst: ends.macs.1, src: ends.macs.0, ethertype: U16::new(ethernet::TYPE_IPV4) };
    let parts = crate::bytes::<_, { ethernet::LEN }>(link)
        .into_iter()
        .chain(crate::bytes::<_, { ipv4::LEN }>(ip))
        .chain(crate::bytes::<_, { udp::LEN }>(header));
    let mut bytes = [0; HEADERS_LEN];
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    bytes
}

/// RFC 768: over the pseudo header too; 0 is written as its other form.
fn udp_checksum(ip: &ipv4::Header, header: &udp::Header, payload: &[u8]) -> u16 {
    let pseudo = [ip.src, ip.dst, [0, ip.protocol, 0, 0]];
    let sums = pseudo.iter().map(|word| checksum::sum(word)).chain([
        u32::from(header.len.get()),
        checksum::sum(&crate::bytes::<_, { udp::LEN }>(*header)),
        checksum::sum(payload),
    ]);
    match !checksum::fold(sums.sum()) {
        0 => 0xffff,
        sum => sum,
    }
}
