//! Whole frames that the agent sends: ARP and ICMP errors.
//!
//! What this is: functions from addresses to the bytes of a frame, over a fixed array. What this is not: it
//! does not decide whether to send (rates, ownership), and the data path never uses it.

mod arp;
mod icmp_error;

pub use arp::{ArpSender, arp_announcement, arp_announcement_reply, arp_probe, arp_reply, arp_request};
pub use icmp_error::{ErrorSender, IcmpError, Refusal, icmp_error};

use crate::{MacAddr, U16, ethernet};
use core::ops::Deref;

/// An 802.1Q tag: its EtherType is in the Ethernet header, so two bytes of control and the inner EtherType.
const TAG_LEN: usize = 4;
/// RFC 1812 §4.3.2.3: an ICMP error is at most 576 bytes of IPv4.
const DATAGRAM_MAX: usize = 576;
/// The longest frame composed here.
pub const FRAME_MAX: usize = ethernet::LEN + TAG_LEN + DATAGRAM_MAX;
/// VLAN ids are 12 bits (IEEE 802.1Q §9.6).
const VLAN_MASK: u16 = 0x0fff;

/// A composed frame; dereferences to its bytes, from the Ethernet header. Not padded to Ethernet's minimum:
/// that is the sending interface's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: [u8; FRAME_MAX],
    len: usize,
}

impl Frame {
    /// An Ethernet header, with an 802.1Q tag of priority 0 if `vlan` is given.
    fn new(dst: MacAddr, src: MacAddr, vlan: Option<u16>, ethertype: u16) -> Self {
        let mut frame = Self { bytes: [0; FRAME_MAX], len: 0 };
        let outer = if vlan.is_some() { ethernet::TYPE_VLAN } else { ethertype };
        let header = ethernet::Header { dst, src, ethertype: U16::new(outer) };
        frame.push(&crate::bytes::<_, { ethernet::LEN }>(header));
        if let Some(vlan) = vlan {
            frame.push(&(vlan & VLAN_MASK).to_be_bytes());
            frame.push(&ethertype.to_be_bytes());
        }
        frame
    }

    /// Appends. The callers' constant sizes add up to at most `FRAME_MAX`; more would be left out.
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_grows_beyond_its_array() {
        let mut frame = Frame::new(MacAddr::BROADCAST, MacAddr::ZERO, Some(1), ethernet::TYPE_IPV4);
        frame.push(&[1; DATAGRAM_MAX]);
        assert_eq!(frame.len(), FRAME_MAX);
        frame.push(&[2]);
        assert_eq!(frame.len(), FRAME_MAX);
        assert_eq!(frame.last(), Some(&1));
    }

    #[test]
    fn a_vlan_id_has_twelve_bits() {
        let frame = Frame::new(MacAddr::BROADCAST, MacAddr::ZERO, Some(0xf89f), ethernet::TYPE_ARP);
        assert_eq!(frame[12..], [0x81, 0x00, 0x08, 0x9f, 0x08, 0x06]);
    }
}
