//! What a trace says of IPv6 is what the walk does: the same bytes, the same end, and the words for it.

use compiler::TunnelProtocol;
use model::slice::Egress;
use model::trace::{Entry, Hex, Kept, Origin, SessionUse, WalkRequest, Walked};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use testkit::frames::{self, Segment};
use testkit::ipv6::{INTERNET6, address6};
use testkit::world::UPLINK;
use testkit::{Arrival as Arrived, World};
use trace::frames::{answer_to, neighbor_answer, neighbor_question};
use trace::{Arrival, Names, Surroundings};

const UPLINK_ENTRY: Arrival = Arrival::Uplink { ifindex: UPLINK };

fn world() -> World {
    let mut world = World::new(TunnelProtocol::Geneve, Egress::Direct);
    world.add_ipv6();
    world
}

/// Follows frames over the tables of the world's hosts, and keeps what walks leave behind.
struct Tracer<'a> {
    world: &'a World,
    states: BTreeMap<usize, Vec<Kept>>,
}

impl<'a> Tracer<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, states: BTreeMap::new() }
    }

    fn sent_by(&mut self, name: &str, frame: Vec<u8>) -> Vec<Walked> {
        let vm = self.world.vms[name];
        self.follow(vm.host, Arrival::Port { ifindex: vm.ifindex }, frame, None)
    }

    fn follow(&mut self, host: usize, arrival: Arrival, frame: Vec<u8>, vlan: Option<u16>) -> Vec<Walked> {
        let mut at = (host, arrival, frame, vlan);
        let mut all = Vec::new();
        loop {
            let walked = self.walk(at.0, at.1, at.2, at.3);
            let next = walked
                .verdict
                .vtep
                .and_then(|vtep| self.world.hosts.iter().position(|host| host.facts.vtep == vtep));
            let frame = walked.frame.0.clone();
            all.push(walked);
            match next {
                Some(host) => at = (host, Arrival::Underlay, frame, None),
                None => return all,
            }
            assert!(all.len() < 5, "the packet goes round in circles");
        }
    }

    fn walk(&mut self, host: usize, arrival: Arrival, frame: Vec<u8>, vlan: Option<u16>) -> Walked {
        let known = &self.world.hosts[host];
        // Says of which table an entry was found that the compiler made.
        let origin = |table: &'static str, _: &[u8]| {
            let (kind, id, why) = (table.to_owned(), String::new(), String::new());
            Some(Origin { kind, id, why, name: None, revision: None })
        };
        let programmed = known.programmed.last().expect("programmed");
        let names = Names::default();
        let around = Surroundings { names: &names, programmed, revision: 1, origin: &origin };
        let state = self.states.remove(&host).unwrap_or_default();
        // Where it comes in is said by `arrival`.
        let entry = Entry::Underlay;
        let request = WalkRequest { entry, frame: Hex(frame), vlan, fresh: false, state };
        let mut walked = trace::walk(&known.tables, &around, arrival, &request).expect("readable");
        self.states.insert(host, std::mem::take(&mut walked.state));
        walked
    }
}

fn stage<'a>(walked: &'a Walked, name: &str) -> &'a str {
    let found = walked.stages.iter().find(|stage| stage.name == name);
    found.map_or_else(|| panic!("no {name} in {:#?}", walked.stages), |stage| stage.text.as_str())
}

/// Every VM to every other, on its network and routed: the trace ends where the packet does, with the same bytes, and
/// what the receiver answers comes back to the sender.
#[test]
fn a_trace_between_vms_is_the_walk_and_its_answer_comes_back() {
    let mut world = world();
    let names: Vec<&str> = world.vms.keys().copied().collect();
    let (mut arrived, mut hops) = (0, 0);
    for (from, to) in names.iter().flat_map(|from| names.iter().map(move |to| (*from, *to))) {
        for ends in
            [world.switched6(from, to, (4000, 80)), world.routed6(from, world.vms[to].address6(), (4000, 80))]
        {
            for frame in [frames::tcp(&ends, Segment::Syn, b""), frames::echo(&ends, false)] {
                let mut tracer = Tracer::new(&world);
                let there = tracer.sent_by(from, frame.clone());
                let last = there.last().unwrap();
                hops = hops.max(there.len());
                let back = answer_to(&last.frame.0).map(|answer| tracer.sent_by(to, answer));
                let arrival = world.from_vm(from, frame);
                match (&arrival, last.verdict.kind.as_str()) {
                    (Arrived::Port { frame, .. }, "port") => {
                        assert_eq!(*frame, last.frame.0, "{from} to {to}");
                        assert_eq!(last.nat, None);
                        // The real packet's session was there for the next kind of packet, and for the answer.
                        if from != to {
                            let back = back.expect("an answer");
                            let answer = back.last().unwrap();
                            assert_eq!(answer.verdict.kind, "port", "{from} from {to}: {answer:#?}");
                            let home = answer.output.as_ref().unwrap();
                            assert_eq!(home.dst, Some(IpAddr::from(world.vms[from].address6())));
                            arrived += 1;
                        }
                    }
                    // Another VPC's address is outside.
                    (Arrived::Uplink { frame, .. }, "uplink") => assert_eq!(*frame, last.frame.0),
                    (Arrived::Nowhere { .. }, "drop" | "punt") => {}
                    other => panic!("{from} to {to}: {other:?}"),
                }
            }
        }
    }
    assert!(arrived > 20 && hops == 2, "{arrived} arrived, over {hops} hosts at most");
}

#[test]
fn a_trace_to_the_outside_translates_nothing_and_names_what_it_looked_up() {
    let mut world = world();
    let frame = frames::udp(&world.routed6("vm_a", INTERNET6, (4000, 53)), b"question");
    let mut tracer = Tracer::new(&world);
    let there = tracer.sent_by("vm_a", frame.clone());
    let [first] = there.as_slice() else { panic!("{there:#?}") };
    assert_eq!((first.verdict.kind.as_str(), first.session, &first.nat), ("uplink", SessionUse::Made, &None));
    assert!(stage(first, "route").starts_with("::/0 to "), "{}", stage(first, "route"));
    assert!(stage(first, "route").ends_with("untranslated"), "{}", stage(first, "route"));
    assert!(first.packet.text.starts_with("UDP [2001:db8:10::"), "{}", first.packet.text);
    let looks = || first.stages.iter().flat_map(|stage| &stage.looks);
    for table in ["ports", "port_addresses", "stations", "routes", "externals", "neighbors"] {
        let found = looks().find(|look| look.table == table && look.value.is_some());
        let found = found.unwrap_or_else(|| panic!("nothing was found in {table}: {:#?}", first.stages));
        assert_eq!(found.origin.as_ref().map(|origin| origin.kind.as_str()), Some(table));
        assert!(!found.differs, "{found:?}");
    }
    let vlan = first.vlan;
    let answer = answer_to(&first.frame.0).expect("an answer");
    let back = tracer.follow(world.vms["vm_a"].host, UPLINK_ENTRY, answer, vlan);
    let home = back.last().unwrap();
    assert_eq!(home.verdict.kind, "port", "{home:#?}");
    assert_eq!(home.output.as_ref().unwrap().dst_port, Some(4000));
    let arrival = world.from_vm("vm_a", frame);
    let (_, read) = world.at_uplink6(&arrival);
    assert_eq!(IpAddr::from(read.src), first.output.as_ref().unwrap().src.unwrap());
}

#[test]
fn neighbour_discovery_is_traced_with_its_answer() {
    let world = world();
    let vm = world.vms["vm_a"];
    let asker = (vm.mac, IpAddr::from(vm.address6()));
    let ask = |target: Ipv6Addr| {
        let question = neighbor_question(asker, target.into()).expect("one family");
        Tracer::new(&world).sent_by("vm_a", question).remove(0)
    };
    let router = ask(address6(1, 1));
    assert_eq!(neighbor_answer(&router.frame.0), Some((vm.router_mac, address6(1, 1).into())));
    assert_eq!((router.verdict.kind.as_str(), &router.nat), ("port", &None));
    assert!(stage(&router, "switch").contains("2001:db8:10::1 is at "), "{}", stage(&router, "switch"));
    let nobody = ask(address6(1, 200));
    assert_eq!(nobody.verdict.reason.as_deref(), Some("arp-unknown-target"), "{nobody:#?}");
    assert_eq!(nobody.packet.dst, Some("ff02::1:ff00:c8".parse().unwrap()));
}

/// Rules of IPv4 allow nothing of IPv6; the one of IPv6 that does is named by what was asked of it.
#[test]
fn a_refusal_by_security_groups_names_the_other_end() {
    let mut world = world();
    world.add_group(1, true, &["egress6 any to any", "ingress any from any"]);
    world.set_groups("vm_b", &[1]);
    world.program();
    let frame = frames::tcp(&world.switched6("vm_a", "vm_b", (4000, 80)), Segment::Syn, b"");
    let there = Tracer::new(&world).sent_by("vm_a", frame.clone());
    let last = there.last().unwrap();
    let refused = (last.verdict.stage.as_deref(), last.verdict.reason.as_deref());
    assert_eq!(refused, (Some("ingress-acl"), Some("no-rule")), "{last:#?}");
    let sender = world.vms["vm_a"].address6();
    assert_eq!(stage(last, "ingress-acl"), format!("no rule allows this from {sender}"));
    world.add_group(1, true, &["egress6 any to any", "ingress6 tcp 80 from 2001:db8:10::/64"]);
    world.program();
    let there = Tracer::new(&world).sent_by("vm_a", frame);
    let last = there.last().unwrap();
    assert_eq!(last.verdict.kind, "port", "{last:#?}");
    let asked = last.stages.iter().flat_map(|stage| &stage.looks).find(|look| look.table == "acl_rules");
    assert_eq!(asked.map(|look| look.key.as_str()), Some("tcp 80"));
}
