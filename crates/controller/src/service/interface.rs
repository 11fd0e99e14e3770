//! A router's interfaces on tenant networks.

use super::port::{self, ROUTER_INTERFACE};
use super::router::interfaces;
use super::{Write, find, untranslated};
use api::Error;
use api::resources::{InterfaceRequest, InterfaceView};
use model::ip::{IpVersion, overlap};
use model::resource::{FixedIp, Network, Port, Router, Subnet};
use model::{PortId, RouterId, SubnetId};
use std::net::IpAddr;
use std::sync::Arc;
use store::Snapshot;

/// # Errors
/// What Neutron answers; see the API's notes on `add_router_interface`.
pub(super) fn add(
    write: &mut Write<'_>,
    id: RouterId,
    request: InterfaceRequest,
) -> Result<InterfaceView, Error> {
    let router = find::<Router>(write.tx, id)?;
    let (port, subnet) = match (request.subnet, request.port) {
        (Some(_), Some(_)) => {
            return Err(bad_request("Cannot specify both subnet-id and port-id".to_owned()));
        }
        (Some(subnet), None) => by_subnet(write, &router, subnet)?,
        (None, Some(port)) => by_port(write, &router, port)?,
        (None, None) => return Err(bad_request("Either subnet_id or port_id must be specified".to_owned())),
    };
    write.touch::<Router>(id);
    Ok(view(&router, &port, &subnet))
}

/// # Errors
/// What Neutron answers; see the API's notes on `remove_router_interface`.
pub(super) fn remove(
    write: &mut Write<'_>,
    id: RouterId,
    request: InterfaceRequest,
) -> Result<InterfaceView, Error> {
    let router = find::<Router>(write.tx, id)?;
    let port = wanted(write.tx, id, request)?;
    // By subnet only that leg goes, by port all of them.
    let is_gone = |ip: &&FixedIp| request.port.is_some() || request.subnet == Some(ip.subnet);
    let gone: Vec<FixedIp> = port.fixed_ips.iter().filter(is_gone).copied().collect();
    let first = gone.first().ok_or_else(|| Error::internal("an interface has no address"))?;
    let subnet = find::<Subnet>(write.tx, first.subnet)?;
    for ip in &gone {
        check_unused(write.tx, &router, &*find::<Subnet>(write.tx, ip.subnet)?)?;
    }
    let mut rest = Port::clone(&port);
    rest.fixed_ips.retain(|ip| !gone.contains(ip));
    if rest.fixed_ips.is_empty() {
        write.tx.remove::<Port>(port.id);
    } else {
        write.put_changed(rest);
    }
    write.touch::<Router>(id);
    Ok(view(&router, &port, &subnet))
}

fn by_subnet(write: &mut Write<'_>, router: &Router, id: SubnetId) -> Result<(Port, Arc<Subnet>), Error> {
    let subnet = find::<Subnet>(write.tx, id)?;
    let Some(address) = subnet.gateway_ip else {
        return Err(bad_request("Subnet for router interface must have a gateway IP".to_owned()));
    };
    check_new(write.tx, router, &subnet)?;
    if !subnet.cidr.contains(&address) {
        return Err(Error::InvalidIpForSubnet { address });
    }
    if write.tx.port_by_address(subnet.network, address).is_some() {
        return Err(Error::IpAddressAlreadyAllocated { address, subnet: id });
    }
    let fixed_ip = FixedIp { subnet: id, address };
    if let Some(port) = ipv6_leg(write.tx, router.id, &subnet) {
        let mut port = Port::clone(&port);
        port.fixed_ips.push(fixed_ip);
        return Ok((write.put_changed(port), subnet));
    }
    let device = (ROUTER_INTERFACE, router.id.to_string());
    let fixed_ips = vec![fixed_ip];
    let project = router.standard.project_id.clone();
    let port = port::create_for(write, subnet.network, fixed_ips, device, project)?;
    Ok((port, subnet))
}

/// All IPv6 subnets of a network are on one port of the router, as in Neutron.
fn ipv6_leg(snapshot: &Snapshot, router: RouterId, subnet: &Subnet) -> Option<Arc<Port>> {
    let is_ipv6 = |ip: &FixedIp| IpVersion::of(ip.address) == IpVersion::V6;
    let legs = interfaces(snapshot, router).into_iter().filter(|_| subnet.ip_version() == IpVersion::V6);
    legs.into_iter().find(|leg| leg.network == subnet.network && leg.fixed_ips.iter().any(is_ipv6))
}

fn by_port(write: &mut Write<'_>, router: &Router, id: PortId) -> Result<(Port, Arc<Subnet>), Error> {
    let mut port = Port::clone(&*find::<Port>(write.tx, id)?);
    if !port.device_id.is_empty() {
        return Err(Error::PortInUse { port: id, network: port.network, device: port.device_id });
    }
    if port.fixed_ips.iter().filter(|ip| ip.ipv4().is_some()).count() > 1 {
        return Err(bad_request("Cannot have multiple IPv4 subnets on router port".to_owned()));
    }
    let first = port.fixed_ips.first();
    let first = first.ok_or_else(|| bad_request("Router port must have at least one fixed IP".to_owned()))?;
    let subnet = find::<Subnet>(write.tx, first.subnet)?;
    for ip in &port.fixed_ips {
        check_new(write.tx, router, &*find::<Subnet>(write.tx, ip.subnet)?)?;
    }
    port.device_id = router.id.to_string();
    port.device_owner = ROUTER_INTERFACE.to_owned();
    port.binding_host = String::new();
    port.programmed_on = None;
    Ok((write.put_changed(port), subnet))
}

fn check_new(snapshot: &Snapshot, router: &Router, subnet: &Subnet) -> Result<(), Error> {
    let external =
        snapshot.networks.get(&subnet.network).is_some_and(|network: &Arc<Network>| network.external);
    if external {
        let network = subnet.network;
        return Err(bad_request(format!(
            "network {network} is external: it is connected with external_gateway_info"
        )));
    }
    let legs = interfaces(snapshot, router.id);
    if legs.iter().flat_map(|port| &port.fixed_ips).any(|ip| ip.subnet == subnet.id) {
        return Err(bad_request(format!("Router already has a port on subnet {}", subnet.id)));
    }
    check_overlap(snapshot, router.id, subnet)?;
    untranslated::check(snapshot, router, Some(subnet))
}

/// With any subnet the router has already, inside or outside.
///
/// # Errors
/// `BadRequest`.
pub(super) fn check_overlap(snapshot: &Snapshot, router: RouterId, subnet: &Subnet) -> Result<(), Error> {
    let ports = snapshot.ports_of_device(&router.to_string());
    let ids = ports.flat_map(|port| &port.fixed_ips).map(|ip| ip.subnet).filter(|id| *id != subnet.id);
    let mut subnets = ids.filter_map(|id| snapshot.subnets.get(&id));
    match subnets.find(|other| overlap(other.cidr, subnet.cidr)) {
        Some(other) => Err(bad_request(format!(
            "Cidr {} of subnet {} overlaps with cidr {} of subnet {}",
            subnet.cidr, subnet.id, other.cidr, other.id
        ))),
        None => Ok(()),
    }
}

/// The interface a removal names.
fn wanted(snapshot: &Snapshot, router: RouterId, request: InterfaceRequest) -> Result<Arc<Port>, Error> {
    let interfaces = interfaces(snapshot, router);
    let on = |port: &Port, subnet: SubnetId| port.fixed_ips.iter().any(|ip| ip.subnet == subnet);
    if let Some(id) = request.port {
        let port = interfaces.into_iter().find(|port| port.id == id);
        let port = port.ok_or(Error::RouterInterfaceNotFound { router, port: id })?;
        return match request.subnet.filter(|subnet| !on(&port, *subnet)) {
            Some(subnet) => Err(Error::SubnetMismatchForPort { port: id, subnet }),
            None => Ok(port),
        };
    }
    let id = request
        .subnet
        .ok_or_else(|| bad_request("Either subnet_id or port_id must be specified".to_owned()))?;
    find::<Subnet>(snapshot, id)?;
    let port = interfaces.into_iter().find(|port| on(port, id));
    port.ok_or(Error::RouterInterfaceNotFoundForSubnet { router, subnet: id })
}

fn check_unused(snapshot: &Snapshot, router: &Router, subnet: &Subnet) -> Result<(), Error> {
    let (router_id, subnet_id) = (router.id, subnet.id);
    let mut fixed = snapshot.floating_ips_of_router(router_id).flat_map(|floating_ip| {
        let forwarded = floating_ip.forwardings.iter().map(|forwarding| forwarding.internal_address);
        forwarded.chain(floating_ip.association.map(|association| association.fixed_address))
    });
    if fixed.any(|address| subnet.cidr.contains(&IpAddr::from(address))) {
        return Err(Error::RouterInterfaceInUseByFloatingIP { router: router_id, subnet: subnet_id });
    }
    if router.routes.iter().any(|route| subnet.cidr.contains(&route.next_hop)) {
        return Err(Error::RouterInterfaceInUseByRoute { router: router_id, subnet: subnet_id });
    }
    Ok(())
}

fn view(router: &Router, port: &Port, subnet: &Subnet) -> InterfaceView {
    InterfaceView {
        id: router.id,
        project_id: router.standard.project_id.clone(),
        port_id: port.id,
        network_id: port.network,
        subnet_id: subnet.id,
        subnet_ids: [subnet.id],
    }
}

fn bad_request(reason: String) -> Error {
    Error::BadRequest { resource: "router", reason }
}
