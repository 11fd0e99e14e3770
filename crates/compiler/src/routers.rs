//! `networks`, `routes`, and the routers' own `stations` and `neighbors`.
//!
//! A router that is administratively down has no entries at all: nothing is routed and nobody answers for
//! its addresses.

use crate::facts::LocalFacts;
use crate::output::{Builder, NEIGHBORS, NETWORKS, ROUTES, STATIONS, by, mac};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::slice::{ExternalNetwork, Interface, Network, ObjectId, Router, RouterGateway, Slice, Subnet};
use model::{NetworkId, RouterId};
use pipeline::Address;
use pipeline::table_set::RoutePrefix;
use pipeline::tables::{
    Neighbor, NeighborKey, Network as NetworkEntry, NetworkKey, Route, RouteKey, Station, StationKey,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

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
    let mut all: Vec<(IpNet, Route, &'static str)> = Vec::new();
    for leg in legs {
        all.push((leg.subnet.cidr, connected(leg, None), "subnet of an interface"));
    }
    let mut statics: Vec<_> = router.routes.iter().collect();
    statics.sort_by_key(|route| (route.destination, route.next_hop));
    for route in statics {
        match static_route(route.next_hop, legs, external.map(|(_, network)| network)) {
            Some(value) => all.push((route.destination, value, "extra route of the router")),
            // Only the outside of the router is known here.
            None if legs.is_empty() => {}
            None => builder.problem(
                object,
                format!("extra route {}: next hop {} is on no subnet", route.destination, route.next_hop),
            ),
        }
    }
    let own = all.len();
    if let Some((gateway, network)) = external {
        for subnet in network.subnets.values() {
            all.push((subnet.cidr, outward(network, None), "subnet of the external network"));
        }
        let firsts: [(IpNet, Option<IpAddr>); 2] = [
            (Ipv4Net::default().into(), gateway.addresses.first().copied().map(IpAddr::from)),
            (Ipv6Net::default().into(), gateway.ipv6_addresses.first().copied().map(IpAddr::from)),
        ];
        for (everywhere, first) in firsts {
            if let Some(next_hop) = default_next_hop(everywhere, first, network) {
                let default = outward(network, Some(next_hop));
                all.push((everywhere, default, "default route to the external gateway"));
            }
        }
        let mut untranslated: Vec<IpNet> =
            gateway.untranslated_destinations.iter().copied().map(Into::into).collect();
        // Nothing of IPv6 is translated.
        untranslated.push(Ipv6Net::default().into());
        leave_untranslated(&untranslated, &mut all);
    }
    for (number, (destination, route, why)) in all.into_iter().enumerate() {
        let key = prefix(router, destination);
        if number < own {
            builder.put(&ROUTES, key, route, by(object, why));
        } else {
            builder.put_default(&ROUTES, key, route, by(object, why));
        }
    }
}

/// Marks the ways to the outside on which addresses stay as they are, without changing any way.
fn leave_untranslated(destinations: &[IpNet], routes: &mut Vec<(IpNet, Route, &'static str)>) {
    let covering = |destination: &IpNet| {
        let covering = routes.iter().filter(|(prefix, ..)| prefix.contains(destination));
        // Of equal ones the first: the others yield.
        let (_, route, _) = covering.rev().max_by_key(|(prefix, ..)| prefix.prefix_len())?;
        Some((*destination, *route, "destination without translation"))
            .filter(|_| route.kind == Route::EXTERNAL)
    };
    let more: Vec<_> = destinations.iter().filter_map(covering).collect();
    routes.extend(more);
    for (prefix, route, _) in routes {
        if route.kind == Route::EXTERNAL
            && destinations.iter().any(|destination| destination.contains(&*prefix))
        {
            route.kind = Route::EXTERNAL_UNTRANSLATED;
        }
    }
}

/// The gateway of the subnet that holds the router's first address, or of any subnet of that version that has one.
fn default_next_hop(everywhere: IpNet, first: Option<IpAddr>, network: &ExternalNetwork) -> Option<IpAddr> {
    let holds = |subnet: &&Subnet| first.is_some_and(|address| subnet.cidr.contains(&address));
    let of_first = network.subnets.values().find(holds).and_then(|subnet| subnet.gateway);
    let mut others = network.subnets.values().filter(|subnet| everywhere.contains(&subnet.cidr));
    of_first.or_else(|| others.find_map(|subnet| subnet.gateway))
}

fn static_route(next_hop: IpAddr, legs: &[Leg<'_>], external: Option<&ExternalNetwork>) -> Option<Route> {
    if let Some(leg) = legs.iter().find(|leg| leg.subnet.cidr.contains(&next_hop)) {
        return Some(connected(leg, Some(next_hop)));
    }
    let network = external?;
    let on_link = network.subnets.values().any(|subnet| subnet.cidr.contains(&next_hop));
    on_link.then(|| outward(network, Some(next_hop)))
}

fn connected(leg: &Leg<'_>, next_hop: Option<IpAddr>) -> Route {
    Route {
        kind: Route::CONNECTED,
        vni: leg.network.vni.get(),
        next_hop: next_hop.map_or(Address::ZERO, Address::from),
        mac: mac(leg.interface.mac),
        mtu: leg.network.mtu,
    }
}

fn outward(network: &ExternalNetwork, next_hop: Option<IpAddr>) -> Route {
    Route {
        kind: Route::EXTERNAL,
        vni: network.vni.get(),
        next_hop: next_hop.map_or(Address::ZERO, Address::from),
        mac: packet::MacAddr::ZERO,
        mtu: network.mtu,
    }
}

fn prefix(router: &Router, destination: IpNet) -> RoutePrefix {
    let network = destination.network().into();
    RoutePrefix {
        len: RouteKey::lpm_len(network, destination.prefix_len()),
        key: RouteKey::new(router.vni.get(), network),
    }
}
