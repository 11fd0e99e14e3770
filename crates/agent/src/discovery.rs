//! Neighbour discovery on external networks, and of addresses that move between VMs (RFC 4861): the frames that the
//! agent sends, and what it reads out of those that the programs hand to it. The schedules are those of ARP.

use packet::nd::{self, ALL_NODES, FLAG_OVERRIDE, FLAG_ROUTER, LEN, Message, Packet};
use packet::{MacAddr, ethernet, icmp6, ipv6};
use std::net::Ipv6Addr;

/// The host on an external network, or a VM on its own that the host speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speaker {
    pub(crate) mac: MacAddr,
    /// The 802.1Q tag; 0: none.
    pub(crate) vlan: u16,
}

impl Speaker {
    /// Asks who has `target`: everybody, or only the station that is known to have it.
    pub(crate) fn solicitation(&self, target: Ipv6Addr, known: Option<MacAddr>) -> Vec<u8> {
        let target = target.octets();
        let group = nd::solicited_node(&target);
        let (to, mac) = known.map_or((group, nd::multicast_mac(&group)), |mac| (target, mac));
        self.frame(mac, Packet::new(nd::link_local(self.mac), to, Message::solicitation(target, self.mac)))
    }

    /// Tells everybody that the host, a router, has `address` (RFC 4861 §7.2.6).
    pub(crate) fn announcement(&self, address: Ipv6Addr) -> Vec<u8> {
        self.unsolicited(address, FLAG_ROUTER | FLAG_OVERRIDE)
    }

    /// Tells everybody that the VM has `address` now.
    pub(crate) fn move_of(&self, address: Ipv6Addr) -> Vec<u8> {
        self.unsolicited(address, FLAG_OVERRIDE)
    }

    fn unsolicited(&self, address: Ipv6Addr, flags: u8) -> Vec<u8> {
        let target = address.octets();
        let message = Message::advertisement(flags, target, self.mac);
        self.frame(nd::multicast_mac(&ALL_NODES), Packet::new(target, ALL_NODES, message))
    }

    fn frame(&self, dst: MacAddr, message: Packet) -> Vec<u8> {
        let mut frame = [dst.0, self.mac.0].concat();
        if self.vlan != 0 {
            frame.extend(ethernet::TYPE_VLAN.to_be_bytes());
            frame.extend(self.vlan.to_be_bytes());
        }
        frame.extend(ethernet::TYPE_IPV6.to_be_bytes());
        frame.extend(packet::bytes::<_, { Packet::LEN }>(message));
        frame
    }
}

/// Who says to have which address, in a frame with at most one tag; none if it says no such thing.
pub(crate) fn said(frame: &[u8]) -> Option<(MacAddr, Ipv6Addr)> {
    let link: ethernet::Header = packet::read(frame, 0)?;
    let tagged = link.ethertype.get() == ethernet::TYPE_VLAN;
    let begin = ethernet::LEN + if tagged { 4 } else { 0 };
    let ethertype = frame.get(begin.checked_sub(2)?..begin)?;
    let ip: ipv6::Header = packet::read(frame, begin)?;
    let message: nd::Header = packet::read(frame, begin + ipv6::LEN)?;
    let sound = ethertype == ethernet::TYPE_IPV6.to_be_bytes()
        && ip.next_header == ipv6::PROTOCOL_ICMP
        && ip.hop_limit == nd::HOP_LIMIT
        && message.code == 0;
    let options = frame.get(begin + ipv6::LEN + LEN..)?;
    let (address, option) = match message.kind {
        icmp6::TYPE_NEIGHBOR_ADVERTISEMENT => (message.target, nd::OPTION_TARGET_MAC),
        icmp6::TYPE_NEIGHBOR_SOLICITATION => (ip.src, nd::OPTION_SOURCE_MAC),
        _ => return None,
    };
    let mac = nd::mac_option(options, option).unwrap_or(link.src);
    let address = Ipv6Addr::from(address);
    let usable =
        !mac.is_multicast() && !mac.is_zero() && !address.is_unspecified() && !address.is_multicast();
    (sound && usable).then_some((mac, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DVR: MacAddr = MacAddr([0xfa, 0x16, 0x3f, 0, 0, 1]);
    const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 7, 1]);

    fn address() -> Ipv6Addr {
        "2001:db8:7::1".parse().unwrap()
    }

    #[test]
    fn a_question_says_who_asks_and_goes_to_those_who_may_have_it() {
        let frame = Speaker { mac: DVR, vlan: 2207 }.solicitation(address(), None);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
        assert_eq!(frame[12..18], [0x81, 0, 0x08, 0x9f, 0x86, 0xdd]);
        assert_eq!(said(&frame), Some((DVR, Ipv6Addr::from(nd::link_local(DVR)))));
        let frame = Speaker { mac: DVR, vlan: 0 }.solicitation(address(), Some(GATEWAY));
        assert_eq!(frame[..6], GATEWAY.0);
    }

    #[test]
    fn an_announcement_is_learned_tagged_or_not() {
        for vlan in [0, 2207] {
            let frame = Speaker { mac: GATEWAY, vlan }.announcement(address());
            assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
            assert_eq!(said(&frame), Some((GATEWAY, address())), "{vlan}");
            for len in 0..frame.len() - 8 {
                assert_eq!(said(&frame[..len]), None, "{len} bytes");
            }
        }
    }

    #[test]
    fn what_came_by_a_router_is_not_believed() {
        let mut frame = Speaker { mac: GATEWAY, vlan: 0 }.announcement(address());
        frame[21] = 254;
        assert_eq!(said(&frame), None);
    }
}
