//! ARP frames (RFC 826; probes and announcements: RFC 5227).

use super::Frame;
use crate::arp::{Header, LEN, OP_REPLY, OP_REQUEST};
use crate::{MacAddr, ethernet};

/// Who speaks, and in which VLAN of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpSender {
    pub mac: MacAddr,
    pub ip: [u8; 4],
    /// The 802.1Q tag, if the network has one.
    pub vlan: Option<u16>,
}

/// Asks everybody for the MAC of `target_ip`.
pub fn arp_request(sender: &ArpSender, target_ip: [u8; 4]) -> Frame {
    frame(
        sender,
        MacAddr::BROADCAST,
        Header::new(OP_REQUEST, (sender.mac, sender.ip), (MacAddr::ZERO, target_ip)),
    )
}

/// Asks for the MAC of `target_ip` without saying who asks: the sender's address is zero, so no cache learns
/// it (RFC 5227 §1.1). `sender.ip` is not used.
pub fn arp_probe(sender: &ArpSender, target_ip: [u8; 4]) -> Frame {
    frame(
        sender,
        MacAddr::BROADCAST,
        Header::new(OP_REQUEST, (sender.mac, [0; 4]), (MacAddr::ZERO, target_ip)),
    )
}

/// Answers a request: to the asker alone.
pub fn arp_reply(sender: &ArpSender, (target_mac, target_ip): (MacAddr, [u8; 4])) -> Frame {
    frame(sender, target_mac, Header::new(OP_REPLY, (sender.mac, sender.ip), (target_mac, target_ip)))
}

/// Tells everybody that the sender has its address: a request for itself (RFC 5227 §2.3).
pub fn arp_announcement(sender: &ArpSender) -> Frame {
    frame(
        sender,
        MacAddr::BROADCAST,
        Header::new(OP_REQUEST, (sender.mac, sender.ip), (MacAddr::ZERO, sender.ip)),
    )
}

/// The same as a reply, which is what some stations and switches believe only.
pub fn arp_announcement_reply(sender: &ArpSender) -> Frame {
    let target = (MacAddr::BROADCAST, sender.ip);
    frame(sender, MacAddr::BROADCAST, Header::new(OP_REPLY, (sender.mac, sender.ip), target))
}

fn frame(sender: &ArpSender, dst: MacAddr, message: Header) -> Frame {
    let mut frame = Frame::new(dst, sender.mac, sender.vlan, ethernet::TYPE_ARP);
    frame.push(&crate::bytes::<_, LEN>(message));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{ArpOperation, EtherType, SlicedPacket};
    use proptest::prelude::*;

    const GATEWAY: ArpSender =
        ArpSender { mac: MacAddr([0xfa, 0x16, 0x3f, 0, 0, 1]), ip: [172, 22, 7, 27], vlan: Some(2207) };
    const ASKED: [u8; 4] = [172, 22, 7, 1];
    const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 7, 1]);

    #[test]
    fn a_request_byte_for_byte() {
        let want = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa, 0x16, 0x3f, 0, 0, 1, 0x81, 0, 0x08, 0x9f, 0x08,
            0x06, // to all
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
            0xfa, 0x16, 0x3f, 0, 0, 1, 172, 22, 7, 27, 0, 0, 0, 0, 0, 0, 172, 22, 7, 1,
        ];
        assert_eq!(*arp_request(&GATEWAY, ASKED), want);
    }

    /// Goal: what RFC 826 and RFC 5227 say of each kind. Method: read back the fields that differ.
    #[test]
    fn the_kinds_differ_as_the_rfcs_say() {
        let mac = GATEWAY.mac;
        let ip = GATEWAY.ip;
        let table = [
            ("request", arp_request(&GATEWAY, ASKED), MacAddr::BROADCAST, 1, ip, MacAddr::ZERO, ASKED),
            ("probe", arp_probe(&GATEWAY, ASKED), MacAddr::BROADCAST, 1, [0; 4], MacAddr::ZERO, ASKED),
            ("reply", arp_reply(&GATEWAY, (ROUTER, ASKED)), ROUTER, 2, ip, ROUTER, ASKED),
            ("announcement", arp_announcement(&GATEWAY), MacAddr::BROADCAST, 1, ip, MacAddr::ZERO, ip),
            (
                "announcement reply",
                arp_announcement_reply(&GATEWAY),
                MacAddr::BROADCAST,
                2,
                ip,
                MacAddr::BROADCAST,
                ip,
            ),
        ];
        for (name, frame, dst, operation, sender_ip, target_mac, target_ip) in table {
            let ethernet: ethernet::Header = crate::read(&frame, 0).unwrap();
            let arp: Header = crate::read(&frame, ethernet::LEN + 4).unwrap();
            assert_eq!((ethernet.dst, ethernet.src), (dst, mac), "{name}");
            assert!(arp.is_ethernet_ipv4(), "{name}");
            assert_eq!(
                (arp.operation.get(), arp.sender_mac, arp.sender_ip),
                (operation, mac, sender_ip),
                "{name}"
            );
            assert_eq!((arp.target_mac, arp.target_ip), (target_mac, target_ip), "{name}");
        }
    }

    proptest! {
        /// Another parser reads every frame as it was meant.
        #[test]
        fn etherparse_agrees(mac: [u8; 6], ip: [u8; 4], vlan in proptest::option::of(0u16..4096), target: [u8; 4]) {
            let sender = ArpSender { mac: MacAddr(mac), ip, vlan };
            let frame = arp_reply(&sender, (ROUTER, target));
            let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
            prop_assert_eq!(parsed.vlan_ids().iter().map(|id| id.value()).collect::<std::vec::Vec<_>>(),
                vlan.into_iter().collect::<std::vec::Vec<_>>());
            let Some(etherparse::NetSlice::Arp(arp)) = parsed.net else { panic!("no ARP in {parsed:?}") };
            prop_assert_eq!(arp.operation(), ArpOperation::REPLY);
            prop_assert_eq!(arp.proto_addr_type(), EtherType::IPV4);
            prop_assert_eq!(arp.sender_hw_addr(), &mac[..]);
            prop_assert_eq!(arp.sender_protocol_addr(), &ip[..]);
            prop_assert_eq!(arp.target_hw_addr(), &ROUTER.0[..]);
            prop_assert_eq!(arp.target_protocol_addr(), &target[..]);
        }
    }
}
