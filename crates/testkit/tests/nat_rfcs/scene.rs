//! What the tests of every RFC share: the stage, the cast, and how a scene is played on both builds.

use crate::object;
use compiler::TunnelProtocol::Geneve;
use dataplane::fragments::{self, Holder};
use dataplane::{Handed, State, Timeouts};
use model::slice::{Egress, Filtering};
use packet::ipv4::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
use pipeline::host::Frame;
use pipeline::{Punt, Reason, Stage, Verdict};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use testkit::frames::{self, Ends, Read, Segment};
use testkit::world::{BLOCK_SIZE, Entry, INTERNET, Options, SNAT_ADDRESS, router_id};
use testkit::{Arrival, World};

pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
/// A router on the way to the internet.
pub(crate) const HOP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
pub(crate) const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 29);
pub(crate) const FLOATING_A: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 101);
pub(crate) const FLOATING_C: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 103);

/// How a packet of a protocol is made.
pub(crate) type Make = fn(&Ends) -> Vec<u8>;

/// The protocols that are translated, with the first packet of a connection.
pub(crate) const PROTOCOLS: [(u8, Make); 3] =
    [(PROTOCOL_UDP, udp), (PROTOCOL_TCP, syn), (PROTOCOL_ICMP, ping)];

pub(crate) fn udp(ends: &Ends) -> Vec<u8> {
    frames::udp(ends, b"datagram")
}

pub(crate) fn syn(ends: &Ends) -> Vec<u8> {
    frames::tcp(ends, Segment::Syn, b"")
}

pub(crate) fn ping(ends: &Ends) -> Vec<u8> {
    frames::echo(ends, false)
}

/// Untagged, so that a scene can be repeated on the object.
pub(crate) fn options() -> Options {
    Options { vlan: None, ..Options::new(Geneve, Egress::Direct) }
}

/// Likewise, with a router that lets anyone answer a mapping.
pub(crate) fn open_filter() -> Options {
    Options { filtering: Filtering::EndpointIndependent, ..options() }
}

/// Likewise, with a router that lets in whoever has an address that was contacted.
pub(crate) fn address_filter() -> Options {
    Options { filtering: Filtering::AddressDependent, ..options() }
}

/// Plays a scene on the host build, then repeats every step of it on the loaded object.
pub(crate) fn play(options: Options, scene: impl FnOnce(&mut World)) {
    let mut world = World::with(options);
    scene(&mut world);
    world.assert_conserved();
    assert!(!world.steps.is_empty(), "a scene sends packets");
    object::replay(&world);
}

/// Blue's router gets a second SNAT address, with blocks on the first host.
pub(crate) fn add_second_address(world: &mut World) {
    let router = world.slice.routers.get_mut(&router_id(1)).expect("the router");
    router.gateway.as_mut().expect("a gateway").addresses.push(SECOND_ADDRESS);
    for first_port in [BLOCK_SIZE, BLOCK_SIZE * 5, BLOCK_SIZE * 6] {
        world.add_block(1, SECOND_ADDRESS, 0, first_port);
    }
    world.program();
}

/// `vm_a` and `vm_c` get floating IPs.
pub(crate) fn add_floating_ips(world: &mut World) {
    world.add_floating(1, "vm_a", 1, FLOATING_A);
    world.add_floating(2, "vm_c", 1, FLOATING_C);
    world.program();
}

/// Sends from a VM through its router; how the packet looks outside.
pub(crate) fn out(world: &mut World, vm: &str, make: Make, to: (Ipv4Addr, u16), from: u16) -> Read {
    let ends = world.routed(vm, to.0, (from, to.1));
    let arrival = world.from_vm(vm, make(&ends));
    world.at_uplink(&arrival).1
}

/// The external endpoint that a VM's port has.
pub(crate) fn external(world: &mut World, vm: &str, make: Make, from: u16) -> (Ipv4Addr, u16) {
    let read = out(world, vm, make, (INTERNET, 53), from);
    (read.src, read.src_port)
}

/// Sends from outside to blue's SNAT address, by a gateway.
pub(crate) fn inward(
    world: &mut World,
    gateway: usize,
    make: Make,
    from: (Ipv4Addr, u16),
    port: u16,
) -> Arrival {
    let ends = world.outside(gateway, from, (SNAT_ADDRESS, port));
    world.from_outside(gateway, make(&ends))
}

pub(crate) fn frame_of(arrival: &Arrival) -> Vec<u8> {
    match arrival {
        Arrival::Port { frame, .. } | Arrival::Uplink { frame, .. } => frame.clone(),
        Arrival::Nowhere { .. } => panic!("{arrival:?}"),
    }
}

pub(crate) fn dropped(host: usize, stage: Stage, reason: Reason) -> Arrival {
    Arrival::Nowhere { host, verdict: Verdict::Drop(stage, reason) }
}

/// An ICMP error from a router outside about what left.
pub(crate) fn error_from(world: &mut World, hop: Ipv4Addr, code: (u8, u8), about: &[u8]) -> Arrival {
    let ends = world.outside(0, (hop, 0), (frames::read(about).src, 0));
    world.from_outside(0, frames::icmp_error(&ends, code, about))
}

/// State of the one session with this protocol and source port on a host.
pub(crate) fn state(world: &World, host: usize, protocol: u8, src_port: u16) -> State {
    State::of(protocol, look(world, host, (protocol, src_port), |session| session.seen.load(Relaxed)))
}

/// When the one session with this protocol and source port on a host was last used.
pub(crate) fn last_used(world: &World, host: usize, protocol: u8, src_port: u16) -> u64 {
    look(world, host, (protocol, src_port), |session| session.last_ns.load(Relaxed))
}

fn look<R>(
    world: &World,
    host: usize,
    of: (u8, u16),
    read: impl FnOnce(&pipeline::session::Session) -> R,
) -> R {
    let sessions = world.hosts[host].tables.sessions.borrow();
    let mut found = sessions.iter().filter(|(stored, session)| {
        let key = session.forward(stored);
        (key.protocol, key.src_port) == of
    });
    let (_, session) = found.next().expect("a session");
    assert!(found.next().is_none(), "one session");
    read(session)
}

/// Moves a host's clock.
pub(crate) fn wait(world: &World, host: usize, seconds: u64) {
    let now = &world.hosts[host].tables.now_ns;
    now.set(now.get() + seconds * 1_000_000_000);
}

/// Seconds that a session of a state may be idle by default.
pub(crate) fn idle_seconds(state: State) -> u64 {
    Timeouts::default().of(state).as_secs()
}

/// What the agents of the world's hosts do with packets that they are handed whole.
#[derive(Default)]
pub(crate) struct Agents {
    holders: BTreeMap<usize, Holder>,
    /// Frames and events handled, by host.
    handled: BTreeMap<usize, (usize, usize)>,
}

impl Agents {
    /// Lets every agent do what there is to do; where the packets that walked once more ended.
    pub(crate) fn act(&mut self, world: &mut World) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for host in 0..world.hosts.len() {
            let ready = self.ready(world, host);
            for handed in ready {
                let frame = Frame::new(handed.frame.clone());
                let arrival = world.enter(host, Entry::Agent { origin: handed.origin() }, frame);
                arrivals.push(arrival);
            }
        }
        arrivals
    }

    /// Fragments that a host's agent holds.
    pub(crate) fn held(&self, host: usize) -> usize {
        self.holders.get(&host).map_or(0, Holder::len)
    }

    fn ready(&mut self, world: &World, host: usize) -> Vec<Handed> {
        let tables = &world.hosts[host].tables;
        let (frames_done, events_done) = self.handled.entry(host).or_default();
        let holder = self.holders.entry(host).or_default();
        let mut ready = Vec::new();
        for (head, frame) in tables.frames.borrow().iter().skip(*frames_done) {
            *frames_done += 1;
            let handed = Handed { head: *head, frame: frame.clone() };
            if head.punt == Punt::Fragment as u32 {
                let pieces = fragments::cut(frame, head.detail as usize).expect("a packet that can be cut");
                ready.extend(pieces.into_iter().map(|frame| Handed { head: *head, frame }));
            } else {
                let key = fragments::datagram_of(head.vni, head.ingress, frame).expect("IPv4");
                holder.hold(Instant::now(), key, handed);
            }
        }
        for event in tables.events.borrow().iter().skip(*events_done) {
            *events_done += 1;
            if event.punt == Punt::FirstFragment as u32 {
                let packet = &event.packet[..event.packet_len as usize];
                let key = fragments::datagram_of(event.vni, event.ingress, packet).expect("IPv4");
                ready.extend(holder.release(&key));
            }
        }
        ready
    }
}
