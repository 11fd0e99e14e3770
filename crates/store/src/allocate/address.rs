//! Addresses: random among the free ones of a subnet's pools.

use super::Exhausted;
use crate::Snapshot;
use model::NetworkId;
use model::resource::AddressRange;
use rand::Rng;
use std::net::Ipv4Addr;

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
) -> Result<Ipv4Addr, Exhausted> {
    let total: u64 = pools.iter().map(size).sum();
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

fn size(pool: &AddressRange) -> u64 {
    u64::from(u32::from(pool.end)) + 1 - u64::from(u32::from(pool.start))
}

/// The address at `index`, counting through the pools.
fn nth(pools: &[AddressRange], mut index: u64) -> Option<Ipv4Addr> {
    for pool in pools {
        if index < size(pool) {
            let offset = u32::try_from(index).ok()?;
            return Some(Ipv4Addr::from(u32::from(pool.start) + offset));
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
) -> Result<Ipv4Addr, Exhausted> {
    let mut gaps = Vec::new();
    for pool in pools {
        let end = u64::from(u32::from(pool.end));
        let mut next = u64::from(u32::from(pool.start));
        for used in snapshot.addresses_used(network, pool.start, pool.end) {
            let used = u64::from(u32::from(used));
            gaps.extend(gap(next, used));
            next = used + 1;
        }
        gaps.extend(gap(next, end + 1));
    }
    let free: u64 = gaps.iter().map(size).sum();
    if free == 0 {
        return Err(Exhausted);
    }
    nth(&gaps, rng.random_range(0..free)).ok_or(Exhausted)
}

/// The addresses from `first` up to, not including, `end`.
fn gap(first: u64, end: u64) -> Option<AddressRange> {
    let last = end.checked_sub(1).filter(|last| *last >= first)?;
    let address = |number| u32::try_from(number).ok().map(Ipv4Addr::from);
    Some(AddressRange { start: address(first)?, end: address(last)? })
}
