//! Ports.

use super::addresses::Asking;
use super::port_security::check_pairs;
use super::standard::check_precondition;
use super::{Service, Write, addresses, by_ids, find, floating_ip, owned, port_forwarding, unique};
use api::resources::{DhcpOptionChange, PortCreate, PortFacts, PortUpdate, PortView};
use api::{Caller, Error, Handles, Hints, Precondition, TagChange};
use model::quota::Counted;
use model::resource::{DhcpOption, FixedIp, FloatingIp, Network, Port, Router};
use model::{FloatingIpId, Mac, NetworkId, PortId, RouterId, SecurityGroupId};
use rand::Rng;
use serde_json::Map;
use std::sync::Arc;
use store::Snapshot;

/// First octets of MAC addresses made here, as in Neutron.
const MAC_PREFIX: [u8; 3] = [0xfa, 0x16, 0x3e];
/// Guesses of a free MAC. With 2^24 to choose from, a network would need millions of ports for one to fail.
const MAC_GUESSES_MAX: usize = 64;

pub(super) const ROUTER_INTERFACE: &str = "network:router_interface";
pub(super) const ROUTER_GATEWAY: &str = "network:router_gateway";
pub(super) const FLOATING_IP: &str = "network:floatingip";

impl Handles<Port> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<PortView> {
        let snapshot = self.snapshot();
        candidates(&snapshot, hints).iter().map(|port| view(&snapshot, port)).collect()
    }

    fn show(&self, _caller: &Caller, id: PortId) -> Result<PortView, Error> {
        let snapshot = self.snapshot();
        Ok(view(&snapshot, &*find::<Port>(&snapshot, id)?))
    }

    fn create(&self, caller: &Caller, requests: Vec<PortCreate>) -> Result<Vec<PortView>, Error> {
        self.write(|write| {
            let create = |request| {
                let port = create(write, caller, request)?;
                write.within_quota(Counted::Port, &port.standard.project_id)?;
                Ok(view(write.tx, &port))
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        caller: &Caller,
        id: PortId,
        change: PortUpdate,
        precondition: Precondition,
    ) -> Result<PortView, Error> {
        self.write(|write| {
            let port = update(write, caller, id, change, precondition)?;
            Ok(view(write.tx, &port))
        })
    }

    fn delete(&self, _caller: &Caller, id: PortId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| delete(write, id, precondition))
    }

    fn change_tags(&self, _caller: &Caller, id: PortId, change: TagChange) -> Result<Vec<String>, Error> {
        self.change_tags_of::<Port>(id, change)
    }
}

/// A superset of what the filters let pass, by the index that is narrowest as a rule.
fn candidates(snapshot: &Snapshot, hints: &Hints) -> Vec<Arc<Port>> {
    if hints.values("id").is_some() {
        by_ids::<Port>(snapshot, hints)
    } else if let Some(devices) = hints.values("device_id").filter(|ids| ids.iter().all(|id| !id.is_empty()))
    {
        unique(devices.iter().flat_map(|device| snapshot.ports_of_device(device)))
    } else if let Some(hosts) =
        hints.values("binding:host_id").filter(|h| h.iter().all(|name| !name.is_empty()))
    {
        unique(hosts.iter().flat_map(|host| snapshot.ports_of_host(host)))
    } else if let Some(networks) = hints.ids::<NetworkId>("network_id") {
        unique(networks.into_iter().flat_map(|network| snapshot.ports_of_network(network)))
    } else if let Some(groups) = hints.ids::<SecurityGroupId>("security_groups") {
        unique(groups.into_iter().flat_map(|group| snapshot.ports_of_group(group)))
    } else if let Some(owner) = &hints.owner {
        let networks = snapshot.of_project::<Network>(owner);
        let on_them = networks.flat_map(|network| snapshot.ports_of_network(network.id));
        unique(on_them.chain(snapshot.of_project::<Port>(owner)))
    } else {
        owned::<Port>(snapshot, hints)
    }
}

pub(super) fn view(snapshot: &Snapshot, port: &Port) -> PortView {
    let host = snapshot.host_by_name(&port.binding_host);
    let facts = PortFacts {
        host_live: host.map(|host| host.live),
        programmed: host.is_some_and(|host| port.programmed_on == Some(host.id)),
    };
    PortView::new(port, facts)
}

fn create(write: &mut Write<'_>, caller: &Caller, request: PortCreate) -> Result<Port, Error> {
    let network = find::<Network>(write.tx, request.network_id)?;
    not_of_router(write.tx, &request.device_owner, &request.device_id)?;
    let mac = mac(write.tx, network.id, request.mac_address)?;
    let asking = Asking::guest(mac);
    let fixed_ips = match &request.fixed_ips {
        None => addresses::choose_any(write, network.id, asking)?,
        Some(requests) => addresses::choose(write, network.id, requests, asking)?,
    };
    let mut port = Port {
        mac,
        fixed_ips,
        admin_state_up: request.admin_state_up,
        device_id: request.device_id,
        device_owner: request.device_owner,
        binding_host: request.host.unwrap_or_default(),
        binding_profile: request.profile,
        port_security_enabled: request.port_security_enabled.unwrap_or(network.port_security_enabled),
        allowed_address_pairs: request.allowed_address_pairs.into_iter().map(Into::into).collect(),
        extra_dhcp_options: dhcp_options(request.extra_dhcp_opts),
        standard: write.standard(caller, request.standard),
        ..blank(network.id)
    };
    port.security_groups = Some(write.groups_of_new_port(caller, &port, request.security_groups)?);
    check_pairs(&port)?;
    write.tx.put(port.clone());
    Ok(port)
}

/// A port made for a router or a floating IP. It belongs to `project_id`; "" is nobody.
pub(super) fn create_for(
    write: &mut Write<'_>,
    network: NetworkId,
    fixed_ips: Vec<FixedIp>,
    (device_owner, device_id): (&str, String),
    project_id: String,
) -> Result<Port, Error> {
    let port = Port {
        mac: mac(write.tx, network, None)?,
        fixed_ips,
        device_id,
        device_owner: device_owner.to_owned(),
        standard: write.standard_of(project_id),
        ..blank(network)
    };
    write.tx.put(port.clone());
    write.within_quota(Counted::Port, &port.standard.project_id)?;
    Ok(port)
}

fn blank(network: NetworkId) -> Port {
    Port {
        id: PortId::random(),
        standard: model::resource::Standard::default(),
        network,
        mac: Mac([0; 6]),
        fixed_ips: Vec::new(),
        admin_state_up: true,
        device_id: String::new(),
        device_owner: String::new(),
        binding_host: String::new(),
        binding_profile: Map::new(),
        vnic_type: "normal".to_owned(),
        port_security_enabled: false,
        allowed_address_pairs: Vec::new(),
        extra_dhcp_options: Vec::new(),
        security_groups: Some(Vec::new()),
        programmed_on: None,
    }
}

fn update(
    write: &mut Write<'_>,
    caller: &Caller,
    id: PortId,
    change: PortUpdate,
    precondition: Precondition,
) -> Result<Port, Error> {
    let old = find::<Port>(write.tx, id)?;
    let mut port = Port::clone(&old);
    check_precondition(&port.standard, precondition)?;
    change.standard.apply(&mut port.standard);
    if let Some(mac_address) = change.mac_address.filter(|new| *new != port.mac) {
        port.mac = mac(write.tx, port.network, Some(mac_address))?;
        if !port.is_infrastructure() {
            addresses::follow_mac(write, &mut port)?;
        }
    }
    if let Some(requests) = &change.fixed_ips {
        let asking = Asking { owner: Some(id), mac: (!port.is_infrastructure()).then_some(port.mac) };
        port.fixed_ips = addresses::choose(write, port.network, requests, asking)?;
    }
    change_options(&mut port.extra_dhcp_options, change.extra_dhcp_opts);
    port.admin_state_up = change.admin_state_up.unwrap_or(port.admin_state_up);
    port.device_id = change.device_id.unwrap_or(port.device_id);
    port.device_owner = change.device_owner.unwrap_or(port.device_owner);
    port.port_security_enabled = change.port_security_enabled.unwrap_or(port.port_security_enabled);
    if let Some(pairs) = change.allowed_address_pairs {
        port.allowed_address_pairs = pairs.into_iter().map(Into::into).collect();
    }
    if let Some(host) = change.host {
        port.binding_host = host.unwrap_or_default();
    }
    if let Some(profile) = change.profile {
        port.binding_profile = profile;
    }
    write.change_groups_of_port(caller, &mut port, change.security_groups)?;
    check_pairs(&port)?;
    check_service_port(write.tx, &old, &port)?;
    check_floating(write.tx, &old, &port)?;
    port_forwarding::remove_of_port(write, id, |lost| {
        port.fixed_ips.iter().all(|own| own.ipv4() != Some(lost))
    });
    if port.binding_host != old.binding_host {
        port.programmed_on = None;
        floating_ip::not_programmed(write, id);
    }
    Ok(write.put_changed(port))
}

fn delete(write: &mut Write<'_>, id: PortId, precondition: Precondition) -> Result<(), Error> {
    let port = find::<Port>(write.tx, id)?;
    check_precondition(&port.standard, precondition)?;
    if serves(write.tx, &port) {
        let reason = format!("has device owner {}", port.device_owner);
        return Err(Error::ServicePortInUse { port: id, reason });
    }
    floating_ip::disassociate_all(write, id);
    write.tx.remove::<Port>(id);
    Ok(())
}

/// A router or a floating IP that exists depends on the port.
fn serves(snapshot: &Snapshot, port: &Port) -> bool {
    match port.device_owner.as_str() {
        ROUTER_INTERFACE | ROUTER_GATEWAY => is_router(snapshot, &port.device_id),
        FLOATING_IP => {
            let id = port.device_id.parse::<FloatingIpId>();
            id.is_ok_and(|id| snapshot.get::<FloatingIp>(id).is_some())
        }
        _ => false,
    }
}

fn is_router(snapshot: &Snapshot, device_id: &str) -> bool {
    device_id.parse::<RouterId>().is_ok_and(|id| snapshot.get::<Router>(id).is_some())
}

/// Ports of routers come by the router's own actions, with their checks, and by no other way.
fn not_of_router(snapshot: &Snapshot, device_owner: &str, device_id: &str) -> Result<(), Error> {
    if matches!(device_owner, ROUTER_INTERFACE | ROUTER_GATEWAY) && is_router(snapshot, device_id) {
        return Err(bad_request(format!("a {device_owner} port is made by the router's own actions")));
    }
    Ok(())
}

/// What makes a port a router's or a floating IP's is not changed from under them.
fn check_service_port(snapshot: &Snapshot, old: &Port, new: &Port) -> Result<(), Error> {
    let role = |port: &Port| (port.device_owner.clone(), port.device_id.clone());
    if serves(snapshot, old) {
        if role(old) != role(new) || old.fixed_ips != new.fixed_ips {
            return Err(bad_request(format!(
                "device and addresses of a {} port are changed by the owner's own actions",
                old.device_owner
            )));
        }
        return Ok(());
    }
    not_of_router(snapshot, &new.device_owner, &new.device_id)
}

fn check_floating(snapshot: &Snapshot, old: &Port, new: &Port) -> Result<(), Error> {
    let gone = |floating_ip: &&Arc<FloatingIp>| {
        let fixed = floating_ip.association.map(|association| association.fixed_address);
        fixed.is_some_and(|fixed| new.fixed_ips.iter().all(|ip| ip.ipv4() != Some(fixed)))
    };
    match snapshot.floating_ips_of_port(old.id).find(gone) {
        Some(floating_ip) => Err(bad_request(format!(
            "the fixed IP of floating IP {} cannot be taken away; disassociate it first",
            floating_ip.address
        ))),
        None => Ok(()),
    }
}

fn dhcp_options(changes: Vec<DhcpOptionChange>) -> Vec<DhcpOption> {
    let mut options = Vec::new();
    change_options(&mut options, changes);
    options
}

/// An option told again has its new value; one without a value goes away; the others stay.
fn change_options(options: &mut Vec<DhcpOption>, changes: Vec<DhcpOptionChange>) {
    for DhcpOptionChange { opt_name: name, opt_value, ip_version } in changes {
        options.retain(|option| (&option.name, option.ip_version) != (&name, ip_version));
        options.extend(opt_value.map(|value| DhcpOption { name, value, ip_version }));
    }
}

fn mac(snapshot: &Snapshot, network: NetworkId, asked: Option<Mac>) -> Result<Mac, Error> {
    if let Some(mac) = asked {
        return match snapshot.port_by_mac(network, mac) {
            Some(_) => Err(Error::MacAddressInUse { network, mac }),
            None => Ok(mac),
        };
    }
    let [a, b, c] = MAC_PREFIX;
    let mut guesses = std::iter::repeat_with(|| {
        let [d, e, f]: [u8; 3] = rand::rng().random();
        Mac([a, b, c, d, e, f])
    });
    guesses
        .by_ref()
        .take(MAC_GUESSES_MAX)
        .find(|mac| snapshot.port_by_mac(network, *mac).is_none())
        .ok_or_else(|| Error::internal("no free MAC address was found"))
}

fn bad_request(reason: String) -> Error {
    Error::BadRequest { resource: "port", reason }
}
