//! ARP for IPv4 over Ethernet (RFC 826; probes and announcements: RFC 5227).

use crate::{MacAddr, U16};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an Ethernet/IPv4 ARP message.
pub const LEN: usize = 28;
pub const OP_REQUEST: u16 = 1;
pub const OP_REPLY: u16 = 2;

/// The message. Addresses in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub hardware_type: U16,
    pub protocol_type: U16,
    pub hardware_len: u8,
    pub protocol_len: u8,
    pub operation: U16,
    pub sender_mac: MacAddr,
    pub sender_ip: [u8; 4],
    pub target_mac: MacAddr,
    pub target_ip: [u8; 4],
}

impl Header {
    /// A message of the only kind spoken here: hardware Ethernet, protocol IPv4.
    #[inline(always)]
    pub const fn new(
        operation: u16,
        (sender_mac, sender_ip): (MacAddr, [u8; 4]),
        (target_mac, target_ip): (MacAddr, [u8; 4]),
    ) -> Self {
        Self {
            hardware_type: U16::new(1),
            protocol_type: U16::new(crate::ethernet::TYPE_IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation),
            sender_mac,
            sender_ip,
            target_mac,
            target_ip,
        }
    }

    /// Ethernet and IPv4 with their address lengths; anything else is not understood.
    #[inline(always)]
    pub fn is_ethernet_ipv4(&self) -> bool {
        self.hardware_type.get() == 1
            && self.protocol_type.get() == crate::ethernet::TYPE_IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(wire: [u8; LEN]) {
            prop_assert_eq!(crate::bytes::<_, LEN>(crate::view::<Header, LEN>(wire)), wire);
        }

        /// Accepted is exactly what the other parser takes for Ethernet and IPv4.
        #[test]
        fn etherparse_agrees(mut wire: [u8; LEN], plain: bool) {
            if plain {
                wire[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
            }
            let header: Header = crate::view(wire);
            let other = etherparse::ArpPacketSlice::from_slice(&wire)
                .ok()
                .and_then(|other| other.to_packet().try_eth_ipv4().ok());
            let Some(other) = other else {
                prop_assert!(!header.is_ethernet_ipv4());
                return Ok(());
            };
            prop_assert!(header.is_ethernet_ipv4());
            prop_assert_eq!(header.operation.get(), other.operation.0);
            prop_assert_eq!((header.sender_mac.0, header.sender_ip), (other.sender_mac, other.sender_ipv4));
            prop_assert_eq!((header.target_mac.0, header.target_ip), (other.target_mac, other.target_ipv4));
        }

        #[test]
        fn a_new_message_is_ethernet_and_ipv4(operation: u16, sender: ([u8; 6], [u8; 4]), target: ([u8; 6], [u8; 4])) {
            let header = Header::new(operation, (MacAddr(sender.0), sender.1), (MacAddr(target.0), target.1));
            prop_assert!(header.is_ethernet_ipv4());
            prop_assert_eq!(header, crate::view::<Header, LEN>(crate::bytes::<_, LEN>(header)));
            prop_assert_eq!((header.operation.get(), header.sender_mac.0, header.target_ip), (operation, sender.0, target.1));
        }
    }
}
