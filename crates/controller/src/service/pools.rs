//! Allocation pools of a subnet: defaults and checks. Pure.

use api::Error;
use ipnet::Ipv4Net;
use model::resource::AddressRange;
use std::net::Ipv4Addr;

/// The addresses hosts may have: all but the network's own and the broadcast address, where there are such.
fn host_range(cidr: Ipv4Net) -> AddressRange {
    if cidr.prefix_len() > 30 {
        return AddressRange { start: cidr.network(), end: cidr.broadcast() };
    }
    let (first, last) = (u32::from(cidr.network()) + 1, u32::from(cidr.broadcast()) - 1);
    AddressRange { start: first.into(), end: last.into() }
}

pub(super) fn is_host_address(cidr: Ipv4Net, address: Ipv4Addr) -> bool {
    let range = host_range(cidr);
    (range.start..=range.end).contains(&address)
}

/// The default gateway.
pub(super) fn first_address(cidr: Ipv4Net) -> Option<Ipv4Addr> {
    Some(host_range(cidr).start)
}

/// The default pools: every host address but the gateway.
pub(super) fn all_but(cidr: Ipv4Net, gateway: Option<Ipv4Addr>) -> Vec<AddressRange> {
    let all = host_range(cidr);
    let Some(gateway) = gateway.filter(|gateway| (all.start..=all.end).contains(gateway)) else {
        return vec![all];
    };
    let (first, middle, last) = (u32::from(all.start), u32::from(gateway), u32::from(all.end));
    let mut pools = Vec::with_capacity(2);
    if first < middle {
        pools.push(AddressRange { start: all.start, end: (middle - 1).into() });
    }
    if middle < last {
        pools.push(AddressRange { start: (middle + 1).into(), end: all.end });
    }
    pools
}

/// # Errors
/// A pool is upside down, outside the subnet, over another one, or holds the gateway.
pub(super) fn check(pools: &[AddressRange], cidr: Ipv4Net, gateway: Option<Ipv4Addr>) -> Result<(), Error> {
    for pool in pools {
        if pool.start > pool.end {
            return Err(Error::InvalidAllocationPool { pool: text(pool) });
        }
        if !is_host_address(cidr, pool.start) || !is_host_address(cidr, pool.end) {
            return Err(Error::OutOfBoundsAllocationPool { pool: text(pool), cidr: cidr.to_string() });
        }
        if let Some(address) = gateway.filter(|gateway| (pool.start..=pool.end).contains(gateway)) {
            return Err(Error::GatewayConflictWithAllocationPools { address, pool: text(pool) });
        }
    }
    let mut sorted: Vec<&AddressRange> = pools.iter().collect();
    sorted.sort_by_key(|pool| pool.start);
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && second.start <= first.end
        {
            let (first, second) = (text(first), text(second));
            return Err(Error::OverlappingAllocationPools { first, second, cidr: cidr.to_string() });
        }
    }
    Ok(())
}

fn text(pool: &AddressRange) -> String {
    format!("{}-{}", pool.start, pool.end)
}
