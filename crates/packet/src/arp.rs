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
