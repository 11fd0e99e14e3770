//! Router advertisements (RFC 4861 §4.2, RFC 4862, RFC 8106): what the guests of a network are told without having to
//! ask DHCP, and whether they are to ask.
//!
//! One frame per router and network, from the router's MAC; a host says it to each of its ports.

use ipnet::Ipv6Net;
use packet::nd::{self, ALL_NODES, HOP_LIMIT, OPTION_MTU, OPTION_PREFIX, OPTION_SOURCE_MAC};
use packet::{MacAddr, U16, U32, ethernet, icmp6, ipv6};
use std::net::Ipv6Addr;

/// As long as RFC 8319 allows, seconds: packets find their way without the agent, and so must guests.
pub const LIFETIME_S: u16 = u16::MAX;
/// RFC 4861 §6.2.1: 30 days and 7 days, in seconds.
const VALID_S: u32 = 2_592_000;
const PREFERRED_S: u32 = 604_800;
/// Hop limit for guests to use (RFC 4861 §6.2.1).
const GUEST_HOP_LIMIT: u8 = 64;
const FLAG_MANAGED: u8 = 0x80;
const FLAG_OTHER: u8 = 0x40;
const PREFIX_ON_LINK: u8 = 0x80;
const PREFIX_AUTONOMOUS: u8 = 0x40;
const OPTION_DNS: u8 = 25;
/// Servers in one option: its length has eight bits.
const DNS_SERVERS_MAX: usize = 127;

/// What a router says of a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advertisement {
    /// Of the router's interface.
    pub router: MacAddr,
    /// It is not the guests' router any more: they are to forget it and its name servers.
    pub ends: bool,
    /// Guests get their addresses by DHCPv6.
    pub managed: bool,
    /// Guests get everything else by DHCPv6.
    pub other: bool,
    /// Largest IP packet on the network.
    pub mtu: u16,
    pub prefixes: Vec<AdvertisedPrefix>,
    pub dns_servers: Vec<Ipv6Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdvertisedPrefix {
    pub prefix: Ipv6Net,
    /// Guests make their addresses of it.
    pub autonomous: bool,
}

impl Advertisement {
    /// The same router's last word. Not of prefixes: the network stays, and guests on it reach one another without a
    /// router.
    pub fn last(&self) -> Self {
        Self { ends: true, prefixes: Vec::new(), ..self.clone() }
    }

    /// The frame for the guest with this MAC, which takes it as sent to all nodes.
    pub fn frame(&self, guest: MacAddr) -> Vec<u8> {
        let src = nd::link_local(self.router);
        let mut message = self.message();
        let checksum = icmp6::checksum(&src, &ALL_NODES, &message).to_be_bytes();
        if let Some(place) = message.get_mut(2..4) {
            place.copy_from_slice(&checksum);
        }
        let ip = ipv6::Header {
            version_class_label: U32::new(6 << 28),
            payload_len: U16::new(message.len() as u16),
            next_header: ipv6::PROTOCOL_ICMP,
            hop_limit: HOP_LIMIT,
            src,
            dst: ALL_NODES,
        };
        let link =
            ethernet::Header { dst: guest, src: self.router, ethertype: U16::new(ethernet::TYPE_IPV6) };
        let (link, ip) = (packet::bytes::<_, { ethernet::LEN }>(link), packet::bytes::<_, { ipv6::LEN }>(ip));
        [&link[..], &ip[..], &message].concat()
    }

    /// With a checksum of 0.
    fn message(&self) -> Vec<u8> {
        let lifetime = if self.ends { 0 } else { LIFETIME_S };
        let managed = if self.managed { FLAG_MANAGED } else { 0 };
        let other = if self.other { FLAG_OTHER } else { 0 };
        let mut bytes = vec![icmp6::TYPE_ROUTER_ADVERTISEMENT, 0, 0, 0, GUEST_HOP_LIMIT, managed | other];
        bytes.extend(lifetime.to_be_bytes());
        // Reachable time and retransmission timer: unspecified.
        bytes.extend([0; 8]);
        bytes.extend([OPTION_SOURCE_MAC, 1]);
        bytes.extend(self.router.0);
        bytes.extend([OPTION_MTU, 1, 0, 0]);
        bytes.extend(u32::from(self.mtu).to_be_bytes());
        for AdvertisedPrefix { prefix, autonomous } in &self.prefixes {
            let autonomous = if *autonomous { PREFIX_AUTONOMOUS } else { 0 };
            bytes.extend([OPTION_PREFIX, 4, prefix.prefix_len(), PREFIX_ON_LINK | autonomous]);
            bytes.extend(VALID_S.to_be_bytes());
            bytes.extend(PREFERRED_S.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(prefix.network().octets());
        }
        let servers = self.dns_servers.get(..DNS_SERVERS_MAX).unwrap_or(&self.dns_servers);
        if !servers.is_empty() {
            // In units of eight bytes: one, and two for each server. At most 255.
            bytes.extend([OPTION_DNS, 1 + 2 * servers.len() as u8, 0, 0]);
            bytes.extend(u32::from(lifetime).to_be_bytes());
            bytes.extend(servers.iter().flat_map(Ipv6Addr::octets));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertisement() -> Advertisement {
        Advertisement {
            router: MacAddr([0xfa, 0x16, 0x3e, 0, 1, 1]),
            ends: false,
            managed: false,
            other: true,
            mtu: 1450,
            prefixes: vec![AdvertisedPrefix { prefix: "2001:db8:1::/64".parse().unwrap(), autonomous: true }],
            dns_servers: vec!["2001:db8::53".parse().unwrap()],
        }
    }

    #[test]
    fn a_router_advertisement_byte_for_byte() {
        let frame = advertisement().frame(MacAddr([2, 0, 0, 0, 0, 5]));
        let (link, rest) = frame.split_at(14);
        assert_eq!(link, [2, 0, 0, 0, 0, 5, 0xfa, 0x16, 0x3e, 0, 1, 1, 0x86, 0xdd]);
        let (ip, message) = rest.split_at(40);
        assert_eq!(ip[..8], [0x60, 0, 0, 0, 0, 88, 58, 255], "88 bytes of ICMPv6, hop limit 255");
        assert_eq!(ip[8..24], [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0xf8, 0x16, 0x3e, 0xff, 0xfe, 0, 1, 1]);
        assert_eq!(ip[24..], ALL_NODES);
        let want: [&[u8]; 7] = [
            &[64, 0x40, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0xfa, 0x16, 0x3e, 0, 1, 1],
            &[5, 1, 0, 0, 0, 0, 0x05, 0xaa],
            &[3, 4, 64, 0xc0, 0, 0x27, 0x8d, 0, 0, 0x09, 0x3a, 0x80, 0, 0, 0, 0],
            &[0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[25, 3, 0, 0, 0, 0, 0xff, 0xff],
            &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53],
        ];
        assert_eq!(message[4..], want.concat());
        assert_eq!(message[..2], [134, 0]);
        let (src, dst) = (ip[8..24].try_into().unwrap(), ip[24..].try_into().unwrap());
        assert_eq!(icmp6::checksum(&src, &dst, message), 0, "the checksum is right");
    }

    #[test]
    fn the_last_word_has_no_lifetimes_and_leaves_prefixes_alone() {
        let message = advertisement().last().message();
        assert_eq!(message[6..8], [0, 0], "router");
        assert_eq!((message[24], message[32], message.len()), (OPTION_MTU, OPTION_DNS, 56), "no prefix");
        assert_eq!(message[36..40], [0; 4], "DNS servers");
    }

    #[test]
    fn flags_say_what_dhcp_is_for() {
        for (managed, other, want) in [(false, false, 0), (false, true, 0x40), (true, true, 0xc0)] {
            let message = Advertisement { managed, other, ..advertisement() }.message();
            assert_eq!(message[5], want);
        }
        let prefix = AdvertisedPrefix { prefix: "2001:db8::/64".parse().unwrap(), autonomous: false };
        let message = Advertisement { prefixes: vec![prefix], ..advertisement() }.message();
        assert_eq!(message[35], 0x80, "on link, not for making addresses of");
    }
}
