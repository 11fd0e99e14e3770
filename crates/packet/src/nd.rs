//! Neighbour discovery (RFC 4861): solicitations and advertisements with the one option that Ethernet needs, and the
//! addresses that go with them.

use crate::{MacAddr, U16, U32, checksum, icmp6, ipv6};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_ref};

/// Bytes of a neighbour solicitation or advertisement without options.
pub const LEN: usize = 24;
/// Bytes of one with a link-layer address of Ethernet.
pub const LEN_WITH_MAC: usize = LEN + Option::LEN;
/// Every message is sent with this hop limit: what a router passed on has less (RFC 4861 §7.1).
pub const HOP_LIMIT: u8 = 255;

pub const OPTION_SOURCE_MAC: u8 = 1;
pub const OPTION_TARGET_MAC: u8 = 2;
pub const OPTION_PREFIX: u8 = 3;
pub const OPTION_MTU: u8 = 5;

/// Offset of the target's address in a message.
pub const OFFSET_TARGET: u32 = 8;

/// Flags of an advertisement.
pub const FLAG_ROUTER: u8 = 0x80;
pub const FLAG_SOLICITED: u8 = 0x40;
pub const FLAG_OVERRIDE: u8 = 0x20;

/// ff02::1, every node on the link.
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// ff02::2, every router.
pub const ALL_ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// A neighbour solicitation or advertisement (RFC 4861 §4.3, §4.4). Addresses in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub kind: u8,
    pub code: u8,
    pub checksum: U16,
    /// [`FLAG_ROUTER`] and friends; of a solicitation: reserved.
    pub flags: u8,
    pub reserved: [u8; 3],
    pub target: [u8; 16],
}

/// The option with a link-layer address of Ethernet (RFC 4861 §4.6.1); others have the same first two fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Option {
    pub kind: u8,
    /// In units of eight bytes, all counted; 0 is malformed.
    pub len: u8,
    pub mac: MacAddr,
}

impl Option {
    pub const LEN: usize = 8;
}

/// A message with its option, as it is answered or composed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Message {
    pub header: Header,
    pub option: Option,
}

impl Message {
    /// "`target` is at `mac`". From wire bytes.
    pub fn advertisement(flags: u8, target: [u8; 16], mac: MacAddr) -> Self {
        Self::new(icmp6::TYPE_NEIGHBOR_ADVERTISEMENT, flags, target, (OPTION_TARGET_MAC, mac))
    }

    /// "Who is `target`? I am at `mac`".
    pub fn solicitation(target: [u8; 16], mac: MacAddr) -> Self {
        Self::new(icmp6::TYPE_NEIGHBOR_SOLICITATION, 0, target, (OPTION_SOURCE_MAC, mac))
    }

    fn new(kind: u8, flags: u8, target: [u8; 16], (option, mac): (u8, MacAddr)) -> Self {
        Self {
            header: Header { kind, code: 0, checksum: U16::new(0), flags, reserved: [0; 3], target },
            option: Option { kind: option, len: 1, mac },
        }
    }
}

/// The packet of a message between two addresses, without its Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Packet {
    pub ipv6: ipv6::Header,
    pub message: Message,
}

impl Packet {
    pub const LEN: usize = ipv6::LEN + LEN_WITH_MAC;

    /// With its checksum. Addresses in wire order.
    pub fn new(src: [u8; 16], dst: [u8; 16], message: Message) -> Self {
        let ipv6 = ipv6::Header {
            version_class_label: U32::new(6 << 28),
            payload_len: U16::new(0),
            next_header: ipv6::PROTOCOL_ICMP,
            hop_limit: HOP_LIMIT,
            src,
            dst,
        };
        let mut packet = Self { ipv6, message };
        packet.seal(true);
        packet
    }

    /// Puts length and checksum right, for the message with its option or without.
    pub fn seal(&mut self, with_option: bool) {
        let Self { ipv6, message: Message { header, option } } = self;
        header.checksum = U16::new(0);
        let option_sum = if with_option { part::<{ Option::LEN }>(transmute_ref!(option)) } else { 0 };
        let len = if with_option { LEN_WITH_MAC } else { LEN } as u16;
        let sum = part(&ipv6.src)
            .wrapping_add(part(&ipv6.dst))
            .wrapping_add(part::<LEN>(transmute_ref!(header)))
            .wrapping_add(option_sum)
            .wrapping_add(u32::from(len))
            .wrapping_add(u32::from(ipv6::PROTOCOL_ICMP));
        ipv6.payload_len = U16::new(len);
        header.checksum = U16::new(!checksum::fold(sum));
    }
}

/// Sum of one part of a message: by itself, because all of them together take more stack than a program has.
#[inline(never)]
fn part<const N: usize>(bytes: &[u8; N]) -> u32 {
    checksum::sum(bytes)
}

/// The MAC that a multicast address is sent to (RFC 2464 §7).
pub const fn multicast_mac(address: &[u8; 16]) -> MacAddr {
    let [.., a, b, c, d] = *address;
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The multicast address on which the owner of an address listens (RFC 4291 §2.7.1).
pub const fn solicited_node(address: &[u8; 16]) -> [u8; 16] {
    let [.., a, b, c] = *address;
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]
}

/// fe80::/64 and the MAC's modified EUI-64 (RFC 4291 appendix A).
pub const fn link_local(MacAddr([a, b, c, d, e, f]): MacAddr) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

/// The link-layer address that a message's options name, by the kind of option. `options`: what follows the message.
/// None: there is none, or the options are malformed.
pub fn mac_option(options: &[u8], kind: u8) -> core::option::Option<MacAddr> {
    let mut rest = options;
    while let Some(option) = crate::read::<Option>(rest, 0) {
        let len = usize::from(option.len) << 3;
        if len == 0 || len > rest.len() {
            return None;
        }
        if option.kind == kind {
            return (option.len == 1).then_some(option.mac);
        }
        rest = &rest[len..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn rfc_4291_examples() {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&[0x40, 0x37]);
        address[8..].copy_from_slice(&[0x01, 0, 0, 0x80, 0x0e, 0x8c, 0x6c, 0x20]);
        let node = solicited_node(&address);
        assert_eq!(node, [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x8c, 0x6c, 0x20]);
        assert_eq!(multicast_mac(&node), MacAddr([0x33, 0x33, 0xff, 0x8c, 0x6c, 0x20]));
        assert_eq!(multicast_mac(&ALL_ROUTERS), MacAddr([0x33, 0x33, 0, 0, 0, 2]));
        let own = link_local(MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]));
        assert_eq!(own[8..], [0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde]);
    }

    #[test]
    fn the_option_asked_for_is_found_behind_others() {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let wanted = crate::bytes::<_, 8>(Option { kind: OPTION_TARGET_MAC, len: 1, mac });
        let nonce = [14, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        let both = [&nonce[..], &wanted].concat();
        assert_eq!(mac_option(&both, OPTION_TARGET_MAC), Some(mac));
        assert_eq!(mac_option(&both, OPTION_SOURCE_MAC), None);
        assert_eq!(mac_option(&[14, 0, 0, 0, 0, 0, 0, 0], OPTION_SOURCE_MAC), None, "length 0");
        assert_eq!(mac_option(&both[..20], OPTION_TARGET_MAC), None, "cut off");
    }

    proptest! {
        #[test]
        fn a_message_is_one_for_another_parser(src: [u8; 16], dst: [u8; 16], target: [u8; 16], mac: [u8; 6],
                                               asks: bool) {
            let message = if asks {
                Message::solicitation(target, MacAddr(mac))
            } else {
                Message::advertisement(FLAG_SOLICITED | FLAG_OVERRIDE, target, MacAddr(mac))
            };
            let wire = crate::bytes::<_, { Packet::LEN }>(Packet::new(src, dst, message));
            let packet = etherparse::SlicedPacket::from_ip(&wire).unwrap();
            let Some(etherparse::TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("no ICMPv6") };
            prop_assert!(icmp.is_checksum_valid(src, dst));
            prop_assert_eq!(icmp.slice().len(), LEN_WITH_MAC);
            let kind = if asks { OPTION_SOURCE_MAC } else { OPTION_TARGET_MAC };
            prop_assert_eq!(mac_option(&icmp.slice()[LEN..], kind), Some(MacAddr(mac)));
            let read: Header = crate::read(icmp.slice(), 0).unwrap();
            prop_assert_eq!(read.target, target);
        }

        #[test]
        fn arbitrary_options_are_no_panic(options: Vec<u8>) {
            let _ = mac_option(&options, OPTION_SOURCE_MAC);
        }
    }
}
