//! Programs at interfaces: they outlive the process, are exchanged without losing sight of a packet, and
//! leave no pins of interfaces that are gone. Method: a veth pair in a namespace; frames are sent into one
//! end and counted by the program at the other.

mod common;

use common::{Pins, Scratch};
use dataplane::testrun::{a_to_b, two_ports};
use dataplane::{Attachment, Dataplane, Hook, Settings, Sizes};
use netlink::PacketSocket;
use pipeline::Total;
use std::time::{Duration, Instant};

struct Host {
    netns: Scratch,
    pins: Pins,
    /// Inside ends of the VMs' veths, and the host's.
    vm_a: u32,
    tap_a: u32,
    tap_b: u32,
}

impl Host {
    fn new(title: &str) -> Self {
        let netns = Scratch::new(title);
        for (tap, vm) in [("tapa", "vma"), ("tapb", "vmb")] {
            netns.ip(&format!("link add {tap} type veth peer name {vm}"));
            netns.ip(&format!("link set {tap} up"));
            netns.ip(&format!("link set {vm} up"));
        }
        let (vm_a, tap_a, tap_b) = (netns.index("vma"), netns.index("tapa"), netns.index("tapb"));
        Self { netns, pins: Pins::new(title), vm_a, tap_a, tap_b }
    }

    fn open(&self) -> Dataplane {
        Dataplane::open(&Settings { pin_dir: self.pins.0.clone(), sizes: Sizes::SMALL }).unwrap()
    }

    fn attach(&self, dataplane: &mut Dataplane) -> Attachment {
        self.netns.0.run(|| dataplane.attach(Hook::Port, "tapa").unwrap()).unwrap()
    }

    fn send(&self, count: u16) {
        let send = || {
            let socket = PacketSocket::open().unwrap();
            for port in 0..count {
                socket.send(self.vm_a, &a_to_b(1000 + port)).unwrap();
            }
        };
        self.netns.0.run(send).unwrap();
    }
}

/// Waits until the count is `wanted`; the error tells what it stayed at.
fn wait_for(dataplane: &Dataplane, total: Total, wanted: u64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let count = dataplane.counters().unwrap().total(total);
        if count == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{} is {count}, not {wanted}", total.name());
        std::thread::yield_now();
    }
}

#[test]
fn packets_go_on_without_the_process() {
    let host = Host::new("outlive");
    let mut dataplane = host.open();
    dataplane.apply(&two_ports(host.tap_a, host.tap_b)).unwrap();
    let attachment = host.attach(&mut dataplane);
    assert_eq!(attachment, Attachment { hook: Hook::Port, ifindex: host.tap_a });
    drop(dataplane);
    host.send(10);
    let dataplane = host.open();
    wait_for(&dataplane, Total::InPort, 10);
    wait_for(&dataplane, Total::OutPort, 10);
    assert_eq!(dataplane.attached().unwrap(), [attachment]);
    let counters = dataplane.port_counters().unwrap();
    assert_eq!(counters[&host.tap_a].sent_packets, 10);
    assert_eq!(counters[&host.tap_b].delivered_packets, 10);
    assert_eq!(counters[&host.tap_b].delivered_bytes, 10 * a_to_b(0).len() as u64);
    assert_eq!(dataplane.sessions().count(), 10);
}

#[test]
fn an_exchange_of_programs_misses_no_packet() {
    const ROUNDS: u16 = 200;
    let host = Host::new("exchange");
    let mut dataplane = host.open();
    dataplane.apply(&two_ports(host.tap_a, host.tap_b)).unwrap();
    host.attach(&mut dataplane);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| (0..ROUNDS).for_each(|_| host.send(100)));
        let mut exchanges = 0;
        while !sender.is_finished() {
            // Another object with programs and scratch of its own, the same tables.
            host.attach(&mut host.open());
            exchanges += 1;
        }
        assert!(exchanges > 1, "the exchanges did not meet the packets");
    });
    wait_for(&dataplane, Total::InPort, u64::from(ROUNDS) * 100);
    wait_for(&dataplane, Total::OutPort, u64::from(ROUNDS) * 100);
}

#[test]
fn detaching_stops_it() {
    let host = Host::new("detach");
    let mut dataplane = host.open();
    dataplane.apply(&two_ports(host.tap_a, host.tap_b)).unwrap();
    let attachment = host.attach(&mut dataplane);
    host.send(1);
    wait_for(&dataplane, Total::InPort, 1);
    dataplane.detach(attachment).unwrap();
    dataplane.detach(attachment).expect("detaching what is detached is no error");
    assert_eq!(dataplane.attached().unwrap(), []);
    host.send(1);
    assert_eq!(dataplane.counters().unwrap().total(Total::InPort), 1);
}

#[test]
fn the_pin_of_a_vanished_interface_goes_with_it() {
    let host = Host::new("vanish");
    let mut dataplane = host.open();
    host.attach(&mut dataplane);
    host.netns.ip("link del tapa");
    assert_eq!(dataplane.attached().unwrap(), []);
    let links = host.pins.0.join("v1/links");
    assert_eq!(std::fs::read_dir(links).unwrap().count(), 0);
    let error = host.netns.0.run(|| dataplane.attach(Hook::Port, "tapa")).unwrap().unwrap_err();
    assert!(matches!(error, dataplane::Error::NoInterface(_)), "{error}");
}
