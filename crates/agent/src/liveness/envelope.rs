//! A control packet in the tunnel: what goes into the datagram to the peer's tunnel port.
//!
//! RFC 8971 §3 for VXLAN and RFC 9521 §4.1 for Geneve: a frame of the management VNI with IPv4 and UDP inside,
//! to 127.0.0.1 with TTL 255. The receiving program checks and removes it ([`pipeline::liveness`]).

use super::Tunnel;
use packet::{MacAddr, U16, bytes, checksum, ethernet, geneve, ipv4, udp, vxlan};
use pipeline::liveness::{MANAGEMENT_VNI, PORT};
use std::net::Ipv4Addr;

/// Destination MAC of BFD in VXLAN (RFC 8971 §7); no machine has it, no tenant may.
const DESTINATION_MAC: MacAddr = MacAddr([0x00, 0x00, 0x5e, 0x00, 0x52, 0x02]);
/// Locally administered: the sender is not a machine of a tenant.
const SOURCE_MAC: MacAddr = MacAddr([0x02, 0x00, 0x5e, 0x00, 0x52, 0x02]);

/// The datagram's payload. `from`: this host's tunnel address; `source_port` in the inner UDP header.
pub(super) fn wrap(tunnel: Tunnel, from: Ipv4Addr, source_port: u16, control: &[u8]) -> Vec<u8> {
    let udp_len = (udp::LEN + control.len()) as u16;
    let datagram = udp::Header {
        src_port: U16::new(source_port),
        dst_port: U16::new(PORT),
        len: U16::new(udp_len),
        // None, as the inner addresses change on the way in.
        checksum: U16::new(0),
    };
    let mut header = ipv4::Header {
        version_ihl: 0x45,
        dscp_ecn: 0xc0,
        total_len: U16::new(ipv4::LEN as u16 + udp_len),
        identification: U16::new(0),
        flags_fragment: U16::new(ipv4::FLAG_DF),
        ttl: bfd::TTL,
        protocol: ipv4::PROTOCOL_UDP,
        checksum: U16::new(0),
        src: from.octets(),
        dst: Ipv4Addr::LOCALHOST.octets(),
    };
    header.checksum = U16::new(checksum::checksum(&bytes::<_, { ipv4::LEN }>(header)));
    let frame =
        ethernet::Header { dst: DESTINATION_MAC, src: SOURCE_MAC, ethertype: U16::new(ethernet::TYPE_IPV4) };
    let mut payload = tunnel_header(tunnel).to_vec();
    payload.extend(bytes::<_, { ethernet::LEN }>(frame));
    payload.extend(bytes::<_, { ipv4::LEN }>(header));
    payload.extend(bytes::<_, { udp::LEN }>(datagram));
    payload.extend(control);
    payload
}

fn tunnel_header(tunnel: Tunnel) -> [u8; 8] {
    if tunnel.geneve {
        bytes(geneve::Header { flags: geneve::FLAG_CONTROL, ..geneve::Header::new(MANAGEMENT_VNI) })
    } else {
        bytes(vxlan::Header::new(MANAGEMENT_VNI))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

    #[test]
    fn the_layout_is_that_of_the_rfcs() {
        let payload = wrap(Tunnel { geneve: true, port: 6081 }, FROM, 49_152, &[0xbf; 24]);
        assert_eq!(payload.len(), 8 + 14 + 20 + 8 + 24);
        assert_eq!(payload[..8], [0, 0x80, 0x65, 0x58, 0, 0, 0, 0], "control bit, Ethernet, VNI 0");
        assert_eq!(payload[8..22], [0, 0, 0x5e, 0, 0x52, 2, 2, 0, 0x5e, 0, 0x52, 2, 8, 0]);
        let inner: ipv4::Header = packet::read(&payload, 22).unwrap();
        assert_eq!((inner.ttl, inner.src, inner.dst), (255, [10, 1, 0, 1], [127, 0, 0, 1]));
        assert_eq!(checksum::checksum(&payload[22..42]), 0, "the header's checksum is right");
        assert_eq!(payload[42..50], [0xc0, 0, 0x0e, 0xc8, 0, 32, 0, 0]);
        let payload = wrap(Tunnel { geneve: false, port: 4789 }, FROM, 49_152, &[0xbf; 24]);
        assert_eq!(payload[..8], [8, 0, 0, 0, 0, 0, 0, 0], "VXLAN, VNI 0");
    }
}
