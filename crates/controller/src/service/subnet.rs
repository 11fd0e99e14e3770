//! Subnets.

use super::pools;
use super::standard::check_precondition;
use super::{Service, Write, by_ids, find, unique};
use api::resources::{SubnetCreate, SubnetUpdate, SubnetView};
use api::{Caller, Error, Handles, Hints, Precondition, TagChange};
use ipnet::Ipv4Net;
use model::quota::Counted;
use model::resource::{Network, Subnet};
use model::{NetworkId, SubnetId};
use std::net::Ipv4Addr;
use store::Snapshot;

impl Handles<Subnet> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<SubnetView> {
        let snapshot = self.snapshot();
        let subnets = match hints.ids::<NetworkId>("network_id") {
            Some(networks) => unique(networks.into_iter().flat_map(|id| snapshot.subnets_of_network(id))),
            None => by_ids::<Subnet>(&snapshot, hints),
        };
        subnets.iter().map(|subnet| view(&snapshot, subnet)).collect()
    }

    fn show(&self, _caller: &Caller, id: SubnetId) -> Result<SubnetView, Error> {
        let snapshot = self.snapshot();
        Ok(view(&snapshot, &*find::<Subnet>(&snapshot, id)?))
    }

    fn create(&self, caller: &Caller, requests: Vec<SubnetCreate>) -> Result<Vec<SubnetView>, Error> {
        self.write(|write| {
            let create = |request| {
                let subnet = create(write, caller, request)?;
                write.within_quota(Counted::Subnet, &subnet.standard.project_id)?;
                Ok(view(write.tx, &subnet))
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        _caller: &Caller,
        id: SubnetId,
        change: SubnetUpdate,
        precondition: Precondition,
    ) -> Result<SubnetView, Error> {
        self.write(|write| {
            let subnet = update(write, id, change, precondition)?;
            Ok(view(write.tx, &subnet))
        })
    }

    fn delete(&self, _caller: &Caller, id: SubnetId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| delete(write, id, precondition))
    }

    fn change_tags(&self, _caller: &Caller, id: SubnetId, change: TagChange) -> Result<Vec<String>, Error> {
        self.change_tags_of::<Subnet>(id, change)
    }
}

fn view(snapshot: &Snapshot, subnet: &Subnet) -> SubnetView {
    let network = snapshot.networks.get(&subnet.network);
    let shared = network.is_some_and(|network| network.shared);
    SubnetView::new(subnet, shared, network.is_some_and(|network| network.external))
}

fn create(write: &mut Write<'_>, caller: &Caller, request: SubnetCreate) -> Result<Subnet, Error> {
    find::<Network>(write.tx, request.network_id)?;
    let cidr = cidr(write.tx, &request)?;
    let gateway_ip = request.gateway_ip.unwrap_or_else(|| pools::first_address(cidr));
    check_gateway(cidr, gateway_ip)?;
    check_dhcp(cidr, request.enable_dhcp)?;
    let allocation_pools = match request.allocation_pools {
        None => pools::all_but(cidr, gateway_ip),
        Some(pools) => {
            pools::check(&pools, cidr, gateway_ip)?;
            pools
        }
    };
    let subnet = Subnet {
        id: SubnetId::random(),
        standard: write.standard(caller, request.standard),
        network: request.network_id,
        cidr,
        gateway_ip,
        enable_dhcp: request.enable_dhcp,
        allocation_pools,
        dns_nameservers: request.dns_nameservers,
        host_routes: request.host_routes.into_iter().map(Into::into).collect(),
        service_types: request.service_types,
        pool: None,
    };
    write.tx.put(subnet.clone());
    write.touch::<Network>(subnet.network);
    Ok(subnet)
}

fn update(
    write: &mut Write<'_>,
    id: SubnetId,
    change: SubnetUpdate,
    precondition: Precondition,
) -> Result<Subnet, Error> {
    let mut subnet = Subnet::clone(&*find::<Subnet>(write.tx, id)?);
    check_precondition(&subnet.standard, precondition)?;
    change.standard.apply(&mut subnet.standard);
    if let Some(gateway_ip) = change.gateway_ip.filter(|gateway_ip| *gateway_ip != subnet.gateway_ip) {
        check_gateway(subnet.cidr, gateway_ip)?;
        check_gateway_unused(write.tx, &subnet)?;
        subnet.gateway_ip = gateway_ip;
        check_gateway_not_ours(write.tx, &subnet)?;
    }
    if let Some(pools) = change.allocation_pools {
        subnet.allocation_pools = pools;
    }
    pools::check(&subnet.allocation_pools, subnet.cidr, subnet.gateway_ip)?;
    subnet.enable_dhcp = change.enable_dhcp.unwrap_or(subnet.enable_dhcp);
    check_dhcp(subnet.cidr, subnet.enable_dhcp)?;
    if let Some(servers) = change.dns_nameservers {
        subnet.dns_nameservers = servers;
    }
    if let Some(routes) = change.host_routes {
        subnet.host_routes = routes.into_iter().map(Into::into).collect();
    }
    if let Some(types) = change.service_types {
        subnet.service_types = types;
    }
    Ok(write.put_changed(subnet))
}

fn delete(write: &mut Write<'_>, id: SubnetId, precondition: Precondition) -> Result<(), Error> {
    let subnet = find::<Subnet>(write.tx, id)?;
    check_precondition(&subnet.standard, precondition)?;
    if write.tx.ports_of_subnet(id).next().is_some() {
        let reason = "One or more ports have an IP allocation from this subnet".to_owned();
        return Err(Error::SubnetInUse { subnet: id, reason });
    }
    write.tx.remove::<Subnet>(id);
    write.touch::<Network>(subnet.network);
    Ok(())
}

fn cidr(snapshot: &Snapshot, request: &SubnetCreate) -> Result<Ipv4Net, Error> {
    if let Some(id) = &request.subnetpool_id {
        return Err(Error::SubnetPoolNotFound { id: id.clone() });
    }
    let Some(cidr) = request.cidr else {
        let reason = "a subnetpool must be specified in the absence of a cidr".to_owned();
        return Err(Error::BadRequest { resource: "subnets", reason });
    };
    if cidr.prefix_len() == 0 {
        return Err(Error::invalid_input("0 is not allowed as CIDR prefix length"));
    }
    if cidr.addr().is_multicast() || cidr.addr().is_loopback() {
        return Err(Error::invalid_input(format!("{cidr} is a multicast or loopback subnet")));
    }
    let mut subnets = snapshot.subnets_of_network(request.network_id);
    if subnets.any(|other| overlap(other.cidr, cidr)) {
        return Err(Error::invalid_input(format!(
            "Requested subnet with cidr: {cidr} for network: {} overlaps with another subnet",
            request.network_id
        )));
    }
    Ok(cidr)
}

pub(super) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Outside the CIDR a gateway is accepted, as in Neutron; inside it must be a host's address.
fn check_gateway(cidr: Ipv4Net, gateway_ip: Option<Ipv4Addr>) -> Result<(), Error> {
    match gateway_ip {
        Some(address) if cidr.contains(&address) && !pools::is_host_address(cidr, address) => {
            Err(Error::invalid_input("Gateway is not valid on subnet"))
        }
        _ => Ok(()),
    }
}

fn check_gateway_unused(snapshot: &Snapshot, subnet: &Subnet) -> Result<(), Error> {
    let Some(address) = subnet.gateway_ip else { return Ok(()) };
    match snapshot.port_by_address(subnet.network, address) {
        Some(port) => Err(Error::GatewayIpInUse { address, port: port.id }),
        None => Ok(()),
    }
}

/// The gateway of an external network is the fabric's: an address that we answer for would hide it.
fn check_gateway_not_ours(snapshot: &Snapshot, subnet: &Subnet) -> Result<(), Error> {
    let is_external = snapshot.get::<Network>(subnet.network).is_some_and(|network| network.external);
    if is_external { check_gateway_unused(snapshot, subnet) } else { Ok(()) }
}

fn check_dhcp(cidr: Ipv4Net, enable_dhcp: bool) -> Result<(), Error> {
    if enable_dhcp && cidr.prefix_len() > 30 {
        let reason = "Subnet has a prefix length that is incompatible with DHCP service enabled";
        return Err(Error::invalid_input(reason));
    }
    Ok(())
}
