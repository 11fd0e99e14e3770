//! TCP header (RFC 9293): the parts a NAT reads.

use crate::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes without options.
pub const LEN: usize = 20;
pub const OFFSET_SRC_PORT: u32 = 0;
pub const OFFSET_DST_PORT: u32 = 2;
pub const OFFSET_CHECKSUM: u32 = 16;

pub const FLAG_FIN: u8 = 0x01;
pub const FLAG_SYN: u8 = 0x02;
pub const FLAG_RST: u8 = 0x04;
pub const FLAG_ACK: u8 = 0x10;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub src_port: U16,
    pub dst_port: U16,
    pub sequence: U32,
    pub acknowledgment: U32,
    pub data_offset: u8,
    pub flags: u8,
    pub window: U16,
    pub checksum: U16,
    pub urgent: U16,
}

impl Header {
    /// Header length in bytes with options; below 20 is malformed.
    #[inline(always)]
    pub fn header_len(&self) -> u32 {
        ((self.data_offset >> 4) as u32) << 2
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

        #[test]
        fn etherparse_agrees(mut wire: [u8; LEN], flags: u8) {
            wire[12] = 0x50;
            wire[13] = flags;
            let header: Header = crate::view(wire);
            let (other, _) = etherparse::TcpHeader::from_slice(&wire).unwrap();
            prop_assert_eq!(header.src_port.get(), other.source_port);
            prop_assert_eq!(header.dst_port.get(), other.destination_port);
            prop_assert_eq!(header.sequence.get(), other.sequence_number);
            prop_assert_eq!(header.acknowledgment.get(), other.acknowledgment_number);
            prop_assert_eq!(header.window.get(), other.window_size);
            prop_assert_eq!(header.checksum.get(), other.checksum);
            prop_assert_eq!(header.urgent.get(), other.urgent_pointer);
            prop_assert_eq!(header.flags & FLAG_FIN != 0, other.fin);
            prop_assert_eq!(header.flags & FLAG_SYN != 0, other.syn);
            prop_assert_eq!(header.flags & FLAG_RST != 0, other.rst);
            prop_assert_eq!(header.flags & FLAG_ACK != 0, other.ack);
            prop_assert_eq!(&wire[OFFSET_CHECKSUM as usize..][..2], other.checksum.to_be_bytes());
        }

        /// The header length as the other parser sees it, or both refuse.
        #[test]
        fn header_len_agrees(wire: [u8; LEN]) {
            let header: Header = crate::view(wire);
            let mut whole = [0; 60];
            whole[..LEN].copy_from_slice(&wire);
            match etherparse::TcpHeaderSlice::from_slice(&whole) {
                Ok(other) => prop_assert_eq!(header.header_len() as usize, other.slice().len()),
                Err(_) => prop_assert!(header.header_len() < LEN as u32),
            }
        }
    }
}
