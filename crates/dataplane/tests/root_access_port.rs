//! The lab's access port. Method: a bridge with a trunk (an ordinary port) and an access port; frames sent
//! into either are looked at on the other side.

mod common;

use common::{Pins, Scratch};
use dataplane::testrun::a_to_b;
use netlink::PacketSocket;
use std::process::Command;
use std::time::Duration;

const VLAN: u16 = 2207;

fn bridge(title: &str) -> (Scratch, Pins) {
    let netns = Scratch::new(title);
    netns.ip("link add switch type bridge");
    for (port, end) in [("trunk", "host"), ("access", "outside")] {
        netns.ip(&format!("link add {port} type veth peer name {end}"));
        netns.ip(&format!("link set {port} master switch"));
        netns.ip(&format!("link set {port} up"));
        netns.ip(&format!("link set {end} up"));
    }
    netns.ip("link set switch up");
    (netns, Pins::new(title))
}

/// Sends into one end and returns the first UDP frame's tag that comes out of the other.
fn pass(netns: &Scratch, from: &str, to: &str, frame: &[u8]) -> Option<Option<u16>> {
    let (from, to) = (netns.index(from), netns.index(to));
    let exchange = || {
        let listener = PacketSocket::open().unwrap();
        listener.listen(to, Duration::from_millis(300)).unwrap();
        PacketSocket::open().unwrap().send(from, frame).unwrap();
        let mut buffer = [0; 2048];
        while let Some(received) = listener.receive(&mut buffer).unwrap() {
            if !received.outgoing && buffer.get(..12) == frame.get(..12) {
                return Some(received.vlan_tci);
            }
        }
        None
    };
    netns.0.run(exchange).unwrap()
}

fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    [macs, &[0x81, 0x00], &vlan.to_be_bytes(), rest].concat()
}

#[test]
fn an_access_port_tags_inwards_and_shows_only_its_vlan_outwards() {
    let (netns, pins) = bridge("access");
    netns.0.run(|| dataplane::access_port::attach(&pins.0, "access", VLAN).unwrap()).unwrap();
    let frame = a_to_b(1);
    assert_eq!(pass(&netns, "outside", "host", &frame), Some(Some(VLAN)));
    assert_eq!(pass(&netns, "host", "outside", &tagged(&frame, VLAN)), Some(None));
    assert_eq!(pass(&netns, "host", "outside", &tagged(&frame, VLAN + 1)), None);
    assert_eq!(pass(&netns, "host", "outside", &frame), None);
    assert_eq!(pass(&netns, "outside", "host", &tagged(&frame, VLAN)), None);
}

#[test]
fn attaching_again_and_detaching_work() {
    let (netns, pins) = bridge("again");
    for vlan in [VLAN, 100] {
        netns.0.run(|| dataplane::access_port::attach(&pins.0, "access", vlan).unwrap()).unwrap();
        assert_eq!(pass(&netns, "outside", "host", &a_to_b(1)), Some(Some(vlan)));
    }
    dataplane::access_port::detach(&pins.0, "access").unwrap();
    assert_eq!(pass(&netns, "outside", "host", &a_to_b(1)), Some(None));
    let leftovers = Command::new("find").arg(&pins.0).args(["-name", "access-*"]).output().unwrap();
    assert!(leftovers.stdout.is_empty());
}
