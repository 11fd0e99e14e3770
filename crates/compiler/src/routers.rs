//! `networks`, `routes`, and the routers' own `stations` and `neighbors`.
//!
//! A router that is administratively down has no entries at all: nothing is routed and nobody answers for
//! its addresses.

use crate::facts::LocalFacts;
use crate::output::{Builder, NEIGHBORS, NETWORKS, ROUTES, STATIONS, by, mac};
use ipnet::Ipv4Net;
use model::slice::{ExternalNetwork, Interface, Network, ObjectId, Router, RouterGateway, Slice, Subnet};
use model::{NetworkId, RouterId};
use pipeline::Address;
use pipeline::table_set::RoutePrefix;
use pipeline::tables::{
    Neighbor, NeighborKey, Network as NetworkEntry, NetworkKey, Route, RouteKey, Station, StationKey,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// MTU of a transit network without an external network: Ethernet's.
const TRANSIT_MTU: u16 = 1500;
/// Outer IPv4, UDP and Geneve or VXLAN headers, and the inner Ethernet header.
const TUNNEL_OVERHEAD: u16 = 50;

/// An interface with what it names.
struct Leg<'a> {
    interface: &'a Interface,
    network: &'a Network,
    subnet: &'a Subnet,
}

/// The routers' legs on each tenant network.
type LegsByNetwork<'a> = BTreeMap<NetworkId, Vec<(&'a Router, &'a Interface, bool)>>;

pub(crate) fn compile(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    let mut by_network = LegsByNetwork::new();
    for (id, router) in slice.routers.iter().filter(|(_, router)| router.admin_up) {
        let legs = legs(slice, *id, router, builder);
        for leg in &legs {
            let holds_gateway = leg.subnet.gateway == Some(leg.interface.address);
            let of_network = by_network.entry(leg.interface.network).or_default();
            of_network.push((router, leg.interface, holds_gateway));
            presence(*id, router, leg, builder);
        }
        let external = gateway_network(slice, *id, router, builder);
        transit(*id, router, external.map(|(_, network)| network), facts, builder);
        routes(*id, router, &legs, external, builder);
    }
    tenant_networks(slice, &by_network, builder);
    external_networks(slice, builder);
}

/// The interfaces whose network and subnet are known, by port id.
fn legs<'a>(slice: &'a Slice, id: RouterId, router: &'a Router, builder: &mut Builder) -> Vec<Leg<'a>> {
    let mut interfaces: Vec<&Interface> = router.interfaces.iter().collect();
    interfaces.sort_by_key(|interface| (interface.port, interface.subnet));
    let mut legs = Vec::new();
    for interface in interfaces {
        // A gateway may know of a router no more than its outside.
        let Some(network) = slice.networks.get(&interface.network) else { continue };
        match network.subnets.get(&interface.subnet) {
            Some(subnet) => legs.push(Leg { interface, network, subnet }),
            None => {
                let text =
                    format!("interface {}: its subnet {} is unknown", interface.port, interface.subnet);
                builder.problem(ObjectId::Router(id), text);
            }
        }
    }
    legs
}

fn gateway_network<'a>(
    slice: &'a Slice,
    id: RouterId,
    router: &'a Router,
    builder: &mut Builder,
) -> Option<(&'a RouterGateway, &'a ExternalNetwork)> {
    let gateway = router.gateway.as_ref()?;
    let network = slice.external_networks.get(&gateway.network);
    if network.is_none() {
        let text = format!("its external network {} is not known here", gateway.network);
        builder.problem(ObjectId::Router(id), text);
    }
    network.map(|network| (gateway, network))
}

/// The router's MAC and address on a network.
fn presence(id: RouterId, router: &Router, leg: &Leg<'_>, builder: &mut Builder) {
    let object = ObjectId::Router(id);
    let vni = leg.network.vni.get();
    let own = mac(leg.interface.mac);
    let station = Station { kind: Station::ROUTER, id: router.vni.get(), vtep: Address::ZERO };
    let key = StationKey { vni, mac: own, zero: 0 };
    builder.put(&STATIONS, key, station, by(object, "MAC of the router's interface"));
    let key = NeighborKey { vni, address: leg.interface.address.into() };
    let neighbor = Neighbor { flags: Neighbor::FLAG_ROUTER, mac: own };
    builder.put(&NEIGHBORS, key, neighbor, by(object, "address of the router's interface"));
}

/// The transit network is always a tunnel: an external packet may be too big for it although the external
/// network and the VM's would take it.
fn transit(
    id: RouterId,
    router: &Router,
    external: Option<&ExternalNetwork>,
    facts: &LocalFacts,
    builder: &mut Builder,
) {
    let outside = external.map_or(TRANSIT_MTU, |network| network.mtu);
    let vni = router.vni.get();
    let entry = NetworkEntry {
        kind: NetworkEntry::TRANSIT,
        router_vni: vni,
        external_vni: external.map_or(0, |network| network.vni.get()),
        mtu: outside.min(facts.underlay_mtu.saturating_sub(TUNNEL_OVERHEAD)),
        ..NetworkEntry::default()
    };
    let origin = by(ObjectId::Router(id), "transit network of the router");
    builder.put(&NETWORKS, NetworkKey { vni }, entry, origin);
}

fn tenant_networks(slice: &Slice, by_network: &LegsByNetwork<'_>, builder: &mut Builder) {
    for (id, network) in &slice.networks {
        let legs = by_network.get(id).map_or(&[][..], Vec::as_slice);
        // Whoever has the subnet's gateway address; without such an interface, any.
        let owner = legs.iter().find(|(.., holds_gateway)| *holds_gateway).or(legs.first());
        let entry = NetworkEntry {
            kind: NetworkEntry::TENANT,
            router_vni: owner.map_or(0, |(router, ..)| router.vni.get()),
            router_mac: owner.map_or(packet::MacAddr::ZERO, |(_, interface, _)| mac(interface.mac)),
            external_vni: 0,
            mtu: network.mtu,
        };
        let key = NetworkKey { vni: network.vni.get() };
        builder.put(&NETWORKS, key, entry, by(ObjectId::Network(*id), "the network"));
    }
}

fn external_networks(slice: &Slice, builder: &mut Builder) {
    for (id, network) in &slice.external_networks {
        let entry =
            NetworkEntry { kind: NetworkEntry::EXTERNAL, mtu: network.mtu, ..NetworkEntry::default() };
        let key = NetworkKey { vni: network.vni.get() };
        let origin = by(ObjectId::ExternalNetwork(*id), "the external network");
        builder.put(&NETWORKS, key, entry, origin);
    }
}

/// A router's routes, the most particular origin first: what comes later yields.
fn routes(
    id: RouterId,
    router: &Router,
    legs: &[Leg<'_>],
    external: Option<(&RouterGateway, &ExternalNetwork)>,
    builder: &mut Builder,
) {
    let object = ObjectId::Router(id);
    for leg in legs {
        let prefix = prefix(router, leg.subnet.cidr);
        builder.put(&ROUTES, prefix, connected(leg, None), by(object, "subnet of an interface"));
    }
    let mut statics: Vec<_> = router.routes.iter().collect();
    statics.sort_by_key(|route| (route.destination, route.next_hop));
    for route in statics {
        match static_route(route.next_hop, legs, external.map(|(_, network)| network)) {
            Some(value) => {
                let prefix = prefix(router, route.destination);
                builder.put(&ROUTES, prefix, value, by(object, "extra route of the router"));
            }
            // Only the outside of the router is known here.
            None if legs.is_empty() => {}
            None => builder.problem(
                object,
                format!("extra route {}: next hop {} is on no subnet", route.destination, route.next_hop),
            ),
        }
    }
    let Some((gateway, network)) = external else { return };
    for subnet in network.subnets.values() {
        let prefix = prefix(router, subnet.cidr);
        let origin = by(object, "subnet of the external network");
        builder.put_default(&ROUTES, prefix, outward(network, None), origin);
    }
    if let Some(next_hop) = default_next_hop(gateway, network) {
        let prefix = prefix(router, Ipv4Net::default());
        let origin = by(object, "default route to the external gateway");
        builder.put_default(&ROUTES, prefix, outward(network, Some(next_hop)), origin);
    }
}

/// The gateway of the subnet that holds the router's first address, or of any subnet that has one.
fn default_next_hop(gateway: &RouterGateway, network: &ExternalNetwork) -> Option<Ipv4Addr> {
    let first = gateway.addresses.first();
    let holds = |subnet: &&Subnet| first.is_some_and(|address| subnet.cidr.contains(address));
    let of_first = network.subnets.values().find(holds).and_then(|subnet| subnet.gateway);
    of_first.or_else(|| network.subnets.values().find_map(|subnet| subnet.gateway))
}

fn static_route(next_hop: Ipv4Addr, legs: &[Leg<'_>], external: Option<&ExternalNetwork>) -> Option<Route> {
    if let Some(leg) = legs.iter().find(|leg| leg.subnet.cidr.contains(&next_hop)) {
        return Some(connected(leg, Some(next_hop)));
    }
    let network = external?;
    let on_link = network.subnets.values().any(|subnet| subnet.cidr.contains(&next_hop));
    on_link.then(|| outward(network, Some(next_hop)))
}

fn connected(leg: &Leg<'_>, next_hop: Option<Ipv4Addr>) -> Route {
    Route {
        kind: Route::CONNECTED,
        vni: leg.network.vni.get(),
        next_hop: next_hop.map_or(Address::ZERO, Address::from),
        mac: mac(leg.interface.mac),
        mtu: leg.network.mtu,
    }
}

fn outward(network: &ExternalNetwork, next_hop: Option<Ipv4Addr>) -> Route {
    Route {
        kind: Route::EXTERNAL,
        vni: network.vni.get(),
        next_hop: next_hop.map_or(Address::ZERO, Address::from),
        mac: packet::MacAddr::ZERO,
        mtu: network.mtu,
    }
}

fn prefix(router: &Router, destination: Ipv4Net) -> RoutePrefix {
    RoutePrefix {
        len: RouteKey::lpm_len_v4(destination.prefix_len()),
        key: RouteKey::new(router.vni.get(), destination.network().into()),
    }
}
