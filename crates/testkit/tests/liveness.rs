//! BFD between hosts inside the tunnel reaches the host's stack only if it is exactly what a host of the cluster
//! sends; whatever else says to be BFD changes nothing and is counted (CVE-2024-2182: elsewhere, a VM's BFD
//! packets were taken for a gateway's).

use compiler::TunnelProtocol::{self, Geneve, Vxlan};
use model::slice::Egress;
use pipeline::host::Frame;
use pipeline::liveness::PORT;
use pipeline::verdict::counter;
use pipeline::{Reason, Stage, Total, Verdict};
use std::net::Ipv4Addr;
use testkit::frames::{self, Ends, Liveness};
use testkit::world::{Entry, INTERNET};
use testkit::{Arrival, World};

const CONTROL: [u8; 24] = [0x20; 24];
const REFUSED: Verdict = Verdict::Drop(Stage::Classify, Reason::LivenessRefused);

/// From ahv01 to ahv02.
fn right(world: &World) -> Liveness {
    let tunnel = world.hosts[1].facts.tunnel;
    let (from, to) = (world.hosts[0].facts.vtep, world.hosts[1].facts.vtep);
    Liveness::new(tunnel.protocol == Geneve, tunnel.port, from, to)
}

fn at_underlay(world: &mut World, frame: Vec<u8>) -> Verdict {
    match world.enter(1, Entry::Underlay, Frame::new(frame)) {
        Arrival::Nowhere { verdict, .. } => verdict,
        other => panic!("a control packet was forwarded: {other:?}"),
    }
}

fn refused(world: &World) -> u64 {
    world.hosts[1].tables.counter(counter::drop(Stage::Classify, Reason::LivenessRefused))
}

#[test]
fn a_hosts_control_packet_reaches_the_stack_with_the_tunnel_address() {
    for protocol in [Geneve, Vxlan] {
        for lone_path in [true, false] {
            let mut world = World::new(protocol, Egress::Direct);
            world.hosts[1].facts.tunnel.lone_path = lone_path;
            world.program();
            let liveness = right(&world);
            assert_eq!(at_underlay(&mut world, liveness.frame(&CONTROL)), Verdict::Pass);
            let output = &world.steps.last().expect("a step").output.bytes;
            let want = Liveness { inner_to: liveness.to, ..liveness }.inner(&CONTROL);
            assert_eq!(output, &want, "{protocol:?}: readdressed, both checksums right, TTL 255");
            assert_eq!(world.hosts[1].tables.total(Total::OutHost), 1);
            world.assert_conserved();
        }
    }
}

#[test]
fn anything_else_in_the_management_network_is_refused_and_counted() {
    let mut world = World::new(Geneve, Egress::Direct);
    let right = right(&world);
    let wrong = [
        ("a TTL that was routed", Liveness { inner_ttl: 254, ..right }),
        ("another sender inside", Liveness { inner_from: Ipv4Addr::new(10, 1, 0, 99), ..right }),
        ("the tunnel address inside", Liveness { inner_to: right.to, ..right }),
        ("a tenant's address inside", Liveness { inner_to: Ipv4Addr::new(192, 168, 10, 11), ..right }),
        ("another port", Liveness { port: 3785, ..right }),
    ];
    for (number, (what, liveness)) in (1..).zip(wrong) {
        assert_eq!(at_underlay(&mut world, liveness.frame(&CONTROL)), REFUSED, "{what}");
        assert_eq!(refused(&world), number, "{what}");
    }
    let mut checksum = right.frame(&CONTROL);
    checksum[41] = 1;
    assert_eq!(at_underlay(&mut world, checksum), REFUSED, "the kernel's device does not get it");
    let stranger = Liveness { from: INTERNET, inner_from: INTERNET, ..right };
    let unknown = Verdict::Drop(Stage::Classify, Reason::UnknownVtep);
    assert_eq!(at_underlay(&mut world, stranger.frame(&CONTROL)), unknown);
    let data = Liveness { control: false, ..right };
    let no_network = Verdict::Drop(Stage::Classify, Reason::UnknownVni);
    assert_eq!(at_underlay(&mut world, data.frame(&CONTROL)), no_network, "without the control bit");
    world.assert_conserved();
}

#[test]
fn bfd_without_the_tunnel_is_refused_unless_that_is_the_way_agreed_on() {
    let mut world = World::new(Geneve, Egress::Direct);
    let plain = |world: &World| Liveness { inner_to: right(world).to, ..right(world) }.inner(&CONTROL);
    let frame = plain(&world);
    assert_eq!(at_underlay(&mut world, frame.clone()), REFUSED);
    world.hosts[1].facts.tunnel.liveness = false;
    world.program();
    assert_eq!(at_underlay(&mut world, frame), Verdict::Pass);
}

/// CVE-2024-2182. Nothing that a VM sends can end as a frame of the management network or in a host's stack.
fn cve_2024_2182_over(protocol: TunnelProtocol) {
    let mut world = World::new(protocol, Egress::Direct);
    let vm_b = world.vms["vm_b"];
    let forged = right(&world);
    let router = Ipv4Addr::new(192, 168, 10, 1);
    let peers = [vm_b.address, router, forged.from, forged.to, Ipv4Addr::LOCALHOST];
    let ports = [PORT, forged.tunnel_port];
    for (dst, dst_port) in peers.into_iter().flat_map(|dst| ports.map(|port| (dst, port))) {
        let ends = world.routed("vm_a", dst, (50_000, dst_port));
        for ends in [ends, Ends { dst_mac: vm_b.mac, ..ends }] {
            let payload =
                if dst_port == PORT { CONTROL.to_vec() } else { forged.frame(&CONTROL)[42..].to_vec() };
            world.from_vm("vm_a", frames::udp_ttl(&ends, &payload, 255));
        }
    }
    // A VM's frame that is the whole thing already: outer headers with the other host's address.
    world.from_vm("vm_a", forged.frame(&CONTROL));
    for step in &world.steps {
        assert_ne!(step.verdict, Verdict::Pass, "in a host's stack");
        if let Verdict::Tunnel { .. } = step.verdict {
            let vni = &step.output.bytes[46..49];
            assert_ne!(vni, [0, 0, 0], "in the management network");
        }
    }
    assert!(world.steps.len() > 20, "packets went: {}", world.steps.len());
    world.assert_conserved();
}

#[test]
fn cve_2024_2182_a_vm_cannot_speak_bfd_to_a_host() {
    cve_2024_2182_over(Geneve);
    cve_2024_2182_over(Vxlan);
}
