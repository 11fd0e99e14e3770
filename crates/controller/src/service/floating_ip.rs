//! Floating IPs.

use super::addresses::Asking;
use super::port::{self, FLOATING_IP, ROUTER_INTERFACE};
use super::standard::check_precondition;
use super::{Service, Write, addresses, find, owned, port_forwarding, unique};
use api::resources::{FixedIpRequest, FloatingIpCreate, FloatingIpUpdate, FloatingIpView, PortDetails};
use api::{Caller, Error, Handles, Hints, Precondition, TagChange};
use model::quota::Counted;
use model::resource::{Association, FixedIp, FloatingIp, Network, Port, Router};
use model::{FloatingIpId, NetworkId, PortId, RouterId};
use std::net::Ipv4Addr;
use std::sync::Arc;
use store::Snapshot;

impl Handles<FloatingIp> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<FloatingIpView> {
        let snapshot = self.snapshot();
        // An empty text asks for those without a port.
        let named = hints.values("port_id").is_some_and(|ids| ids.iter().all(|id| !id.is_empty()));
        let floating_ips = match hints.ids::<PortId>("port_id").filter(|_| named) {
            Some(ports) => unique(ports.into_iter().flat_map(|id| snapshot.floating_ips_of_port(id))),
            None => owned::<FloatingIp>(&snapshot, hints),
        };
        floating_ips.iter().map(|floating_ip| view(&snapshot, floating_ip)).collect()
    }

    fn show(&self, _caller: &Caller, id: FloatingIpId) -> Result<FloatingIpView, Error> {
        let snapshot = self.snapshot();
        Ok(view(&snapshot, &*find::<FloatingIp>(&snapshot, id)?))
    }

    fn create(&self, caller: &Caller, requests: Vec<FloatingIpCreate>) -> Result<Vec<FloatingIpView>, Error> {
        self.write(|write| {
            let create = |request| {
                let floating_ip = create(write, caller, request)?;
                write.within_quota(Counted::FloatingIp, &floating_ip.standard.project_id)?;
                Ok(view(write.tx, &floating_ip))
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        _caller: &Caller,
        id: FloatingIpId,
        change: FloatingIpUpdate,
        precondition: Precondition,
    ) -> Result<FloatingIpView, Error> {
        self.write(|write| {
            let floating_ip = update(write, id, change, precondition)?;
            Ok(view(write.tx, &floating_ip))
        })
    }

    fn delete(&self, _caller: &Caller, id: FloatingIpId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| delete(write, id, precondition))
    }

    fn change_tags(
        &self,
        _caller: &Caller,
        id: FloatingIpId,
        change: TagChange,
    ) -> Result<Vec<String>, Error> {
        self.change_tags_of::<FloatingIp>(id, change)
    }
}

fn view(snapshot: &Snapshot, floating_ip: &FloatingIp) -> FloatingIpView {
    let port = floating_ip.association.and_then(|association| snapshot.ports.get(&association.port));
    let details = port.map(|port| {
        let view = port::view(snapshot, port);
        PortDetails {
            name: view.name,
            network_id: view.network_id,
            mac_address: view.mac_address,
            admin_state_up: view.admin_state_up,
            status: view.status,
            device_id: view.device_id,
            device_owner: view.device_owner,
        }
    });
    FloatingIpView::new(floating_ip, details)
}

fn create(write: &mut Write<'_>, caller: &Caller, request: FloatingIpCreate) -> Result<FloatingIp, Error> {
    let network = find::<Network>(write.tx, request.floating_network_id)?;
    if !network.external {
        let reason = format!("Network {} is not a valid external network", network.id);
        return Err(bad_request(reason));
    }
    let id = FloatingIpId::random();
    let (fixed_ip, own_address) = address(write, &network, &request)?;
    let device = (FLOATING_IP, id.to_string());
    let holder = port::create_for(write, network.id, vec![fixed_ip], device, String::new())?;
    let mut floating_ip = FloatingIp {
        id,
        standard: write.standard(caller, request.standard),
        network: network.id,
        address: own_address,
        holder: holder.id,
        association: None,
        forwardings: Vec::new(),
        programmed: false,
    };
    match (request.port_id, request.fixed_ip_address) {
        (Some(port), fixed) => associate(write.tx, &mut floating_ip, port, fixed)?,
        (None, Some(_)) => return Err(without_port()),
        (None, None) => {}
    }
    write.tx.put(floating_ip.clone());
    Ok(floating_ip)
}

fn update(
    write: &mut Write<'_>,
    id: FloatingIpId,
    change: FloatingIpUpdate,
    precondition: Precondition,
) -> Result<FloatingIp, Error> {
    let mut floating_ip = FloatingIp::clone(&*find::<FloatingIp>(write.tx, id)?);
    check_precondition(&floating_ip.standard, precondition)?;
    let own = floating_ip.association.map(|association| association.port);
    let fixed = change.fixed_ip_address.flatten();
    let blank = change.standard.name.is_none() && change.standard.description.is_none();
    change.standard.apply(&mut floating_ip.standard);
    match (change.port_id, change.fixed_ip_address) {
        (Some(Some(port)), _) => associate(write.tx, &mut floating_ip, port, fixed)?,
        (Some(None), _) if fixed.is_some() => return Err(without_port()),
        (Some(None), _) => disassociate(&mut floating_ip),
        (None, Some(_)) => {
            let port = own.ok_or_else(without_port)?;
            associate(write.tx, &mut floating_ip, port, fixed)?;
        }
        (None, None) if blank && own.is_some() => disassociate(&mut floating_ip),
        (None, None) => {}
    }
    Ok(write.put_changed(floating_ip))
}

fn delete(write: &mut Write<'_>, id: FloatingIpId, precondition: Precondition) -> Result<(), Error> {
    let floating_ip = find::<FloatingIp>(write.tx, id)?;
    check_precondition(&floating_ip.standard, precondition)?;
    port_forwarding::check_none(&floating_ip)?;
    write.tx.remove::<FloatingIp>(id);
    write.tx.remove::<Port>(floating_ip.holder);
    Ok(())
}

/// Of a network that goes away: those that stand for nothing go with it, as in Neutron.
pub(super) fn remove_idle(write: &mut Write<'_>, network: NetworkId) {
    let all = write.tx.floating_ips.values();
    let idle = all.filter(|floating_ip| floating_ip.network == network && floating_ip.router().is_none());
    let idle: Vec<_> = idle.map(|floating_ip| (floating_ip.id, floating_ip.holder)).collect();
    for (id, holder) in idle {
        write.tx.remove::<FloatingIp>(id);
        write.tx.remove::<Port>(holder);
    }
}

/// Of a port that goes away.
pub(super) fn disassociate_all(write: &mut Write<'_>, port: PortId) {
    port_forwarding::remove_of_port(write, port, |_| true);
    let floating_ips: Vec<_> = write.tx.floating_ips_of_port(port).cloned().collect();
    for floating_ip in floating_ips {
        let mut floating_ip = FloatingIp::clone(&floating_ip);
        disassociate(&mut floating_ip);
        write.put_changed(floating_ip);
    }
}

/// The port moves: whoever has its floating IPs in the tables now, it is not the new host.
pub(super) fn not_programmed(write: &mut Write<'_>, port: PortId) {
    let floating_ips: Vec<_> = write.tx.floating_ips_of_port(port).cloned().collect();
    for floating_ip in floating_ips {
        write.tx.put(FloatingIp { programmed: false, ..FloatingIp::clone(&floating_ip) });
    }
}

/// The address asked for, or a free one of the subnet asked for, or of any.
fn address(
    write: &Write<'_>,
    network: &Network,
    request: &FloatingIpCreate,
) -> Result<(FixedIp, Ipv4Addr), Error> {
    let wished = request.floating_ip_address.map(Into::into);
    let wish = FixedIpRequest { subnet_id: request.subnet_id, ip_address: wished };
    let chosen = if wish.subnet_id.is_some() || wish.ip_address.is_some() {
        let chosen = addresses::choose(write, network.id, &[wish], Asking::NOBODY)?;
        chosen.first().and_then(|fixed_ip| Some((*fixed_ip, fixed_ip.ipv4()?)))
    } else {
        addresses::choose_ipv4(write, network.id)?
    };
    chosen.ok_or(Error::ExternalIpAddressExhausted { network: network.id })
}

fn disassociate(floating_ip: &mut FloatingIp) {
    if floating_ip.association.take().is_some() {
        floating_ip.programmed = false;
    }
}

fn associate(
    snapshot: &Snapshot,
    floating_ip: &mut FloatingIp,
    port: PortId,
    fixed: Option<Ipv4Addr>,
) -> Result<(), Error> {
    port_forwarding::check_none(floating_ip)?;
    let port = find::<Port>(snapshot, port)?;
    let mut forwarded = snapshot.floating_ips_of_port(port.id).flat_map(|other| &other.forwardings);
    if forwarded.any(|own| own.port == port.id) {
        return Err(Error::PortHasPortForwarding { port: port.id });
    }
    let (fixed_ip, fixed_address) = fixed_ip(&port, fixed)?;
    let router = router_to(snapshot, floating_ip, &port, fixed_ip)?;
    let association = Association { port: port.id, fixed_address, router };
    let same = |other: &&Arc<FloatingIp>| {
        other.id != floating_ip.id
            && other.network == floating_ip.network
            && other.association.is_some_and(|own| own.fixed_address == fixed_address)
    };
    if snapshot.floating_ips_of_port(port.id).any(|other| same(&other)) {
        return Err(Error::FloatingIPPortAlreadyAssociated {
            address: floating_ip.address,
            floating_ip: floating_ip.id,
            port: port.id,
            fixed_address,
            network: floating_ip.network,
        });
    }
    if floating_ip.association != Some(association) {
        floating_ip.association = Some(association);
        floating_ip.programmed = false;
    }
    Ok(())
}

/// The port's address that is meant.
pub(super) fn fixed_ip(port: &Port, asked: Option<Ipv4Addr>) -> Result<(FixedIp, Ipv4Addr), Error> {
    let id = port.id;
    let ips = port.fixed_ips.iter().filter_map(|ip| Some((*ip, ip.ipv4()?)));
    let ips: Vec<(FixedIp, Ipv4Addr)> = ips.collect();
    match (asked, ips.as_slice()) {
        (Some(address), ips) => ips
            .iter()
            .find(|(_, own)| *own == address)
            .copied()
            .ok_or_else(|| bad_request(format!("Port {id} does not have fixed ip {address}"))),
        (None, []) => {
            Err(bad_request(format!("Cannot add floating IP to port {id} that has no fixed IPv4 addresses")))
        }
        (None, [fixed_ip]) => Ok(*fixed_ip),
        (None, _) => Err(bad_request(format!(
            "Port {id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a floating IP"
        ))),
    }
}

/// The router on the fixed IP's subnet whose gateway is on the floating IP's network; the one that is the
/// subnet's gateway before others.
pub(super) fn router_to(
    snapshot: &Snapshot,
    floating_ip: &FloatingIp,
    port: &Port,
    fixed_ip: FixedIp,
) -> Result<RouterId, Error> {
    let gateway_ip = snapshot.subnets.get(&fixed_ip.subnet).and_then(|subnet| subnet.gateway_ip);
    let leads_there = |id: &RouterId| {
        let router = snapshot.get::<Router>(*id);
        let gateway = router.and_then(|router| router.gateway.as_ref());
        gateway.is_some_and(|gateway| gateway.network == floating_ip.network)
    };
    let interfaces = snapshot.ports_of_network(port.network).filter(|interface| {
        interface.device_owner == ROUTER_INTERFACE
            && interface.fixed_ips.iter().any(|ip| ip.subnet == fixed_ip.subnet)
    });
    let mut routers: Vec<(bool, RouterId)> = interfaces
        .filter_map(|interface| {
            let is_gateway = interface.fixed_ips.iter().any(|ip| Some(ip.address) == gateway_ip);
            Some((!is_gateway, interface.device_id.parse().ok()?))
        })
        .filter(|(_, router)| leads_there(router))
        .collect();
    routers.sort_unstable();
    let router = routers.first().map(|(_, router)| *router);
    router.ok_or(Error::ExternalGatewayForFloatingIPNotFound {
        external_network: floating_ip.network,
        subnet: fixed_ip.subnet,
        port: port.id,
    })
}

fn without_port() -> Error {
    bad_request("fixed_ip_address cannot be specified without a port_id".to_owned())
}

fn bad_request(reason: String) -> Error {
    Error::BadRequest { resource: "floatingip", reason }
}
