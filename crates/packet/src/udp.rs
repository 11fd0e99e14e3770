//! UDP header (RFC 768).

use crate::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const LEN: usize = 8;
pub const OFFSET_SRC_PORT: u32 = 0;
pub const OFFSET_DST_PORT: u32 = 2;
pub const OFFSET_CHECKSUM: u32 = 6;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    pub src_port: U16,
    pub dst_port: U16,
    pub len: U16,
    /// Zero: the sender computed none (IPv4 only).
    pub checksum: U16,
}
