//! Goal: no table has an entry that can never hit, or two that say the same. Method: every host of both scenarios; each
//! entry must be reachable from what packets meet first, by the lookups of the stages.

use super::fixture::{dvr, fvn, route};
use crate::compile;
use pipeline::Address;
use pipeline::table_set::TableSet;
use pipeline::tables::*;

/// What no packet can reach, in words.
fn dead(tables: &TableSet) -> Vec<String> {
    let mut dead = Vec::new();
    let mut check = |alive: bool, entry: &dyn std::fmt::Debug, why: &str| {
        if !alive {
            dead.push(format!("{entry:?}: {why}"));
        }
    };
    let network = |vni: u32, kind: u32| {
        tables.networks.get(&NetworkKey { vni }).is_some_and(|network| network.kind == kind)
    };
    let host = |vtep: Address| vtep.is_zero() || tables.vteps.contains_key(&VtepKey { address: vtep });
    let external = |vni: u32| tables.externals.contains_key(&NetworkKey { vni });

    for (key, port) in &tables.ports {
        check(network(port.network_vni, Network::TENANT), key, "its network is not there");
    }
    for key in tables.port_addresses.keys() {
        check(tables.ports.contains_key(&PortKey { ifindex: key.ifindex }), key, "its port is not there");
    }
    for (key, station) in &tables.stations {
        check(network(key.vni, Network::TENANT), key, "its network is not there");
        check(host(station.vtep), key, "its host is not there");
        let port = || tables.ports.contains_key(&PortKey { ifindex: station.id });
        check(station.kind != Station::PORT || port(), key, "its port is not there");
    }
    for (key, neighbor) in &tables.neighbors {
        let station = StationKey { vni: key.vni, mac: neighbor.mac, zero: 0 };
        let reached = tables.stations.contains_key(&station) || external(key.vni);
        check(reached, key, "nobody has its MAC");
    }
    for (prefix, route) in &tables.routes {
        let router = prefix.key.router_vni();
        check(network(router, Network::TRANSIT), prefix, "its router is not there");
        let on = network(route.vni, Network::TENANT) || external(route.vni);
        check(route.kind == Route::BLACKHOLE || on, prefix, "it leads nowhere");
    }
    for (key, found) in &tables.uplinks {
        check(external(found.vni), key, "its external network is not there");
    }
    for key in tables.gateways.keys() {
        let found = tables.externals.get(&NetworkKey { vni: key.external_vni });
        check(found.is_some_and(|found| key.slot < found.gateway_count), key, "beyond the last slot");
    }
    for (key, address) in &tables.external_addresses {
        check(external(key.external_vni), key, "its external network is not there");
        check(host(address.vtep), key, "its host is not there");
    }
    for (key, forwarding) in &tables.forwardings {
        check(network(forwarding.router_vni, Network::TRANSIT), key, "its router is not there");
        check(host(forwarding.vtep), key, "its host is not there");
        check(is_ours(tables, key.external_vni, key.address), key, "its address is not ours");
    }
    for (key, floating) in &tables.floating_by_fixed {
        check(network(key.router_vni, Network::TRANSIT), key, "its router is not there");
        check(is_ours(tables, floating.external_vni, floating.address), key, "nothing comes back to it");
    }
    for (key, snat) in &tables.snat {
        check(network(key.router_vni, Network::TRANSIT), key, "its router is not there");
        check(external(snat.external_vni), key, "its external network is not there");
    }
    for key in tables.own_blocks.keys() {
        let snat = tables.snat.get(&RouterKey { router_vni: key.router_vni });
        check(snat.is_some_and(|snat| key.slot < snat.block_count), key, "beyond the last slot");
    }
    for (key, owner) in &tables.block_owners {
        check(host(owner.vtep), key, "its host is not there");
        check(is_ours(tables, key.external_vni, key.address), key, "its address is not ours");
    }
    dead
}

/// An address of an external network that the tables know what to do with.
fn is_ours(tables: &TableSet, external_vni: u32, address: Address) -> bool {
    tables.external_addresses.contains_key(&ExternalAddressKey { external_vni, address })
}

/// Entries that change nothing: a route inside another one that says the same, a block or gateway given twice.
fn duplicates(tables: &TableSet) -> Vec<String> {
    let mut twice = Vec::new();
    for (prefix, route) in &tables.routes {
        let wider =
            tables.routes.iter().filter(|(other, _)| other.len < prefix.len && other.covers(&prefix.key));
        // The next wider one is what would be hit instead.
        if let Some((other, same)) = wider.max_by_key(|(other, _)| other.len)
            && same == route
        {
            twice.push(format!("{prefix:?} says what {other:?} says"));
        }
    }
    for (key, block) in &tables.own_blocks {
        let again = |other: &(&BlockKey, &PortBlock)| other.0 < key && other.1 == block;
        if tables.own_blocks.iter().any(|other| again(&other)) {
            twice.push(format!("{key:?} has a block that another slot has"));
        }
    }
    for (key, gateway) in &tables.gateways {
        let again = |other: &(&GatewayKey, &GatewayValue)| {
            other.0 < key && other.0.external_vni == key.external_vni && other.1 == gateway
        };
        if tables.gateways.iter().any(|other| again(&other)) {
            twice.push(format!("{key:?} has a gateway that another slot has"));
        }
    }
    twice
}

#[test]
fn no_entry_of_any_host_is_dead_or_a_duplicate() {
    for fixture in [fvn(), dvr()] {
        for host in fixture.host_names() {
            let tables = compile(&fixture.slice, &fixture.facts(&host)).tables;
            assert!(tables.routes.len() + tables.stations.len() > 3, "{host}: nothing to check");
            assert_eq!(dead(&tables), Vec::<String>::new(), "{host}");
            assert_eq!(duplicates(&tables), Vec::<String>::new(), "{host}");
        }
    }
}

/// The check itself: what it is to find, it finds.
#[test]
fn a_dead_and_a_duplicate_entry_are_found() {
    let fixture = fvn();
    let mut tables = compile(&fixture.slice, &fixture.facts("ahv01")).tables;
    let (key, station) = tables.stations.iter().next().map(|(key, station)| (*key, *station)).unwrap();
    tables.stations.insert(StationKey { vni: 0xdead, ..key }, station);
    assert!(dead(&tables)[0].contains("its network is not there"));
    let (prefix, found) = tables.routes.iter().next().map(|(prefix, route)| (*prefix, *route)).unwrap();
    let mut narrower = prefix;
    narrower.len = 160;
    tables.routes.insert(narrower, found);
    assert_eq!(duplicates(&tables).len(), 1);
}

/// An extra route that says what a wider one says is the user's to make; it hits nothing else, but it is asked for.
#[test]
fn a_users_own_route_is_kept_as_it_was_given() {
    let mut fixture = fvn();
    for router in fixture.slice.routers.values_mut() {
        router.routes.push(route("10.99.0.0/16", "192.168.10.11"));
        router.routes.push(route("10.99.1.0/24", "192.168.10.11"));
    }
    let tables = compile(&fixture.slice, &fixture.facts("ahv01")).tables;
    assert_eq!(dead(&tables), Vec::<String>::new());
    assert_eq!(duplicates(&tables).len(), 1);
}
