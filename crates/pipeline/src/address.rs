//! Addresses in table keys: always 16 bytes, so that IPv6 needs no second pipeline.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`. The four words hold the sixteen bytes in wire
/// order as they lie in memory.
#[repr(transparent)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Address([u32; 4]);

const V4_MAPPED: u32 = 0x0000_ffff_u32.to_be();

impl Address {
    /// `::`, "no address".
    pub const ZERO: Self = Self([0; 4]);

    /// From wire bytes.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self([0, 0, V4_MAPPED, u32::from_ne_bytes(octets)])
    }

    /// The IPv4 address in wire bytes; for an IPv6 address its last four bytes.
    #[inline(always)]
    pub const fn to_v4(self) -> [u8; 4] {
        let [_, _, _, last] = self.0;
        last.to_ne_bytes()
    }

    #[inline(always)]
    pub const fn is_zero(self) -> bool {
        let [a, b, c, d] = self.0;
        a | b | c | d == 0
    }

    /// The four words, for hashing.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        zerocopy::transmute!(octets)
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        let octets: [u8; 16] = zerocopy::transmute!(address.0);
        Ipv6Addr::from(octets).to_canonical()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
