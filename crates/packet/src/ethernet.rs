//! Ethernet II (IEEE 802.3) header and MAC addresses.

use crate::U16;
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header without a VLAN tag.
pub const LEN: usize = 14;

/// EtherTypes the pipeline tells apart (IANA "ETHER TYPES").
pub const TYPE_IPV4: u16 = 0x0800;
pub const TYPE_ARP: u16 = 0x0806;
pub const TYPE_VLAN: u16 = 0x8100;
pub const TYPE_QINQ: u16 = 0x88a8;
pub const TYPE_IPV6: u16 = 0x86dd;
/// Transparent Ethernet bridging: the protocol type of a Geneve payload (RFC 8926 §3.4).
pub const TYPE_TEB: u16 = 0x6558;

/// A 48-bit MAC address in wire order.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    pub const ZERO: Self = Self([0; 6]);
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Group bit: multicast and broadcast destinations.
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    #[inline(always)]
    pub const fn is_zero(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a | b | c | d | e | f == 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMacAddress;

impl fmt::Display for NotAMacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address of the form fa:16:3e:00:00:01")
    }
}

impl core::error::Error for NotAMacAddress {}

impl core::str::FromStr for MacAddr {
    type Err = NotAMacAddress;

    fn from_str(text: &str) -> Result<Self, NotAMacAddress> {
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(NotAMacAddress)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(NotAMacAddress);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| NotAMacAddress)?;
        }
        if parts.next().is_some() {
            return Err(NotAMacAddress);
        }
        Ok(Self(octets))
    }
}

/// The header: destination, source, EtherType.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub dst: MacAddr,
    pub src: MacAddr,
    pub ethertype: U16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    proptest! {
        #[test]
        fn round_trip(wire: [u8; LEN]) {
            prop_assert_eq!(crate::bytes::<_, LEN>(crate::view::<Header, LEN>(wire)), wire);
        }

        #[test]
        fn etherparse_agrees(wire: [u8; LEN]) {
            let header: Header = crate::view(wire);
            let (other, _) = etherparse::Ethernet2Header::from_slice(&wire).unwrap();
            prop_assert_eq!((header.dst.0, header.src.0), (other.destination, other.source));
            prop_assert_eq!(header.ethertype.get(), other.ether_type.0);
        }

        #[test]
        fn a_mac_is_read_as_it_is_written(octets: [u8; 6]) {
            prop_assert_eq!(MacAddr(octets).to_string().parse(), Ok(MacAddr(octets)));
        }

        #[test]
        fn arbitrary_text_is_no_panic(text: std::string::String) {
            let _ = text.parse::<MacAddr>();
        }
    }

    #[test]
    fn a_mac_in_another_form_is_refused() {
        let table = [
            "",
            "fa:16:3e:00:00",
            "fa:16:3e:00:00:01:02",
            "fa-16-3e-00-00-01",
            "fa:16:3e:00:00:1",
            "fa:16:3e:00:00:+1",
            "fa:16:3e:00:00:g1",
        ];
        for text in table {
            assert_eq!(text.parse::<MacAddr>(), Err(NotAMacAddress), "{text}");
        }
        assert_eq!("FA:16:3E:00:00:01".parse(), Ok(MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1])));
    }

    #[test]
    fn groups_and_zero_are_told_apart() {
        assert!(MacAddr::BROADCAST.is_multicast() && MacAddr([1, 0, 0x5e, 0, 0, 1]).is_multicast());
        assert!(!MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]).is_multicast());
        assert!(MacAddr::ZERO.is_zero() && !MacAddr([0, 0, 0, 0, 0, 1]).is_zero());
    }
}
