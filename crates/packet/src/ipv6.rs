//! IPv6 header (RFC 8200) and the extension headers that the pipeline steps over.

use crate::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes without extension headers.
pub const LEN: usize = 40;
pub const PROTOCOL_HOP_BY_HOP: u8 = 0;
pub const PROTOCOL_FRAGMENT: u8 = 44;
pub const PROTOCOL_ICMP: u8 = 58;
pub const PROTOCOL_DESTINATION_OPTIONS: u8 = 60;

/// Offsets of the fields that are rewritten in place.
pub const OFFSET_HOP_LIMIT: u32 = 7;
pub const OFFSET_SRC: u32 = 8;
pub const OFFSET_DST: u32 = 24;

/// Every link must carry packets of this size (RFC 8200 §5), bytes.
pub const MTU_MIN: u16 = 1280;

/// The header. Addresses in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version_class_label: U32,
    /// Everything behind this header, extension headers included.
    pub payload_len: U16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub src: [u8; 16],
    pub dst: [u8; 16],
}

impl Header {
    #[inline(always)]
    pub fn version(&self) -> u8 {
        (self.version_class_label.get() >> 28) as u8
    }
}

/// What hop-by-hop and destination options begin with (RFC 8200 §4.3, §4.6).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Options {
    pub next_header: u8,
    /// In units of eight bytes, the first eight not counted.
    pub len: u8,
}

impl Options {
    pub const LEN: usize = 2;

    /// Bytes of the whole extension header, 8 to 2048.
    #[inline(always)]
    pub fn bytes(&self) -> u32 {
        (self.len as u32 + 1) << 3
    }
}

/// The fragment header (RFC 8200 §4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Fragment {
    pub next_header: u8,
    pub reserved: u8,
    /// Offset in units of eight bytes (13 bits), two reserved bits, more fragments.
    pub offset_more: U16,
    pub identification: U32,
}

impl Fragment {
    pub const LEN: usize = 8;

    /// The only fragment of its datagram (RFC 6946): whole.
    #[inline(always)]
    pub fn is_atomic(&self) -> bool {
        self.offset_more.get() & 0xfff9 == 0
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

        /// Every field as the other parser sees it, or both refuse.
        #[test]
        fn etherparse_agrees(mut wire: [u8; LEN], plain: bool) {
            if plain {
                wire[0] = 0x60 | wire[0] & 0xf;
            }
            let header: Header = crate::view(wire);
            let Ok((other, _)) = etherparse::Ipv6Header::from_slice(&wire) else {
                prop_assert!(header.version() != 6);
                return Ok(());
            };
            prop_assert_eq!(header.version(), 6);
            prop_assert_eq!(header.payload_len.get(), other.payload_length);
            prop_assert_eq!(header.next_header, other.next_header.0);
            prop_assert_eq!(header.hop_limit, other.hop_limit);
            prop_assert_eq!((header.src, header.dst), (other.source, other.destination));
        }

        #[test]
        fn etherparse_agrees_on_fragments(wire: [u8; Fragment::LEN]) {
            let header: Fragment = crate::view(wire);
            let (other, _) = etherparse::Ipv6FragmentHeader::from_slice(&wire).unwrap();
            prop_assert_eq!(header.next_header, other.next_header.0);
            prop_assert_eq!(header.identification.get(), other.identification);
            prop_assert_eq!(header.is_atomic(), !other.is_fragmenting_payload());
        }

        #[test]
        fn etherparse_agrees_on_the_length_of_options(next: u8, len: u8) {
            let mut wire = std::vec![0; 2048];
            (wire[0], wire[1]) = (next, len);
            let (other, _) = etherparse::Ipv6RawExtHeader::from_slice(&wire).unwrap();
            let header: Options = crate::view([next, len]);
            prop_assert_eq!(header.bytes() as usize, other.header_len());
        }
    }

    #[test]
    fn the_offsets_are_those_of_the_fields() {
        assert_eq!(core::mem::offset_of!(Header, hop_limit), OFFSET_HOP_LIMIT as usize);
        assert_eq!(core::mem::offset_of!(Header, src), OFFSET_SRC as usize);
        assert_eq!(core::mem::offset_of!(Header, dst), OFFSET_DST as usize);
    }
}
