//! UDP header (RFC 768).

use crate::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const LEN: usize = 8;
pub const OFFSET_SRC_PORT: u32 = 0;
pub const OFFSET_DST_PORT: u32 = 2;
pub const OFFSET_CHECKSUM: u32 = 6;
/// RFC 2131 §4.1.
pub const PORT_DHCP_SERVER: u16 = 67;
pub const PORT_DHCP_CLIENT: u16 = 68;
/// RFC 6887 §19.1.
pub const PORT_PCP_SERVER: u16 = 5351;
/// RFC 8415 §7.2.
pub const PORT_DHCP6_CLIENT: u16 = 546;
pub const PORT_DHCP6_SERVER: u16 = 547;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub src_port: U16,
    pub dst_port: U16,
    pub len: U16,
    /// Zero: the sender computed none (IPv4 only).
    pub checksum: U16,
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
        fn etherparse_agrees(wire: [u8; LEN]) {
            let header: Header = crate::view(wire);
            let (other, _) = etherparse::UdpHeader::from_slice(&wire).unwrap();
            prop_assert_eq!(header.src_port.get(), other.source_port);
            prop_assert_eq!(header.dst_port.get(), other.destination_port);
            prop_assert_eq!(header.len.get(), other.length);
            prop_assert_eq!(header.checksum.get(), other.checksum);
            prop_assert_eq!(&wire[OFFSET_SRC_PORT as usize..][..2], other.source_port.to_be_bytes());
            prop_assert_eq!(&wire[OFFSET_DST_PORT as usize..][..2], other.destination_port.to_be_bytes());
            prop_assert_eq!(&wire[OFFSET_CHECKSUM as usize..][..2], other.checksum.to_be_bytes());
        }
    }
}
