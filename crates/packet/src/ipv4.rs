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
