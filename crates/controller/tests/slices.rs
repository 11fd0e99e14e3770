//! A host is told what its own ports touch, and no more: the slices of the clusters `fvn` and `dvr`, and of a
//! host in a cluster that grows around it.

mod common;

use common::world::{World, floating_ip_id, host_id, network_id, port_id, router_id, shown};
use controller::slices::slice_for;
use model::metering::{MeteringLabel, MeteringLabelRule, Prefixes};
use model::resource::{FloatingIp, Host, Port, PortBlock, Router, Standard};
use model::security::{Direction, Ethertype, Remote, SecurityGroup, SecurityGroupRule};
use model::slice::{Member, MemberId, MemberOf, Meter, MeterRule, Object, RoutedPort, Slice};
use model::{MeteringLabelId, MeteringLabelRuleId, SecurityGroupId, SecurityGroupRuleId};
use uuid::Uuid;

fn slice_of(world: &World, host: &str) -> String {
    let snapshot = world.snapshot();
    shown(&snapshot, &slice_for(&snapshot, host_id(host)))
}

fn block(world: &World, network: &str, address: &str, first_port: u16, (router, host): (&str, &str)) {
    world.put(PortBlock {
        external_network: network_id(network),
        address: address.parse().unwrap(),
        first_port,
        router: router_id(router),
        host: host_id(host),
        granted_at_ms: 0,
        retiring_since_ms: None,
    });
}

#[track_caller]
fn assert_slice(world: &World, host: &str, want: &str) {
    let want: Vec<&str> = want.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(slice_of(world, host), want.join("\n"), "slice of {host}");
}

/// Two hosts with the uplink, one without, a VM on each; and a second VPC with the same addresses that lives on
/// ahv03 alone.
fn fvn() -> World {
    let world = World::new();
    world.host("ahv01", "10.0.0.1", &["physnet1"]);
    world.host("ahv02", "10.0.0.2", &["physnet1"]);
    world.host("ahv03", "10.0.0.3", &[]);
    world.external_network("ext", "physnet1", Some(2207), "172.22.7.0/24");
    world.network("blue", "192.168.10.0/24");
    world.router("blue");
    world.attach("blue", "blue", "192.168.10.1");
    world.gateway("blue", "ext", "172.22.7.27");
    for (number, host) in ["ahv01", "ahv02", "ahv03"].into_iter().enumerate() {
        world.port(&format!("vm{}", number + 1), "blue", &format!("192.168.10.1{number}"), host);
        block(&world, "ext", "172.22.7.27", 1024 * (number as u16 + 1), ("blue", host));
    }
    world.network("red", "192.168.10.0/24");
    world.router("red");
    world.attach("red", "red", "192.168.10.1");
    world.gateway("red", "ext", "172.22.7.28");
    world.port("red1", "red", "192.168.10.10", "ahv03");
    block(&world, "ext", "172.22.7.28", 1024, ("red", "ahv03"));
    world
}

#[test]
fn a_gateway_knows_every_block_and_only_the_networks_of_its_own_vms() {
    let gateway = "
        block 172.22.7.27:1024 blue @ahv01
        block 172.22.7.27:2048 blue @ahv02
        block 172.22.7.27:3072 blue @ahv03
        block 172.22.7.28:1024 red @ahv03
        external ext gateways ahv01,ahv02
        host ahv01
        host ahv02
        host ahv03
        network blue
        port vm1 @ahv01
        port vm2 @ahv02
        port vm3 @ahv03
        router blue [blue=192.168.10.1] snat 172.22.7.27
        router red [] snat 172.22.7.28";
    let world = fvn();
    assert_slice(&world, "ahv01", gateway);
    assert_slice(&world, "ahv02", gateway);
}

#[test]
fn a_host_without_uplink_knows_its_own_blocks_and_the_gateways() {
    assert_slice(
        &fvn(),
        "ahv03",
        "
        block 172.22.7.27:3072 blue @ahv03
        block 172.22.7.28:1024 red @ahv03
        external ext gateways ahv01,ahv02
        host ahv01
        host ahv02
        host ahv03
        network blue
        network red
        port red1 @ahv03
        port vm1 @ahv01
        port vm2 @ahv02
        port vm3 @ahv03
        router blue [blue=192.168.10.1] snat 172.22.7.27
        router red [red=192.168.10.1] snat 172.22.7.28",
    );
}

#[test]
fn a_router_has_its_projects_labels_and_the_shared_ones() {
    let world = fvn();
    world.put(Router { standard: of_project("red"), ..router(&world, "red") });
    let label = |number: u128, project: &str, shared: bool| {
        let id = MeteringLabelId::from_uuid(Uuid::from_u128(number));
        world.put(MeteringLabel { id, standard: of_project(project), shared });
        id
    };
    let [reds, everybodys, blues] = [label(1, "red", false), label(2, "blue", true), label(3, "blue", false)];
    let prefixes = Prefixes::Remote("10.0.0.0/8".parse().unwrap());
    let rule = MeterRule { direction: Direction::Egress, excluded: true, prefixes };
    world.put(MeteringLabelRule {
        id: MeteringLabelRuleId::MIN,
        label: reds,
        direction: rule.direction,
        excluded: rule.excluded,
        prefixes,
    });
    let meters = |host: &str| {
        let slice = slice_for(&world.snapshot(), host_id(host));
        slice.routers[&router_id("red")].gateway.clone().unwrap().meters
    };
    let want = [Meter { label: everybodys, rules: vec![] }, Meter { label: reds, rules: vec![rule] }];
    assert_eq!(meters("ahv03"), want, "and not {blues}");
}

fn of_project(project: &str) -> Standard {
    Standard { project_id: project.to_owned(), ..Standard::default() }
}

fn router(world: &World, name: &str) -> Router {
    Router::clone(world.snapshot().get::<Router>(router_id(name)).unwrap())
}

#[test]
fn a_drained_or_dead_gateway_is_no_gateway_but_its_vtep_stays_known() {
    let world = fvn();
    world.remove::<PortBlock>(model::slice::BlockId {
        external_network: network_id("ext"),
        address: "172.22.7.27".parse().unwrap(),
        first_port: 1024,
    });
    world.change::<Host>(host_id("ahv01"), |host| host.drained = true);
    world.change::<Host>(host_id("ahv02"), |host| host.live = false);
    let slice = slice_of(&world, "ahv03");
    assert!(slice.contains("external ext gateways\n"), "{slice}");
    assert!(slice.contains("host ahv01 down\n"), "{slice}");
    assert!(slice.contains("host ahv02 down\n"), "{slice}");
}

/// One network node, two compute hosts, two networks behind one router, a floating IP on each compute host's VM.
fn dvr() -> World {
    let world = World::new();
    world.host("controller01", "10.0.0.1", &["physnet1"]);
    world.host("compute01", "10.0.0.2", &["physnet1"]);
    world.host("compute02", "10.0.0.3", &[]);
    world.host("idle", "10.0.0.4", &[]);
    world.external_network("public", "physnet1", None, "192.168.74.0/24");
    world.network("net-a", "192.168.111.0/24");
    world.network("net-b", "10.16.0.0/24");
    world.router("r1");
    world.attach("r1", "net-a", "192.168.111.1");
    world.attach("r1", "net-b", "10.16.0.1");
    world.gateway("r1", "public", "192.168.74.50");
    world.port("vm_a", "net-a", "192.168.111.11", "compute01");
    world.port("vm_b", "net-b", "10.16.0.11", "compute02");
    world.port("vm_c", "net-b", "10.16.0.12", "");
    world.floating_ip("192.168.74.104", "public", "vm_a", "r1");
    world.floating_ip("192.168.74.105", "public", "vm_b", "r1");
    world
}

#[test]
fn a_router_brings_its_other_networks_their_ports_and_its_floating_ips() {
    assert_slice(
        &dvr(),
        "compute02",
        "
        external public gateways compute01,controller01
        floating 192.168.74.104 -> vm_a @compute01
        floating 192.168.74.105 -> vm_b @compute02
        host compute01
        host compute02
        host controller01
        network net-a
        network net-b
        port vm_a @compute01
        port vm_b @compute02
        port vm_c @nowhere
        router r1 [net-a=192.168.111.1 net-b=10.16.0.1] snat 192.168.74.50",
    );
}

#[test]
fn a_gateway_without_vms_knows_the_external_side_alone() {
    assert_slice(
        &dvr(),
        "controller01",
        "
        external public gateways compute01,controller01
        floating 192.168.74.104 -> vm_a @compute01
        floating 192.168.74.105 -> vm_b @compute02
        host compute01
        host compute02
        host controller01
        router r1 [] snat 192.168.74.50",
    );
}

#[test]
fn a_host_with_nothing_knows_itself() {
    assert_slice(&dvr(), "idle", "host idle");
    let world = dvr();
    let snapshot = world.snapshot();
    let unknown = slice_for(&snapshot, host_id("nobody"));
    assert_eq!(shown(&snapshot, &unknown), "");
    assert_eq!(unknown.revision, snapshot.revision);
}

#[test]
fn a_floating_ip_that_stands_for_nothing_is_nowhere() {
    let world = dvr();
    world
        .change::<FloatingIp>(floating_ip_id("192.168.74.104"), |floating_ip| floating_ip.association = None);
    for host in ["controller01", "compute01", "compute02"] {
        assert!(!slice_of(&world, host).contains("192.168.74.104"), "{host}");
    }
}

/// RFC 6888 REQ-6: what comes back for a VM's own address has to find the VM's host.
#[test]
fn rfc6888_req6_gateways_know_where_untranslated_addresses_are() {
    let world = dvr();
    let routed = |host: &str| {
        let slice = slice_for(&world.snapshot(), host_id(host));
        let addresses = |port: &RoutedPort| -> Vec<_> {
            let host = port.host;
            port.addresses.iter().map(|own| (own.address.to_string(), own.router, host)).collect()
        };
        let mut all: Vec<_> = slice.routed_ports.values().flat_map(addresses).collect();
        assert!(all.iter().flat_map(|(.., host)| host).all(|host| slice.hosts.contains_key(host)));
        all.sort();
        all
    };
    assert_eq!(routed("controller01"), []);
    world.change::<Router>(router_id("r1"), |router| {
        let gateway = router.gateway.as_mut().unwrap();
        gateway.untranslated_destinations = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let of = |address: &str, host: Option<&str>| (address.to_owned(), router_id("r1"), host.map(host_id));
    let want = [
        of("10.16.0.11", Some("compute02")),
        of("10.16.0.12", None),
        of("192.168.111.11", Some("compute01")),
    ];
    for host in ["controller01", "compute01", "compute02"] {
        assert_eq!(routed(host), want, "{host}");
    }
    assert_eq!(routed("idle"), []);
    assert!(slice_for(&world.snapshot(), host_id("controller01")).networks.is_empty());
}

#[test]
fn a_router_without_gateway_has_no_outside() {
    let world = dvr();
    world.remove::<FloatingIp>(floating_ip_id("192.168.74.104"));
    world.remove::<FloatingIp>(floating_ip_id("192.168.74.105"));
    world.change::<Router>(router_id("r1"), |router| router.gateway = None);
    assert_slice(
        &world,
        "compute02",
        "
        host compute01
        host compute02
        network net-a
        network net-b
        port vm_a @compute01
        port vm_b @compute02
        port vm_c @nowhere
        router r1 [net-a=192.168.111.1 net-b=10.16.0.1] snat",
    );
}

/// The promise behind per-host tables: what a host without uplink is told does not follow the cluster's size.
#[test]
fn other_vpcs_do_not_make_a_slice_larger() {
    let world = dvr();
    let before = slice_of(&world, "compute02");
    for number in 0..200 {
        let name = format!("vpc{number}");
        world.host(&format!("{name}-host"), &format!("10.1.0.{number}"), &[]);
        world.network(&name, "10.16.0.0/24");
        world.router(&name);
        world.attach(&name, &name, "10.16.0.1");
        world.gateway(&name, "public", &format!("192.168.75.{number}"));
        world.port(&format!("{name}-vm"), &name, "10.16.0.11", &format!("{name}-host"));
        world.floating_ip(&format!("192.168.76.{number}"), "public", &format!("{name}-vm"), &name);
    }
    assert_eq!(slice_of(&world, "compute02"), before);
    let gateway = slice_of(&world, "controller01");
    assert_eq!(gateway.matches("floating ").count(), 202, "a gateway serves them all");
    assert_eq!(gateway.matches("network ").count(), 0, "but has none of their networks");
    assert!(!gateway.contains("port "));
}

/// Goal: a member of a remote group is told to the hosts whose ports have a rule about the group, one by one, and to
/// nobody else. Method: the differences of every host's slice before and after.
#[test]
fn a_new_member_reaches_the_hosts_whose_ports_name_its_group_alone() {
    let world = fvn();
    let (web, db) =
        (SecurityGroupId::from_uuid(Uuid::from_u128(1)), SecurityGroupId::from_uuid(Uuid::from_u128(2)));
    for id in [web, db] {
        world.put(SecurityGroup { id, standard: Default::default(), stateful: true, is_default: false });
    }
    let rule = SecurityGroupRule {
        id: SecurityGroupRuleId::from_uuid(Uuid::from_u128(3)),
        standard: Default::default(),
        group: db,
        direction: Direction::Ingress,
        ethertype: Ethertype::Ipv4,
        protocol: None,
        port_range_min: None,
        port_range_max: None,
        remote: Remote::Group(web),
    };
    let rule_id = rule.id;
    world.put(rule);
    let set = |port: &str, group| {
        world.change::<Port>(port_id(port), |port| port.security_groups = Some(vec![group]));
    };
    set("vm1", web);
    set("vm3", db);
    // A network that none of them reaches: members are members wherever they are.
    world.network("far", "10.9.0.0/24");
    world.host("ahv04", "10.0.0.4", &[]);
    let slices = || {
        let snapshot = world.snapshot();
        ["ahv01", "ahv02", "ahv03", "ahv04"].map(|host| slice_for(&snapshot, host_id(host)))
    };
    let members = |slice: &Slice| slice.members.keys().map(|id| id.addresses.to_string()).collect::<Vec<_>>();
    let before = slices();
    let counts = before.each_ref().map(|slice| (slice.security_group_rules.len(), members(slice).len()));
    assert_eq!(counts, [(0, 0), (0, 0), (1, 1), (0, 0)], "the rule's own host alone");

    world.port("new", "far", "10.9.0.5", "ahv04");
    set("new", web);
    let after = slices();
    let changes = [0, 1, 2].map(|host| before[host].diff(&after[host]));
    let told = Object::Member(
        MemberId { of: MemberOf::SecurityGroup(web), addresses: "10.9.0.5/32".parse().unwrap() },
        Member { port: Some(port_id("new")) },
    );
    assert_eq!(changes.each_ref().map(|change| change.upserts.clone()), [vec![], vec![], vec![told]]);
    assert!(changes.iter().all(|change| change.removals.is_empty()));
    assert!(after[3].members.is_empty(), "its own host has no rule about its group");

    world.remove::<Port>(port_id("new"));
    let removed = after[2].diff(&slices()[2]);
    assert_eq!((removed.upserts.len(), removed.removals.len()), (0, 1));
    world.remove::<SecurityGroupRule>(rule_id);
    assert!(slices().iter().all(|slice| slice.members.is_empty()), "with the last rule go the members");
}

/// Gateways steer by the port, the VM's host translates, and the hosts of siblings turn around what these send.
#[test]
fn forwarded_ports_are_told_where_their_router_is_known() {
    let world = fvn();
    world.host("ahv04", "10.0.0.4", &[]);
    world.network("green", "10.7.0.0/24");
    world.port("green1", "green", "10.7.0.5", "ahv04");
    world.floating_ip("172.22.7.30", "ext", "vm1", "blue");
    world.forward("172.22.7.30", 2201, "vm1", "blue");
    world.forward("172.22.7.30", 2203, "vm3", "blue");
    let snapshot = world.snapshot();
    let told = |host: &str| {
        let slice = slice_for(&snapshot, host_id(host));
        assert!(slice.floating_ips.is_empty(), "{host}: it stands for no address as a whole");
        let ports = slice.port_forwardings.values().map(|of| (of.external_port, of.host));
        let mut ports: Vec<_> = ports.collect();
        ports.sort_unstable();
        ports
    };
    let all = vec![(2201, Some(host_id("ahv01"))), (2203, Some(host_id("ahv03")))];
    for host in ["ahv01", "ahv02", "ahv03"] {
        assert_eq!(told(host), all, "{host}");
    }
    assert_eq!(told("ahv04"), vec![]);
}
