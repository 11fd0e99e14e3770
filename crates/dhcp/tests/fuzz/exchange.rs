//! A VM's frame to the DHCP server. Shared by `fuzz/` and by `replay.rs`, which runs it on every input that once found
//! something.

use dhcp::{Lease, LeasedAddress, Server, answer};
use packet::{MacAddr, checksum, ipv4};

const MAC: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);

/// The bytes as the payload of a sound datagram, or as the frame itself. Whatever is answered is sound, fits what every
/// client takes unless it said more, and gives the port's own address only.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let frame = if choice & 1 == 0 { rest.to_vec() } else { datagram(rest) };
    let server =
        Server { mac: MacAddr([2, 0, 0xa9, 0xfe, 0xa9, 0xfe]), address: [169, 254, 169, 254].into() };
    let Ok(reply) = answer(&server, &lease(choice & 2 != 0), &frame) else { return };
    let ip: ipv4::Header = packet::read(&reply.frame, 14).expect("an IPv4 header is sent");
    assert_eq!(usize::from(ip.total_len.get()), reply.frame.len() - 14);
    assert!(ip.total_len.get() <= 1450, "{} bytes", ip.total_len.get());
    assert_eq!(checksum::checksum(&reply.frame[14..34]), 0);
    let header: packet::dhcp::Header = packet::read(&reply.frame, 42).expect("a DHCP header is sent");
    assert_eq!(header.client_mac(), MAC);
    assert!(matches!(header.yiaddr, [0, 0, 0, 0] | [10, 0, 0, 5] | [10, 0, 0, 6]));
    for option in packet::dhcp::Options::new(&reply.frame[282..]) {
        option.expect("options are whole");
    }
}

fn lease(rich: bool) -> Lease {
    let leased = |address: &str| LeasedAddress {
        address: address.parse().expect("an address"),
        gateway: Some([10, 0, 0, 1].into()),
        dns_servers: vec![[10, 0, 0, 2].into(); if rich { 60 } else { 1 }],
        routes: Vec::new(),
    };
    let options = if rich { (60..200).map(|code| (code, vec![code; 90])).collect() } else { [].into() };
    Lease {
        mac: MAC,
        addresses: vec![leased("10.0.0.5/24"), leased("10.0.0.6/24")],
        mtu: 1450,
        lease_s: 3600,
        options,
    }
}

/// A frame with `payload` as a datagram from port 68 to port 67; the client's MAC is put where it belongs.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &MAC.0, &[8, 0]].concat();
    let len = payload.len().min(2000) as u16;
    frame.extend([0x45, 0]);
    frame.extend((len + 28).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67]);
    frame.extend((len + 8).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(&payload[..usize::from(len)]);
    if let Some(fixed) = frame.get_mut(42..42 + packet::dhcp::LEN) {
        fixed[..3].copy_from_slice(&[1, 1, 6]);
        fixed[28..34].copy_from_slice(&MAC.0);
        fixed[236..].copy_from_slice(&packet::dhcp::COOKIE.to_be_bytes());
    }
    frame
}
