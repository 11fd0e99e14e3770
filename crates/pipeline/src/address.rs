//! Addresses in table keys: always 16 bytes, so that IPv6 needs no second pipeline.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use packet::{MacAddr, nd};
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

    /// From wire bytes.
    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    /// The link-local address of an interface: fe80::/64 and the MAC's modified EUI-64 (RFC 4291 appendix A).
    #[inline(always)]
    pub const fn link_local(mac: MacAddr) -> Self {
        Self::v6(nd::link_local(mac))
    }

    /// The MAC in an address's modified EUI-64; of an address that has none, any.
    #[inline(always)]
    pub const fn eui_mac(self) -> MacAddr {
        let [_, _, third, last] = self.0;
        let ([a, b, c, _], [_, d, e, f]) = (third.to_ne_bytes(), last.to_ne_bytes());
        MacAddr([a ^ 2, b, c, d, e, f])
    }

    /// The sixteen bytes in wire order.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 16] {
        zerocopy::transmute!(self.0)
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        let [a, b, c, _] = self.0;
        a | b == 0 && c == V4_MAPPED
    }

    /// In fe80::/10 (RFC 4291 §2.5.6): never routed.
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        let [first, ..] = self.0;
        let [a, b, ..] = first.to_ne_bytes();
        a == 0xfe && b & 0xc0 == 0x80
    }

    /// In ff00::/8 (RFC 4291 §2.7).
    #[inline(always)]
    pub const fn is_v6_multicast(self) -> bool {
        let [first, ..] = self.0;
        let [a, ..] = first.to_ne_bytes();
        a == 0xff
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

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address.octets())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_and_its_mac_are_one() {
        // RFC 4291 appendix A, RFC 2464 §4.
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        let address = Address::link_local(mac);
        assert_eq!(address.to_string(), "fe80::3656:78ff:fe9a:bcde");
        assert_eq!(address.eui_mac(), mac);
        assert!(address.is_link_local() && !address.is_v4() && !address.is_v6_multicast());
    }

    #[test]
    fn the_families_are_told_apart() {
        let of = |text: &str| Address::from(text.parse::<IpAddr>().expect(text));
        assert!(of("0.0.0.0").is_v4() && of("255.255.255.255").is_v4() && of("::ffff:1.2.3.4").is_v4());
        for text in ["::", "::1", "::fffe:1.2.3.4", "1::ffff:1.2.3.4", "2001:db8::1", "ff02::1"] {
            assert!(!of(text).is_v4(), "{text}");
            assert_eq!(Address::v6(of(text).octets()), of(text));
        }
        assert!(of("ff02::1").is_v6_multicast() && of("febf::1").is_link_local());
        assert!(!of("fec0::1").is_link_local() && !of("254.128.0.0").is_link_local());
    }
}
