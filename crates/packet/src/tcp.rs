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
