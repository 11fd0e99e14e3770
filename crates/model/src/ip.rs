//! Addresses of both IP versions as numbers: what allocating addresses and prefixes needs.

use crate::Mac;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// 4 or 6, as which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum IpVersion {
    V4,
    V6,
}

impl IpVersion {
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub fn of_net(net: IpNet) -> Self {
        Self::of(net.addr())
    }

    /// Of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with that number; `None` if there is none.
    pub fn address(self, number: u128) -> Option<IpAddr> {
        match self {
            Self::V4 => u32::try_from(number).ok().map(|number| Ipv4Addr::from(number).into()),
            Self::V6 => Some(Ipv6Addr::from(number).into()),
        }
    }
}

impl From<IpVersion> for u8 {
    fn from(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => 4,
            IpVersion::V6 => 6,
        }
    }
}

/// A number that is neither 4 nor 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not in [4, 6]")]
pub struct NotAnIpVersion(u8);

impl TryFrom<u8> for IpVersion {
    type Error = NotAnIpVersion;

    fn try_from(number: u8) -> Result<Self, NotAnIpVersion> {
        match number {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            other => Err(NotAnIpVersion(other)),
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        u8::from(*self).fmt(f)
    }
}

/// The address, if it is one of IPv4.
pub const fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The address, if it is one of IPv6.
pub const fn ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}

/// The address as a number: addresses that follow each other differ by one.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Whether they have an address in common.
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// The address that a guest makes of a prefix of 64 bits and its MAC address (RFC 4291 appendix A).
pub fn eui64(prefix: Ipv6Addr, mac: Mac) -> Ipv6Addr {
    let Mac([a, b, c, d, e, f]) = mac;
    let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from(u128::from(prefix) >> 64 << 64 | u128::from(identifier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_identifier_as_in_the_rfc() {
        let mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        let address = eui64("2001:db8:1:2::".parse().unwrap(), mac);
        assert_eq!(address.to_string(), "2001:db8:1:2:3656:78ff:fe9a:bcde");
    }
}
