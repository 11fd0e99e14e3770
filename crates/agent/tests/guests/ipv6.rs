//! IPv6 by the kernel's own SLAAC and by DHCPv6 clients of other authors.

use crate::common::{Bench, Vm, id, port_id, run_in, wait_for_within};
use crate::guests::dhcp::{command, count};
use model::resource::Ipv6Mode;
use model::slice::{Interface, RoutedAddress, RoutedPort, Slice, Subnet, SubnetDhcp};
use model::{Mac, PortId, SubnetId};
use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

/// Duplicate address detection takes its time, and solicitations come seconds apart.
const CONFIGURED: Duration = Duration::from_secs(30);
const ROUTER: &str = "2001:db8:10::1";
/// Of ports 1 and 2: prefix and MAC (RFC 4291 appendix A).
pub(super) const AUTOMATIC: [&str; 2] = ["2001:db8:10:0:f816:3eff:fe00:1", "2001:db8:10:0:f816:3eff:fe00:2"];
const STATEFUL: [&str; 2] = ["2001:db8:10::101", "2001:db8:10::102"];

/// Adds an IPv6 subnet with that mode, a router's leg there and an address for each port.
pub(super) fn add_ipv6(slice: &mut Slice, mode: Ipv6Mode, addresses: [&str; 2]) {
    let subnet_id = SubnetId::from_uuid(id(60));
    let said = SubnetDhcp { dns_nameservers: vec!["2001:db8::53".parse().unwrap()], host_routes: Vec::new() };
    let router: IpAddr = ROUTER.parse().unwrap();
    let subnet = Subnet {
        dhcp: Some(said),
        ipv6_ra_mode: Some(mode),
        ipv6_address_mode: Some(mode),
        ..Subnet::new("2001:db8:10::/64".parse().unwrap(), Some(router))
    };
    let network = *slice.networks.keys().next().unwrap();
    slice.networks.get_mut(&network).unwrap().subnets.insert(subnet_id, subnet);
    let leg = Interface {
        port: PortId::from_uuid(id(61)),
        network,
        subnet: subnet_id,
        mac: Mac([0xfa, 0x16, 0x3e, 0, 1, 6]),
        address: router,
    };
    slice.routers.values_mut().next().unwrap().interfaces.push(leg);
    for (number, address) in (1..).zip(addresses) {
        slice.ports.get_mut(&port_id(number)).unwrap().addresses.push(address.parse().unwrap());
    }
}

/// Puts the outside on IPv6, and the ports there as they are. The address of the gateway, which routes to them.
pub(super) fn add_outside6(bench: &mut Bench) -> &'static str {
    const GATEWAY6: &str = "2001:db8:7::1";
    const ROUTER_OUTSIDE: &str = "2001:db8:7::27";
    for scope in ["all", "ext0"] {
        bench.outside.sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0").unwrap();
    }
    for command in [
        format!("ip addr add {GATEWAY6}/64 dev ext0 nodad"),
        format!("ip -6 route add 2001:db8:10::/64 via {ROUTER_OUTSIDE}"),
    ] {
        assert!(run_in(&bench.outside, &command), "{command}");
    }
    bench.change_slice(|slice| {
        let (external_network, network) = slice.external_networks.iter_mut().next().unwrap();
        let subnet = Subnet::new("2001:db8:7::/64".parse().unwrap(), Some(GATEWAY6.parse().unwrap()));
        network.subnets.insert(SubnetId::from_uuid(id(62)), subnet);
        let (router, routed_by) = slice.routers.iter_mut().next().unwrap();
        let gateway = routed_by.gateway.as_mut().unwrap();
        gateway.ipv6_addresses.push(ROUTER_OUTSIDE.parse().unwrap());
        for (id, port) in &slice.ports {
            let own = port.addresses.iter().filter(|address| address.is_ipv6());
            let routed = |address: &IpAddr| RoutedAddress {
                external_network: *external_network,
                router: *router,
                address: *address,
            };
            let addresses = own.map(routed).collect();
            let routed = RoutedPort { network: port.network, host: port.host, addresses };
            slice.routed_ports.insert(*id, routed);
        }
    });
    GATEWAY6
}

/// A VM whose kernel speaks IPv6, plugged. Its link-local address is its own already: clients cannot use it before.
pub(super) fn guest(bench: &Bench, name: &str, number: u8) -> Vm {
    let vm = bench.vm(name);
    bench.plug(number, &vm).unwrap();
    let address = format!(" fe80::f816:3eff:fe00:{number}/64 ");
    await_shown(&vm, "ip -6 -o address show dev eth0 scope link -tentative", &[&address]);
    vm
}

/// Waits until `look` prints all of `wanted`.
fn await_shown(vm: &Vm, look: &str, wanted: &[&str]) {
    let last = RefCell::new(String::new());
    let what = || format!("{wanted:?} in `{look}`; last seen: {}", last.borrow());
    wait_for_within(CONFIGURED, what, || {
        let seen = vm.run(look);
        let all = wanted.iter().all(|text| seen.contains(text));
        last.replace(seen);
        all.then_some(())
    });
}

#[test]
fn a_kernel_configures_itself_and_reaches_its_sibling_also_without_the_router() {
    let mut bench = Bench::new("slaac");
    bench.change_slice(|slice| add_ipv6(slice, Ipv6Mode::Slaac, AUTOMATIC));
    bench.start();
    let (vm_a, vm_b) = (guest(&bench, "a", 1), guest(&bench, "b", 2));
    for (vm, address) in [(&vm_a, AUTOMATIC[0]), (&vm_b, AUTOMATIC[1])] {
        let look = "ip -6 -o address show dev eth0 scope global -tentative";
        await_shown(vm, look, &[&format!(" {address}/64 ")]);
        await_shown(vm, "ip -6 route show default", &["via fe80::f816:3eff:fe00:106"]);
    }
    assert!(vm_a.reaches(ROUTER), "the router");
    assert!(vm_a.reaches(AUTOMATIC[1]) && vm_b.reaches(AUTOMATIC[0]), "the sibling");
    bench.kill();
    bench.change_slice(|slice| {
        slice.routers.values_mut().for_each(|router| router.interfaces.retain(|leg| leg.address.is_ipv4()));
    });
    bench.start();
    assert!(vm_a.reaches(AUTOMATIC[1]), "on the network without the router");
}

#[test]
fn dhcpv6_tells_name_servers_and_where_it_is_the_way_addresses() {
    let mut bench = Bench::new("dhcp6");
    bench.change_slice(|slice| add_ipv6(slice, Ipv6Mode::Stateless, AUTOMATIC));
    bench.start();
    let vm = guest(&bench, "a", 1);
    await_shown(&vm, "ip -6 -o address show dev eth0 scope global -tentative", &[AUTOMATIC[0]]);
    let ask =
        "mkdir -p /var/lib/dhcp; dhclient -1 -6 -S -v eth0 >&2; cat /etc/resolv.conf; dhclient -6 -x >&2";
    let output = command(&vm, ask).output().unwrap();
    let (got, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(got.contains("nameserver 2001:db8::53"), "{got}\nIt said:\n{said}");
    assert!(count(&bench, "agent.dhcp6-replies") > 0, "{:?}", bench.status().counters);
    drop(vm);

    let mut bench = Bench::new("dhcp6s");
    bench.change_slice(|slice| add_ipv6(slice, Ipv6Mode::Stateful, STATEFUL));
    bench.start();
    let vm = guest(&bench, "b", 2);
    await_shown(&vm, "ip -6 route show default", &["via fe80::f816:3eff:fe00:106"]);
    let ask = "mkdir -p /var/lib/dhcp; dhclient -1 -6 -v eth0 >&2; ip -6 addr show eth0; dhclient -6 -x >&2";
    let output = command(&vm, ask).output().unwrap();
    let (got, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(got.contains(STATEFUL[1]), "{got}\nIt said:\n{said}");
    assert!(!got.contains(AUTOMATIC[1]), "the prefix is not for making addresses of: {got}");
}
