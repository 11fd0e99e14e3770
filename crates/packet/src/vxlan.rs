//! VXLAN header (RFC 7348 §5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const LEN: usize = 8;
pub const PORT: u16 = 4789;
/// The I flag: the VNI is valid. All other bits are reserved: sent as zero, ignored on receipt.
pub const FLAG_VNI: u8 = 0x08;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub flags: u8,
    pub reserved: [u8; 3],
    pub vni_be: [u8; 3],
    pub reserved_last: u8,
}

impl Header {
    /// `vni`: 24 bits, the upper eight are ignored.
    #[inline(always)]
    pub const fn new(vni: u32) -> Self {
        let [_, a, b, c] = vni.to_be_bytes();
        Self { flags: FLAG_VNI, reserved: [0; 3], vni_be: [a, b, c], reserved_last: 0 }
    }

    #[inline(always)]
    pub const fn vni(&self) -> u32 {
        let [a, b, c] = self.vni_be;
        u32::from_be_bytes([0, a, b, c])
    }

    #[inline(always)]
    pub const fn is_valid(&self) -> bool {
        self.flags & FLAG_VNI != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_7348_section_5_layout() {
        assert_eq!(crate::bytes::<_, LEN>(Header::new(0x12_3456)), [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
    }

    proptest! {
        #[test]
        fn round_trip(wire: [u8; LEN]) {
            prop_assert_eq!(crate::bytes::<_, LEN>(crate::view::<Header, LEN>(wire)), wire);
        }

        #[test]
        fn a_vni_has_24_bits(vni: u32) {
            let header = Header::new(vni);
            prop_assert!(header.is_valid());
            prop_assert_eq!(header.vni(), vni & 0x00ff_ffff);
        }

        #[test]
        fn only_the_i_flag_counts(wire: [u8; LEN]) {
            let header: Header = crate::view(wire);
            prop_assert_eq!(header.is_valid(), wire[0] & 8 == 8);
            prop_assert_eq!(header.vni(), u32::from_be_bytes([0, wire[4], wire[5], wire[6]]));
        }
    }
}
