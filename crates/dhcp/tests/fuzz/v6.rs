//! A VM's frame to the DHCPv6 server. Shared by `fuzz/` and by `replay.rs`, which runs it on every input that once found
//! something.

use dhcp::v6::{Lease, Server, answer};
use packet::{MacAddr, icmp6, ipv6, nd};

const MAC: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);
const SERVER: Server = Server { mac: MacAddr([2, 0, 0xa9, 0xfe, 0xa9, 0xfe]) };
/// Bytes before a DHCPv6 message: Ethernet, IPv6, UDP.
const BEFORE: usize = 62;
const IA_NA: u16 = 3;

/// The bytes as the payload of a sound datagram, or as the frame itself. Whatever is answered is sound, and gives the
/// port's own addresses only.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let frame = if choice & 1 == 0 { rest.to_vec() } else { datagram(rest) };
    let Ok(reply) = answer(&SERVER, Some(&lease(choice & 2 != 0)), &frame) else { return };
    let ip: ipv6::Header = packet::read(&reply.frame, 14).expect("an IPv6 header is sent");
    assert_eq!(usize::from(ip.payload_len.get()), reply.frame.len() - 54);
    assert_eq!(icmp6::transport_checksum(&ip.src, &ip.dst, 17, &reply.frame[54..]), 0);
    for (code, value) in options(&reply.frame[BEFORE + 4..]) {
        if code == IA_NA {
            for (code, value) in options(&value[12..]) {
                let own = code != 5 || matches!(value[..16], [0x20, 1, 0xd, 0xb8, .., 5 | 6]);
                assert!(own, "gave {value:?} away");
            }
        }
    }
}

/// All options, whole.
fn options(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut options = Vec::new();
    while let Some((&[a, b, c, d], rest)) = bytes.split_first_chunk::<4>() {
        let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([c, d])));
        options.push((u16::from_be_bytes([a, b]), value));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a cut option");
    options
}

fn lease(rich: bool) -> Lease {
    let address = |last: u16| [0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into();
    let options = if rich { (60..100).map(|code| (code, vec![0; 90])).collect() } else { [].into() };
    Lease {
        mac: MAC,
        addresses: vec![address(5), address(6)],
        dns_servers: vec![address(0x53); if rich { 20 } else { 1 }],
        lease_s: 3600,
        options,
    }
}

/// A frame with `payload` as a datagram from port 546 to port 547.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let len = payload.len().min(2000) as u16;
    let mut frame = [&[0x33, 0x33, 0, 1, 0, 2][..], &MAC.0, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend((len + 8).to_be_bytes());
    frame.extend([17, 1]);
    frame.extend(nd::link_local(MAC));
    frame.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);
    frame.extend([546u16.to_be_bytes(), 547u16.to_be_bytes(), (len + 8).to_be_bytes(), [0; 2]].concat());
    frame.extend(&payload[..usize::from(len)]);
    frame
}
