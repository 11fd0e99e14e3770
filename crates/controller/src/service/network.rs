//! Networks.

use super::floating_ip;
use super::provider::{self, Place};
use super::standard::check_precondition;
use super::{Service, Write, find, owned, shared_with};
use api::resources::{NetworkCreate, NetworkUpdate, NetworkView};
use api::{Caller, Error, Handles, Hints, Precondition, TagChange};
use model::quota::Counted;
use model::rbac::{RbacAction, SharedKind};
use model::resource::{Network, Subnet};
use model::subnet_pool::SubnetPool;
use model::{AddressScopeId, IpVersion, NetworkId};
use store::Snapshot;

impl Handles<Network> for Service {
    fn list(&self, caller: &Caller, hints: &Hints) -> Vec<NetworkView> {
        let snapshot = self.snapshot();
        let networks = owned::<Network>(&snapshot, hints);
        networks.iter().map(|network| self.network_view(&snapshot, caller, network)).collect()
    }

    fn show(&self, caller: &Caller, id: NetworkId) -> Result<NetworkView, Error> {
        let snapshot = self.snapshot();
        Ok(self.network_view(&snapshot, caller, &*find::<Network>(&snapshot, id)?))
    }

    fn create(&self, caller: &Caller, requests: Vec<NetworkCreate>) -> Result<Vec<NetworkView>, Error> {
        self.write(|write| {
            let create = |request| {
                let network = create(write, caller, request)?;
                write.within_quota(Counted::Network, &network.standard.project_id)?;
                Ok(self.network_view(write.tx, caller, &network))
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        caller: &Caller,
        id: NetworkId,
        change: NetworkUpdate,
        precondition: Precondition,
    ) -> Result<NetworkView, Error> {
        self.write(|write| {
            let network = update(write, id, change, precondition)?;
            Ok(self.network_view(write.tx, caller, &network))
        })
    }

    fn delete(&self, _caller: &Caller, id: NetworkId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| delete(write, id, precondition))
    }

    fn change_tags(&self, _caller: &Caller, id: NetworkId, change: TagChange) -> Result<Vec<String>, Error> {
        self.change_tags_of::<Network>(id, change)
    }
}

impl Service {
    fn network_view(&self, snapshot: &Snapshot, caller: &Caller, network: &Network) -> NetworkView {
        let subnets = snapshot.subnets_of_network(network.id).map(|subnet| subnet.id).collect();
        let scope = |version| address_scope(snapshot, network.id, version);
        NetworkView {
            shared: is_shared_with(snapshot, network.id, &caller.project_id),
            ipv4_address_scope: scope(IpVersion::V4),
            ipv6_address_scope: scope(IpVersion::V6),
            ..NetworkView::new(network, subnets, self.settings.overlay)
        }
    }
}

/// Somebody shares the network with that project.
pub(super) fn is_shared_with(snapshot: &Snapshot, network: NetworkId, project_id: &str) -> bool {
    let object = (SharedKind::Network, network.uuid());
    shared_with(snapshot, object, RbacAction::AccessAsShared, project_id)
}

/// That of the pool the network's subnets of that version are from.
fn address_scope(snapshot: &Snapshot, network: NetworkId, version: IpVersion) -> Option<AddressScopeId> {
    let mut subnets = snapshot.subnets_of_network(network).filter(|subnet| subnet.ip_version() == version);
    let pool = subnets.find_map(|subnet| subnet.pool)?;
    snapshot.get::<SubnetPool>(pool)?.address_scope
}

fn create(write: &mut Write<'_>, caller: &Caller, request: NetworkCreate) -> Result<Network, Error> {
    let Place { provider, vni } = provider::place(write.tx, &write.settings, &request)?;
    let mtu = mtu(write, request.mtu, request.external)?;
    let network = Network {
        id: NetworkId::random(),
        standard: write.standard(caller, request.standard),
        admin_state_up: request.admin_state_up,
        shared: None,
        mtu,
        vni,
        provider,
        external: request.external,
        is_default: request.is_default,
        port_security_enabled: request.port_security_enabled,
        availability_zone_hints: api::known_zones(request.availability_zone_hints)?,
    };
    write.default_group(&network.standard.project_id);
    write.tx.put(network.clone());
    write.open_to_all(&network, RbacAction::AccessAsShared, request.shared)?;
    write.open_to_all(&network, RbacAction::AccessAsExternal, request.external)?;
    Ok(network)
}

fn update(
    write: &mut Write<'_>,
    id: NetworkId,
    change: NetworkUpdate,
    precondition: Precondition,
) -> Result<Network, Error> {
    let old = find::<Network>(write.tx, id)?;
    check_precondition(&old.standard, precondition)?;
    if let Some(shared) = change.shared {
        write.open_to_all(&old, RbacAction::AccessAsShared, shared)?;
    }
    let mut network = Network::clone(&*find::<Network>(write.tx, id)?);
    change.standard.apply(&mut network.standard);
    if let Some(external) = change.external {
        check_external(write.tx, &network, external)?;
        if external {
            write.open_to_all(&network, RbacAction::AccessAsExternal, true)?;
        } else {
            write.no_longer_external(id);
        }
        network.external = external;
    }
    if let Some(asked) = change.mtu {
        network.mtu = mtu(write, asked, network.external)?;
    }
    if let Some(egress) = change.egress {
        let provider = network.provider.as_mut().ok_or_else(|| provider::not_external("nanboku:egress"))?;
        provider.egress = egress;
    }
    network.admin_state_up = change.admin_state_up.unwrap_or(network.admin_state_up);
    network.is_default = change.is_default.unwrap_or(network.is_default);
    network.port_security_enabled = change.port_security_enabled.unwrap_or(network.port_security_enabled);
    Ok(write.put_changed(network))
}

fn delete(write: &mut Write<'_>, id: NetworkId, precondition: Precondition) -> Result<(), Error> {
    let network = find::<Network>(write.tx, id)?;
    check_precondition(&network.standard, precondition)?;
    floating_ip::remove_idle(write, id);
    let ports: Vec<String> = write.tx.ports_of_network(id).map(|port| port.id.to_string()).collect();
    if !ports.is_empty() {
        return Err(Error::NetworkInUse { network: id, ports: ports.join(",") });
    }
    let subnets: Vec<_> = write.tx.subnets_of_network(id).map(|subnet| subnet.id).collect();
    for subnet in subnets {
        write.tx.remove::<Subnet>(subnet);
    }
    write.no_longer_shared(SharedKind::Network, id.uuid());
    write.tx.remove::<Network>(id);
    Ok(())
}

/// 0 asks for the default.
fn mtu(write: &Write<'_>, asked: u16, external: bool) -> Result<u16, Error> {
    let settings = &write.settings;
    match (asked, external) {
        (0, true) => Ok(settings.external_mtu),
        (0, false) => Ok(settings.tenant_mtu),
        (asked, false) if asked > settings.tenant_mtu => {
            let max = settings.tenant_mtu;
            Err(Error::invalid_input(format!("Requested MTU is too big, maximum is {max}")))
        }
        (asked, _) => Ok(asked),
    }
}

pub(super) fn check_external(snapshot: &Snapshot, network: &Network, external: bool) -> Result<(), Error> {
    if network.external == external {
        return Ok(());
    }
    if !external {
        let used = snapshot.ports_of_network(network.id).any(|port| {
            matches!(port.device_owner.as_str(), "network:router_gateway" | "network:floatingip")
        });
        if used {
            return Err(Error::ExternalNetworkInUse { network: network.id });
        }
        if network.provider.is_some() {
            return Err(provider::only_external());
        }
    }
    let interface =
        |port: &&std::sync::Arc<model::resource::Port>| port.device_owner == "network:router_interface";
    if external && let Some(port) = snapshot.ports_of_network(network.id).find(interface) {
        return Err(Error::invalid_input(format!(
            "port {} connects the network to a router's inside",
            port.id
        )));
    }
    Ok(())
}
