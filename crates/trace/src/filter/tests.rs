use super::*;
use crate::frames::{Packet, Transport};

const VM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const VM_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn frame(transport: Transport) -> Vec<u8> {
    let (src_mac, dst_mac) = (VM_MAC, MacAddr([2, 0, 0, 0, 0, 2]));
    let packet = Packet {
        src_mac,
        dst_mac,
        src: VM.into(),
        dst: OUTSIDE.into(),
        transport,
        ttl: 64,
        dont_fragment: true,
        length: None,
    };
    packet.compose().unwrap()
}

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn tagged(mut frame: Vec<u8>, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    frame.splice(12..12, [0x81, 0, high, low]);
    frame
}

/// Each expression, and whether it wants a SYN to 8.8.8.8:443, a datagram to 8.8.8.8:53, an echo request, and a
/// question for the MAC of 10.0.0.1.
#[test]
fn expressions_want_what_tcpdump_would() {
    let frames = [
        frame(Transport::Tcp { src: 40_000, dst: 443, flags: 2 }),
        frame(Transport::Udp { src: 40_000, dst: 53 }),
        frame(Transport::Echo { id: 7 }),
        crate::frames::neighbor_question((VM_MAC, VM.into()), [10, 0, 0, 1].into()).unwrap(),
    ];
    let (tcp, udp, icmp, arp) = (1, 2, 4, 8);
    for (text, wanted) in [
        ("", tcp | udp | icmp | arp),
        ("tcp", tcp),
        ("arp", arp),
        ("ip", tcp | udp | icmp),
        ("ip proto icmp", icmp),
        ("ip proto 17", udp),
        ("host 8.8.8.8", tcp | udp | icmp),
        ("8.8.8.8", tcp | udp | icmp),
        ("host 10.0.0.5", tcp | udp | icmp | arp),
        ("src host 8.8.8.8", 0),
        ("dst 8.8.8.8", tcp | udp | icmp),
        ("src or dst host 8.8.8.8", tcp | udp | icmp),
        ("src and dst net 0.0.0.0/0", tcp | udp | icmp | arp),
        ("net 10", tcp | udp | icmp | arp),
        ("dst net 8.8.0.0/16", tcp | udp | icmp),
        ("port 53", udp),
        ("tcp port 53", 0),
        ("dst port https", tcp),
        ("src port 443", 0),
        ("portrange 400-500", tcp),
        ("udp portrange 400-500", 0),
        ("port 53 or 443", tcp | udp),
        ("host 8.8.8.8 and not icmp", tcp | udp),
        ("host 8.8.8.8 && !(icmp || port 53)", tcp),
        ("not arp and (tcp or udp)", tcp | udp),
        ("icmp host 8.8.8.8", icmp),
        ("tcp[tcpflags] & tcp-syn != 0", tcp),
        ("tcp[13] & (tcp-syn|tcp-ack) == 2", tcp),
        ("icmp[icmptype] = icmp-echo", icmp),
        ("ip[8] = 64", tcp | udp | icmp),
        ("ip[16:4] = 0x08080808", tcp | udp | icmp),
        ("(ip[8] + 1) = 65 and udp", udp),
        ("len > 42 and ip", tcp | udp | icmp),
        ("less 42", arp),
        ("greater 60", tcp | udp | icmp),
        ("ether src 02:00:00:00:00:01", tcp | udp | icmp | arp),
        ("ether dst ff:ff:ff:ff:ff:ff", arp),
        ("vlan", 0),
    ] {
        let filter = filter(text);
        let found: u32 = (0..4)
            .filter(|number| {
                let frame = &frames[*number];
                filter.matches(frame, frame.len() as u32)
            })
            .map(|number| 1 << number)
            .sum();
        assert_eq!(found, wanted, "{text}: {filter:?}");
    }
}

/// Each expression, and whether it wants a SYN to port 443, a datagram to port 53, an echo request, a question for a MAC,
/// and the same SYN by IPv4.
#[test]
fn expressions_want_of_ipv6_what_tcpdump_would() {
    let frame6 = |transport| {
        let (src_mac, dst_mac) = (VM_MAC, MacAddr([2, 0, 0, 0, 0, 2]));
        let (src, dst) = ("2001:db8:1::5".parse().unwrap(), "2001:db8:ffff::8".parse().unwrap());
        Packet { src_mac, dst_mac, src, dst, transport, ttl: 64, dont_fragment: false, length: None }
            .compose()
            .unwrap()
    };
    let syn = Transport::Tcp { src: 40_000, dst: 443, flags: 2 };
    let asker = (VM_MAC, "2001:db8:1::5".parse().unwrap());
    let frames = [
        frame6(syn),
        frame6(Transport::Udp { src: 40_000, dst: 53 }),
        frame6(Transport::Echo { id: 7 }),
        crate::frames::neighbor_question(asker, "2001:db8:1::1".parse().unwrap()).unwrap(),
        frame(syn),
    ];
    let (tcp, udp, icmp, nd, tcp4) = (1, 2, 4, 8, 16);
    for (text, wanted) in [
        ("ip6", tcp | udp | icmp | nd),
        ("ip", tcp4),
        ("tcp", tcp | tcp4),
        ("ip6 and tcp", tcp),
        ("icmp6", icmp | nd),
        ("icmp", 0),
        ("ip6 proto 17", udp),
        ("ip6 proto icmp6", icmp | nd),
        ("ip proto 6", tcp4),
        ("proto 6", tcp | tcp4),
        ("host 2001:db8:ffff::8", tcp | udp | icmp),
        ("2001:db8:ffff::8", tcp | udp | icmp),
        ("ip6 host 2001:db8:1:0::5", tcp | udp | icmp | nd),
        ("ip host 2001:db8:1::5", 0),
        ("src host 2001:db8:ffff::8", 0),
        ("dst net 2001:db8:ffff::/48", tcp | udp | icmp),
        ("net 2001:db8::/32 and not host 2001:db8:ffff::8", nd),
        ("dst net ff02::/16", nd),
        ("host 8.8.8.8 or host 2001:db8:ffff::8", tcp | udp | icmp | tcp4),
        ("port 443", tcp | tcp4),
        ("udp port 53", udp),
        ("tcp[tcpflags] & tcp-syn != 0", tcp | tcp4),
        ("icmp6[icmp6type] = icmp6-echo", icmp),
        ("icmp6[0] == icmp6-neighborsolicit", nd),
        ("ip6[7] = 255", nd),
        ("ip[8] = 64", tcp4),
    ] {
        let filter = filter(text);
        let fits = |number: &usize| filter.matches(&frames[*number], frames[*number].len() as u32);
        let found: u32 = (0..frames.len()).filter(fits).map(|number| 1 << number).sum();
        assert_eq!(found, wanted, "{text}: {filter:?}");
    }
    let slot = filter("host 2001:db8:ffff::8 and tcp port 443").slot();
    assert_eq!((slot.ethertype, slot.ethertype_mask, slot.protocol), (0x86dd, u16::MAX, 6));
    let port_only = End { port: 443, port_mask: u16::MAX, ..End::default() };
    assert_eq!(slot.ends, [port_only, End::default()], "the programs do not look at IPv6 addresses");
    for len in 0..frames[0].len() {
        filter("tcp[13] & 2 != 0 or host 2001:db8::1 or ip6[39] = 1").matches(&frames[0][..len], 200);
    }
}

#[test]
fn a_tag_hides_nothing() {
    let frame = tagged(frame(Transport::Udp { src: 4000, dst: 53 }), 2207);
    for (text, wanted) in [
        ("vlan", true),
        ("vlan 2207", true),
        ("vlan 1", false),
        ("port 53", true),
        ("vlan 2207 and host 8.8.8.8", true),
    ] {
        assert_eq!(filter(text).matches(&frame, frame.len() as u32), wanted, "{text}");
    }
}

#[test]
fn an_error_says_where_and_what() {
    for (text, at, says) in [
        ("host", 4, "an IP address is missing"),
        ("hots 8.8.8.8", 0, "'hots' is not a word of a filter nor an IP address"),
        ("ip6 host 2001:db8::x", 9, "'2001:db8::x' is not a word of a filter nor an IP address"),
        ("net 2001:db8::/129", 4, "'2001:db8::/129' is not an IP prefix"),
        ("host 8.8.8", 5, "'8.8.8'"),
        ("tcp port http8", 9, "'http8' is not a port"),
        ("port 53 host 8.8.8.8", 8, "'host' is not 'and', 'or' or the end"),
        ("(tcp or udp", 11, "')' is missing"),
        ("tcp and", 7, "a condition is missing"),
        ("tcp[13", 6, "']' is missing"),
        ("tcp[13:3] = 1", 4, "a size of 1, 2 or 4"),
        ("ip proto sctp", 9, "'sctp' is not a protocol"),
        ("len ~ 5", 4, "'~' is not a comparison"),
        ("portrange 20-10", 10, "two ports"),
        ("ether host vm1", 11, "'vm1' is not a MAC"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.reason.contains(says), "{text}: {error}");
    }
    let error = "tcp port x".parse::<Filter>().unwrap_err().to_string();
    assert_eq!(error, "'x' is not a port, at column 10:\n  tcp port x\n           ^");
    assert!("(".repeat(100).parse::<Filter>().is_err());
    assert!("not ".repeat(100).parse::<Filter>().is_err());
}

#[test]
fn what_the_programs_look_for_lets_through_all_that_fits() {
    let slot = filter("host 10.0.0.5 and host 8.8.8.8 and udp").slot();
    let end = |address: [u8; 4]| End {
        address: u32::from_ne_bytes(address),
        address_mask: u32::MAX,
        ..End::default()
    };
    assert_eq!(slot.ends, [end([10, 0, 0, 5]), end([8, 8, 8, 8])]);
    assert_eq!((slot.protocol, slot.protocol_mask), (17, 255));
    let port = filter("udp port 53").slot();
    assert_eq!((port.ends[0].port, port.ends[0].port_mask), (53, u16::MAX));
    assert_eq!((port.protocol, port.protocol_mask), (17, 255));
    // Both may be the same end.
    let overlapping = filter("host 10.0.0.5 and net 10.0.0.0/8").slot();
    assert_eq!(overlapping.ends, [end([10, 0, 0, 5]), End::default()]);
    for wide in ["", "tcp or udp", "not host 10.0.0.5", "tcp[13] & 2 != 0"] {
        let slot = filter(wide).slot();
        assert_eq!(
            (slot.ends, slot.protocol_mask, slot.ethertype_mask),
            ([End::default(); 2], 0, 0),
            "{wide}"
        );
    }
}

#[test]
fn a_frame_cut_anywhere_breaks_nothing() {
    let filters = [
        "host 8.8.8.8",
        "port 53",
        "tcp[13] & 2 != 0",
        "vlan 5",
        "ether src 02:00:00:00:00:01",
        "ip[0] = 69",
    ]
    .map(filter);
    let whole = frame(Transport::Tcp { src: 1, dst: 2, flags: 2 });
    for len in 0..whole.len() {
        for filter in &filters {
            filter.matches(&whole[..len], whole.len() as u32);
        }
    }
}
