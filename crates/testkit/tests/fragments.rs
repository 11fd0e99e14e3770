//! Fragmented datagrams pass between VMs and through every translation, both ways and through gateways.

use compiler::TunnelProtocol::Geneve;
use dataplane::Handed;
use model::slice::Egress;
use pipeline::host::Frame;
use pipeline::{Punt, Reason, Stage, Verdict};
use testkit::frames::{self, Ends};
use testkit::world::{Entry, INTERNET, SNAT_ADDRESS};
use testkit::{Arrival, World};

fn world() -> World {
    World::new(Geneve, Egress::Direct)
}

fn frame_of(arrival: &Arrival) -> Vec<u8> {
    match arrival {
        Arrival::Port { frame, .. } | Arrival::Uplink { frame, .. } => frame.clone(),
        Arrival::Nowhere { .. } => panic!("{arrival:?}"),
    }
}

/// A datagram of 100 bytes, whole and in three fragments.
fn datagram(ends: &Ends) -> (Vec<u8>, Vec<Vec<u8>>) {
    let payload: Vec<u8> = (0..92).collect();
    let whole = frames::udp(ends, &payload);
    (whole.clone(), frames::fragments(&whole, 40))
}

#[test]
fn through_snat_by_a_gateway_and_back_the_datagram_is_whole_again() {
    let mut world = world();
    let (_, sent) = datagram(&world.routed("vm_c", INTERNET, (4000, 53)));
    let arrived: Vec<Vec<u8>> =
        sent.into_iter().map(|fragment| frame_of(&world.from_vm("vm_c", fragment))).collect();
    let read = frames::read(&frames::reassemble(&arrived));
    assert_eq!((read.src, read.dst, read.dst_port), (SNAT_ADDRESS, INTERNET, 53));

    for gateway in [0, 1] {
        let ends = world.outside(gateway, (INTERNET, 53), (SNAT_ADDRESS, read.src_port));
        let (_, sent) = datagram(&ends);
        let arrived: Vec<Vec<u8>> =
            sent.into_iter().map(|fragment| frame_of(&world.from_outside(gateway, fragment))).collect();
        let read = frames::read(&frames::reassemble(&arrived));
        assert_eq!((read.dst, read.dst_port), (world.vms["vm_c"].address, 4000));
    }
    world.assert_conserved();
}

#[test]
fn a_large_ping_of_the_router_is_answered_in_as_many_pieces() {
    let mut world = world();
    let dst = "192.168.10.1".parse().expect("an address");
    let ends = world.routed("vm_a", dst, (9, 9));
    let request = frames::echo_of(&ends, false, &[7; 100]);
    let arrived: Vec<Vec<u8>> = frames::fragments(&request, 40)
        .into_iter()
        .map(|fragment| frame_of(&world.from_vm("vm_a", fragment)))
        .collect();
    let read = frames::read(&frames::reassemble(&arrived));
    assert_eq!((read.icmp_type, read.src, read.src_port), (0, dst, 9));
}

#[test]
fn a_fragment_before_the_first_is_handed_to_the_agent_and_never_forwarded_unseen() {
    let mut world = world();
    let ends = world.switched("vm_a", "vm_b", (4000, 53));
    let (_, mut sent) = datagram(&ends);
    let arrival = world.from_vm("vm_a", sent[1].clone());
    let verdict = Verdict::Punt(Punt::EarlyFragment);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
    let (head, frame) = world.hosts[0].tables.frames.borrow()[0].clone();
    assert_eq!((head.ingress, &frame), (world.vms["vm_a"].ifindex, &sent[1]));
    let origin = Handed { head, frame: frame.clone() }.origin();
    let arrival = world.enter(0, Entry::Agent { origin }, Frame::new(frame));
    let verdict = Verdict::Drop(Stage::Classify, Reason::FragmentUnordered);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict }, "not handed over twice");
    sent.swap(1, 2);
    let arrived: Vec<Vec<u8>> =
        sent.into_iter().map(|fragment| frame_of(&world.from_vm("vm_a", fragment))).collect();
    assert_eq!(frames::read(&frames::reassemble(&arrived)).dst_port, 53);
    let told =
        world.hosts[0].tables.events.borrow().iter().filter(|e| e.punt == Punt::FirstFragment as u32).count();
    assert_eq!(told, 1, "the agent hears that the first has come");
    world.assert_conserved();
}

#[test]
fn a_fragment_that_overlaps_the_first_is_dropped() {
    let mut world = world();
    let (_, mut sent) = datagram(&world.switched("vm_a", "vm_b", (4000, 53)));
    frame_of(&world.from_vm("vm_a", sent[0].clone()));
    // The first carries 40 bytes; this one says something about the last eight of them.
    sent[1][21] = 4;
    let arrival = world.from_vm("vm_a", frames::with_header_checksum(sent[1].clone()));
    let verdict = Verdict::Drop(Stage::Classify, Reason::FragmentOverlap);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
}

#[test]
fn a_fragment_that_reaches_into_the_first_ones_header_is_dropped() {
    let mut world = world();
    let ends = world.switched("vm_a", "vm_b", (4000, 53));
    let (_, mut sent) = datagram(&ends);
    frame_of(&world.from_vm("vm_a", sent[0].clone()));
    // Offset 8 bytes, as in the attacks of RFC 1858 and RFC 3128.
    sent[1][20] &= 0xe0;
    sent[1][21] = 1;
    let arrival = world.from_vm("vm_a", frames::with_header_checksum(sent[1].clone()));
    let verdict = Verdict::Drop(Stage::Classify, Reason::FragmentOverlap);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
}

#[test]
fn another_port_cannot_ride_on_a_datagram() {
    let mut world = world();
    let (_, sent) = datagram(&world.routed("vm_a", INTERNET, (4000, 53)));
    frame_of(&world.from_vm("vm_a", sent[0].clone()));
    let mut forged = sent[1].clone();
    forged[6..12].copy_from_slice(&world.vms["vm_g"].mac.0);
    let arrival = world.from_vm("vm_g", forged);
    let verdict = Verdict::Punt(Punt::EarlyFragment);
    assert_eq!(
        arrival,
        Arrival::Nowhere { host: 0, verdict },
        "of a datagram of its own, as far as one can tell"
    );
}
