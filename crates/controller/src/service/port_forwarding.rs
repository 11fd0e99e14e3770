//! Port forwardings: ports of a floating IP that lead to ports of fixed addresses. They are part of their floating IP's
//! record, which stands either for one address as a whole or for what they say.

use super::floating_ip::{fixed_ip, router_to};
use super::{Service, Write, find};
use api::Error;
use api::backend::PortForwardings;
use api::resources::{PortForwardingCreate, PortForwardingUpdate, PortForwardingView};
use model::resource::{FixedIp, FloatingIp, Port, PortForwarding};
use model::{FloatingIpId, PortForwardingId, PortId, RouterId};
use std::net::Ipv4Addr;
use std::sync::Arc;
use store::Snapshot;

/// Of one floating IP: more than anybody types, and few enough to be written at once.
const FORWARDINGS_MAX: usize = 256;

impl PortForwardings for Service {
    fn forwardings(&self, floating_ip: FloatingIpId) -> Result<Vec<PortForwardingView>, Error> {
        let floating_ip = find::<FloatingIp>(&self.snapshot(), floating_ip)?;
        Ok(floating_ip.forwardings.iter().map(PortForwardingView::new).collect())
    }

    fn forward(
        &self,
        floating_ip: FloatingIpId,
        requests: Vec<PortForwardingCreate>,
    ) -> Result<Vec<PortForwardingView>, Error> {
        self.write(|write| {
            let mut floating_ip = FloatingIp::clone(&*find::<FloatingIp>(write.tx, floating_ip)?);
            let made: Result<Vec<_>, Error> =
                requests.into_iter().map(|request| forward(write.tx, &mut floating_ip, request)).collect();
            let made = made?;
            floating_ip.programmed = false;
            write.put_changed(floating_ip);
            Ok(made.iter().map(PortForwardingView::new).collect())
        })
    }

    fn change_forwarding(
        &self,
        floating_ip: FloatingIpId,
        id: PortForwardingId,
        change: PortForwardingUpdate,
    ) -> Result<PortForwardingView, Error> {
        self.write(|write| {
            let mut floating_ip = FloatingIp::clone(&*find::<FloatingIp>(write.tx, floating_ip)?);
            let changed = change_one(write.tx, &mut floating_ip, id, change)?;
            write.put_changed(floating_ip);
            Ok(PortForwardingView::new(&changed))
        })
    }

    fn remove_forwarding(&self, floating_ip: FloatingIpId, id: PortForwardingId) -> Result<(), Error> {
        self.write(|write| {
            let mut floating_ip = FloatingIp::clone(&*find::<FloatingIp>(write.tx, floating_ip)?);
            let at = place(&floating_ip, id)?;
            floating_ip.forwardings.remove(at);
            write.put_changed(floating_ip);
            Ok(())
        })
    }
}

/// # Errors
/// `FipInUseByPortForwarding`: it has some.
pub(super) fn check_none(floating_ip: &FloatingIp) -> Result<(), Error> {
    if floating_ip.forwardings.is_empty() {
        return Ok(());
    }
    Err(Error::FipInUseByPortForwarding { floating_ip: floating_ip.id })
}

/// What led to addresses that the port loses goes with them, as in Neutron.
pub(super) fn remove_of_port(write: &mut Write<'_>, port: PortId, is_lost: impl Fn(Ipv4Addr) -> bool) {
    let goes = |own: &PortForwarding| own.port == port && is_lost(own.internal_address);
    let all = write.tx.floating_ips_of_port(port);
    let concerned: Vec<_> = all.filter(|of| of.forwardings.iter().any(&goes)).cloned().collect();
    for floating_ip in concerned {
        let mut floating_ip = FloatingIp::clone(&floating_ip);
        floating_ip.forwardings.retain(|own| !goes(own));
        write.put_changed(floating_ip);
    }
}

fn place(floating_ip: &FloatingIp, id: PortForwardingId) -> Result<usize, Error> {
    let at = floating_ip.forwardings.iter().position(|own| own.id == id);
    at.ok_or(Error::PortForwardingNotFound { id: id.to_string() })
}

fn forward(
    snapshot: &Snapshot,
    floating_ip: &mut FloatingIp,
    request: PortForwardingCreate,
) -> Result<PortForwarding, Error> {
    if floating_ip.forwardings.len() >= FORWARDINGS_MAX {
        return Err(Error::OverQuota { overs: "['port_forwarding']".to_owned() });
    }
    let (port, internal_address) = endpoint(snapshot, request.internal_port_id, request.internal_ip_address)?;
    if floating_ip.association.is_some() {
        return Err(Error::FloatingIPPortAlreadyAssociated {
            address: floating_ip.address,
            floating_ip: floating_ip.id,
            port: port.id,
            fixed_address: internal_address,
            network: floating_ip.network,
        });
    }
    let forwarding = PortForwarding {
        id: PortForwardingId::random(),
        description: request.description,
        router: router(snapshot, floating_ip, &port, internal_address)?,
        protocol: request.protocol,
        external_port: request.external_port,
        port: port.id,
        internal_address,
        internal_port: request.internal_port,
    };
    check_own(snapshot, floating_ip, &forwarding)?;
    floating_ip.forwardings.push(forwarding.clone());
    Ok(forwarding)
}

fn change_one(
    snapshot: &Snapshot,
    floating_ip: &mut FloatingIp,
    id: PortForwardingId,
    change: PortForwardingUpdate,
) -> Result<PortForwarding, Error> {
    let at = place(floating_ip, id)?;
    let old = floating_ip.forwardings.remove(at);
    let wanted = match (change.internal_port_id, change.internal_ip_address) {
        (Some(_), address) | (None, address @ Some(_)) => address,
        (None, None) => Some(old.internal_address),
    };
    let (port, internal_address) = endpoint(snapshot, change.internal_port_id.unwrap_or(old.port), wanted)?;
    let forwarding = PortForwarding {
        id,
        router: router(snapshot, floating_ip, &port, internal_address)?,
        protocol: change.protocol.unwrap_or(old.protocol),
        external_port: change.external_port.unwrap_or(old.external_port),
        port: port.id,
        internal_address,
        internal_port: change.internal_port.unwrap_or(old.internal_port),
        description: change.description.unwrap_or_else(|| old.description.clone()),
    };
    check_own(snapshot, floating_ip, &forwarding)?;
    let renamed = PortForwarding { description: forwarding.description.clone(), ..old };
    if renamed != forwarding {
        floating_ip.programmed = false;
    }
    floating_ip.forwardings.insert(at, forwarding.clone());
    Ok(forwarding)
}

/// The port and the address of it that is meant: the first, if none is named.
fn endpoint(
    snapshot: &Snapshot,
    port: PortId,
    asked: Option<Ipv4Addr>,
) -> Result<(Arc<Port>, Ipv4Addr), Error> {
    let port = find::<Port>(snapshot, port)?;
    let own: Vec<Ipv4Addr> = port.fixed_ips.iter().filter_map(FixedIp::ipv4).collect();
    let Some(first) = own.first() else {
        return Err(bad_request(format!(
            "Requested internal port {} must allocate an IPv4 address at least.",
            port.id
        )));
    };
    let address = asked.unwrap_or(*first);
    if own.contains(&address) {
        return Ok((port, address));
    }
    let list = own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(bad_request(format!(
        "Requested internal IP address {address} is not suitable for internal neutron port {}, as its fixed_ips are {list}",
        port.id
    )))
}

/// All forwardings of a floating IP go through one router.
fn router(
    snapshot: &Snapshot,
    floating_ip: &FloatingIp,
    port: &Port,
    address: Ipv4Addr,
) -> Result<RouterId, Error> {
    let (fixed_ip, _) = fixed_ip(port, Some(address))?;
    let router = router_to(snapshot, floating_ip, port, fixed_ip).map_err(|_| {
        bad_request(format!(
            "External network {} is not reachable from subnet {}. Cannot set Port forwarding for port {} with Floating IP {}",
            floating_ip.network, fixed_ip.subnet, port.id, floating_ip.id
        ))
    })?;
    match floating_ip.forwardings.first() {
        Some(other) if other.router != router => Err(bad_request(format!(
            "The Floating IP {} had been set on router {}, the internal Neutron port {} can not reach it",
            floating_ip.id, other.router, port.id
        ))),
        _ => Ok(router),
    }
}

/// A port outside leads to one place; an endpoint inside has one port outside, and no floating IP of its own.
/// `forwarding` is not among the floating IP's yet.
fn check_own(
    snapshot: &Snapshot,
    floating_ip: &FloatingIp,
    forwarding: &PortForwarding,
) -> Result<(), Error> {
    let outside = |own: &PortForwarding| (own.protocol, own.external_port);
    if floating_ip.forwardings.iter().any(|own| outside(own) == outside(forwarding)) {
        return Err(duplicate(format!(
            "floatingip_id {}, external_port {}, protocol {}",
            floating_ip.id,
            forwarding.external_port,
            forwarding.protocol.name()
        )));
    }
    let inside = |own: &PortForwarding| (own.protocol, own.port, own.internal_address, own.internal_port);
    let same = |own: &&PortForwarding| own.id != forwarding.id && inside(own) == inside(forwarding);
    let all = snapshot.floating_ips_of_port(forwarding.port).filter(|other| other.id != floating_ip.id);
    let others: Vec<_> = all.collect();
    let elsewhere = others.iter().flat_map(|other| &other.forwardings).find(same);
    if floating_ip.forwardings.iter().find(same).or(elsewhere).is_some() {
        return Err(duplicate(format!(
            "internal_port_id {}, internal_ip_address {}, internal_port {}, protocol {}",
            forwarding.port,
            forwarding.internal_address,
            forwarding.internal_port,
            forwarding.protocol.name()
        )));
    }
    let is_own = |other: &&&Arc<FloatingIp>| other.association.is_some_and(|own| own.port == forwarding.port);
    match others.iter().find(is_own) {
        Some(owner) => Err(Error::PortHasBindingFloatingIP {
            address: owner.address,
            floating_ip: owner.id,
            port: forwarding.port,
            fixed_address: forwarding.internal_address,
        }),
        None => Ok(()),
    }
}

fn duplicate(values: String) -> Error {
    bad_request(format!(
        "A duplicate port forwarding entry with same attributes already exists, conflicting values are {values}"
    ))
}

fn bad_request(reason: String) -> Error {
    Error::BadRequest { resource: "port_forwarding", reason }
}
