//! Allocation pools of a subnet: defaults and checks. Pure.

use api::Error;
use ipnet::IpNet;
use model::IpVersion;
use model::ip::number;
use model::resource::AddressRange;
use std::net::IpAddr;

/// The addresses hosts may have, as numbers: all but the network's own and the broadcast address, where there are
/// such. IPv6 has no broadcast; the first address of a subnet is that of any router (RFC 4291 §2.6.1).
fn host_numbers(cidr: IpNet) -> (u128, u128) {
    let (first, last) = (number(cidr.network()), number(cidr.broadcast()));
    let version = IpVersion::of_net(cidr);
    match (version.bits() - cidr.prefix_len(), version) {
        (0 | 1, _) => (first, last),
        (_, IpVersion::V4) => (first + 1, last - 1),
        (_, IpVersion::V6) => (first + 1, last),
    }
}

pub(super) fn is_host_address(cidr: IpNet, address: IpAddr) -> bool {
    let (first, last) = host_numbers(cidr);
    cidr.contains(&address) && (first..=last).contains(&number(address))
}

/// The default gateway.
pub(super) fn first_address(cidr: IpNet) -> Option<IpAddr> {
    IpVersion::of_net(cidr).address(host_numbers(cidr).0)
}

/// The default pools: every host address but the gateway.
pub(super) fn all_but(cidr: IpNet, gateway: Option<IpAddr>) -> Vec<AddressRange> {
    let version = IpVersion::of_net(cidr);
    let (first, last) = host_numbers(cidr);
    let range = |first: u128, last: u128| {
        let (start, end) = (version.address(first)?, version.address(last)?);
        (first <= last).then_some(AddressRange { start, end })
    };
    let gateway = gateway.filter(|gateway| is_host_address(cidr, *gateway)).map(number);
    let Some(middle) = gateway else { return range(first, last).into_iter().collect() };
    let below = middle.checked_sub(1).and_then(|end| range(first, end));
    let above = middle.checked_add(1).and_then(|start| range(start, last));
    below.into_iter().chain(above).collect()
}

/// # Errors
/// A pool is upside down, outside the subnet, over another one, or holds the gateway.
pub(super) fn check(pools: &[AddressRange], cidr: IpNet, gateway: Option<IpAddr>) -> Result<(), Error> {
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
