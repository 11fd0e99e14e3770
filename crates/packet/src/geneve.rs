//! Geneve header (RFC 8926 §3.4), without options: none are sent, and a packet with options is left to
//! the kernel's tunnel device.

use crate::{U16, ethernet};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const LEN: usize = 8;
pub const PORT: u16 = 6081;
/// O: control packet, never delivered to a tenant. C: critical options present.
pub const FLAG_CONTROL: u8 = 0x80;
pub const FLAG_CRITICAL: u8 = 0x40;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    /// Version (2 bits), option length in 4-byte words (6 bits).
    pub version_options: u8,
    pub flags: u8,
    pub protocol: U16,
    pub vni_be: [u8; 3],
    pub reserved: u8,
}

impl Header {
    /// Ethernet payload, no options. `vni`: 24 bits, the upper eight are ignored.
    #[inline(always)]
    pub const fn new(vni: u32) -> Self {
        let [_, a, b, c] = vni.to_be_bytes();
        Self {
            version_options: 0,
            flags: 0,
            protocol: U16::new(ethernet::TYPE_TEB),
            vni_be: [a, b, c],
            reserved: 0,
        }
    }

    #[inline(always)]
    pub const fn vni(&self) -> u32 {
        let [a, b, c] = self.vni_be;
        u32::from_be_bytes([0, a, b, c])
    }

    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_options >> 6
    }

    /// Bytes of options after this header, 0..=252.
    #[inline(always)]
    pub const fn options_len(&self) -> u32 {
        ((self.version_options & 0x3f) as u32) << 2
    }

    /// Version 0, no options, no control or critical flag, Ethernet inside: what eBPF takes itself.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.version_options == 0
            && self.flags & (FLAG_CONTROL | FLAG_CRITICAL) == 0
            && self.protocol.get() == ethernet::TYPE_TEB
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_8926_section_3_4_layout() {
        assert_eq!(crate::bytes::<_, LEN>(Header::new(0x12_3456)), [0, 0, 0x65, 0x58, 0x12, 0x34, 0x56, 0]);
    }

    #[test]
    fn only_a_plain_header_is_plain() {
        let table = [
            ("plain", [0, 0, 0x65, 0x58, 0, 0, 1, 0], true),
            ("reserved bits are ignored", [0, 0x3f, 0x65, 0x58, 0, 0, 1, 0xff], true),
            ("version 1", [0x40, 0, 0x65, 0x58, 0, 0, 1, 0], false),
            ("options", [0x01, 0, 0x65, 0x58, 0, 0, 1, 0], false),
            ("control", [0, 0x80, 0x65, 0x58, 0, 0, 1, 0], false),
            ("critical", [0, 0x40, 0x65, 0x58, 0, 0, 1, 0], false),
            ("IPv4 inside", [0, 0, 0x08, 0x00, 0, 0, 1, 0], false),
        ];
        for (name, wire, want) in table {
            assert_eq!(crate::view::<Header, LEN>(wire).is_plain(), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(wire: [u8; LEN]) {
            prop_assert_eq!(crate::bytes::<_, LEN>(crate::view::<Header, LEN>(wire)), wire);
        }

        #[test]
        fn a_vni_has_24_bits(vni: u32) {
            let header = Header::new(vni);
            prop_assert!(header.is_plain());
            prop_assert_eq!(header.vni(), vni & 0x00ff_ffff);
        }

        #[test]
        fn version_and_options_share_a_byte(wire: [u8; LEN]) {
            let header: Header = crate::view(wire);
            prop_assert_eq!((u32::from(header.version()) << 6) | (header.options_len() / 4), u32::from(wire[0]));
            prop_assert!(header.options_len() <= 252);
        }
    }
}
