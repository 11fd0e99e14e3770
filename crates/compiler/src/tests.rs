//! Goal: each host's tables of both scenarios are exactly the reviewed text; bad objects hurt only
//! themselves; order does not matter; every entry has provenance.
//!
//! Golden files are in `snapshots/`; `INSTA_UPDATE=always` rewrites them.

mod fixture;
mod ownership;
mod rules;

use crate::{Compiled, compile};
use fixture::{Fixture, dvr, fvn, render};
use model::slice::{BlockId, Object, ObjectId, RoutedAddress, RoutedPort};
use pipeline::tables::*;

/// Tables of a host, as text.
fn golden(fixture: &Fixture, host: &str) -> String {
    render(&compile(&fixture.slice, &fixture.facts(host)))
}

#[test]
fn fvn_on_a_gateway_with_the_uplink() {
    insta::assert_snapshot!(golden(&fvn(), "ahv01"));
}

#[test]
fn fvn_on_a_host_without_the_uplink() {
    insta::assert_snapshot!(golden(&fvn(), "ahv03"));
}

#[test]
fn dvr_on_a_compute_host_with_a_floating_ip() {
    insta::assert_snapshot!(golden(&dvr(), "compute01"));
}

#[test]
fn dvr_on_the_network_node() {
    insta::assert_snapshot!(golden(&dvr(), "controller01"));
}

fn every_entry_count(tables: &pipeline::table_set::TableSet) -> usize {
    1 + tables.ports.len()
        + tables.port_addresses.len()
        + tables.networks.len()
        + tables.stations.len()
        + tables.neighbors.len()
        + tables.routes.len()
        + tables.externals.len()
        + tables.uplinks.len()
        + tables.gateways.len()
        + tables.external_addresses.len()
        + tables.forwardings.len()
        + tables.floating_by_fixed.len()
        + tables.snat.len()
        + tables.own_blocks.len()
        + tables.block_owners.len()
        + tables.vteps.len()
        + tables.services.len()
}

#[test]
fn every_entry_has_provenance_and_good_input_has_no_problems() {
    for fixture in [fvn(), dvr()] {
        for host in fixture.host_names() {
            let compiled = compile(&fixture.slice, &fixture.facts(&host));
            assert_eq!(compiled.provenance.len(), every_entry_count(&compiled.tables), "{host}");
            assert_eq!(compiled.problems, [], "{host}");
        }
    }
}

#[test]
fn the_order_of_lists_does_not_matter() {
    for fixture in [fvn(), dvr()] {
        let mut reversed = fixture.slice.clone();
        for router in reversed.routers.values_mut() {
            router.interfaces.reverse();
            router.routes.reverse();
        }
        for network in reversed.external_networks.values_mut() {
            network.gateways.reverse();
        }
        for port in reversed.ports.values_mut() {
            port.addresses.reverse();
        }
        for host in fixture.host_names() {
            let facts = fixture.facts(&host);
            assert_eq!(compile(&reversed, &facts), compile(&fixture.slice, &facts), "{host}");
        }
    }
}

#[test]
fn exactly_one_host_answers_for_each_external_address() {
    for (fixture, addresses) in [(fvn(), 1), (dvr(), 2)] {
        let mut answering = std::collections::BTreeMap::<_, Vec<String>>::new();
        for host in fixture.host_names() {
            let compiled = compile(&fixture.slice, &fixture.facts(&host));
            for (key, entry) in compiled.tables.external_addresses {
                if entry.flags & ExternalAddress::FLAG_ANSWER != 0 {
                    answering.entry(key).or_default().push(host.clone());
                }
            }
        }
        assert_eq!(answering.len(), addresses);
        assert!(answering.values().all(|hosts| hosts.len() == 1), "{answering:?}");
    }
}

fn compiled(fixture: &Fixture, host: &str) -> Compiled {
    compile(&fixture.slice, &fixture.facts(host))
}

#[test]
fn the_host_of_a_floating_ip_answers_unless_egress_is_by_gateway() {
    let mut fixture = dvr();
    let key = fixture.floating_key();
    let answers = |fixture: &Fixture, host: &str| {
        compiled(fixture, host).tables.external_addresses[&key].flags & ExternalAddress::FLAG_ANSWER != 0
    };
    assert!(answers(&fixture, "compute01"));
    assert!(!answers(&fixture, "controller01"));
    for network in fixture.slice.external_networks.values_mut() {
        network.egress = model::slice::Egress::Gateway;
        network.gateways.retain(|host| *host == fixture::host_id("controller01"));
    }
    assert!(!answers(&fixture, "compute01"));
    assert!(answers(&fixture, "controller01"));
}

#[test]
fn an_uplink_that_is_down_neither_sends_nor_answers() {
    let fixture = fvn();
    let mut facts = fixture.facts("ahv01");
    for uplink in facts.uplinks.values_mut() {
        uplink.up = false;
    }
    let tables = compile(&fixture.slice, &facts).tables;
    let external = tables.externals.values().next().unwrap();
    assert_eq!((external.uplink_ifindex, external.flags), (0, 0));
    assert_eq!(external.gateway_count, 1, "only the other gateway is left");
    assert!(tables.external_addresses.values().all(|entry| entry.flags == 0));
    assert_eq!(tables.uplinks.len(), 1, "frames that come anyway are still recognised");
}

/// Addresses the host answers for, what it does with packets to the outside, and how many gateways it uses.
fn duties(fixture: &Fixture, host: &str, dead: &[&str]) -> (usize, u32, u32) {
    let mut facts = fixture.facts(host);
    facts.dead_hosts = dead.iter().map(|name| fixture::host_id(name)).collect();
    let tables = compile(&fixture.slice, &facts).tables;
    let answered =
        tables.external_addresses.values().filter(|entry| entry.flags & ExternalAddress::FLAG_ANSWER != 0);
    let external = tables.externals.values().next().unwrap();
    (answered.count(), external.flags, external.gateway_count)
}

#[test]
fn a_dead_gateway_is_replaced_and_whoever_sees_only_dead_ones_owns_all() {
    let fixture = fvn();
    let both = External::FLAG_DIRECT | External::FLAG_GATEWAY;
    let gateways = ["ahv01", "ahv02"];
    for (alive, dead) in [(0, 1), (1, 0)] {
        let (alive, dead) = (gateways[alive], gateways[dead]);
        assert_eq!(duties(&fixture, alive, &[dead]), (1, both, 1), "{alive} takes over from {dead}");
        assert_eq!(duties(&fixture, dead, &[alive]), (1, both, 1), "{dead} cannot know that it is cut off");
        assert_eq!(duties(&fixture, dead, &[dead]), (0, 0, 1), "{dead} withdrew and uses the other");
        let (all, flags, count) = duties(&fixture, dead, &gateways);
        assert_eq!((flags, count), (both, 2), "with nobody else, {dead} goes on as if nothing happened");
        assert_eq!(all, duties(&fixture, dead, &[]).0);
    }
}

#[test]
fn a_transit_network_takes_no_more_than_fits_the_tunnel() {
    let fixture = fvn();
    let mtu = |underlay_mtu| {
        let mut facts = fixture.facts("ahv01");
        facts.underlay_mtu = underlay_mtu;
        let tables = compile(&fixture.slice, &facts).tables;
        tables.networks.values().find(|network| network.kind == Network::TRANSIT).unwrap().mtu
    };
    assert_eq!(mtu(1500), 1450, "the tunnel is narrower than the external network");
    assert_eq!(mtu(9000), 1500, "and here the external network is");
}

#[test]
fn a_port_is_active_only_with_its_link_its_network_and_its_own_state() {
    let fixture = fvn();
    let key = PortKey { ifindex: fixture::TAP };
    let flags = |change: fn(&mut Fixture)| {
        let mut fixture = fvn();
        change(&mut fixture);
        compiled(&fixture, "ahv01").tables.ports.get(&key).map(|port| port.flags)
    };
    // Without security groups.
    let unfiltered = Port::FLAG_EGRESS_OPEN | Port::FLAG_INGRESS_OPEN;
    assert_eq!(flags(|_| ()), Some(Port::FLAG_ACTIVE | unfiltered));
    let down =
        |fixture: &mut Fixture| fixture.slice.ports.values_mut().for_each(|port| port.admin_up = false);
    assert_eq!(flags(down), Some(unfiltered));
    let down = |fixture: &mut Fixture| {
        fixture.slice.networks.values_mut().for_each(|network| network.admin_up = false)
    };
    assert_eq!(flags(down), Some(unfiltered));
    let open =
        |fixture: &mut Fixture| fixture.slice.ports.values_mut().for_each(|port| port.port_security = false);
    assert_eq!(flags(open), Some(Port::FLAG_ACTIVE | Port::FLAG_UNRESTRICTED | unfiltered));
    let mut facts = fixture.facts("ahv01");
    facts.links.clear();
    let tables = compile(&fixture.slice, &facts).tables;
    assert!(tables.ports.is_empty() && tables.port_addresses.is_empty());
    assert!(tables.stations.values().all(|station| station.kind != Station::PORT));
}

#[test]
fn a_router_that_is_down_leaves_nothing_but_blocks() {
    let mut fixture = dvr();
    fixture.slice.routers.values_mut().for_each(|router| router.admin_up = false);
    let tables = compiled(&fixture, "compute01").tables;
    assert!(tables.routes.is_empty() && tables.snat.is_empty() && tables.external_addresses.is_empty());
    assert!(tables.floating_by_fixed.is_empty());
    assert!(tables.stations.values().all(|station| station.kind != Station::ROUTER));
    assert!(tables.networks.values().all(|network| network.router_vni == 0));
}

#[test]
fn extra_routes_go_by_a_subnet_or_are_a_problem() {
    let mut fixture = dvr();
    let routes =
        [("10.99.0.0/16", "10.16.0.9"), ("10.98.0.0/16", "192.168.74.9"), ("10.97.0.0/16", "1.2.3.4")];
    for router in fixture.slice.routers.values_mut() {
        router.routes = routes.map(|(to, via)| fixture::route(to, via)).to_vec();
    }
    let compiled = compiled(&fixture, "compute01");
    let find = |to: &str| {
        let want = pipeline::Address::from(to.parse::<std::net::Ipv4Addr>().unwrap());
        compiled.tables.routes.iter().find(|(prefix, _)| prefix.key.address == want).map(|(_, route)| *route)
    };
    let connected = find("10.99.0.0").unwrap();
    assert_eq!((connected.kind, connected.next_hop.to_string().as_str()), (Route::CONNECTED, "10.16.0.9"));
    let external = find("10.98.0.0").unwrap();
    assert_eq!((external.kind, external.next_hop.to_string().as_str()), (Route::EXTERNAL, "192.168.74.9"));
    assert_eq!(find("10.97.0.0"), None);
    assert_eq!(compiled.problems.len(), 1);
    assert!(compiled.problems[0].text.contains("10.97.0.0/16"), "{:?}", compiled.problems);
}

/// RFC 6888 REQ-6: translation goes, every way stays.
#[test]
fn rfc6888_req6_destinations_without_translation_keep_their_ways() {
    let mut fixture = dvr();
    for router in fixture.slice.routers.values_mut() {
        let routes = [("10.99.0.0/16", "10.16.0.9"), ("10.98.0.0/16", "192.168.74.9")];
        router.routes = routes.map(|(to, via)| fixture::route(to, via)).to_vec();
        let left = ["10.0.0.0/8", "10.98.7.0/24", "10.99.1.0/24"].map(|text| text.parse().unwrap());
        router.gateway.as_mut().unwrap().untranslated_destinations = left.to_vec();
    }
    let compiled = compiled(&fixture, "compute01");
    let find = |to: &str, bits: u8| {
        let address = pipeline::Address::from(to.parse::<std::net::Ipv4Addr>().unwrap());
        let len = RouteKey::lpm_len(address, bits);
        let mut routes = compiled.tables.routes.iter();
        let found = routes.find(|(prefix, _)| prefix.key.address == address && prefix.len == len);
        found.map(|(_, route)| (route.kind, route.next_hop.to_string()))
    };
    let untranslated = |via: &str| Some((Route::EXTERNAL_UNTRANSLATED, via.to_owned()));
    assert_eq!(find("10.0.0.0", 8), untranslated("192.168.74.1"));
    assert_eq!(find("10.98.0.0", 16), untranslated("192.168.74.9"), "a way inside the prefix");
    assert_eq!(find("10.98.7.0", 24), untranslated("192.168.74.9"), "the prefix inside a way");
    assert_eq!(find("10.99.0.0", 16), Some((Route::CONNECTED, "10.16.0.9".to_owned())));
    assert_eq!(find("10.99.1.0", 24), None, "inside the VPC nothing is translated");
    assert_eq!(find("0.0.0.0", 0), Some((Route::EXTERNAL, "192.168.74.1".to_owned())));
}

/// Likewise: where the VMs' own addresses are.
#[test]
fn rfc6888_req6_untranslated_addresses_lead_to_the_vms_host() {
    let mut fixture = dvr();
    let (id, port) = fixture.port("vm_a");
    let (router, gateway) = fixture
        .slice
        .routers
        .iter()
        .find_map(|(id, router)| Some((*id, router.gateway.as_ref()?.network)))
        .unwrap();
    let address = port.addresses[0];
    let addresses = vec![RoutedAddress { external_network: gateway, router, address }];
    let routed = RoutedPort { network: port.network, host: port.host, addresses };
    fixture.slice.upsert(Object::RoutedPort(id, routed));
    let entry = |host: &str| {
        let compiled = compiled(&fixture, host);
        let all = compiled.tables.external_addresses;
        let (key, entry) = all.into_iter().find(|(_, entry)| entry.kind == ExternalAddress::ROUTED).unwrap();
        assert_eq!((key.address, entry.fixed, entry.flags), (address.into(), address.into(), 0));
        entry.vtep
    };
    let own = fixture.slice.hosts[&port.host.unwrap()].vtep;
    for (id, host) in &fixture.slice.hosts {
        let want = if Some(*id) == port.host { pipeline::Address::ZERO } else { own.into() };
        assert_eq!(entry(&host.name), want, "{}", host.name);
    }
}

/// Each change breaks one object; the entries of the others stay as they were.
#[test]
fn a_bad_object_is_reported_and_blocks_nobody_else() {
    let good = compiled(&fvn(), "ahv01");
    type Change = fn(&mut Fixture);
    let changes: [(&str, Change); 5] = [
        ("a port on an unknown network", |fixture| {
            let mut port = fixture.port("vm_a").1;
            port.network = model::NetworkId::random();
            port.mac = model::Mac([2, 0, 0, 0, 9, 9]);
            fixture.slice.upsert(Object::Port(fixture::port_id("stray"), port));
        }),
        ("a port on an unknown host", |fixture| {
            let mut port = fixture.port("vm_a").1;
            port.host = Some(model::HostId::random());
            port.mac = model::Mac([2, 0, 0, 0, 9, 9]);
            port.addresses.clear();
            fixture.slice.upsert(Object::Port(fixture::port_id("stray"), port));
        }),
        ("a port with another port's address", |fixture| {
            let mut port = fixture.port("vm_a").1;
            port.mac = model::Mac([2, 0, 0, 0, 9, 9]);
            port.host = Some(fixture::host_id("ahv01"));
            fixture.slice.upsert(Object::Port(fixture::last_port_id(), port));
        }),
        ("a host with our tunnel address", |fixture| {
            let twin = fixture.slice.hosts[&fixture::host_id("ahv01")].clone();
            fixture.slice.upsert(Object::Host(fixture::host_id("twin"), twin));
        }),
        ("a block that is not aligned", |fixture| {
            let (id, block) =
                fixture.slice.blocks.iter().next().map(|(id, block)| (*id, block.clone())).unwrap();
            let id = BlockId { first_port: id.first_port + 1, ..id };
            fixture.slice.upsert(Object::Block(id, block));
        }),
    ];
    for (name, change) in changes {
        let mut fixture = fvn();
        change(&mut fixture);
        let bad = compile(&fixture.slice, &fvn().facts("ahv01"));
        assert_eq!(bad.problems.len(), 1, "{name}: {:?}", bad.problems);
        assert_eq!(bad.tables, good.tables, "{name}");
    }
}

#[test]
fn a_broken_router_is_named_and_its_neighbour_works() {
    let mut fixture = fvn();
    let green = fixture.slice.routers.values().next().cloned().unwrap();
    let broken = model::slice::Router {
        vni: model::Vni::new(999).unwrap(),
        interfaces: green
            .interfaces
            .iter()
            .map(|interface| model::slice::Interface {
                subnet: model::SubnetId::random(),
                ..interface.clone()
            })
            .collect(),
        gateway: None,
        ..green
    };
    let id = model::RouterId::random();
    let before = compiled(&fixture, "ahv01").tables.routes;
    fixture.slice.upsert(Object::Router(id, broken));
    let after = compiled(&fixture, "ahv01");
    assert_eq!(after.tables.routes, before);
    assert_eq!(after.problems.iter().map(|p| p.object).collect::<Vec<_>>(), [ObjectId::Router(id)]);
}

#[test]
fn a_gateway_steers_without_knowing_the_tenant_networks() {
    let mut fixture = dvr();
    let all = compiled(&fixture, "controller01");
    fixture.slice.networks.clear();
    fixture.slice.ports.clear();
    let outside = compiled(&fixture, "controller01");
    assert_eq!(outside.tables.block_owners, all.tables.block_owners);
    let key = fixture.floating_key();
    let steered = |compiled: &Compiled| compiled.tables.external_addresses[&key].vtep;
    assert_eq!(steered(&outside), steered(&all));
    assert_eq!(outside.problems, []);
}

#[test]
fn allowed_pairs_are_permissions_of_addresses_and_prefixes() {
    let mut fixture = fvn();
    let (id, mut port) = fixture.port("vm_a");
    let pair = |net: &str| model::slice::AllowedPair { mac: None, address: net.parse().unwrap() };
    port.allowed_pairs = vec![pair("192.168.10.200/32"), pair("10.0.0.0/30"), pair("10.0.0.0/8")];
    fixture.slice.upsert(Object::Port(id, port));
    let compiled = compiled(&fixture, "ahv01");
    assert_eq!(compiled.tables.port_addresses.len(), 1 + 1);
    assert_eq!(compiled.tables.port_prefixes.len(), 2);
    assert_eq!(compiled.problems, []);
}
