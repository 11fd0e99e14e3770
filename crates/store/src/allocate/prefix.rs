//! Prefixes of subnet pools: the first that fits into the smallest gap's holder.

use super::Exhausted;
use ipnet::IpNet;
use model::ip::{IpVersion, number, overlap};
use std::cmp::Reverse;

/// The lowest free prefix of that length of `prefixes`, which are disjoint and of one version: of the longest prefix
/// that has one, so that large ones stay whole. `taken`: disjoint.
///
/// # Errors
/// `Exhausted` when none is left.
pub fn free_prefix(prefixes: &[IpNet], taken: &[IpNet], prefix_len: u8) -> Result<IpNet, Exhausted> {
    let mut holders: Vec<IpNet> =
        prefixes.iter().copied().filter(|holder| holder.prefix_len() <= prefix_len).collect();
    holders.sort_by_key(|holder| (Reverse(holder.prefix_len()), *holder));
    holders.into_iter().find_map(|holder| first_free(holder, taken, prefix_len)).ok_or(Exhausted)
}

fn first_free(holder: IpNet, taken: &[IpNet], prefix_len: u8) -> Option<IpNet> {
    let version = IpVersion::of_net(holder);
    let size = 1u128.checked_shl(u32::from(version.bits().checked_sub(prefix_len)?))?;
    let inside = taken.iter().filter(|other| overlap(holder, **other));
    let mut inside: Vec<(u128, u128)> = inside.map(bounds).collect();
    inside.sort_unstable();
    let (mut next, last) = bounds(&holder);
    for (taken_first, taken_last) in inside {
        if next.checked_add(size - 1)? < taken_first {
            break;
        }
        let behind = taken_last.checked_add(1)?;
        next = next.max(behind.checked_next_multiple_of(size)?);
    }
    if next.checked_add(size - 1)? > last {
        return None;
    }
    IpNet::new(version.address(next)?, prefix_len).ok()
}

/// First and last address as numbers.
fn bounds(net: &IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn the_lowest_gap_of_the_smallest_prefix_that_has_one() {
        let cases = [
            ("10.0.0.0/16", "", 24, Some("10.0.0.0/24")),
            ("10.0.0.0/16", "10.0.0.0/24", 24, Some("10.0.1.0/24")),
            ("10.0.0.0/16", "10.0.0.0/24 10.0.2.0/24", 24, Some("10.0.1.0/24")),
            ("10.0.0.0/16", "10.0.0.16/28", 24, Some("10.0.1.0/24")),
            ("10.0.0.0/16", "10.0.0.0/25", 23, Some("10.0.2.0/23")),
            ("10.0.0.0/8 192.168.0.0/24", "", 24, Some("192.168.0.0/24")),
            ("10.0.0.0/8 192.168.0.0/24", "192.168.0.0/25", 24, Some("10.0.0.0/24")),
            ("10.0.0.0/24", "", 23, None),
            ("10.0.0.0/24", "10.0.0.0/24", 28, None),
            ("10.0.0.0/24", "10.0.0.0/25 10.0.0.128/26", 26, Some("10.0.0.192/26")),
            ("255.255.255.0/24", "255.255.255.0/24", 25, None),
            ("fd00::/48", "fd00::/64", 64, Some("fd00:0:0:1::/64")),
            ("ffff:ffff:ffff:ffff::/64", "ffff:ffff:ffff:ffff::/64", 64, None),
        ];
        for (prefixes, taken, len, want) in cases {
            let got = free_prefix(&nets(prefixes), &nets(taken), len).ok().map(|net| net.to_string());
            assert_eq!(got.as_deref(), want, "/{len} of {prefixes} without {taken}");
        }
    }
}
