//! What a host is told: [`slice_for`] a host is a pure function of one snapshot of the store.
//!
//! A slice holds, for the host's own bound ports: their networks, the routers with an interface there, the
//! other networks of those routers, every port on all of these networks, the routers' external networks and
//! floating IPs, and the host's own port blocks. For every external network whose physical network the host
//! has (it may be a gateway there): the routers with a gateway on it, all its floating IPs and all its port
//! blocks, since what returns for them may arrive here, and what is sent to them may have to turn around
//! here. Last, every host one of these names, and every host that has the physical network of an external
//! network in the slice.
//!
//! Ports of the network itself (router legs, holders of floating IPs) are not in `Slice::ports`: they are the
//! routers' interfaces and addresses. A router's interfaces are listed as far as their networks are in the
//! slice: all of them, or none where the host is only a gateway for the router.
//!
//! The cost is that of the slice itself: nothing here walks over what the host does not touch, except hosts
//! and external networks.

mod routed;
mod security;

use crate::virtual_addresses::{holder, host_of_address};
use model::metering::MeteringLabel;
use model::resource::{self, device_owner};
use model::slice::{
    Block, BlockId, DhcpOption, ExternalNetwork, FloatingIp, Guest, Host, Interface, Meter, MeterRule,
    Network, Port, PortForwarding, Router, RouterGateway, Slice, Subnet, SubnetDhcp, VirtualAddress,
    VirtualAddressId,
};
use model::{HostId, IpVersion, NetworkId, PortForwardingId, RouterId, SubnetId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use store::Snapshot;

/// The slice of a host; of a host the store does not know, an empty one.
pub fn slice_for(snapshot: &Snapshot, host: HostId) -> Slice {
    let Some(own) = snapshot.get::<resource::Host>(host) else {
        return Slice { revision: snapshot.revision, ..Slice::default() };
    };
    let mut builder =
        Builder { snapshot, own, slice: Slice { revision: snapshot.revision, ..Slice::default() } };
    builder.touched_by_ports();
    builder.gateway_duties();
    security::add(snapshot, &mut builder.slice);
    builder.named_hosts();
    builder.slice
}

/// The networks of the host's own ports: tenant networks only, a host never forwards for a VM that sits on an
/// external network.
pub(crate) fn networks_of_host(snapshot: &Snapshot, host_name: &str) -> BTreeSet<NetworkId> {
    let ports = snapshot.ports_of_host(host_name).filter(|port| !port.is_infrastructure());
    ports.map(|port| port.network).filter(|id| is_tenant(snapshot, *id)).collect()
}

/// The routers with an interface on the network.
pub(crate) fn routers_of_network(snapshot: &Snapshot, network: NetworkId) -> BTreeSet<RouterId> {
    let legs =
        snapshot.ports_of_network(network).filter(|port| port.device_owner == device_owner::ROUTER_INTERFACE);
    legs.filter_map(|port| port.device_id.parse().ok()).collect()
}

/// SNAT addresses of a router: the addresses of its gateway port.
pub(crate) fn gateway_addresses(snapshot: &Snapshot, gateway: &resource::GatewayInfo) -> Vec<Ipv4Addr> {
    gateway_fixed_ips(snapshot, gateway).iter().filter_map(resource::FixedIp::ipv4).collect()
}

pub(crate) fn gateway_fixed_ips<'a>(
    snapshot: &'a Snapshot,
    gateway: &resource::GatewayInfo,
) -> &'a [resource::FixedIp] {
    snapshot.get::<resource::Port>(gateway.port).map(|port| port.fixed_ips.as_slice()).unwrap_or_default()
}

fn is_tenant(snapshot: &Snapshot, network: NetworkId) -> bool {
    snapshot.get::<resource::Network>(network).is_some_and(|network| !network.external)
}

fn has_physical_network(host: &resource::Host, name: &str) -> bool {
    host.physical_networks.iter().any(|physical_network| physical_network == name)
}

struct Builder<'a> {
    snapshot: &'a Snapshot,
    own: &'a resource::Host,
    slice: Slice,
}

impl Builder<'_> {
    fn touched_by_ports(&mut self) {
        let snapshot = self.snapshot;
        let near = networks_of_host(snapshot, &self.own.name);
        let routers: BTreeSet<RouterId> =
            near.iter().flat_map(|network| routers_of_network(snapshot, *network)).collect();
        let legs = routers.iter().flat_map(|router| interface_ports(snapshot, *router));
        let networks: BTreeSet<NetworkId> = legs.map(|port| port.network).chain(near).collect();
        for network in &networks {
            self.add_network(*network);
        }
        for id in routers {
            let Some(router) = snapshot.get::<resource::Router>(id) else { continue };
            self.add_router(router);
            if let Some(gateway) = &router.gateway {
                self.add_external_network(gateway.network);
            }
            let floating_ips = snapshot.floating_ips_of_router(id);
            floating_ips.for_each(|floating_ip| self.add_floating_ip(floating_ip));
        }
        let blocks = snapshot.blocks_of_host(self.own.id);
        blocks.for_each(|block| self.add_block(block));
    }

    fn gateway_duties(&mut self) {
        let snapshot = self.snapshot;
        for (id, network) in &snapshot.networks {
            let Some(provider) = network.provider.as_ref().filter(|_| network.external) else { continue };
            if !has_physical_network(self.own, &provider.physical_network) {
                continue;
            }
            self.add_external_network(*id);
            for router in snapshot.routers_of_external_network(*id) {
                self.add_router(router);
                for floating_ip in snapshot.floating_ips_of_router(router.id) {
                    self.add_floating_ip(floating_ip);
                }
                for block in snapshot.blocks_of_router(router.id) {
                    self.add_block(block);
                }
            }
        }
    }

    /// Peers and gateways. A host that has the physical network but is not live, or is drained, may still have
    /// packets of ours under way: its VTEP stays known.
    fn named_hosts(&mut self) {
        let slice = &self.slice;
        let mut named = BTreeSet::from([self.own.id]);
        named.extend(slice.ports.values().filter_map(|port| port.host));
        named.extend(slice.floating_ips.values().filter_map(|floating_ip| floating_ip.host));
        named.extend(slice.port_forwardings.values().filter_map(|forwarding| forwarding.host));
        named.extend(slice.blocks.values().map(|block| block.host));
        named.extend(slice.routed_ports.values().filter_map(|port| port.host));
        let physical: BTreeSet<&String> =
            slice.external_networks.values().map(|network| &network.physical_network).collect();
        let is_told = |id: &HostId, host: &resource::Host| {
            named.contains(id) || host.physical_networks.iter().any(|name| physical.contains(name))
        };
        let told = self.snapshot.hosts.iter().filter(|(id, host)| is_told(id, host));
        self.slice.hosts = told.map(|(id, host)| (*id, told_host(host))).collect();
    }

    /// A tenant network with its subnets, every port of a VM on it, and who has which virtual address.
    fn add_network(&mut self, id: NetworkId) {
        let Some(network) = self.snapshot.get::<resource::Network>(id).filter(|network| !network.external)
        else {
            return;
        };
        let told = Network {
            vni: network.vni,
            name: network.standard.name.clone(),
            mtu: network.mtu,
            admin_up: network.admin_state_up,
            subnets: subnets(self.snapshot, id),
        };
        self.slice.networks.insert(id, told);
        for port in self.snapshot.ports_of_network(id).filter(|port| !port.is_infrastructure()) {
            self.slice.ports.insert(port.id, self.told_port(port));
        }
        for held in self.snapshot.virtual_addresses_of_network(id) {
            if let Some(port) = holder(self.snapshot, held) {
                let id = VirtualAddressId { network: held.network, address: held.address };
                let told = VirtualAddress { port: port.id, mac: held.mac };
                self.slice.virtual_addresses.insert(id, told);
            }
        }
    }

    fn add_external_network(&mut self, id: NetworkId) {
        let Some(network) = self.snapshot.get::<resource::Network>(id) else { return };
        let Some(provider) = &network.provider else { return };
        let serves = |host: &resource::Host| {
            host.live && !host.drained && has_physical_network(host, &provider.physical_network)
        };
        let gateways = self.snapshot.hosts.iter().filter(|(_, host)| serves(host)).map(|(id, _)| *id);
        let told = ExternalNetwork {
            vni: network.vni,
            name: network.standard.name.clone(),
            mtu: network.mtu,
            physical_network: provider.physical_network.clone(),
            vlan: provider.vlan,
            egress: provider.egress,
            block_size: provider.block_size,
            subnets: subnets(self.snapshot, id),
            gateways: gateways.collect(),
        };
        self.slice.external_networks.insert(id, told);
    }

    fn add_router(&mut self, router: &resource::Router) {
        let gateway = router.gateway.as_ref().map(|gateway| RouterGateway {
            network: gateway.network,
            enable_snat: gateway.enable_snat,
            addresses: gateway_addresses(self.snapshot, gateway),
            ipv6_addresses: gateway_fixed_ips(self.snapshot, gateway)
                .iter()
                .filter_map(resource::FixedIp::ipv6)
                .collect(),
            filtering: gateway.filtering,
            ports_per_vm_max: gateway.ports_per_vm_max,
            mappings_per_second_max: gateway.mappings_per_second_max,
            port_control: gateway.port_control,
            untranslated_destinations: gateway.untranslated_destinations.clone(),
            meters: meters(self.snapshot, router),
        });
        let known = |port: &&resource::Port| self.slice.networks.contains_key(&port.network);
        let legs = interface_ports(self.snapshot, router.id).into_iter().filter(known);
        let told = Router {
            vni: router.vni,
            name: router.standard.name.clone(),
            admin_up: router.admin_state_up,
            interfaces: legs.flat_map(interfaces).collect(),
            gateway,
            routes: router.routes.iter().copied().map(Into::into).collect(),
        };
        self.slice.routers.insert(router.id, told);
        routed::add(self.snapshot, router, &mut self.slice);
    }

    fn add_floating_ip(&mut self, floating_ip: &resource::FloatingIp) {
        if let Some(told) = told_floating_ip(self.snapshot, floating_ip) {
            self.slice.floating_ips.insert(floating_ip.id, told);
        }
        self.slice.port_forwardings.extend(told_forwardings(self.snapshot, floating_ip));
    }

    fn add_block(&mut self, block: &resource::PortBlock) {
        let id = block_id(block);
        let retiring = block.retiring_since_ms.is_some();
        self.slice.blocks.insert(id, Block { router: block.router, host: block.host, retiring });
    }

    fn told_port(&self, port: &resource::Port) -> Port {
        Port {
            network: port.network,
            mac: port.mac,
            addresses: port.fixed_ips.iter().map(|fixed_ip| fixed_ip.address).collect(),
            host: host_of(self.snapshot, port),
            admin_up: port.admin_state_up,
            port_security: port.port_security_enabled,
            allowed_pairs: port.allowed_address_pairs.iter().copied().map(Into::into).collect(),
            security_groups: security::groups_of(port, &self.own.name),
            guest: (port.binding_host == self.own.name).then(|| guest(port)),
        }
    }
}

/// The host a port is bound to; none if nowhere or to a name no agent came with yet.
pub(crate) fn host_of(snapshot: &Snapshot, port: &resource::Port) -> Option<HostId> {
    snapshot.host_by_name(&port.binding_host).map(|host| host.id)
}

/// A floating IP as hosts see it; none while it stands for nothing.
pub(crate) fn told_floating_ip(
    snapshot: &Snapshot,
    floating_ip: &resource::FloatingIp,
) -> Option<FloatingIp> {
    let association = floating_ip.association?;
    let port = snapshot.get::<resource::Port>(association.port)?;
    Some(FloatingIp {
        external_network: floating_ip.network,
        address: floating_ip.address,
        router: association.router,
        port: port.id,
        network: port.network,
        fixed_address: association.fixed_address,
        host: host_of(snapshot, port)
            .or_else(|| host_of_address(snapshot, port.network, association.fixed_address.into())),
    })
}

/// The forwarded ports of a floating IP as hosts see them.
pub(crate) fn told_forwardings<'a>(
    snapshot: &'a Snapshot,
    floating_ip: &'a resource::FloatingIp,
) -> impl Iterator<Item = (PortForwardingId, PortForwarding)> + 'a {
    floating_ip.forwardings.iter().filter_map(|forwarding| {
        let port = snapshot.get::<resource::Port>(forwarding.port)?;
        let told = PortForwarding {
            external_network: floating_ip.network,
            address: floating_ip.address,
            protocol: forwarding.protocol.number(),
            external_port: forwarding.external_port,
            router: forwarding.router,
            port: port.id,
            network: port.network,
            fixed_address: forwarding.internal_address,
            internal_port: forwarding.internal_port,
            host: host_of(snapshot, port),
        };
        Some((forwarding.id, told))
    })
}

pub(crate) fn block_id(block: &resource::PortBlock) -> BlockId {
    BlockId { external_network: block.external_network, address: block.address, first_port: block.first_port }
}

/// The shared labels and those of the router's project, with their rules.
fn meters(snapshot: &Snapshot, router: &resource::Router) -> Vec<Meter> {
    let meter = |label: &Arc<MeteringLabel>| {
        let rules = snapshot.rules_of_metering_label(label.id).map(|rule| MeterRule {
            direction: rule.direction,
            excluded: rule.excluded,
            prefixes: rule.prefixes,
        });
        Meter { label: label.id, rules: rules.collect() }
    };
    snapshot.metering_labels_for(&router.standard.project_id).map(meter).collect()
}

fn interface_ports(snapshot: &Snapshot, router: RouterId) -> Vec<&resource::Port> {
    let device = router.to_string();
    let ports = snapshot.ports_of_device(&device).map(AsRef::as_ref);
    ports.filter(|port: &&resource::Port| port.device_owner == device_owner::ROUTER_INTERFACE).collect()
}

fn interfaces(port: &resource::Port) -> impl Iterator<Item = Interface> {
    port.fixed_ips.iter().map(|fixed_ip| Interface {
        port: port.id,
        network: port.network,
        subnet: fixed_ip.subnet,
        mac: port.mac,
        address: fixed_ip.address,
    })
}

fn subnets(snapshot: &Snapshot, network: NetworkId) -> BTreeMap<SubnetId, Subnet> {
    let told = |subnet: &Arc<resource::Subnet>| {
        let told = Subnet {
            cidr: subnet.cidr,
            gateway: subnet.gateway_ip,
            dhcp: subnet.enable_dhcp.then(|| subnet_dhcp(subnet)),
            ipv6_ra_mode: subnet.ipv6_ra_mode,
            ipv6_address_mode: subnet.ipv6_address_mode,
        };
        (subnet.id, told)
    };
    snapshot.subnets_of_network(network).map(told).collect()
}

fn subnet_dhcp(subnet: &resource::Subnet) -> SubnetDhcp {
    let servers = subnet.dns_nameservers.iter();
    SubnetDhcp {
        // DHCP has no place for others.
        dns_nameservers: servers.filter_map(|server| server.parse().ok()).collect(),
        host_routes: subnet.host_routes.iter().copied().map(Into::into).collect(),
    }
}

fn guest(port: &resource::Port) -> Guest {
    let options = |version| {
        let of_version = port.extra_dhcp_options.iter().filter(move |option| option.ip_version == version);
        let told = |option: &resource::DhcpOption| DhcpOption {
            name: option.name.clone(),
            value: option.value.clone(),
        };
        of_version.map(told).collect()
    };
    Guest {
        project_id: port.standard.project_id.clone(),
        device_id: port.device_id.clone(),
        dhcp_options: options(IpVersion::V4),
        dhcp6_options: options(IpVersion::V6),
    }
}

fn told_host(host: &resource::Host) -> Host {
    Host {
        name: host.name.clone(),
        vtep: host.vtep,
        dvr_mac: host.dvr_mac,
        physical_networks: host.physical_networks.clone(),
        live: host.live && !host.drained,
    }
}
