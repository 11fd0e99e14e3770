//! Security groups let pass what a rule allows and nothing else, in both directions, by every walk, before and after
//! addresses are translated.

use compiler::TunnelProtocol::Geneve;
use model::slice::Egress;
use pipeline::{Reason, Stage, Verdict};
use std::net::Ipv4Addr;
use testkit::frames::{self, Ends, Segment};
use testkit::groups::rule_id;
use testkit::world::INTERNET;
use testkit::{Arrival, World};

const FLOATING_B: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 102);
const FLOATING_G: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 107);
const EVERYTHING: &[&str] = &["egress any to any", "ingress any from any"];

fn world() -> World {
    let mut world = World::new(Geneve, Egress::Direct);
    world.add_floating(1, "vm_b", 1, FLOATING_B);
    world.add_floating(2, "vm_g", 1, FLOATING_G);
    world.program();
    world
}

fn dropped(host: usize, stage: Stage, reason: Reason) -> Arrival {
    Arrival::Nowhere { host, verdict: Verdict::Drop(stage, reason) }
}

/// A way from a VM, or from outside, to a VM or the outside.
struct Walk {
    name: &'static str,
    from: Option<&'static str>,
    /// None: the outside.
    to: Option<&'static str>,
    /// What the sender writes to.
    dst: fn(&World) -> Ipv4Addr,
    /// What the sender's rules see at the other end, and what the receiver's do.
    remotes: [&'static str; 2],
}

fn address(world: &World, vm: &str) -> Ipv4Addr {
    world.vms[vm].address
}

const WALKS: [Walk; 7] = [
    Walk {
        name: "switched, one host",
        from: Some("vm_a"),
        to: Some("vm_g"),
        dst: |world| address(world, "vm_g"),
        remotes: ["192.168.10.14", "192.168.10.11"],
    },
    Walk {
        name: "switched, two hosts",
        from: Some("vm_a"),
        to: Some("vm_b"),
        dst: |world| address(world, "vm_b"),
        remotes: ["192.168.10.12", "192.168.10.11"],
    },
    Walk {
        name: "routed, one host",
        from: Some("vm_a"),
        to: Some("vm_d"),
        dst: |world| address(world, "vm_d"),
        remotes: ["10.16.0.11", "192.168.10.11"],
    },
    Walk {
        name: "routed, two hosts",
        from: Some("vm_d"),
        to: Some("vm_b"),
        dst: |world| address(world, "vm_b"),
        remotes: ["192.168.10.12", "10.16.0.11"],
    },
    Walk {
        name: "SNAT",
        from: Some("vm_a"),
        to: None,
        dst: |_| INTERNET,
        remotes: ["8.8.8.8", "172.22.7.27"],
    },
    Walk {
        name: "floating IP from outside",
        from: None,
        to: Some("vm_b"),
        dst: |_| FLOATING_B,
        remotes: ["172.22.7.102", "8.8.8.8"],
    },
    Walk {
        name: "hairpin",
        from: Some("vm_a"),
        to: Some("vm_g"),
        dst: |_| FLOATING_G,
        remotes: ["172.22.7.107", "172.22.7.27"],
    },
];

impl Walk {
    fn ends(&self, world: &World, ports: (u16, u16)) -> Ends {
        let dst = (self.dst)(world);
        match (self.from, self.to) {
            (Some(from), Some(to)) if self.name.starts_with("switched") => world.switched(from, to, ports),
            (Some(from), _) => world.routed(from, dst, ports),
            (None, _) => world.outside(1, (INTERNET, ports.0), (dst, ports.1)),
        }
    }

    fn send(&self, world: &mut World, frame: Vec<u8>) -> Arrival {
        match self.from {
            Some(from) => world.from_vm(from, frame),
            None => world.from_outside(1, frame),
        }
    }

    /// The receiver's own answer to what arrived, sent; where it arrives.
    fn answer(&self, world: &mut World, arrived: &Arrival, answer: impl Fn(&Ends) -> Vec<u8>) -> Arrival {
        match arrived {
            Arrival::Port { frame, .. } => {
                let frame = answer(&back(frame));
                world.from_vm(self.to.expect("a VM"), frame)
            }
            Arrival::Uplink { host, frame, .. } => {
                let frame = answer(&back(frame));
                world.from_outside(*host, frame)
            }
            Arrival::Nowhere { .. } => panic!("{}: {arrived:?}", self.name),
        }
    }

    fn is_at_sender(&self, world: &World, arrival: &Arrival) -> bool {
        match (self.from, arrival) {
            (Some(from), Arrival::Port { ifindex, .. }) => *ifindex == world.vms[from].ifindex,
            (None, Arrival::Uplink { .. }) => true,
            _ => false,
        }
    }
}

fn back(frame: &[u8]) -> Ends {
    let read = frames::read(frame);
    Ends {
        src_mac: read.dst_mac,
        dst_mac: read.src_mac,
        src: read.dst,
        dst: read.src,
        src_port: read.dst_port,
        dst_port: read.src_port,
    }
}

/// An IP packet of a protocol that begins with two ports, as SCTP does.
fn of_protocol(ends: &Ends, protocol: u8) -> Vec<u8> {
    let mut frame = frames::udp(ends, b"ports and more");
    frame[23] = protocol;
    frames::with_header_checksum(frame)
}

fn icmp(ends: &Ends, kind: u8, code: u8) -> Vec<u8> {
    let mut frame = frames::echo(ends, false);
    frame[34..36].copy_from_slice(&[kind, code]);
    frame[36..38].fill(0);
    let checksum = packet::checksum::checksum(&frame[34..]);
    frame[36..38].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// `tcp 80`, `udp 53`, `132 7`, `icmp 8/0`.
fn frame_of(ends: Ends, words: &str) -> Vec<u8> {
    let (protocol, rest) = words.split_once(' ').expect("protocol and port");
    let ends = Ends { src_port: 4000, dst_port: rest.parse().unwrap_or(4000), ..ends };
    match protocol {
        "tcp" => frames::tcp(&ends, Segment::Syn, b""),
        "udp" => frames::udp(&ends, b"datagram"),
        "icmp" => {
            let (kind, code) = rest.split_once('/').expect("type and code");
            icmp(&ends, kind.parse().expect("a type"), code.parse().expect("a code"))
        }
        number => of_protocol(&ends, number.parse().expect("a protocol")),
    }
}

/// Rule, packet, whether it passes. `PEER` is the other end's address as the rules see it, `NEAR` a prefix around it.
const CASES: &[(&str, &str, bool)] = &[
    ("any X any", "tcp 80", true),
    ("any X any", "udp 53", true),
    ("any X any", "icmp 8/0", true),
    ("0 X any", "udp 53", true),
    ("tcp X any", "tcp 80", true),
    ("tcp X any", "udp 80", false),
    ("tcp 80 X any", "tcp 80", true),
    ("tcp 80 X any", "tcp 81", false),
    ("tcp 80 X any", "udp 80", false),
    ("tcp 80-90 X any", "tcp 80", true),
    ("tcp 80-90 X any", "tcp 85", true),
    ("tcp 80-90 X any", "tcp 90", true),
    ("tcp 80-90 X any", "tcp 79", false),
    ("tcp 80-90 X any", "tcp 91", false),
    ("udp 1-65535 X any", "udp 65535", true),
    ("udp 0-65535 X any", "udp 1", true),
    ("icmp X any", "icmp 8/0", true),
    ("icmp 8 X any", "icmp 8/0", true),
    ("icmp 8/0 X any", "icmp 8/0", true),
    ("icmp 8/1 X any", "icmp 8/0", false),
    ("icmp 0 X any", "icmp 8/0", false),
    ("icmp 8 X any", "tcp 80", false),
    ("tcp 80 X PEER", "tcp 80", true),
    ("tcp 80 X NEAR", "tcp 80", true),
    ("tcp 80 X 203.0.113.0/24", "tcp 80", false),
    ("any X PEER", "udp 7", true),
    ("any X 203.0.113.0/24", "udp 7", false),
    ("tcp 80 X addresses 1", "tcp 80", true),
    ("tcp 81 X addresses 1", "tcp 80", false),
    ("any X addresses 2", "tcp 80", false),
    ("tcp 80 X group 5", "tcp 80", false),
];

fn case_rule(words: &str, direction: &str, peer: &str) -> String {
    let preposition = if direction == "egress" { " to " } else { " from " };
    let (a, b) = peer.rsplit_once('.').expect("an address");
    let near = format!("{a}.{}/28", b.parse::<u8>().expect("an octet") & 0xf0);
    format!("{direction} {words}")
        .replace(" X ", preposition)
        .replace("PEER", &format!("{peer}/32"))
        .replace("NEAR", &near)
}

#[test]
fn every_kind_of_rule_in_both_directions_by_every_walk() {
    for walk in &WALKS {
        for (side, direction) in [(0, "egress"), (1, "ingress")] {
            let vm = if side == 0 { walk.from } else { walk.to };
            let Some(vm) = vm else { continue };
            let mut world = world();
            for (number, (words, packet, want)) in CASES.iter().enumerate() {
                let words = case_rule(words, direction, walk.remotes[side]);
                world.add_group(1, true, &[&words]);
                // Nobody has it.
                world.add_group(5, true, &[]);
                world.add_addresses(1, &format!("{}/32", walk.remotes[side]));
                world.add_addresses(2, "203.0.113.0/24");
                world.set_groups(vm, &[1]);
                world.program();
                // A connection of its own for each case.
                let ends = Ends { src_port: 4000, ..walk.ends(&world, (4000, 0)) };
                let frame = frame_of(ends, packet);
                for host in &world.hosts {
                    host.tables.sessions.borrow_mut().clear();
                    host.tables.replies.borrow_mut().clear();
                }
                let arrival = walk.send(&mut world, frame);
                let title = format!("{}, case {number}: {words}: {packet}", walk.name);
                if *want {
                    assert!(!matches!(arrival, Arrival::Nowhere { .. }), "{title}: {arrival:?}");
                    continue;
                }
                let (stage, host) = match side {
                    0 => (Stage::EgressAcl, world.vms[vm].host),
                    _ => (Stage::IngressAcl, world.vms[vm].host),
                };
                assert_eq!(arrival, dropped(host, stage, Reason::NoRule), "{title}");
            }
            world.assert_conserved();
        }
    }
}

#[test]
fn without_a_rule_nothing_passes_and_without_port_security_everything() {
    for walk in &WALKS {
        let mut world = world();
        world.add_group(1, true, &[]);
        if let Some(to) = walk.to {
            world.set_groups(to, &[1]);
            world.program();
            let frame = frame_of(walk.ends(&world, (1, 1)), "tcp 80");
            let host = world.vms[to].host;
            let want = dropped(host, Stage::IngressAcl, Reason::NoRule);
            assert_eq!(walk.send(&mut world, frame.clone()), want, "{}", walk.name);
            world.unset_groups(to);
            world.program();
            let arrival = walk.send(&mut world, frame);
            assert!(matches!(arrival, Arrival::Port { .. }), "{}: {arrival:?}", walk.name);
        }
        if let Some(from) = walk.from {
            world.set_groups(from, &[]);
            world.program();
            let frame = frame_of(walk.ends(&world, (1, 2)), "udp 80");
            let want = dropped(world.vms[from].host, Stage::EgressAcl, Reason::NoRule);
            assert_eq!(walk.send(&mut world, frame), want, "{}", walk.name);
        }
        world.assert_conserved();
    }
}

/// Both ends have one rule, for the packet that begins; answers pass, what is not an answer does not.
#[test]
fn answers_and_errors_of_an_allowed_connection_pass() {
    for walk in &WALKS {
        for protocol in ["tcp 80", "udp 53", "icmp 8/0"] {
            let mut world = world();
            let (name, port) = protocol.split_once(' ').expect("two words");
            let port = if name == "icmp" { "8" } else { port };
            world.add_group(1, true, &[&format!("egress {name} {port} to any")]);
            world.add_group(2, true, &[&format!("ingress {name} {port} from any")]);
            walk.from.into_iter().for_each(|vm| world.set_groups(vm, &[1]));
            walk.to.into_iter().for_each(|vm| world.set_groups(vm, &[2]));
            world.program();
            let frame = frame_of(walk.ends(&world, (4000, 0)), protocol);
            let arrived = walk.send(&mut world, frame.clone());
            let answer = |ends: &Ends| match name {
                "tcp" => frames::tcp(ends, Segment::SynAck, b""),
                "udp" => frames::udp(ends, b"answer"),
                _ => frames::echo(ends, true),
            };
            // Once in the epoch of the first packet, once in the next: nothing changed.
            for _ in 0..2 {
                let answered = walk.answer(&mut world, &arrived, answer);
                let title = format!("{}, {protocol}", walk.name);
                assert!(walk.is_at_sender(&world, &answered), "{title}: {answered:?}");
                let (Arrival::Port { frame: about, .. } | Arrival::Uplink { frame: about, .. }) = &arrived
                else {
                    panic!("{title}: {arrived:?}");
                };
                let about = about.clone();
                let error =
                    walk.answer(&mut world, &arrived, |ends| frames::icmp_error(ends, (3, 3), &about));
                assert!(walk.is_at_sender(&world, &error), "{title}, error: {error:?}");
                world.program();
            }
            // The receiver may not begin anything.
            if let Some(to) = walk.to {
                let ends = world.routed(to, INTERNET, (1, 1));
                let want = dropped(world.vms[to].host, Stage::EgressAcl, Reason::NoRule);
                assert_eq!(world.from_vm(to, frames::udp(&ends, b"own")), want, "{}", walk.name);
            }
            world.assert_conserved();
        }
    }
}

#[test]
fn a_running_connection_ends_with_its_rule_in_both_directions() {
    for walk in &WALKS {
        for (side, vm) in [walk.from, walk.to].into_iter().enumerate() {
            let Some(vm) = vm else { continue };
            let mut world = world();
            let (rule, others) = match side {
                0 => ("egress tcp 80 to any", "ingress any from any"),
                _ => ("ingress tcp 80 from any", "egress any to any"),
            };
            world.add_group(1, true, &[rule, others]);
            world.set_groups(vm, &[1]);
            world.program();
            let frame = frame_of(walk.ends(&world, (4000, 0)), "tcp 80");
            let arrived = walk.send(&mut world, frame.clone());
            let answer = |ends: &Ends| frames::tcp(ends, Segment::Ack, b"data");
            let answered = walk.answer(&mut world, &arrived, answer);
            assert!(walk.is_at_sender(&world, &answered), "{}: {answered:?}", walk.name);
            world.add_group(1, true, &[others]);
            world.program();
            let host = world.vms[vm].host;
            let (there, back) = match side {
                0 => (Stage::EgressAcl, Stage::IngressAcl),
                _ => (Stage::IngressAcl, Stage::EgressAcl),
            };
            let title = format!("{}, {rule}", walk.name);
            for _ in 0..2 {
                let again = walk.send(&mut world, frame.clone());
                assert_eq!(again, dropped(host, there, Reason::RuleGone), "{title}");
                let answered = walk.answer(&mut world, &arrived, answer);
                assert_eq!(answered, dropped(host, back, Reason::RuleGone), "{title}, the answer");
            }
            // The rule is back before the session has idled out: it goes on.
            world.add_group(1, true, &[rule, others]);
            world.program();
            let again = walk.send(&mut world, frame);
            assert!(!matches!(again, Arrival::Nowhere { .. }), "{title}: {again:?}");
            let answered = walk.answer(&mut world, &arrived, answer);
            assert!(walk.is_at_sender(&world, &answered), "{title}: {answered:?}");
            world.assert_conserved();
        }
    }
}

#[test]
fn answers_to_what_a_stateless_group_allowed_need_a_rule() {
    for walk in &WALKS {
        for (side, vm) in [walk.from, walk.to].into_iter().enumerate() {
            let Some(vm) = vm else { continue };
            let mut world = world();
            let (rule, back, stage) = match side {
                0 => ("egress udp 53 to any", "ingress udp 1000-65535 from any", Stage::IngressAcl),
                _ => ("ingress udp 53 from any", "egress udp 1000-65535 to any", Stage::EgressAcl),
            };
            world.add_group(1, false, &[rule]);
            world.set_groups(vm, &[1]);
            world.program();
            let frame = frame_of(walk.ends(&world, (4000, 0)), "udp 53");
            let arrived = walk.send(&mut world, frame);
            let answer = |ends: &Ends| frames::udp(ends, b"answer");
            let answered = walk.answer(&mut world, &arrived, answer);
            let host = world.vms[vm].host;
            assert_eq!(answered, dropped(host, stage, Reason::RuleGone), "{}, {rule}", walk.name);
            world.add_group(1, false, &[rule, back]);
            world.program();
            let answered = walk.answer(&mut world, &arrived, answer);
            assert!(walk.is_at_sender(&world, &answered), "{}, {rule}: {answered:?}", walk.name);
            // One stateful rule for the same is enough.
            world.add_group(1, false, &[]);
            world.add_group(2, true, &[rule]);
            world.set_groups(vm, &[1, 2]);
            world.program();
            let answered = walk.answer(&mut world, &arrived, answer);
            assert!(walk.is_at_sender(&world, &answered), "{}, {rule}: {answered:?}", walk.name);
            world.assert_conserved();
        }
    }
}

#[test]
fn a_remote_group_is_whoever_has_it_now() {
    let mut world = world();
    world.add_group(1, true, &["ingress tcp 22 from group 2", "ingress icmp from group 1"]);
    world.add_group(2, true, EVERYTHING);
    world.set_groups("vm_b", &[1]);
    world.set_groups("vm_a", &[2]);
    world.program();
    let ssh = |world: &mut World, from: &str, port: u16| {
        let ends = world.switched(from, "vm_b", (port, 22));
        world.from_vm(from, frames::tcp(&ends, Segment::Syn, b""))
    };
    let refused = dropped(1, Stage::IngressAcl, Reason::NoRule);
    assert_eq!(ssh(&mut world, "vm_g", 1000), refused, "no member");
    let arrival = ssh(&mut world, "vm_a", 1000);
    world.at_vm("vm_b", &arrival);
    let before = world.hosts[1].programmed.last().expect("programmed").clone();
    world.set_groups("vm_g", &[2]);
    world.program();
    let after = world.hosts[1].programmed.last().expect("programmed");
    let added = after.acl_remotes.iter().filter(|(key, _)| !before.acl_remotes.contains_key(key)).count();
    assert_eq!((added, &after.acl_rules), (1, &before.acl_rules), "one member is one entry");
    let arrival = ssh(&mut world, "vm_g", 1001);
    world.at_vm("vm_b", &arrival);
    // The one that leaves the group leaves its connections.
    world.unset_groups("vm_a");
    world.program();
    assert_eq!(ssh(&mut world, "vm_a", 1000), dropped(1, Stage::IngressAcl, Reason::RuleGone));
    assert_eq!(ssh(&mut world, "vm_a", 1002), refused);
    world.assert_conserved();
}

#[test]
fn prefixes_inside_one_another_add_up() {
    let mut world = world();
    // More than there are classes of an address, each with a port of its own.
    let rules: Vec<String> =
        (0..20).map(|bits| format!("ingress udp {} from 192.168.10.11/{}", 1000 + bits, 32 - bits)).collect();
    let mut all: Vec<&str> = rules.iter().map(String::as_str).collect();
    all.push("ingress udp 2000 from any");
    all.push("ingress udp 2001 from group 3");
    world.add_group(1, true, &all);
    world.add_group(3, true, EVERYTHING);
    world.set_groups("vm_b", &[1]);
    world.set_groups("vm_a", &[3]);
    world.program();
    for port in (1000..1020).chain([2000, 2001]) {
        let ends = world.switched("vm_a", "vm_b", (4000, port));
        let arrival = world.from_vm("vm_a", frames::udp(&ends, b"in"));
        assert_eq!(world.at_vm("vm_b", &arrival).dst_port, port);
    }
    for port in [999, 1020, 2002] {
        let ends = world.switched("vm_a", "vm_b", (4000, port));
        let arrival = world.from_vm("vm_a", frames::udp(&ends, b"in"));
        assert_eq!(arrival, dropped(1, Stage::IngressAcl, Reason::NoRule), "{port}");
    }
    // vm_g is in the prefixes of 29 bits and fewer only: 192.168.10.8/29.
    for (port, want) in [(1002, false), (1003, true), (1019, true), (2000, true), (2001, false)] {
        let ends = world.switched("vm_g", "vm_b", (4000, port));
        let arrival = world.from_vm("vm_g", frames::udp(&ends, b"in"));
        assert_eq!(matches!(arrival, Arrival::Port { .. }), want, "{port}: {arrival:?}");
    }
}

#[test]
fn what_one_icmp_type_was_allowed_says_nothing_of_another() {
    let mut world = world();
    world.add_group(1, true, &["ingress icmp 13 from any"]);
    world.set_groups("vm_b", &[1]);
    world.program();
    let there = world.switched("vm_a", "vm_b", (1, 1));
    let back = world.switched("vm_b", "vm_a", (1, 1));
    let arrival = world.from_vm("vm_a", icmp(&there, 13, 0));
    assert!(matches!(arrival, Arrival::Port { host: 1, .. }), "a timestamp: {arrival:?}");
    assert_eq!(world.from_vm("vm_a", icmp(&there, 17, 0)), dropped(1, Stage::IngressAcl, Reason::NoRule));
    assert_eq!(world.from_vm("vm_a", icmp(&there, 8, 0)), dropped(1, Stage::IngressAcl, Reason::NoRule));
    let arrival = world.from_vm("vm_b", icmp(&back, 14, 0));
    assert!(matches!(arrival, Arrival::Port { host: 0, .. }), "its answer: {arrival:?}");
    assert_eq!(world.from_vm("vm_b", icmp(&back, 13, 0)), dropped(1, Stage::EgressAcl, Reason::NoRule));
}

#[test]
fn protocols_without_translation_have_ports_for_rules() {
    for protocol in [33, 132, 136] {
        let mut world = world();
        world.add_group(1, true, &[&format!("ingress {protocol} 80-90 from any")]);
        world.set_groups("vm_b", &[1]);
        world.program();
        for (port, want) in [(80, true), (90, true), (91, false)] {
            let ends = world.switched("vm_a", "vm_b", (4000, port));
            let arrival = world.from_vm("vm_a", of_protocol(&ends, protocol));
            assert_eq!(matches!(arrival, Arrival::Port { .. }), want, "{protocol} {port}: {arrival:?}");
        }
    }
}

#[test]
fn later_fragments_go_with_the_first() {
    let mut world = world();
    world.add_group(1, true, &["ingress udp 53 from any"]);
    world.set_groups("vm_b", &[1]);
    world.program();
    for (port, want) in [(53, true), (54, false)] {
        let ends = world.switched("vm_a", "vm_b", (4000, port));
        for fragment in frames::fragments(&frames::may_fragment(frames::udp(&ends, &[7; 64])), 24) {
            let arrival = world.from_vm("vm_a", fragment);
            assert_eq!(matches!(arrival, Arrival::Port { host: 1, .. }), want, "{port}: {arrival:?}");
        }
    }
}

#[test]
fn rules_that_do_not_fit_keep_the_port_down() {
    let mut world = world();
    world.add_group(1, true, &["ingress tcp 1-65534 from any", "egress any to 10.0.0.0/8"]);
    world.set_groups("vm_a", &[1]);
    let host = &mut world.hosts[0];
    host.facts.acl_sizes = compiler::AclSizes { remotes: 2, rules: 30 };
    let compiled = compiler::compile(&world.slice, &world.hosts[0].facts);
    let [problem] = &compiled.problems[..] else { panic!("{:?}", compiled.problems) };
    assert!(problem.text.contains("acl_rules_max"), "{problem:?}");
    let port = compiled.tables.ports.values().find(|port| port.mac == world.vms["vm_a"].mac);
    assert_eq!(port.expect("the port").flags & pipeline::tables::Port::FLAG_ACTIVE, 0);
    world.hosts[0].facts.acl_sizes = compiler::AclSizes { remotes: 2, rules: 31 };
    world.program();
}

/// The other VMs of the host cost what they did; entries say which rule made them.
#[test]
fn entries_are_shared_by_ports_with_the_same_groups_and_name_their_rule() {
    let mut world = world();
    world.add_group(1, true, &["ingress tcp 22 from any", "egress any to any"]);
    world.set_groups("vm_a", &[1]);
    let one = compiler::compile(&world.slice, &world.hosts[0].facts);
    world.set_groups("vm_g", &[1]);
    let two = compiler::compile(&world.slice, &world.hosts[0].facts);
    assert_eq!(
        (&one.tables.acl_rules, &one.tables.acl_remotes),
        (&two.tables.acl_rules, &two.tables.acl_remotes)
    );
    let made: Vec<_> = two.provenance.iter().filter(|(entry, _)| entry.table == "acl_rules").collect();
    let rules: std::collections::BTreeSet<_> = made.iter().map(|(_, origin)| origin.object).collect();
    let rule = |number| model::slice::ObjectId::SecurityGroupRule(rule_id(number));
    assert_eq!(rules, [rule(100_000), rule(100_001)].into());
}
