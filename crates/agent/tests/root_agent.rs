//! A host whose controller cannot be reached: it is programmed from its state file, ports are plugged, and
//! the agent's death changes nothing for packets. Needs root.

mod bird;
mod common;
mod guests {
    pub(crate) mod dhcp;
    mod ipv6;
    mod metadata;
    mod port_control;
    mod qemu;
}
mod metering;

use agent::config::Config;
use agent::control::{Request, Response};
use common::{Bench, DVR_MAC, GATEWAY, SNAT_ADDRESS, port_id, wait_for};
use netlink::PacketSocket;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn a_host_works_without_a_controller_and_packets_go_on_without_the_agent() {
    let mut bench = Bench::new("alone");
    bench.start();
    let (vm_a, vm_b) = (bench.vm("a"), bench.vm("b"));
    let plugged = bench.plug(1, &vm_a).unwrap();
    assert_eq!((plugged.addresses, plugged.mtu), (vec!["192.168.10.11/24".to_owned()], 1450));
    bench.plug(2, &vm_b).unwrap();
    assert!(vm_a.reaches("192.168.10.12"), "east-west");
    assert!(vm_a.reaches("192.168.10.1"), "the router");
    assert!(vm_a.reaches(GATEWAY), "the outside, by SNAT");
    let before = bench.status();
    assert!(!before.connected);
    assert_eq!(before.problems, []);

    bench.kill();
    assert!(vm_a.reaches("192.168.10.12") && vm_a.reaches(GATEWAY), "with no agent");

    bench.start();
    assert!(vm_a.reaches("192.168.10.12") && vm_a.reaches(GATEWAY), "with the next agent");
    let after = wait_for("the ports", || Some(bench.status()).filter(|status| status.ports.len() == 2));
    assert_eq!(after.hooks, before.hooks);
    assert!(after.ports.iter().all(|port| port.programmed));

    assert_eq!(bench.request(&Request::Unplug { port_id: port_id(2) }).unwrap(), Response::Unplugged);
    assert!(!vm_a.reaches("192.168.10.12"), "unplugged");
    bench.kill();
    bench.outcome(Config { detach: true, ..bench.config() }).unwrap();
    assert!(!bench.pin_dir().exists());
    assert!(!bench.links().contains("nbk-tunnel"), "{}", bench.links());
    assert!(!vm_a.reaches("192.168.10.1"), "detached");
}

/// Frames on the outside's end of the uplink that are ARP from this host's MAC: operation, sender, target.
fn arp_seen(bench: &Bench) -> Vec<(u16, Ipv4Addr, Ipv4Addr)> {
    let ifindex = bench.outside.run(|| nix::net::if_::if_nametoindex("ext0")).unwrap().unwrap();
    let socket = bench.outside.run(PacketSocket::open).unwrap().unwrap();
    socket.listen(ifindex, Duration::from_millis(2500)).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 2048];
    while let Some(received) = socket.receive(&mut buffer).unwrap() {
        let Some(arp) = packet::read::<packet::arp::Header>(&buffer[..received.len], 14) else { continue };
        if buffer[12..14] == [0x08, 0x06] && arp.sender_mac.0 == DVR_MAC.0 {
            seen.push((arp.operation.get(), arp.sender_ip.into(), arp.target_ip.into()));
        }
        if seen.len() >= 5 {
            break;
        }
    }
    seen
}

#[test]
fn the_snat_address_is_announced_and_the_gateway_probed_without_an_address() {
    let mut bench = Bench::new("announce");
    bench.start();
    let seen = arp_seen(&bench);
    for operation in [1, 2] {
        assert!(seen.contains(&(operation, SNAT_ADDRESS, SNAT_ADDRESS)), "{seen:?}");
    }
    let mut others = seen.iter().filter(|(_, sender, _)| *sender != SNAT_ADDRESS);
    assert!(others.all(|(_, sender, _)| sender.is_unspecified()), "{seen:?}");
    let gateway = wait_for("the gateway", || bench.status().neighbors.into_iter().find(|n| n.mac.is_some()));
    assert_eq!(gateway.address.to_string(), GATEWAY);
}

#[test]
fn a_plug_that_fails_leaves_nothing_behind() {
    let mut bench = Bench::new("plug");
    bench.start();
    let vm = bench.vm("a");
    let before = bench.links();
    let error = bench.plug(9, &vm).unwrap_err();
    assert!(error.contains("was not bound to this host in time"), "{error}");
    assert_eq!(bench.links(), before);
    assert!(!vm.run("ip -br link").contains("eth0"));

    bench.plug(1, &vm).unwrap();
    let before = bench.links();
    let error = bench.plug(1, &vm).unwrap_err();
    assert!(error.contains("is plugged already as link tap00000001-00"), "{error}");
    let error = bench.plug(2, &vm).unwrap_err();
    assert!(error.contains("has a link 'eth0' already"), "{error}");
    assert_eq!(bench.links(), before);
    let error = bench.request(&Request::Unplug { port_id: port_id(2) }).unwrap_err().to_string();
    assert!(error.contains("is not plugged here"), "{error}");
}

#[test]
fn what_cannot_work_is_said_at_start_in_one_sentence() {
    let mut bench = Bench::new("start");
    let good = bench.config();
    let nowhere = PathBuf::from("/nonexistent");
    let table = [
        (
            Config { vtep: Ipv4Addr::new(10, 9, 9, 9), ..good.clone() },
            "no link of this host has the tunnel address",
        ),
        (
            Config { underlay: Some("uplink0".to_owned()), ..good.clone() },
            "does not have the tunnel address 10.1.0.1",
        ),
        (Config { underlay: Some("eth7".to_owned()), ..good.clone() }, "no link `eth7`"),
        (Config { certificates: nowhere, ..good.clone() }, "/nonexistent/ca.pem is missing"),
        (Config { pin_dir: "/tmp/nbk-agtest-pins".into(), ..good.clone() }, "BPF file system"),
    ];
    for (config, want) in table {
        let error = bench.outcome(config).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
    bench.start();
    let error = bench.outcome(good).unwrap_err();
    assert!(error.starts_with("another agent runs with the state directory"), "{error}");
}

#[test]
fn an_uplink_may_come_later() {
    let mut bench = Bench::new("late");
    bench.ip("link set uplink0 name uplink1");
    bench.start();
    let vm = bench.vm("a");
    bench.plug(1, &vm).unwrap();
    let missing = "link 'uplink0' of physical network 'physnet1' is missing";
    assert_eq!(bench.status().warnings, [missing]);
    assert!(!vm.reaches(GATEWAY));
    bench.ip("link set uplink1 down");
    bench.ip("link set uplink1 name uplink0");
    bench.ip("link set uplink0 up");
    wait_for("the uplink", || bench.status().warnings.is_empty().then_some(()));
    assert!(vm.reaches(GATEWAY));
}

#[test]
fn a_tunnel_device_that_was_removed_is_made_again() {
    let mut bench = Bench::new("tunnel");
    bench.start();
    let hook = |bench: &Bench| {
        let mut hooks = bench.status().hooks.into_iter();
        hooks.find(|hook| hook.program == "from_tunnel" && hook.link == "nbk-tunnel")
    };
    let first = wait_for("the device", || hook(&bench));
    bench.ip("link del nbk-tunnel");
    wait_for("another device", || hook(&bench).filter(|hook| hook.ifindex != first.ifindex));
}
