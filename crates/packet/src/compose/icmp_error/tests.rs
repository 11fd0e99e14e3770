//! Composed errors against the RFCs and against another parser.

use super::*;
use etherparse::{Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, icmpv4};
use proptest::prelude::*;
use std::vec::Vec;

const VM_A: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 0x0a]);
const ROUTER: ErrorSender =
    ErrorSender { mac: MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]), ip: [192, 168, 10, 1], vlan: None };
const FROM: [u8; 4] = [192, 168, 10, 11];
const TO: [u8; 4] = [8, 8, 8, 8];

/// A UDP frame of VM_A with `payload_len` bytes.
fn udp(payload_len: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(VM_A.0, ROUTER.mac.0).ipv4(FROM, TO, 1).udp(40000, 33434);
    let mut frame = Vec::new();
    builder.write(&mut frame, &std::vec![0x55; payload_len]).unwrap();
    frame
}

/// `udp(16)` with bytes of the IPv4 header changed and its checksum made right again.
fn changed(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = udp(16);
    for (offset, value) in changes {
        frame[ethernet::LEN + offset] = *value;
    }
    fix_checksum(&mut frame);
    frame
}

fn fix_checksum(frame: &mut [u8]) {
    let header = &mut frame[ethernet::LEN..][..ipv4::LEN];
    header[10..12].fill(0);
    let sum = checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn refusal(frame: &[u8]) -> Refusal {
    icmp_error(IcmpError::TimeExceeded, frame, &ROUTER).unwrap_err()
}

#[test]
fn time_exceeded_byte_for_byte() {
    let offending = udp(0);
    let frame = icmp_error(IcmpError::TimeExceeded, &offending, &ROUTER).unwrap();
    let want_headers = [
        0xfa, 0x16, 0x3e, 0, 0, 0x0a, 0xfa, 0x16, 0x3e, 0, 0, 1, 8, 0, // back to the VM
        0x45, 0xc0, 0, 56, 0, 0, 0x40, 0, 64, 1, 0xa4, 0xa8, 192, 168, 10, 1, 192, 168, 10,
        11, // precedence 6, DF
        11, 0, 0xcf, 0xdc, 0, 0, 0, 0,
    ];
    assert_eq!(frame[..42], want_headers);
    assert_eq!(frame[42..], offending[ethernet::LEN..]);
}

#[test]
fn every_error_has_its_type_and_code() {
    let unreachable = icmpv4::DestUnreachableHeader::Network;
    let table = [
        (IcmpError::NetUnreachable, Icmpv4Type::DestinationUnreachable(unreachable)),
        (IcmpError::HostUnreachable, Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host)),
        (IcmpError::PortUnreachable, Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port)),
        (
            IcmpError::FragmentationNeeded { mtu: 1450 },
            Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
                next_hop_mtu: 1450,
            }),
        ),
        (
            IcmpError::AdminProhibited,
            Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FilterProhibited),
        ),
        (IcmpError::TimeExceeded, Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit)),
    ];
    for (error, want) in table {
        let frame = icmp_error(error, &udp(16), &ROUTER).unwrap();
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(TransportSlice::Icmpv4(icmp)) = parsed.transport else { panic!("{error:?}: no ICMP") };
        assert_eq!(icmp.icmp_type(), want, "{error:?}");
    }
}

#[test]
fn a_tag_of_the_offender_is_skipped_and_ours_is_added() {
    let mut tagged = udp(16);
    tagged.splice(12..12, [0x81, 0x00, 0x08, 0x9f]);
    let sender = ErrorSender { vlan: Some(2207), ..ROUTER };
    let frame = icmp_error(IcmpError::HostUnreachable, &tagged, &sender).unwrap();
    assert_eq!(frame[12..18], [0x81, 0x00, 0x08, 0x9f, 0x08, 0x00]);
    assert_eq!(frame[46..], tagged[18..]);
    assert_eq!(refusal(&tagged[..17]), Refusal::Truncated);
}

#[test]
fn the_service_field_keeps_neither_precedence_nor_ecn() {
    let frame = icmp_error(IcmpError::TimeExceeded, &changed(&[(1, 0xff)]), &ROUTER).unwrap();
    assert_eq!(frame[15], 0xdc);
}

#[test]
fn rfc_1812_4_3_2_7_says_when_to_be_silent() {
    let mut to_group = udp(16);
    to_group[0] |= 1;
    let mut from_nobody = udp(16);
    from_nobody[6..12].fill(0);
    let mut not_ipv4 = udp(16);
    not_ipv4[12] = 0x86;
    let mut wrong_checksum = udp(16);
    wrong_checksum[24] ^= 1;
    let table = [
        ("link-layer group", to_group, Refusal::DestinationNotUnicast),
        ("multicast", changed(&[(16, 224)]), Refusal::DestinationNotUnicast),
        ("broadcast", changed(&[(16, 255), (17, 255), (18, 255), (19, 255)]), Refusal::DestinationNotUnicast),
        ("source of no station", from_nobody, Refusal::SourceNotUnicast),
        ("source 0/8", changed(&[(12, 0)]), Refusal::SourceNotUnicast),
        ("source loopback", changed(&[(12, 127)]), Refusal::SourceNotUnicast),
        ("source multicast", changed(&[(12, 239)]), Refusal::SourceNotUnicast),
        ("later fragment", changed(&[(7, 1)]), Refusal::LaterFragment),
        ("last fragment", changed(&[(6, 0x1f)]), Refusal::LaterFragment),
        ("unreachable", changed(&[(9, 1), (20, 3)]), Refusal::AboutIcmpError),
        ("redirect", changed(&[(9, 1), (20, 5)]), Refusal::AboutIcmpError),
        ("time exceeded", changed(&[(9, 1), (20, 11)]), Refusal::AboutIcmpError),
        ("unknown ICMP", changed(&[(9, 1), (20, 200)]), Refusal::AboutIcmpError),
        ("IPv6", not_ipv4, Refusal::NotIpv4),
        ("version 6", changed(&[(0, 0x65)]), Refusal::Malformed),
        ("short header", changed(&[(0, 0x44)]), Refusal::Malformed),
        ("total length below the header's", changed(&[(2, 0), (3, 19)]), Refusal::Malformed),
        ("checksum", wrong_checksum, Refusal::Malformed),
    ];
    for (name, frame, want) in table {
        assert_eq!(refusal(&frame), want, "{name}");
    }
}

#[test]
fn first_fragments_and_echo_are_told() {
    let table = [("first fragment", changed(&[(6, 0x20)])), ("echo request", changed(&[(9, 1), (20, 8)]))];
    for (name, frame) in table {
        assert!(icmp_error(IcmpError::TimeExceeded, &frame, &ROUTER).is_ok(), "{name}");
    }
}

/// Goal: RFC 792's header and eight bytes are quoted or nothing is sent. Method: cut at every length.
#[test]
fn every_truncation_is_refused_or_quoted() {
    let whole = udp(100);
    let enough = ethernet::LEN + ipv4::LEN + QUOTE_PAYLOAD_MIN;
    for len in 0..=whole.len() {
        match icmp_error(IcmpError::TimeExceeded, &whole[..len], &ROUTER) {
            Err(refusal) => assert!(len < enough && refusal == Refusal::Truncated, "{len}: {refusal:?}"),
            Ok(frame) => {
                assert!(len >= enough, "{len}");
                assert_eq!(frame[42..], whole[ethernet::LEN..len], "{len}");
            }
        }
    }
}

#[test]
fn a_datagram_below_eight_bytes_of_payload_is_quoted_whole_without_padding() {
    let mut frame = changed(&[(3, 24), (9, 99)]);
    frame.truncate(ethernet::LEN + 24);
    frame.resize(60, 0xee);
    let error = icmp_error(IcmpError::TimeExceeded, &frame, &ROUTER).unwrap();
    assert_eq!(error[42..], frame[ethernet::LEN..][..24]);
}

#[test]
fn a_big_offender_gives_576_bytes() {
    let error = icmp_error(IcmpError::FragmentationNeeded { mtu: 1450 }, &udp(1400), &ROUTER).unwrap();
    assert_eq!(error.len(), ethernet::LEN + DATAGRAM_MAX);
}

proptest! {
    /// Any frame at all: no panic, and what comes out is a valid ICMP error to the offender's source.
    #[test]
    fn what_is_sent_is_valid(bytes in proptest::collection::vec(any::<u8>(), 0..200), seed in 0usize..400) {
        let mut frame = udp(seed);
        // Noise over a valid frame, so that both ways are taken.
        for (place, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte < 8) {
            if let Some(target) = frame.get_mut(place) {
                *target ^= *byte;
            }
        }
        fix_checksum(&mut frame);
        if let Ok(error) = icmp_error(IcmpError::AdminProhibited, &frame, &ROUTER) {
            prop_assert_eq!(&error[..6], &frame[6..12]);
            let parsed = SlicedPacket::from_ethernet(&error).unwrap();
            let Some(NetSlice::Ipv4(ipv4)) = &parsed.net else { panic!("no IPv4") };
            let header = ipv4.header().to_header();
            prop_assert_eq!(header.calc_header_checksum(), header.header_checksum);
            prop_assert_eq!(usize::from(header.total_len), error.len() - ethernet::LEN);
            prop_assert_eq!(&header.destination, &frame[26..30]);
            prop_assert_eq!(checksum::checksum(&error[34..]), 0);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        let _ = icmp_error(IcmpError::TimeExceeded, &bytes, &ROUTER);
    }
}
