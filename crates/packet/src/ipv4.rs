//! IPv4 header (RFC 791).

use crate::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes without options.
pub const LEN: usize = 20;
pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;

/// Offsets of the fields that are rewritten in place.
pub const OFFSET_TTL: u32 = 8;
pub const OFFSET_PROTOCOL: u32 = 9;
pub const OFFSET_CHECKSUM: u32 = 10;
pub const OFFSET_SRC: u32 = 12;
pub const OFFSET_DST: u32 = 16;

/// Don't Fragment and More Fragments in `flags_fragment`.
pub const FLAG_DF: u16 = 0x4000;
pub const FLAG_MF: u16 = 0x2000;
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The fixed part of the header. Addresses in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub version_ihl: u8,
    pub dscp_ecn: u8,
    pub total_len: U16,
    pub identification: U16,
    pub flags_fragment: U16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: U16,
    pub src: [u8; 4],
    pub dst: [u8; 4],
}

impl Header {
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Header length in bytes with options, 0..=60; below 20 is malformed.
    #[inline(always)]
    pub fn header_len(&self) -> u32 {
        ((self.version_ihl & 0xf) as u32) << 2
    }

    /// Part of a fragmented datagram (first, middle or last).
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.flags_fragment.get() & (FLAG_MF | FRAGMENT_OFFSET) != 0
    }

    #[inline(always)]
    pub fn dont_fragment(&self) -> bool {
        self.flags_fragment.get() & FLAG_DF != 0
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

        /// Version, length and every field as the other parser sees them, or both refuse.
        #[test]
        fn etherparse_agrees(mut wire: [u8; LEN], plain: bool) {
            if plain {
                wire[0] = 0x45;
            }
            let header: Header = crate::view(wire);
            let mut whole = [0; 60];
            whole[..LEN].copy_from_slice(&wire);
            let Ok((other, _)) = etherparse::Ipv4Header::from_slice(&whole) else {
                prop_assert!(header.version() != 4 || header.header_len() < LEN as u32);
                return Ok(());
            };
            prop_assert_eq!(header.version(), 4);
            prop_assert_eq!(header.header_len() as usize, other.header_len());
            prop_assert_eq!(header.dscp_ecn, (other.dscp.value() << 2) | other.ecn.value());
            prop_assert_eq!(header.total_len.get(), other.total_len);
            prop_assert_eq!(header.identification.get(), other.identification);
            prop_assert_eq!(header.dont_fragment(), other.dont_fragment);
            prop_assert_eq!(header.is_fragment(), other.more_fragments || other.fragment_offset.value() != 0);
            prop_assert_eq!(header.flags_fragment.get() & FRAGMENT_OFFSET, other.fragment_offset.value());
            prop_assert_eq!(header.ttl, other.time_to_live);
            prop_assert_eq!(header.protocol, other.protocol.0);
            prop_assert_eq!(header.checksum.get(), other.header_checksum);
            prop_assert_eq!((header.src, header.dst), (other.source, other.destination));
        }

        #[test]
        fn our_checksum_is_etherparses(wire: [u8; LEN]) {
            let mut wire = wire;
            wire[0] = 0x45;
            // The reserved flag, which the other parser does not keep.
            wire[6] &= 0x7f;
            wire[10..12].fill(0);
            let (other, _) = etherparse::Ipv4Header::from_slice(&wire).unwrap();
            prop_assert_eq!(crate::checksum::checksum(&wire), other.calc_header_checksum());
        }
    }

    #[test]
    fn the_offsets_are_those_of_the_fields() {
        assert_eq!(core::mem::offset_of!(Header, ttl), OFFSET_TTL as usize);
        assert_eq!(core::mem::offset_of!(Header, protocol), OFFSET_PROTOCOL as usize);
        assert_eq!(core::mem::offset_of!(Header, checksum), OFFSET_CHECKSUM as usize);
        assert_eq!(core::mem::offset_of!(Header, src), OFFSET_SRC as usize);
        assert_eq!(core::mem::offset_of!(Header, dst), OFFSET_DST as usize);
    }
}
