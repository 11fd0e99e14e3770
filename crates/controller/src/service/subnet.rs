//! Subnets.

use super::addresses::join_automatic;
use super::network::is_shared_with;
use super::standard::check_precondition;
use super::{Service, Write, find, owned, unique};
use super::{pools, subnet_pool};
use api::resources::{RouteView, SubnetCreate, SubnetUpdate, SubnetView};
use api::{Caller, Error, Handles, Hints, Precondition, TagChange};
use ipnet::IpNet;
use model::ip::overlap;
use model::quota::Counted;
use model::resource::{Ipv6Mode, Network, Port, Subnet};
use model::{IpVersion, NetworkId, SubnetId, SubnetPoolId};
use std::net::IpAddr;
use store::Snapshot;

/// Of subnets whose guests make their own addresses (RFC 4291 §2.5.1).
const AUTO_PREFIX_LEN: u8 = 64;

impl Handles<Subnet> for Service {
    fn list(&self, caller: &Caller, hints: &Hints) -> Vec<SubnetView> {
        let snapshot = self.snapshot();
        let subnets = match hints.ids::<NetworkId>("network_id") {
            Some(networks) => unique(networks.into_iter().flat_map(|id| snapshot.subnets_of_network(id))),
            None => owned::<Subnet>(&snapshot, hints),
        };
        subnets.iter().map(|subnet| view(&snapshot, caller, subnet)).collect()
    }

    fn show(&self, caller: &Caller, id: SubnetId) -> Result<SubnetView, Error> {
        let snapshot = self.snapshot();
        Ok(view(&snapshot, caller, &*find::<Subnet>(&snapshot, id)?))
    }

    fn create(&self, caller: &Caller, requests: Vec<SubnetCreate>) -> Result<Vec<SubnetView>, Error> {
        self.write(|write| {
            let create = |request| {
                let subnet = create(write, caller, request)?;
                write.within_quota(Counted::Subnet, &subnet.standard.project_id)?;
                Ok(view(write.tx, caller, &subnet))
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        caller: &Caller,
        id: SubnetId,
        change: SubnetUpdate,
        precondition: Precondition,
    ) -> Result<SubnetView, Error> {
        self.write(|write| {
            let subnet = update(write, id, change, precondition)?;
            Ok(view(write.tx, caller, &subnet))
        })
    }

    fn delete(&self, _caller: &Caller, id: SubnetId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| delete(write, id, precondition))
    }

    fn change_tags(&self, _caller: &Caller, id: SubnetId, change: TagChange) -> Result<Vec<String>, Error> {
        self.change_tags_of::<Subnet>(id, change)
    }
}

fn view(snapshot: &Snapshot, caller: &Caller, subnet: &Subnet) -> SubnetView {
    let network = snapshot.networks.get(&subnet.network);
    let shared = is_shared_with(snapshot, subnet.network, &caller.project_id);
    SubnetView::new(subnet, shared, network.is_some_and(|network| network.external))
}

fn create(write: &mut Write<'_>, caller: &Caller, request: SubnetCreate) -> Result<Subnet, Error> {
    find::<Network>(write.tx, request.network_id)?;
    let standard = write.standard(caller, request.standard.clone());
    let pool = subnet_pool::asked_for(write.tx, caller, &request)?;
    let cidr = match &pool {
        Some(pool) => subnet_pool::cut(write.tx, pool, &request, &standard.project_id)?,
        None => cidr(&request)?,
    };
    check_prefix(write.tx, &request, cidr)?;
    let pool = pool.map(|pool| pool.id);
    check_one_pool(write.tx, request.network_id, (request.ip_version, pool))?;
    let gateway_ip = request.gateway_ip.unwrap_or_else(|| pools::first_address(cidr));
    check_gateway(cidr, gateway_ip)?;
    check_dhcp(cidr, request.enable_dhcp)?;
    check_modes(&request, cidr)?;
    check_host_routes(&request.host_routes, request.ip_version)?;
    let allocation_pools = match request.allocation_pools {
        None => pools::all_but(cidr, gateway_ip),
        Some(pools) => {
            pools::check(&pools, cidr, gateway_ip)?;
            pools
        }
    };
    let subnet = Subnet {
        id: SubnetId::random(),
        standard,
        network: request.network_id,
        cidr,
        gateway_ip,
        enable_dhcp: request.enable_dhcp,
        allocation_pools,
        dns_nameservers: request.dns_nameservers,
        host_routes: request.host_routes.into_iter().map(Into::into).collect(),
        service_types: request.service_types,
        pool,
        ipv6_ra_mode: request.ipv6_ra_mode,
        ipv6_address_mode: request.ipv6_address_mode,
    };
    write.tx.put(subnet.clone());
    if subnet.has_auto_addresses() {
        join_automatic(write, subnet.network)?;
    }
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
        check_host_routes(&routes, subnet.ip_version())?;
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
    let ports: Vec<_> = write.tx.ports_of_subnet(id).cloned().collect();
    if ports.iter().any(|port| port.is_infrastructure() || !subnet.has_auto_addresses()) {
        let reason = "One or more ports have an IP allocation from this subnet".to_owned();
        return Err(Error::SubnetInUse { subnet: id, reason });
    }
    for port in ports {
        let mut port = Port::clone(&port);
        port.fixed_ips.retain(|ip| ip.subnet != id);
        write.put_changed(port);
    }
    write.tx.remove::<Subnet>(id);
    write.touch::<Network>(subnet.network);
    Ok(())
}

fn cidr(request: &SubnetCreate) -> Result<IpNet, Error> {
    if request.prefixlen.is_some() && request.cidr.is_none() {
        return Err(bad_request("prefixlen can only be given with a subnetpool".to_owned()));
    }
    request
        .cidr
        .ok_or_else(|| bad_request("a subnetpool must be specified in the absence of a cidr".to_owned()))
}

/// The prefix is of the version asked for, one that hosts may have, and free on the network.
fn check_prefix(snapshot: &Snapshot, request: &SubnetCreate, cidr: IpNet) -> Result<(), Error> {
    let version = request.ip_version;
    if IpVersion::of_net(cidr) != version {
        return Err(Error::invalid_input(format!("'{cidr}' does not match the ip_version '{version}'")));
    }
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
    Ok(())
}

/// Subnets of one version on one network are all from one pool, or from none.
fn check_one_pool(
    snapshot: &Snapshot,
    network: NetworkId,
    (version, pool): (IpVersion, Option<SubnetPoolId>),
) -> Result<(), Error> {
    let mut others = snapshot.subnets_of_network(network).filter(|other| other.ip_version() == version);
    if others.any(|other| other.pool != pool) {
        return Err(Error::NetworkSubnetPoolAffinityError {});
    }
    Ok(())
}

/// Router advertisements and addresses of an IPv6 subnet fit together.
fn check_modes(request: &SubnetCreate, cidr: IpNet) -> Result<(), Error> {
    let (ra, address) = (request.ipv6_ra_mode, request.ipv6_address_mode);
    if ra.is_none() && address.is_none() {
        return Ok(());
    }
    if request.ip_version == IpVersion::V4 {
        let reason = "ipv6_ra_mode and ipv6_address_mode are not valid when ip_version is 4";
        return Err(Error::invalid_input(reason));
    }
    if !request.enable_dhcp {
        let reason = "ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False";
        return Err(Error::invalid_input(reason));
    }
    if ra.zip(address).is_some_and(|(ra, address)| ra != address) {
        let reason = "ipv6_ra_mode and ipv6_address_mode must be the same if both are set";
        return Err(Error::invalid_input(reason));
    }
    let is_auto = ra.or(address) != Some(Ipv6Mode::Stateful);
    if is_auto && cidr.prefix_len() != AUTO_PREFIX_LEN {
        return Err(Error::invalid_input(format!(
            "Invalid CIDR {cidr} for IPv6 address mode. EUI-64 addresses require the prefix to be /{AUTO_PREFIX_LEN}"
        )));
    }
    Ok(())
}

fn check_host_routes(routes: &[RouteView], version: IpVersion) -> Result<(), Error> {
    let fits = |route: &RouteView| {
        IpVersion::of_net(route.destination) == version && IpVersion::of(route.nexthop) == version
    };
    match routes.iter().find(|route| !fits(route)) {
        Some(route) => Err(Error::invalid_input(format!(
            "host route {} via {} does not match the ip_version '{version}'",
            route.destination, route.nexthop
        ))),
        None => Ok(()),
    }
}

/// Outside the CIDR a gateway is accepted, as in Neutron; inside it must be a host's address.
fn check_gateway(cidr: IpNet, gateway_ip: Option<IpAddr>) -> Result<(), Error> {
    match gateway_ip {
        Some(address) if IpVersion::of(address) != IpVersion::of_net(cidr) => {
            Err(Error::invalid_input(format!("gateway_ip '{address}' is of another IP version than {cidr}")))
        }
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

fn check_dhcp(cidr: IpNet, enable_dhcp: bool) -> Result<(), Error> {
    if enable_dhcp && cidr.max_prefix_len() - cidr.prefix_len() < 2 {
        let reason = "Subnet has a prefix length that is incompatible with DHCP service enabled";
        return Err(Error::invalid_input(reason));
    }
    Ok(())
}

fn bad_request(reason: String) -> Error {
    Error::BadRequest { resource: "subnets", reason }
}
