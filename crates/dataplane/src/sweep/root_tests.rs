//! Goal: what is over is removed, in the order that keeps ports unique, and nothing else is. Method: private
//! kernel tables filled by hand, and a clock that the test moves.

use super::*;
use crate::{NotOpened, OpenRequest, Sizes, State};
use packet::ipv4::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
use pipeline::nat::Mapping;
use pipeline::session::{Session, SessionKey, seen};
use pipeline::tables::{BlockKey, PortBlock};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;
use zerocopy::FromZeros;

const ROUTER: u32 = 9;
const EXTERNAL: u32 = 50;
const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000_000 * SECOND;
const BOTH: u32 = 1 | 1 << seen::REPLY_SHIFT;

/// A data path of its own, and who sweeps it.
struct Bench {
    dataplane: Dataplane,
    sweeper: Sweeper,
}

impl Bench {
    fn sweep(&mut self, now_ns: u64, timeouts: &Timeouts) -> Result<Swept, Error> {
        self.sweeper.sweep(now_ns, timeouts, &self.dataplane.current, &mut |_, _| {})
    }
}

impl Deref for Bench {
    type Target = Dataplane;

    fn deref(&self) -> &Dataplane {
        &self.dataplane
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Dataplane {
        &mut self.dataplane
    }
}

fn dataplane() -> Bench {
    let dataplane = Dataplane::open_private(crate::object::Build::Plain, &Sizes::SMALL, &[])
        .expect("root, and a kernel with BPF");
    let sweeper = dataplane.sweeper().expect("handles");
    Bench { dataplane, sweeper }
}

fn key(protocol: u8, src_port: u16) -> SessionKey {
    SessionKey {
        vni: 100,
        src: Address::v4([10, 0, 0, 1]),
        dst: Address::v4([8, 8, 8, 8]),
        src_port,
        dst_port: 53,
        protocol,
        zero: [0; 3],
    }
}

/// A translated session last used at START; its external port is its own plus 10,000.
fn add(dataplane: &Dataplane, protocol: u8, src_port: u16, bits: u32) -> SessionKey {
    let key = key(protocol, src_port);
    let external = Address::v4([172, 22, 7, 27]);
    let port = src_port + 10_000;
    let reply =
        SessionKey { vni: EXTERNAL, src: key.dst, dst: external, src_port: 53, dst_port: port, ..key };
    let mut session = Session::new_zeroed();
    session.reply = reply;
    session.flags = Session::NAT_SNAT;
    session.router_vni = ROUTER;
    session.external_vni = EXTERNAL;
    session.last_ns.store(START, Relaxed);
    session.seen.store(bits, Relaxed);
    let mapping_key = MappingKey { router_vni: ROUTER, address: key.src, port: src_port, protocol, zero: 0 };
    let mapping =
        Mapping { external_vni: EXTERNAL, address: external, port, created_ns: START, ..Mapping::default() };
    let (tables, (stored, exchanged)) = (&dataplane.object.tables, key.stored());
    session.exchanged = exchanged.into();
    tables.sessions.put(&stored, &session).unwrap();
    tables.replies.put(&reply, &stored).unwrap();
    tables.mappings.put(&mapping_key, &mapping).unwrap();
    tables.bindings.put(&binding_of(&mapping_key, &mapping), &mapping_key).unwrap();
    key
}

/// Entries of sessions, replies, mappings, bindings.
fn sizes(dataplane: &Dataplane) -> [usize; 4] {
    let tables = &dataplane.object.tables;
    [
        tables.sessions.elements().count(),
        tables.replies.elements().count(),
        tables.mappings.elements().count(),
        tables.bindings.elements().count(),
    ]
}

#[test]
fn each_state_has_its_time() {
    let tcp = |bits: u32| (PROTOCOL_TCP, bits);
    let both = |bits: u32| bits | bits << seen::REPLY_SHIFT;
    let cases = [
        ("udp", (PROTOCOL_UDP, BOTH), State::Other, 300),
        ("icmp", (PROTOCOL_ICMP, BOTH), State::Icmp, 60),
        ("syn only", tcp(seen::SYN), State::TcpTransitory, 240),
        ("established", tcp(both(seen::SYN | seen::ACK)), State::TcpEstablished, 7440),
        ("half closed", tcp(both(seen::ACK) | seen::FIN), State::TcpTransitory, 240),
        ("closed", tcp(both(seen::ACK | seen::FIN)), State::TcpClosed, 240),
        ("reset", tcp(both(seen::ACK) | seen::RST << seen::REPLY_SHIFT), State::TcpClosed, 240),
    ];
    for (name, (protocol, bits), state, seconds) in cases {
        let mut dataplane = dataplane();
        let key = add(&dataplane, protocol, 1, bits);
        assert_eq!(State::of(protocol, bits), state, "{name}");
        let timeouts = Timeouts::default();
        let alive = dataplane.sweep(START + seconds * SECOND, &timeouts).unwrap();
        assert_eq!((alive.sessions_alive, alive.sessions_removed), (1, 0), "{name}");
        assert_eq!(sizes(&dataplane), [1; 4], "{name}");
        let over = dataplane.sweep(START + seconds * SECOND + 1, &timeouts).unwrap();
        assert_eq!((over.sessions_removed, over.mappings_removed, over.ports_freed), (1, 1, 0), "{name}");
        assert_eq!(sizes(&dataplane), [0, 0, 0, 1], "{name}: the claim rests");
        assert!(!dataplane.delete_session(&key).unwrap(), "{name}");
    }
}

/// RFC 6888 REQ-8 (SHOULD): under pressure closed TCP connections make room, and nothing else does.
#[test]
fn rfc6888_req8_under_pressure_closed_connections_go_first() {
    let mut dataplane = dataplane();
    dataplane.sweeper.sessions_max = 4;
    let open = seen::ACK | seen::ACK << seen::REPLY_SHIFT;
    for (port, bits) in [(1, open), (2, seen::RST | open)] {
        add(&dataplane, PROTOCOL_TCP, port, bits);
    }
    let timeouts = Timeouts::default();
    for (seconds, alive) in [(11, 2), (12, 1), (239, 1)] {
        let swept = dataplane.sweep(START + seconds * SECOND, &timeouts).unwrap();
        assert_eq!(swept.sessions_alive, alive, "after {seconds} s");
    }
    assert_eq!(dataplane.sessions().next().unwrap().unwrap().key.src_port, 1);
}

/// RFC 6888 REQ-8 (SHOULD): likewise when the ports of an address, or of a VM's share, are half used.
#[test]
fn rfc6888_req8_half_used_ports_are_pressure() {
    let by_address = |dataplane: &mut Dataplane| {
        let address = Address::v4([172, 22, 7, 27]);
        let block = PortBlock { size: 2, address, ..Default::default() };
        let key = BlockKey { router_vni: ROUTER, slot: 0 };
        dataplane.current.own_blocks.insert(key, block);
    };
    let by_share = |dataplane: &mut Dataplane| {
        let snat = Snat { ports_max: 2, ..Default::default() };
        dataplane.current.snat.insert(RouterKey { router_vni: ROUTER }, snat);
    };
    for limit in [&by_address as &dyn Fn(&mut Dataplane), &by_share] {
        let mut dataplane = dataplane();
        limit(&mut dataplane);
        add(&dataplane, PROTOCOL_TCP, 1, seen::RST);
        let timeouts = Timeouts::default();
        dataplane.sweep(START + 11 * SECOND, &timeouts).unwrap();
        assert!(!dataplane.sweeper.pressed, "one of two");
        add(&dataplane, PROTOCOL_TCP, 2, seen::RST);
        for alive in [2, 0] {
            assert_eq!(dataplane.sweep(START + 12 * SECOND, &timeouts).unwrap().sessions_alive, alive);
        }
    }
}

/// RFC 6888 REQ-8, the exception for TCP: a VM at its share gets the ports of connections that both ends have
/// closed back at once, and of no others.
#[test]
fn rfc6888_req8_a_vm_at_its_share_gets_the_ports_of_closed_connections_back_at_once() {
    let mut dataplane = dataplane();
    let snat = Snat { ports_max: 4, ..Default::default() };
    dataplane.current.snat.insert(RouterKey { router_vni: ROUTER }, snat);
    let open = seen::ACK | seen::ACK << seen::REPLY_SHIFT;
    let fin = seen::FIN | seen::FIN << seen::REPLY_SHIFT;
    for (port, bits) in [(1, open), (2, open | seen::FIN), (3, open | seen::RST), (4, open | fin)] {
        add(&dataplane, PROTOCOL_TCP, port, bits);
    }
    let timeouts = Timeouts { mapping_grace: Duration::ZERO, ..Timeouts::default() };
    let alive = |dataplane: &Dataplane| {
        let mut ports: Vec<u16> = dataplane.sessions().map(|row| row.unwrap().key.src_port).collect();
        ports.sort_unstable();
        ports
    };
    let at_share = dataplane.sweep(START + SECOND, &timeouts).unwrap();
    assert_eq!(at_share.sessions_removed, 0, "the last acknowledgement may be on its way");
    let swept = dataplane.sweep(START + SECOND + 1, &timeouts).unwrap();
    assert_eq!((swept.sessions_removed, swept.mappings_removed), (1, 1));
    assert_eq!(alive(&dataplane), [1, 2, 3]);
    // One below its share, it is pressed no more than anybody who has half of it.
    dataplane.sweep(START + 2 * SECOND, &timeouts).unwrap();
    add(&dataplane, PROTOCOL_TCP, 5, open | fin);
    dataplane.sweep(START + 3 * SECOND, &timeouts).unwrap();
    assert_eq!(alive(&dataplane), [1, 2, 3, 5]);
    dataplane.sweep(START + 4 * SECOND, &timeouts).unwrap();
    assert_eq!(alive(&dataplane), [1, 2, 3]);
    dataplane.sweep(START + 11 * SECOND, &timeouts).unwrap();
    assert_eq!(alive(&dataplane), [1, 2], "the one that was reset");
}

#[test]
fn a_freed_port_rests_except_for_tcp() {
    let mut dataplane = dataplane();
    add(&dataplane, PROTOCOL_UDP, 1, BOTH);
    add(&dataplane, PROTOCOL_TCP, 1, seen::RST);
    let timeouts = Timeouts::default();
    let gone = START + 301 * SECOND;
    dataplane.sweep(gone, &timeouts).unwrap();
    assert_eq!(sizes(&dataplane), [0, 0, 0, 2]);
    assert_eq!(dataplane.sweep(gone + 5 * SECOND, &timeouts).unwrap().ports_freed, 1);
    assert_eq!(dataplane.object.tables.bindings.elements().next().unwrap().unwrap().0.protocol, PROTOCOL_UDP);
    assert_eq!(dataplane.sweep(gone + 119 * SECOND, &timeouts).unwrap().ports_freed, 0);
    assert_eq!(dataplane.sweep(gone + 120 * SECOND, &timeouts).unwrap().ports_freed, 1);
    assert_eq!(sizes(&dataplane), [0; 4]);
}

#[test]
fn a_mapping_lives_as_long_as_any_of_its_sessions() {
    let mut dataplane = dataplane();
    let first = add(&dataplane, PROTOCOL_UDP, 1, BOTH);
    // A second destination by the same mapping, used later.
    let tables = &dataplane.object.tables;
    let mut session = tables.sessions.get(&first).unwrap().unwrap();
    session.last_ns.store(START + 200 * SECOND, Relaxed);
    session.reply.src = Address::v4([9, 9, 9, 9]);
    let second = SessionKey { dst: Address::v4([9, 9, 9, 9]), ..first };
    tables.sessions.put(&second, &session).unwrap();
    tables.replies.put(&session.reply, &second).unwrap();

    let swept = dataplane.sweep(START + 301 * SECOND, &Timeouts::default()).unwrap();
    assert_eq!((swept.sessions_alive, swept.sessions_removed), (1, 1));
    assert_eq!((swept.mappings_alive, swept.mappings_removed), (1, 0));
    assert_eq!(sizes(&dataplane), [1; 4]);
    assert_eq!(dataplane.sessions().next().unwrap().unwrap().key, second);
}

/// RFC 7857 §11 (SHOULD): an ICMP mapping ends with its last session, not before.
#[test]
fn rfc7857_s11_an_icmp_mapping_ends_with_its_last_session() {
    let mut dataplane = dataplane();
    add(&dataplane, PROTOCOL_ICMP, 7, BOTH);
    for (seconds, left) in [(60, 1), (61, 0)] {
        let swept = dataplane.sweep(START + seconds * SECOND, &Timeouts::default()).unwrap();
        assert_eq!((swept.sessions_alive, swept.mappings_alive), (left, left), "after {seconds} s");
    }
}

#[test]
fn a_mapping_just_made_waits_for_its_session() {
    let mut dataplane = dataplane();
    let key = add(&dataplane, PROTOCOL_UDP, 1, BOTH);
    assert!(dataplane.delete_session(&key).unwrap());
    let timeouts = Timeouts::default();
    assert_eq!(dataplane.sweep(START + 5 * SECOND, &timeouts).unwrap().mappings_alive, 1);
    assert_eq!(dataplane.sweep(START + 6 * SECOND, &timeouts).unwrap().mappings_removed, 1);
}

#[test]
fn a_reply_key_of_another_session_is_left_alone() {
    let mut dataplane = dataplane();
    let first = add(&dataplane, PROTOCOL_UDP, 1, BOTH);
    let other = add(&dataplane, PROTOCOL_UDP, 2, BOTH);
    let tables = &dataplane.object.tables;
    let reply = tables.sessions.get(&first).unwrap().unwrap().reply;
    tables.replies.put(&reply, &other).unwrap();
    assert!(dataplane.delete_session(&first).unwrap());
    assert_eq!(dataplane.object.tables.replies.get(&reply).unwrap(), Some(other));
}

#[test]
fn purging_ends_the_mapping_its_sessions_and_its_claim() {
    let mut dataplane = dataplane();
    add(&dataplane, PROTOCOL_UDP, 1, BOTH);
    let kept = add(&dataplane, PROTOCOL_UDP, 2, BOTH);
    assert_eq!(dataplane.purge_mappings(|_, _| true).unwrap().mappings, 0);
    assert_eq!(sizes(&dataplane), [2; 4]);
    assert_eq!(dataplane.purge_mappings(|_, mapping| mapping.port == 10_002).unwrap().mappings, 1);
    assert_eq!(sizes(&dataplane), [1; 4]);
    assert_eq!(dataplane.sessions().next().unwrap().unwrap().key, kept);
}

#[test]
fn ten_thousand_sessions_are_read_each_once() {
    let dataplane = dataplane();
    for port in 0..10_000 {
        add(&dataplane, PROTOCOL_UDP, port, BOTH);
    }
    let mut ports: Vec<u16> = dataplane.sessions().map(|row| row.unwrap().key.src_port).collect();
    ports.sort_unstable();
    assert_eq!(ports, (0..10_000).collect::<Vec<_>>());
    assert_eq!(dataplane.mappings().count(), 10_000);
}

/// Blocks of ports 1024-1087 and 2048-2111 of one address, and a share of `ports_max` for each VM.
fn give_blocks(dataplane: &mut Bench, ports_max: u32) {
    let mut tables = dataplane.dataplane.current.clone();
    let snat =
        Snat { external_vni: EXTERNAL, block_count: 2, address_count: 1, ports_max, ..Snat::default() };
    tables.snat.insert(RouterKey { router_vni: ROUTER }, snat);
    for (slot, first) in [(0, 1024), (1, 2048)] {
        let block = PortBlock { address: Address::v4([172, 22, 7, 27]), first, size: 64 };
        tables.own_blocks.insert(BlockKey { router_vni: ROUTER, slot }, block);
    }
    dataplane.apply(&tables).unwrap();
}

fn request(port: u16, wanted: u16, exact: bool) -> OpenRequest {
    let address = Address::v4([10, 0, 0, 1]);
    OpenRequest {
        internal: MappingKey { router_vni: ROUTER, address, port, protocol: PROTOCOL_UDP, zero: 0 },
        inside_vni: 100,
        opening: Opening { nonce: [7; 12], ifindex: 3, ends_ns: START + 600 * SECOND },
        wanted: (Address::ZERO, wanted),
        exact,
    }
}

fn open(dataplane: &mut Bench, request: &OpenRequest) -> Result<u16, NotOpened> {
    let opened = dataplane.open_port(START, request, &mut rand_bits()).unwrap();
    opened.map(|open| open.external.port)
}

/// Bits that are the same in every run.
fn rand_bits() -> impl FnMut() -> u32 {
    let mut state = 1_u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    }
}

/// RFC 6887 §11 (MUST): a mapping that was asked for lives by its own time, and not by traffic.
#[test]
fn rfc6887_s11_an_open_port_lives_without_sessions_until_it_is_closed() {
    let mut dataplane = dataplane();
    give_blocks(&mut dataplane, 0);
    let asked = request(4000, 2050, false);
    assert_eq!(open(&mut dataplane, &asked), Ok(2050));
    let timeouts = Timeouts::default();
    assert_eq!(dataplane.sweep(START + 500 * SECOND, &timeouts).unwrap().mappings_alive, 1);
    dataplane.reread().unwrap();
    let open_again = *dataplane.opening(&asked.internal).expect("read back, as by the next agent");
    assert_eq!((open_again.external.port, open_again.opening), (2050, asked.opening));
    assert!(dataplane.prolong_port(&asked.internal, START + 900 * SECOND).unwrap());
    let ends_ns = |dataplane: &Bench| dataplane.opening(&asked.internal).map(|open| open.opening.ends_ns);
    assert_eq!(ends_ns(&dataplane), Some(START + 900 * SECOND));

    let over = dataplane.close_ports(|open| open.opening.ends_ns > START + 901 * SECOND).unwrap();
    assert_eq!(over.len(), 1);
    let swept = dataplane.sweep(START + 901 * SECOND, &timeouts).unwrap();
    assert_eq!((swept.mappings_alive, swept.mappings_removed), (0, 1));
    assert_eq!(dataplane.object.tables.openings.elements().count(), 0);
}

/// RFC 6888 REQ-9a, RFC 4787 REQ-3: ports that are asked for are the VM's share of its host's blocks, each given once.
#[test]
fn rfc6888_req9a_an_open_port_is_free_until_then_and_in_the_hosts_blocks() {
    let mut dataplane = dataplane();
    assert_eq!(open(&mut dataplane, &request(1, 0, false)), Err(NotOpened::NoSnat));
    give_blocks(&mut dataplane, 0);
    assert_eq!(open(&mut dataplane, &request(1, 2050, true)), Ok(2050));
    assert_eq!(open(&mut dataplane, &request(2, 2050, true)), Err(NotOpened::NotExact), "taken");
    assert_eq!(open(&mut dataplane, &request(2, 80, true)), Err(NotOpened::NotExact), "not the host's");
    let mut ports = HashSet::from([2050]);
    for port in 2..=128 {
        ports.insert(open(&mut dataplane, &request(port, 2050, false)).unwrap());
    }
    assert_eq!(ports.len(), 128, "all there are");
    assert!(ports.iter().all(|port| (1024..1088).contains(port) || (2048..2112).contains(port)));
    assert_eq!(open(&mut dataplane, &request(129, 0, false)), Err(NotOpened::NoPort));
}

/// RFC 6888 REQ-4: what is asked for counts like what is used.
#[test]
fn rfc6888_req4_what_a_vm_asks_for_is_of_its_share() {
    let mut dataplane = dataplane();
    give_blocks(&mut dataplane, 2);
    assert!(open(&mut dataplane, &request(1, 0, false)).is_ok());
    assert!(open(&mut dataplane, &request(2, 0, false)).is_ok());
    assert_eq!(open(&mut dataplane, &request(3, 0, false)), Err(NotOpened::Quota));
}

/// The VM's own connections and what it asked for share one mapping (RFC 6887 §11.3), and a purge ends both.
#[test]
fn rfc6887_s11_the_mapping_of_a_session_is_opened_and_purged() {
    let mut dataplane = dataplane();
    give_blocks(&mut dataplane, 0);
    add(&dataplane, PROTOCOL_UDP, 1, BOTH);
    assert_eq!(open(&mut dataplane, &request(1, 2050, false)), Ok(10_001), "what it has");
    assert_eq!(dataplane.sweep(START + 301 * SECOND, &Timeouts::default()).unwrap().mappings_alive, 1);
    let purged = dataplane.purge_mappings(|_, _| false).unwrap();
    assert_eq!((purged.mappings, purged.openings.len()), (1, 1));
    assert_eq!(dataplane.object.tables.openings.elements().count(), 0);
    assert_eq!(dataplane.object.tables.bindings.elements().count(), 0);
}

#[test]
fn what_came_in_by_a_port_that_was_closed_ends_with_the_next_sweep() {
    let mut dataplane = dataplane();
    let key = add(&dataplane, PROTOCOL_UDP, 1, BOTH);
    let tables = &dataplane.object.tables;
    let (stored, _) = key.stored();
    let mut session = tables.sessions.get(&stored).unwrap().unwrap();
    session.flags = Session::NAT_MAPPED_DST;
    tables.sessions.put(&stored, &session).unwrap();
    let claim = SessionRow::new(stored, &session).came_in_by().expect("a claim");
    let timeouts = Timeouts::default();
    assert_eq!(dataplane.sweep(START + SECOND, &timeouts).unwrap().sessions_alive, 1);
    dataplane.sweeper.close([claim]);
    assert_eq!(dataplane.sweep(START + 2 * SECOND, &timeouts).unwrap().sessions_removed, 1);
}
