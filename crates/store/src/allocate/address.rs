//! Addresses: random among the free ones of a subnet's pools.

use super::Exhausted;
use crate::Snapshot;
use model::NetworkId;
use model::ip::{IpVersion, number};
use model::resource::AddressRange;
use rand::Rng;
use std::net::IpAddr;

/// Random guesses before the free addresses are counted. A guess hits a pool half full with 1/2, so eight
/// leave one in 256 such allocations to the count, which is linear in the addresses used.
const GUESSES_MAX: u32 = 8;

/// A random address of `pools` (disjoint, each with `start <= end`) that no port of the network has.
///
/// # Errors
/// `Exhausted` when every address is taken.
pub fn free_address(
    snapshot: &Snapshot,
    network: NetworkId,
    pools: &[AddressRange],
    rng: &mut impl Rng,
) -> Result<IpAddr, Exhausted> {
    let total: u128 = pools.iter().map(size).sum();
    if total == 0 {
        return Err(Exhausted);
    }
    for _ in 0..GUESSES_MAX {
        let guess = nth(pools, rng.random_range(0..total)).ok_or(Exhausted)?;
        if snapshot.port_by_address(network, guess).is_none() {
            return Ok(guess);
        }
    }
    counted(snapshot, network, pools, rng)
}

/// Pools lie within subnets, which are never all addresses of their version: no sum overflows.
fn size(pool: &AddressRange) -> u128 {
    number(pool.end) - number(pool.start) + 1
}

/// The address at `index`, counting through the pools.
fn nth(pools: &[AddressRange], mut index: u128) -> Option<IpAddr> {
    for pool in pools {
        if index < size(pool) {
            return IpVersion::of(pool.start).address(number(pool.start) + index);
        }
        index -= size(pool);
    }
    None
}

/// Splits the pools at the used addresses and draws from what is left.
fn counted(
    snapshot: &Snapshot,
    network: NetworkId,
    pools: &[AddressRange],
    rng: &mut impl Rng,
) -> Result<IpAddr, Exhausted> {
    let mut gaps = Vec::new();
    for pool in pools {
        let version = IpVersion::of(pool.start);
        let mut next = number(pool.start);
        for used in snapshot.addresses_used(network, pool.start, pool.end) {
            gaps.extend(gap(version, next, number(used)));
            next = number(used).saturating_add(1);
        }
        gaps.extend(gap(version, next, number(pool.end).saturating_add(1)));
    }
    let free: u128 = gaps.iter().map(size).sum();
    if free == 0 {
        return Err(Exhausted);
    }
    nth(&gaps, rng.random_range(0..free)).ok_or(Exhausted)
}

/// The addresses from `first` up to, not including, `end`.
fn gap(version: IpVersion, first: u128, end: u128) -> Option<AddressRange> {
    let last = end.checked_sub(1).filter(|last| *last >= first)?;
    Some(AddressRange { start: version.address(first)?, end: version.address(last)? })
}
