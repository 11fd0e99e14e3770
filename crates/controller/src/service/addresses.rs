//! Which addresses a port gets: those asked for if they are free, else random ones of the pools.

use super::pools::is_host_address;
use super::{Write, find};
use api::Error;
use api::resources::FixedIpRequest;
use model::resource::{AddressRange, FixedIp, Port, Subnet};
use model::{NetworkId, PortId};
use std::net::Ipv4Addr;
use std::sync::Arc;
use store::allocate::free_address;

/// One address of a subnet of the network that has a free one; none if the network has no subnets.
///
/// # Errors
/// `IpAddressGenerationFailure` if all pools are empty.
pub(super) fn choose_one(write: &Write<'_>, network: NetworkId) -> Result<Vec<FixedIp>, Error> {
    let mut any = false;
    for subnet in write.tx.subnets_of_network(network) {
        any = true;
        if let Ok(address) = free_address(write.tx, network, &subnet.allocation_pools, &mut rand::rng()) {
            return Ok(vec![FixedIp { subnet: subnet.id, address }]);
        }
    }
    if any { Err(Error::IpAddressGenerationFailure { network }) } else { Ok(Vec::new()) }
}

/// The addresses asked for, in that order. `owner` may keep what it has: of a subnet asked for without an
/// address, its own one there is taken first.
///
/// # Errors
/// What Neutron answers for unknown subnets, addresses outside or in use, and empty pools.
pub(super) fn choose(
    write: &Write<'_>,
    network: NetworkId,
    requests: &[FixedIpRequest],
    owner: Option<PortId>,
) -> Result<Vec<FixedIp>, Error> {
    choose_or_share(write, network, requests, owner, &|_| false)
}

/// As [`choose`]; an address that others hold can be had as well if each of them `agrees`.
///
/// # Errors
/// As [`choose`].
pub(super) fn choose_or_share(
    write: &Write<'_>,
    network: NetworkId,
    requests: &[FixedIpRequest],
    owner: Option<PortId>,
    agrees: &dyn Fn(&Port) -> bool,
) -> Result<Vec<FixedIp>, Error> {
    let own = owner.and_then(|id| write.tx.ports.get(&id)).map_or(Vec::new(), |port| port.fixed_ips.clone());
    let mut chosen: Vec<FixedIp> = Vec::new();
    for request in requests.iter().filter_map(|request| request.ip_address.map(|address| (request, address)))
    {
        let (request, address) = request;
        let fixed_ip = FixedIp { subnet: subnet_for(write, network, request, address)?.id, address };
        let is_taken =
            !own.contains(&fixed_ip) && !write.tx.ports_by_address(network, address).all(|port| agrees(port));
        if is_taken || chosen.contains(&fixed_ip) {
            return Err(Error::IpAddressAlreadyAllocated { address, subnet: fixed_ip.subnet });
        }
        chosen.push(fixed_ip);
    }
    let mut free: Vec<FixedIp> = own.into_iter().filter(|ip| !chosen.contains(ip)).collect();
    let mut result = Vec::with_capacity(requests.len());
    let mut given = chosen.clone().into_iter();
    for request in requests {
        if request.ip_address.is_some() {
            result.extend(given.next());
            continue;
        }
        let subnet = subnet_of_network(write, network, request)?;
        let kept = free.iter().position(|ip| ip.subnet == subnet.id).map(|at| free.remove(at));
        let fixed_ip = match kept {
            Some(kept) => kept,
            None => any_of(write, &subnet, &chosen)?,
        };
        chosen.push(fixed_ip);
        result.push(fixed_ip);
    }
    Ok(result)
}

fn subnet_of_network(
    write: &Write<'_>,
    network: NetworkId,
    request: &FixedIpRequest,
) -> Result<Arc<Subnet>, Error> {
    // The API lets no request pass that has neither a subnet nor an address.
    let id = request.subnet_id.ok_or_else(|| Error::invalid_input("subnet_id or ip_address is required"))?;
    let subnet = find::<Subnet>(write.tx, id)?;
    if subnet.network != network {
        return Err(Error::invalid_input(format!(
            "Failed to create port on network {network}, because fixed_ips included invalid subnet {id}"
        )));
    }
    Ok(subnet)
}

fn subnet_for(
    write: &Write<'_>,
    network: NetworkId,
    request: &FixedIpRequest,
    address: Ipv4Addr,
) -> Result<Arc<Subnet>, Error> {
    if request.subnet_id.is_some() {
        let subnet = subnet_of_network(write, network, request)?;
        if is_host_address(subnet.cidr, address) {
            return Ok(subnet);
        }
        return Err(Error::InvalidIpForSubnet { address });
    }
    let subnet = write.tx.subnets_of_network(network).find(|subnet| subnet.cidr.contains(&address));
    match subnet {
        None => Err(Error::InvalidIpForNetwork { address }),
        Some(subnet) if is_host_address(subnet.cidr, address) => Ok(Arc::clone(subnet)),
        Some(_) => Err(Error::InvalidIpForSubnet { address }),
    }
}

/// A free address of the subnet that this very request has not taken already.
fn any_of(write: &Write<'_>, subnet: &Subnet, chosen: &[FixedIp]) -> Result<FixedIp, Error> {
    let mut pools = subnet.allocation_pools.clone();
    for taken in chosen {
        pools = pools.into_iter().flat_map(|pool| without(pool, taken.address)).collect();
    }
    let address = free_address(write.tx, subnet.network, &pools, &mut rand::rng())
        .map_err(|_| Error::IpAddressGenerationFailure { network: subnet.network })?;
    Ok(FixedIp { subnet: subnet.id, address })
}

fn without(pool: AddressRange, address: Ipv4Addr) -> impl Iterator<Item = AddressRange> {
    let number = u32::from(address);
    let inside = (pool.start..=pool.end).contains(&address);
    let below = number.checked_sub(1).map(Ipv4Addr::from).filter(|end| inside && *end >= pool.start);
    let above = number.checked_add(1).map(Ipv4Addr::from).filter(|start| inside && *start <= pool.end);
    let below = below.map(|end| AddressRange { start: pool.start, end });
    let above = above.map(|start| AddressRange { start, end: pool.end });
    let whole = (!inside).then_some(pool);
    [whole, below, above].into_iter().flatten()
}
