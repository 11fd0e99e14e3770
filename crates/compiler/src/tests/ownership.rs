//! Who answers for what, seen from each host of `fvn` with floating IPs on `vm_a` (ahv01, which has the uplink) and
//! `vm_c` (ahv03, which has none): one test per row of the table in decision 0013.

use super::fixture::{self, Fixture, fvn};
use crate::{Standing, compile, contested};
use model::HostId;
use model::slice::{Egress, FloatingIp, Object};
use pipeline::tables::{External, ExternalAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

const FLOATING_A: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 101);
const FLOATING_C: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 103);
const SNAT: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 27);
const SHARED: [Ipv4Addr; 2] = [SNAT, FLOATING_C];

/// What a host thinks.
#[derive(Clone, Default)]
struct View {
    dead: BTreeSet<HostId>,
    standing: Standing,
}

fn ids(names: &[&str]) -> BTreeSet<HostId> {
    names.iter().map(|name| fixture::host_id(name)).collect()
}

/// Hears these no more.
fn silent(names: &[&str]) -> View {
    View { dead: ids(names), ..View::default() }
}

/// Was told by these that their uplinks are of no use.
fn told(names: &[&str]) -> View {
    View { dead: ids(names), standing: Standing { withdrawn: ids(names), ..Standing::default() } }
}

/// Hears nobody; another answers for `withheld`.
fn isolated(others: &[&str], withheld: &[Ipv4Addr]) -> View {
    let vni = fvn().slice.external_networks.values().next().unwrap().vni;
    let withheld = withheld.iter().map(|address| (vni, (*address).into())).collect();
    View { dead: ids(others), standing: Standing { isolated: true, withheld, ..Standing::default() } }
}

fn world() -> Fixture {
    let mut fixture = fvn();
    let provider = *fixture.slice.external_networks.keys().next().unwrap();
    let router = *fixture.slice.routers.keys().next().unwrap();
    for (number, vm, host, address) in [(1, "vm_a", "ahv01", FLOATING_A), (2, "vm_c", "ahv03", FLOATING_C)] {
        let port = fixture.slice.ports[&fixture::port_id(vm)].clone();
        let floating_ip = FloatingIp {
            external_network: provider,
            address,
            router,
            port: fixture::port_id(vm),
            network: port.network,
            fixed_address: model::ip::ipv4(port.addresses[0]).unwrap(),
            host: Some(fixture::host_id(host)),
        };
        let id = model::FloatingIpId::from_uuid(uuid::Uuid::from_u128(number));
        fixture.slice.upsert(Object::FloatingIp(id, floating_ip));
    }
    fixture
}

fn answered(fixture: &Fixture, host: &str, view: &View) -> BTreeSet<Ipv4Addr> {
    let mut facts = fixture.facts(host);
    (facts.dead_hosts, facts.standing) = (view.dead.clone(), view.standing.clone());
    let entries = compile(&fixture.slice, &facts).tables.external_addresses;
    let answered = entries.iter().filter(|(_, entry)| entry.flags & ExternalAddress::FLAG_ANSWER != 0);
    answered.map(|(key, _)| key.address.to_v4().into()).collect()
}

/// Who answers for what, with these views.
fn who(fixture: &Fixture, views: &[(&'static str, View)]) -> BTreeMap<Ipv4Addr, Vec<&'static str>> {
    let mut who = BTreeMap::from([FLOATING_A, FLOATING_C, SNAT].map(|address| (address, Vec::new())));
    for (host, view) in views {
        for address in answered(fixture, host, view) {
            who.entry(address).or_default().push(*host);
        }
    }
    who
}

fn owner_of(fixture: &Fixture, address: Ipv4Addr) -> &'static str {
    let all = who(fixture, &[("ahv01", View::default()), ("ahv02", View::default())]);
    assert_eq!(all[&address].len(), 1, "{all:?}");
    all[&address][0]
}

fn other(host: &str) -> &'static str {
    if host == "ahv01" { "ahv02" } else { "ahv01" }
}

#[test]
fn with_all_alive_each_address_has_one_host_and_a_floating_ip_that_of_its_vm() {
    let fixture = world();
    assert_eq!(owner_of(&fixture, FLOATING_A), "ahv01");
    for address in SHARED {
        owner_of(&fixture, address);
    }
}

#[test]
fn of_a_dead_host_the_others_take_all_but_the_floating_ips_of_its_own_vms() {
    let fixture = world();
    let who = who(&fixture, &[("ahv02", silent(&["ahv01"])), ("ahv03", silent(&["ahv01"]))]);
    assert_eq!(who[&FLOATING_A], [""; 0], "the VM died with its host");
    assert_eq!((&who[&SNAT][..], &who[&FLOATING_C][..]), (&["ahv02"][..], &["ahv02"][..]));
}

#[test]
fn a_gateway_cut_from_the_underlay_keeps_its_own_vms_and_gives_the_rest_up_when_another_answers() {
    let fixture = world();
    let cut = isolated(&["ahv02", "ahv03"], &[]);
    let claims = contested(&fixture.slice, &with(&fixture, "ahv01", &cut));
    for address in SHARED {
        let natural = owner_of(&fixture, address) == "ahv01";
        let blocks = address == SNAT;
        let claim =
            claims.iter().find(|((_, contested), _)| *contested == address).map(|(_, natural)| *natural);
        assert_eq!(claim, (natural || blocks).then_some(natural), "{address}");
    }
    let given_up = isolated(&["ahv02", "ahv03"], &SHARED);
    let who = who(&fixture, &[("ahv01", given_up), ("ahv02", silent(&["ahv01"]))]);
    let want = [(FLOATING_A, "ahv01"), (SNAT, "ahv02"), (FLOATING_C, "ahv02")];
    assert_eq!(who, BTreeMap::from(want.map(|(address, host)| (address, vec![host]))));
}

fn with(fixture: &Fixture, host: &str, view: &View) -> crate::LocalFacts {
    let facts = fixture.facts(host);
    crate::LocalFacts { dead_hosts: view.dead.clone(), standing: view.standing.clone(), ..facts }
}

#[test]
fn a_host_cut_from_the_outside_says_so_and_the_others_take_everything() {
    let fixture = world();
    let who = who(&fixture, &[("ahv01", silent(&["ahv01"])), ("ahv02", told(&["ahv01"]))]);
    assert!(who.values().all(|hosts| *hosts == ["ahv02"]), "{who:?}");
}

#[test]
fn in_a_total_partition_nothing_moves() {
    let fixture = world();
    for address in SHARED {
        let owner = owner_of(&fixture, address);
        let views = [
            (owner, isolated(&[other(owner), "ahv03"], &[])),
            (other(owner), isolated(&[owner, "ahv03"], &SHARED)),
        ];
        let who = who(&fixture, &views);
        assert_eq!(who[&address], [owner], "the other hears the owner answer");
        assert_eq!(who[&FLOATING_A], ["ahv01"]);
    }
}

/// The way between two gateways is broken, and a third host hears both.
#[test]
fn of_two_gateways_that_do_not_hear_each_other_both_answer_for_what_they_share() {
    let fixture = world();
    let views = [("ahv01", silent(&["ahv02"])), ("ahv02", silent(&["ahv01"])), ("ahv03", View::default())];
    let who = who(&fixture, &views);
    for address in SHARED {
        assert_eq!(who[&address], ["ahv01", "ahv02"], "{address}");
    }
    assert_eq!(who[&FLOATING_A], ["ahv01"], "silence does not move it");
}

#[test]
fn the_last_gateway_takes_what_nobody_answers_for() {
    let fixture = world();
    let last = other(owner_of(&fixture, SNAT));
    let who = who(&fixture, &[(last, isolated(&[other(last), "ahv03"], &[]))]);
    assert_eq!(who[&SNAT], [last], "it has port blocks of it");
    let mut without = world();
    without.slice.blocks.retain(|_, block| block.host != fixture::host_id(last));
    let who = self::who(&without, &[(last, isolated(&[other(last), "ahv03"], &[]))]);
    assert_eq!(who[&SNAT], [""; 0], "without, it could deliver to nobody");
}

#[test]
fn a_host_that_stops_being_a_gateway_forwards_for_a_while_and_answers_for_a_moment() {
    let mut fixture = world();
    for network in fixture.slice.external_networks.values_mut() {
        network.egress = Egress::Gateway;
    }
    let old = owner_of(&fixture, SNAT);
    for network in fixture.slice.external_networks.values_mut() {
        network.gateways.retain(|host| *host != fixture::host_id(old));
    }
    let vni = fixture.slice.external_networks.values().next().unwrap().vni;
    let flags = |standing: &Standing| {
        let facts = crate::LocalFacts { standing: standing.clone(), ..fixture.facts(old) };
        compile(&fixture.slice, &facts).tables.externals.values().next().unwrap().flags
    };
    let lingering = Standing { lingering: BTreeSet::from([vni]), ..Standing::default() };
    let moment = Standing { still_answering: BTreeSet::from([vni]), ..lingering.clone() };
    let answers = |standing: &Standing| {
        answered(&fixture, old, &View { dead: BTreeSet::new(), standing: standing.clone() }).contains(&SNAT)
    };
    let steps = [moment, lingering, Standing::default()];
    assert_eq!(steps.each_ref().map(flags), [External::FLAG_GATEWAY, External::FLAG_GATEWAY, 0]);
    assert_eq!(steps.each_ref().map(answers), [true, false, false]);
    assert!(answered(&fixture, other(old), &View::default()).contains(&SNAT), "at once");
}
