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
