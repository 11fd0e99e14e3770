//! Which addresses a port gets: those asked for if they are free, else random ones of the pools; on IPv6 subnets
//! with automatic addresses the one that the guest makes of its MAC address.

use super::pools::is_host_address;
use super::{Write, find};
use api::Error;
use api::resources::FixedIpRequest;
use ipnet::IpNet;
use model::ip::{IpVersion, eui64, number};
use model::resource::{AddressRange, FixedIp, Port, Subnet};
use model::{Mac, NetworkId, PortId};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use store::allocate::free_address;

/// Whom addresses are for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asking {
    /// May keep what it has.
    pub(super) owner: Option<PortId>,
    /// Of a guest, which makes its own address on subnets with automatic ones. Routers do not.
    pub(super) mac: Option<Mac>,
}

impl Asking {
    /// A router, or something else that is no guest.
    pub(super) const NOBODY: Self = Self { owner: None, mac: None };

    pub(super) const fn guest(mac: Mac) -> Self {
        Self { owner: None, mac: Some(mac) }
    }

    /// Its address on a subnet with automatic ones.
    fn auto_address(&self, subnet: &Subnet) -> Option<IpAddr> {
        let mac = self.mac.filter(|_| subnet.has_auto_addresses())?;
        match subnet.cidr {
            IpNet::V6(cidr) => Some(eui64(cidr.addr(), mac).into()),
            IpNet::V4(_) => None,
        }
    }
}

/// One address of each IP version that the network has subnets of, and every automatic one; none if the network has
/// no subnets.
///
/// # Errors
/// `IpAddressGenerationFailure` if all pools of a version are empty.
pub(super) fn choose_any(
    write: &Write<'_>,
    network: NetworkId,
    asking: Asking,
) -> Result<Vec<FixedIp>, Error> {
    let mut result = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        result.extend(choose_one(write, network, version, asking)?);
    }
    add_automatic(write, network, asking, &mut result)?;
    Ok(result)
}

/// # Errors
/// `IpAddressGenerationFailure` if all pools of IPv4 subnets are empty.
pub(super) fn choose_ipv4(
    write: &Write<'_>,
    network: NetworkId,
) -> Result<Option<(FixedIp, Ipv4Addr)>, Error> {
    let chosen = choose_one(write, network, IpVersion::V4, Asking::NOBODY)?;
    Ok(chosen.and_then(|fixed_ip| Some((fixed_ip, fixed_ip.ipv4()?))))
}

/// None: there is no such subnet.
fn choose_one(
    write: &Write<'_>,
    network: NetworkId,
    version: IpVersion,
    asking: Asking,
) -> Result<Option<FixedIp>, Error> {
    let mut any = false;
    let subnets = write.tx.subnets_of_network(network).filter(|subnet| subnet.ip_version() == version);
    for subnet in subnets.filter(|subnet| asking.auto_address(subnet).is_none()) {
        any = true;
        if let Ok(address) = free_address(write.tx, network, &subnet.allocation_pools, &mut rand::rng()) {
            return Ok(Some(FixedIp { subnet: subnet.id, address }));
        }
    }
    if any { Err(Error::IpAddressGenerationFailure { network }) } else { Ok(None) }
}

/// Guests have an address on every subnet with automatic ones, asked for or not.
fn add_automatic(
    write: &Write<'_>,
    network: NetworkId,
    asking: Asking,
    fixed_ips: &mut Vec<FixedIp>,
) -> Result<(), Error> {
    for subnet in write.tx.subnets_of_network(network) {
        let Some(address) = asking.auto_address(subnet) else { continue };
        let fixed_ip = FixedIp { subnet: subnet.id, address };
        if !fixed_ips.contains(&fixed_ip) {
            check_free(write, network, fixed_ip, asking)?;
            fixed_ips.push(fixed_ip);
        }
    }
    Ok(())
}

fn check_free(
    write: &Write<'_>,
    network: NetworkId,
    FixedIp { subnet, address }: FixedIp,
    asking: Asking,
) -> Result<(), Error> {
    match write.tx.ports_by_address(network, address).find(|port| Some(port.id) != asking.owner) {
        Some(_) => Err(Error::IpAddressAlreadyAllocated { address, subnet }),
        None => Ok(()),
    }
}

/// A port whose MAC address changed: what it made of the old one it makes of the new one.
///
/// # Errors
/// `IpAddressAlreadyAllocated`.
pub(super) fn follow_mac(write: &Write<'_>, port: &mut Port) -> Result<(), Error> {
    let is_automatic =
        |ip: &FixedIp| write.tx.subnets.get(&ip.subnet).is_some_and(|subnet| subnet.has_auto_addresses());
    port.fixed_ips.retain(|ip| !is_automatic(ip));
    let asking = Asking { owner: Some(port.id), mac: Some(port.mac) };
    add_automatic(write, port.network, asking, &mut port.fixed_ips)
}

/// A new subnet with automatic addresses: the guests that are on its network have one each.
///
/// # Errors
/// `IpAddressAlreadyAllocated`.
pub(super) fn join_automatic(write: &mut Write<'_>, network: NetworkId) -> Result<(), Error> {
    let guests: Vec<_> =
        write.tx.ports_of_network(network).filter(|port| !port.is_infrastructure()).cloned().collect();
    for guest in guests {
        let mut port = Port::clone(&guest);
        follow_mac(write, &mut port)?;
        write.put_changed(port);
    }
    Ok(())
}

/// The addresses asked for, in that order. The owner may keep what it has: of a subnet asked for without an
/// address, its own one there is taken first.
///
/// # Errors
/// What Neutron answers for unknown subnets, addresses outside or in use, and empty pools.
pub(super) fn choose(
    write: &Write<'_>,
    network: NetworkId,
    requests: &[FixedIpRequest],
    asking: Asking,
) -> Result<Vec<FixedIp>, Error> {
    choose_or_share(write, network, requests, asking, &|_| false)
}

/// As [`choose`]; an address that others hold can be had as well if each of them `agrees`.
///
/// # Errors
/// As [`choose`].
pub(super) fn choose_or_share(
    write: &Write<'_>,
    network: NetworkId,
    requests: &[FixedIpRequest],
    asking: Asking,
    agrees: &dyn Fn(&Port) -> bool,
) -> Result<Vec<FixedIp>, Error> {
    let own = asking.owner.and_then(|id| write.tx.ports.get(&id));
    let own = own.map_or(Vec::new(), |port| port.fixed_ips.clone());
    let mut chosen: Vec<FixedIp> = Vec::new();
    for request in requests.iter().filter_map(|request| request.ip_address.map(|address| (request, address)))
    {
        let (request, address) = request;
        let subnet = subnet_for(write, network, request, address)?;
        if asking.auto_address(&subnet).is_some_and(|automatic| automatic != address) {
            return Err(Error::AllocationOnAutoAddressSubnet { address, subnet: subnet.id });
        }
        let fixed_ip = FixedIp { subnet: subnet.id, address };
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
        if asking.auto_address(&subnet).is_some() {
            continue;
        }
        let kept = free.iter().position(|ip| ip.subnet == subnet.id).map(|at| free.remove(at));
        let fixed_ip = match kept {
            Some(kept) => kept,
            None => any_of(write, &subnet, &chosen)?,
        };
        chosen.push(fixed_ip);
        result.push(fixed_ip);
    }
    add_automatic(write, network, asking, &mut result)?;
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
    address: IpAddr,
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

fn without(pool: AddressRange, address: IpAddr) -> impl Iterator<Item = AddressRange> {
    let version = IpVersion::of(address);
    let inside = (pool.start..=pool.end).contains(&address);
    let below = number(address).checked_sub(1).and_then(|end| version.address(end));
    let below = below.filter(|end| inside && *end >= pool.start);
    let above = number(address).checked_add(1).and_then(|start| version.address(start));
    let above = above.filter(|start| inside && *start <= pool.end);
    let below = below.map(|end| AddressRange { start: pool.start, end });
    let above = above.map(|start| AddressRange { start, end: pool.end });
    let whole = (!inside).then_some(pool);
    [whole, below, above].into_iter().flatten()
}
