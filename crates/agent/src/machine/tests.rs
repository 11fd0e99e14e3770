//! Goal: the agent's logic from message to plan, frames and answers, without a kernel or a network.
//! Method: one host `ahv01` with an uplink; `Bench` plays the kernel (every plan succeeds) and the clock.

use super::*;
use model::slice::*;
use model::{HostId, NetworkId, RouterId, SubnetId};
use packet::compose::{ArpSender, arp_reply};
use pipeline::bounds::EVENT_PACKET_BYTES;
use pipeline::tables::{NeighborKey, StationKey};
use pipeline::{Address, Ingress};
use uuid::Uuid;

const UNDERLAY: u32 = 2;
pub(super) const UPLINK: u32 = 3;
const TUNNEL: u32 = 4;
pub(super) const TAP: u32 = 11;
const EXTERNAL_VNI: u32 = 201;
const ROUTER_VNI: u32 = 301;
const GATEWAY: [u8; 4] = [172, 22, 7, 1];
const GATEWAY_MAC: packet::MacAddr = packet::MacAddr([2, 0, 0, 0, 7, 1]);
const DVR_MAC: &str = "fa:16:3f:00:00:01";

pub(super) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn host() -> HostId {
    HostId::from_uuid(id(1))
}

pub(super) fn vm_a() -> PortId {
    "2b3f1c44-0000-4000-8000-000000000001".parse().unwrap()
}

pub(super) fn slice() -> Slice {
    let mut slice = Slice { revision: 7, ..Slice::default() };
    let subnet = |cidr: &str, gateway: &str| {
        let subnet = Subnet::new(cidr.parse().unwrap(), Some(gateway.parse().unwrap()));
        BTreeMap::from([(SubnetId::from_uuid(id(9)), subnet)])
    };
    let vni = |number| Vni::new(number).unwrap();
    let (blue, provider) = (NetworkId::from_uuid(id(2)), NetworkId::from_uuid(id(3)));
    slice.hosts.insert(
        host(),
        Host {
            name: "ahv01".to_owned(),
            vtep: Ipv4Addr::new(10, 1, 0, 1),
            dvr_mac: DVR_MAC.parse().unwrap(),
            physical_networks: vec!["physnet1".to_owned()],
            live: true,
        },
    );
    let subnets = subnet("192.168.10.0/24", "192.168.10.1");
    let network = Network { vni: vni(101), name: "blue".to_owned(), mtu: 1450, admin_up: true, subnets };
    slice.networks.insert(blue, network);
    let external = ExternalNetwork {
        vni: vni(EXTERNAL_VNI),
        name: "provider".to_owned(),
        mtu: 1500,
        physical_network: "physnet1".to_owned(),
        vlan: Some(2207),
        egress: Egress::Direct,
        block_size: 1024,
        subnets: subnet("172.22.7.0/24", "172.22.7.1"),
        gateways: vec![host()],
    };
    slice.external_networks.insert(provider, external);
    let gateway = RouterGateway {
        network: provider,
        enable_snat: true,
        addresses: vec![Ipv4Addr::new(172, 22, 7, 27)],
        ipv6_addresses: Vec::new(),
        filtering: Default::default(),
        ports_per_vm_max: 0,
        mappings_per_second_max: 0,
        port_control: false,
        untranslated_destinations: Vec::new(),
        meters: Vec::new(),
    };
    let router = Router {
        vni: vni(ROUTER_VNI),
        name: "blue".to_owned(),
        admin_up: true,
        interfaces: Vec::new(),
        gateway: Some(gateway),
        routes: Vec::new(),
    };
    slice.routers.insert(RouterId::from_uuid(id(4)), router);
    let port = Port {
        network: blue,
        mac: "fa:16:3e:00:00:01".parse().unwrap(),
        addresses: vec![Ipv4Addr::new(192, 168, 10, 11).into()],
        host: Some(host()),
        admin_up: true,
        port_security: true,
        allowed_pairs: Vec::new(),
        security_groups: None,
        guest: None,
    };
    slice.ports.insert(vm_a(), port);
    slice
}

pub(super) fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.to_owned(), up: true, veth_peer_elsewhere: false }
}

fn tap() -> Link {
    link(TAP, &vm_a().link_name())
}

pub(super) struct Bench {
    pub(super) machine: Machine,
    pub(super) now: Instant,
}

impl Bench {
    /// Links and tunnel are there, nothing is known yet.
    fn new() -> Self {
        let mut machine = Machine::new(Settings {
            vtep: Ipv4Addr::new(10, 1, 0, 1),
            underlay_ifindex: UNDERLAY,
            underlay_net: "10.1.0.1/24".parse().unwrap(),
            underlay_mtu: 1500,
            physical_networks: BTreeMap::from([("physnet1".to_owned(), "uplink0".to_owned())]),
            tunnel: TunnelSettings { lone_path: true, liveness: true },
            sessions_per_vm_max: 0,
            acl_sizes: Default::default(),
            dhcp_lease_s: 86_400,
        });
        let now = Instant::now();
        machine.set_links(now, vec![link(UNDERLAY, "eth0"), link(UPLINK, "uplink0")]);
        machine.tunnel_ready(Some(TunnelLink { ifindex: TUNNEL, geneve_as_vxlan: true }));
        Self { machine, now }
    }

    pub(super) fn connected() -> Self {
        let mut bench = Self::new();
        bench.connect();
        bench
    }

    fn connect(&mut self) {
        self.machine.connected(self.now);
        let welcome = proto::Welcome {
            host_id: host().to_string(),
            dvr_mac: DVR_MAC.to_owned(),
            cluster_id: "c".to_owned(),
            tunnel: "geneve:6081".to_owned(),
            nat_timeouts: None,
        };
        let slice = serde_json::to_vec(&slice()).unwrap();
        self.hear(controller_message::Message::Welcome(welcome)).unwrap();
        self.hear(controller_message::Message::Snapshot(proto::Snapshot { slice })).unwrap();
    }

    fn set_up(&mut self, index: u32, name: &str, up: bool) {
        self.machine.link_present(self.now, Link { up, ..link(index, name) });
        self.machine.tick(self.now);
        self.program();
    }

    pub(super) fn hear(
        &mut self,
        message: controller_message::Message,
    ) -> Result<Option<proto::Question>, BadMessage> {
        self.machine.controller(self.now, message)
    }

    /// Carries out what is planned. False if nothing was.
    pub(super) fn program(&mut self) -> bool {
        let Some(plan) = self.machine.plan() else { return false };
        self.machine.carried_out(self.now, plan);
        true
    }

    pub(super) fn messages(&mut self) -> Vec<agent_message::Message> {
        self.machine.messages(self.now, |_| BTreeMap::from([("in-port".to_owned(), 5)]))
    }

    /// Programmed messages among those due: revision and number of ports.
    fn reports(&mut self) -> Vec<(u64, usize)> {
        let programmed = self.messages().into_iter().filter_map(|message| match message {
            agent_message::Message::Programmed(programmed) => {
                Some((programmed.revision, programmed.port_ids.len()))
            }
            _ => None,
        });
        programmed.collect()
    }

    fn statuses(&mut self) -> Vec<proto::Status> {
        let statuses = self.messages().into_iter().filter_map(|message| match message {
            agent_message::Message::Status(status) => Some(status),
            _ => None,
        });
        statuses.collect()
    }

    fn hooks(&self) -> Vec<(Hook, u32)> {
        let plan = self.machine.programmed().unwrap();
        plan.hooks.iter().map(|attachment| (attachment.hook, attachment.ifindex)).collect()
    }
}

pub(super) fn event(punt: Punt, ingress: u32, vni: u32) -> Event {
    Event {
        punt: punt as u32,
        ingress,
        vni,
        detail: 0,
        address: Address::ZERO,
        vtep: Address::ZERO,
        frame_len: 0,
        packet_len: 0,
        packet: [0; EVENT_PACKET_BYTES],
    }
}

fn arp_from_gateway() -> Event {
    arp_from(GATEWAY_MAC, GATEWAY)
}

fn arp_from(mac: packet::MacAddr, ip: [u8; 4]) -> Event {
    let sender = ArpSender { mac, ip, vlan: None };
    let frame = arp_reply(&sender, (packet::MacAddr([0xfa, 0x16, 0x3f, 0, 0, 1]), [0; 4]));
    let mut event = event(Punt::LearnNeighbor, UPLINK, EXTERNAL_VNI);
    event.packet[..frame.len()].copy_from_slice(&frame);
    event.packet_len = frame.len() as u32;
    event
}

#[test]
fn nothing_is_planned_before_the_slice_is_known() {
    let mut bench = Bench::new();
    assert!(!bench.program());
    bench.connect();
    assert!(bench.program());
    assert!(!bench.program(), "nothing changed since");
}

#[test]
fn a_slice_from_disk_is_programmed_without_a_controller() {
    let mut bench = Bench::new();
    let welcome = Welcome {
        host: host(),
        dvr_mac: DVR_MAC.parse().unwrap(),
        cluster: "c".to_owned(),
        tunnel: Tunnel { geneve: true, port: 6081 },
        nat_timeouts: NatTimeouts::default(),
    };
    bench.machine.restore(welcome, slice());
    bench.machine.link_present(bench.now, tap());
    assert!(bench.program());
    assert_eq!(bench.messages(), []);
    assert!(bench.machine.views()[&vm_a()].programmed);
    assert!(bench.machine.take_unsaved(bench.now + SAVE_AFTER).is_none(), "it is on disk already");
}

#[test]
fn neighbours_that_an_earlier_agent_left_stay_in_the_tables() {
    let mut bench = Bench::connected();
    bench.program();
    bench.machine.event(bench.now, &arp_from_gateway());
    bench.program();
    let before = bench.machine.programmed().unwrap().compiled.tables.clone();
    let mut next = Bench::connected();
    next.machine.adopt(next.now, &before);
    next.program();
    assert_eq!(next.machine.programmed().unwrap().compiled.tables, before);
}

#[test]
fn programmed_is_told_once_and_again_when_ports_or_connection_change() {
    let mut bench = Bench::connected();
    assert_eq!(bench.reports(), [], "not before it is in the kernel");
    bench.program();
    assert_eq!(bench.reports(), [(7, 0)]);
    assert_eq!(bench.reports(), []);
    bench.machine.link_present(bench.now, tap());
    bench.program();
    assert_eq!(bench.reports(), [(7, 1)]);
    bench.machine.link_removed(bench.now, TAP);
    bench.program();
    assert_eq!(bench.reports(), [(7, 0)]);
    bench.machine.disconnected();
    bench.connect();
    bench.program();
    assert_eq!(bench.reports(), [(7, 0)]);
}

#[test]
fn a_delta_is_programmed_and_its_revision_told_even_if_no_table_changes() {
    let mut bench = Bench::connected();
    bench.program();
    bench.reports();
    let delta = serde_json::to_vec(&Delta { revision: 8, ..Delta::default() }).unwrap();
    bench.hear(controller_message::Message::Delta(proto::Delta { delta })).unwrap();
    assert!(bench.program());
    assert_eq!(bench.reports(), [(8, 0)]);
}

#[test]
fn every_tap_gets_a_program_and_only_ports_get_tables() {
    let mut bench = Bench::connected();
    bench.machine.link_present(bench.now, tap());
    bench.machine.link_present(bench.now, link(12, "tapdeadbeef-01"));
    bench.machine.link_present(bench.now, link(13, "tap0"));
    bench.program();
    let want = [(Hook::Port, TAP), (Hook::Port, 12), (Hook::Tunnel, TUNNEL), (Hook::Uplink, UPLINK)];
    assert_eq!(bench.hooks(), [&want[..], &[(Hook::Underlay, UNDERLAY)]].concat());
    let tables = &bench.machine.programmed().unwrap().compiled.tables;
    assert_eq!(tables.ports.keys().collect::<Vec<_>>(), [&PortKey { ifindex: TAP }]);
    let status = bench.statuses().pop().unwrap();
    let mut ids = status.link_port_ids;
    ids.sort();
    assert_eq!(ids, [vm_a().to_string(), "deadbeef-01".to_owned()]);
}

#[test]
fn a_link_that_comes_back_under_another_index_is_programmed_anew() {
    let mut bench = Bench::connected();
    bench.machine.link_present(bench.now, tap());
    bench.program();
    bench.machine.link_present(bench.now, Link { index: 21, ..tap() });
    bench.machine.link_removed(bench.now, TAP);
    bench.program();
    let tables = &bench.machine.programmed().unwrap().compiled.tables;
    let key = StationKey { vni: 101, mac: packet::MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]), zero: 0 };
    assert_eq!(tables.stations[&key].id, 21);
    assert_eq!(tables.ports.len(), 1);
}

#[test]
fn status_is_sent_at_once_on_change_and_every_few_seconds() {
    let mut bench = Bench::connected();
    let status = bench.statuses().pop().unwrap();
    assert_eq!(status.counters, [proto::Counter { name: "in-port".to_owned(), value: 5 }]);
    assert!(status.uplinks[0].up);
    assert_eq!(bench.statuses(), []);
    bench.machine.link_present(bench.now, Link { up: false, ..link(UPLINK, "uplink0") });
    assert!(!bench.statuses().pop().unwrap().uplinks[0].up);
    bench.now += STATUS_EVERY;
    assert_eq!(bench.statuses().len(), 1);
    bench.machine.link_present(bench.now, link(99, "eth9"));
    assert_eq!(bench.statuses(), [], "other links do not matter");
}

#[test]
fn the_external_gateway_is_resolved_unasked_and_its_answer_programmed() {
    let mut bench = Bench::connected();
    bench.program();
    let frames = bench.machine.tick(bench.now);
    let sender = bench.machine.arp_sender(Ipv4Addr::UNSPECIFIED, 2207).unwrap();
    let probe = Outgoing { ifindex: UPLINK, frame: arp_probe(&sender, GATEWAY).to_vec() };
    assert!(frames.contains(&probe), "{frames:?}");
    bench.machine.event(bench.now, &arp_from_gateway());
    assert!(bench.program());
    let key = NeighborKey { vni: EXTERNAL_VNI, address: Address::v4(GATEWAY) };
    let tables = &bench.machine.programmed().unwrap().compiled.tables;
    assert_eq!(tables.neighbors[&key].mac, GATEWAY_MAC);
    bench.machine.event(bench.now, &arp_from_gateway());
    assert!(!bench.program(), "the same answer again is no change");
}

#[test]
fn an_address_is_announced_in_both_forms_while_this_host_answers_for_it() {
    let mut bench = Bench::connected();
    bench.program();
    bench.machine.event(bench.now, &arp_from_gateway());
    bench.program();
    let frames = bench.machine.tick(bench.now);
    let sender = bench.machine.arp_sender(Ipv4Addr::new(172, 22, 7, 27), 2207).unwrap();
    let want = [arp_announcement(&sender), arp_announcement_reply(&sender)].map(|frame| frame.to_vec());
    assert_eq!(frames.into_iter().map(|frame| frame.frame).collect::<Vec<_>>(), want);
    bench.machine.link_present(bench.now, Link { up: false, ..link(UPLINK, "uplink0") });
    bench.program();
    bench.now += Duration::from_secs(2);
    assert_eq!(bench.machine.tick(bench.now), []);
}

fn block_id(first_port: u16) -> BlockId {
    BlockId {
        external_network: NetworkId::from_uuid(id(3)),
        address: Ipv4Addr::new(172, 22, 7, 27),
        first_port,
    }
}

impl Bench {
    /// The data path says that blocks run low; how often the controller is asked for more.
    fn low(&mut self) -> usize {
        let low = Event { detail: ROUTER_VNI, ..event(Punt::PortBlockLow, TAP, EXTERNAL_VNI) };
        for _ in 0..10 {
            assert_eq!(self.machine.event(self.now, &low), None);
        }
        let want = proto::BlockRequest { router_id: id(4).to_string() };
        let asked = self.messages().into_iter().filter(|message| match message {
            agent_message::Message::BlockRequest(request) => *request == want,
            _ => false,
        });
        asked.count()
    }

    /// The controller gives, takes or retires a block of this host.
    fn block(&mut self, revision: u64, first_port: u16, retiring: bool) {
        let block = Block { router: RouterId::from_uuid(id(4)), host: host(), retiring };
        let upserts = vec![Object::Block(block_id(first_port), block)];
        let delta = serde_json::to_vec(&Delta { revision, upserts, removals: vec![] }).unwrap();
        self.hear(controller_message::Message::Delta(proto::Delta { delta })).unwrap();
        assert!(self.program());
    }
}

#[test]
fn one_request_for_blocks_is_outstanding_and_repeated_less_and_less_often() {
    let mut bench = Bench::connected();
    bench.program();
    bench.messages();
    assert_eq!(bench.low(), 1);
    assert_eq!(bench.low(), 0);
    for seconds in [1, 2, 4, 8, 16, 32, 32] {
        bench.now += Duration::from_secs(seconds) - Duration::from_millis(1);
        assert_eq!(bench.low(), 0, "before {seconds} s");
        bench.now += Duration::from_millis(1);
        assert_eq!(bench.low(), 1, "after {seconds} s");
    }
    let foreign = Event { detail: 999, ..event(Punt::PortBlockLow, TAP, EXTERNAL_VNI) };
    bench.machine.event(bench.now + Duration::from_secs(60), &foreign);
    assert_eq!(bench.messages(), []);
}

#[test]
fn a_burst_gets_one_grant_after_the_other_without_waiting() {
    let mut bench = Bench::connected();
    bench.program();
    bench.messages();
    for number in 1..=5_u16 {
        assert_eq!(bench.low(), 1, "request {number}");
        bench.now += Duration::from_millis(5);
        bench.block(7 + u64::from(number), 1024 * number, false);
        bench.messages();
        assert_eq!(bench.low(), 0, "an event from before the grant");
        bench.now += Duration::from_millis(10);
    }
}

#[test]
fn the_use_of_every_block_is_told_when_it_is_in_the_tables() {
    let mut bench = Bench::connected();
    bench.program();
    bench.block(8, 1024, false);
    bench.block(9, 2048, true);
    let told = |bench: &mut Bench| {
        bench.now += STATUS_EVERY;
        let status = bench.statuses().pop().unwrap();
        status.blocks.into_iter().map(|block| (block.block_id, block.retiring)).collect::<Vec<_>>()
    };
    let want = [(block_id(1024).to_string(), false), (block_id(2048).to_string(), true)];
    assert_eq!(told(&mut bench), want);
    let tables = &bench.machine.programmed().unwrap().compiled.tables;
    let first_ports: Vec<u16> = tables.own_blocks.values().map(|block| block.first).collect();
    assert_eq!(first_ports, [1024], "no new mappings where it retires");
    assert_eq!(tables.block_owners.len(), 2, "those there are live on");
    let block = Block { router: RouterId::from_uuid(id(4)), host: host(), retiring: true };
    let upserts = vec![Object::Block(block_id(1024), block)];
    let delta = serde_json::to_vec(&Delta { revision: 10, upserts, removals: vec![] }).unwrap();
    bench.hear(controller_message::Message::Delta(proto::Delta { delta })).unwrap();
    assert_eq!(told(&mut bench), [], "heard of, not yet programmed");
}

#[test]
fn errors_about_packets_from_the_tunnel_are_left_to_their_host_and_counted() {
    let mut bench = Bench::connected();
    bench.program();
    let from_tunnel = event(Punt::TtlExceeded, Ingress::TUNNEL_ID, ROUTER_VNI);
    assert_eq!(bench.machine.event(bench.now, &from_tunnel), None);
    assert_eq!(bench.machine.event(bench.now, &event(Punt::TtlExceeded, UPLINK, EXTERNAL_VNI)), None);
    assert_eq!(bench.machine.event(bench.now, &Event { punt: 200, ..from_tunnel }), None);
    assert_eq!(bench.machine.unanswered, Unanswered { from_tunnel: 1, refused: 1 });
}

#[test]
fn bad_messages_change_nothing() {
    let mut bench = Bench::connected();
    bench.program();
    let bytes = b"{".to_vec();
    let bad = [
        controller_message::Message::Snapshot(proto::Snapshot { slice: bytes.clone() }),
        controller_message::Message::Delta(proto::Delta { delta: bytes }),
        controller_message::Message::Welcome(proto::Welcome::default()),
    ];
    for message in bad {
        assert!(bench.hear(message).is_err());
        assert!(!bench.program());
    }
    let delta = serde_json::to_vec(&Delta::default()).unwrap();
    let first = controller_message::Message::Delta(proto::Delta { delta });
    assert!(matches!(Bench::new().hear(first), Err(BadMessage::DeltaFirst)));
}

/// What another controller configuration says, or one that cannot be.
fn welcome_with(nat_timeouts: NatTimeouts) -> controller_message::Message {
    let NatTimeouts { udp_s, icmp_s, tcp_established_s, tcp_transitory_s, tcp_closed_s, port_rest_s } =
        nat_timeouts;
    let told =
        proto::NatTimeouts { udp_s, icmp_s, tcp_established_s, tcp_transitory_s, tcp_closed_s, port_rest_s };
    controller_message::Message::Welcome(proto::Welcome {
        host_id: host().to_string(),
        dvr_mac: DVR_MAC.to_owned(),
        cluster_id: "c".to_owned(),
        tunnel: "geneve:6081".to_owned(),
        nat_timeouts: Some(told),
    })
}

#[test]
fn nat_timeouts_are_taken_over_at_once_and_kept() {
    let mut bench = Bench::connected();
    assert_eq!(bench.machine.nat_timeouts(), NatTimeouts::default(), "the controller named none");
    bench.machine.take_unsaved(bench.now + SAVE_AFTER);
    let longer = NatTimeouts { udp_s: 600, ..NatTimeouts::default() };
    bench.hear(welcome_with(longer)).unwrap();
    assert_eq!(bench.machine.nat_timeouts(), longer);
    let saved = bench.machine.take_unsaved(bench.now + SAVE_AFTER).map(|(welcome, _)| welcome.nat_timeouts);
    assert_eq!(saved, Some(longer));
    let error = bench.hear(welcome_with(NatTimeouts { icmp_s: 5, ..longer })).unwrap_err().to_string();
    assert_eq!(error, "the controller's welcome has a bad icmp_s: '5'");
    assert_eq!(bench.machine.nat_timeouts(), longer);
}

#[test]
fn the_state_is_saved_a_moment_after_it_changed() {
    let mut bench = Bench::connected();
    assert!(bench.machine.take_unsaved(bench.now).is_none());
    let due = bench.now + SAVE_AFTER;
    assert!(bench.machine.deadline().is_some_and(|deadline| deadline <= due));
    assert_eq!(bench.machine.take_unsaved(due).map(|(_, slice)| slice.revision), Some(7));
    assert!(bench.machine.take_unsaved(due).is_none());
}

#[test]
fn a_port_is_told_with_what_its_other_end_needs() {
    let mut bench = Bench::connected();
    bench.program();
    let want = PortView {
        mac: "fa:16:3e:00:00:01".parse().unwrap(),
        addresses: vec![(Ipv4Addr::new(192, 168, 10, 11), 24)],
        mtu: 1450,
        gateway: Some(Ipv4Addr::new(192, 168, 10, 1)),
        programmed: false,
    };
    assert_eq!(bench.machine.views(), BTreeMap::from([(vm_a(), want)]));
}

/// Adds a second gateway to the slice.
fn with_second_gateway(bench: &mut Bench) -> HostId {
    let other = HostId::from_uuid(id(2));
    let mut slice = slice();
    let own = slice.hosts[&host()].clone();
    slice.hosts.insert(other, Host { name: "ahv02".to_owned(), vtep: Ipv4Addr::new(10, 1, 0, 2), ..own });
    for network in slice.external_networks.values_mut() {
        network.gateways.push(other);
    }
    let slice = serde_json::to_vec(&slice).unwrap();
    bench.hear(controller_message::Message::Snapshot(proto::Snapshot { slice })).unwrap();
    bench.machine.tick(bench.now);
    bench.program();
    other
}

/// The same, and it is in use.
fn with_known_gateway(bench: &mut Bench) -> HostId {
    let other = with_second_gateway(bench);
    run(bench, Duration::from_secs(1), router_answers);
    other
}

/// Whether this host answers for the SNAT address, and its flags for the external network.
fn duties(bench: &Bench) -> (bool, u32) {
    let tables = &bench.machine.programmed().unwrap().compiled.tables;
    let address = tables.external_addresses.values().next().unwrap();
    let external = tables.externals.values().next().unwrap();
    (address.flags & ExternalAddress::FLAG_ANSWER != 0, external.flags)
}

#[test]
fn a_host_takes_over_from_the_dead_and_takes_itself_out_when_its_uplink_fails() {
    let mut bench = Bench::connected();
    let other = with_known_gateway(&mut bench);
    let wanted = bench.machine.liveness_wanted();
    assert_eq!(wanted.peers, BTreeMap::from([(other, Ipv4Addr::new(10, 1, 0, 2))]));
    assert!(wanted.serving && !wanted.path_down);
    bench.machine.set_verdicts(bench.now, Verdicts { dead: BTreeSet::from([other]), ..Verdicts::default() });
    assert!(bench.program());
    assert_eq!(duties(&bench), (true, 3));
    bench.machine.set_verdicts(bench.now, Verdicts::default());
    bench.set_up(UPLINK, "uplink0", false);
    assert_eq!(duties(&bench), (false, 0));
    assert!(bench.machine.liveness_wanted().path_down, "others are told");
}

#[test]
fn an_address_that_the_dead_announced_is_announced_again() {
    let mut bench = Bench::connected();
    let other = with_known_gateway(&mut bench);
    let dead = Verdicts { dead: BTreeSet::from([other]), ..Verdicts::default() };
    bench.machine.set_verdicts(bench.now, dead.clone());
    bench.program();
    run(&mut bench, Duration::from_secs(90), router_answers);
    let address = [172, 22, 7, 27];
    let sender = bench.machine.arp_sender(address.into(), 2207).unwrap();
    let announcement = arp_announcement(&sender).to_vec();
    let announces =
        |bench: &mut Bench| bench.machine.tick(bench.now).iter().any(|sent| sent.frame == announcement);
    assert!(!announces(&mut bench));
    bench.machine.event(bench.now, &arp_from(packet::MacAddr([0xfa, 0x16, 0x3f, 0, 0, 9]), address));
    bench.machine.set_verdicts(bench.now, Verdicts::default());
    bench.machine.set_verdicts(bench.now, dead);
    assert!(announces(&mut bench), "the outside believes the other one");
    assert!(!announces(&mut bench), "once is enough");
}

/// Everything the machine sends until `span` has passed, and what it thinks it has to do then.
fn run(bench: &mut Bench, span: Duration, mut answer: impl FnMut(&mut Bench, &Outgoing)) {
    let end = bench.now + span;
    while bench.machine.deadline().is_some_and(|deadline| deadline <= end) {
        bench.now = bench.now.max(bench.machine.deadline().unwrap());
        for frame in bench.machine.tick(bench.now) {
            answer(bench, &frame);
        }
        bench.program();
        bench.messages();
        bench.machine.take_unsaved(bench.now);
    }
    bench.now = end;
}

/// Who an ARP frame asks for, if it is a question.
fn asked(frame: &Outgoing) -> Option<[u8; 4]> {
    let arp: packet::arp::Header = packet::read(&frame.frame, 18)?;
    (arp.sender_ip == [0; 4]).then_some(arp.target_ip)
}

/// An ARP answer arrives.
fn hears(bench: &mut Bench, mac: packet::MacAddr, ip: [u8; 4]) {
    let own = packet::MacAddr(DVR_MAC.parse::<Mac>().unwrap().0);
    let sender = ArpSender { mac, ip, vlan: Some(2207) };
    let frame = arp_reply(&sender, (own, [0; 4]));
    let mut event = event(Punt::LearnNeighbor, UPLINK, EXTERNAL_VNI);
    event.packet[..frame.len()].copy_from_slice(&frame);
    event.packet_len = frame.len() as u32;
    bench.machine.event(bench.now, &event);
}

/// What the router behind the uplink does.
fn router_answers(bench: &mut Bench, frame: &Outgoing) {
    if asked(frame) == Some(GATEWAY) {
        hears(bench, GATEWAY_MAC, GATEWAY);
    }
}

const SNAT: [u8; 4] = [172, 22, 7, 27];
const OTHER_MAC: packet::MacAddr = packet::MacAddr([0xfa, 0x16, 0x3f, 0, 0, 2]);

#[test]
fn a_gateway_that_falls_silent_is_told_to_the_others_within_two_hundred_milliseconds() {
    let mut bench = Bench::connected();
    with_known_gateway(&mut bench);
    hears(&mut bench, GATEWAY_MAC, GATEWAY);
    bench.program();
    run(&mut bench, Duration::from_secs(3), router_answers);
    assert!(!bench.machine.liveness_wanted().path_down);
    run(&mut bench, Duration::from_millis(200), |_, _| {});
    assert!(bench.machine.liveness_wanted().path_down);
    assert_eq!(duties(&bench), (false, 0), "the other gateway does");
    run(&mut bench, Duration::from_secs(1), router_answers);
    assert!(!bench.machine.liveness_wanted().path_down);
}

#[test]
fn a_host_that_hears_nobody_yields_to_whoever_answers_and_takes_what_nobody_answers_for() {
    let mut bench = Bench::connected();
    let other = with_known_gateway(&mut bench);
    let own = bench.machine.programmed().unwrap().compiled.tables.external_addresses.values().next().unwrap();
    let natural = own.flags & ExternalAddress::FLAG_ANSWER != 0;
    let alone = Verdicts { dead: BTreeSet::from([other]), alone: true, ..Verdicts::default() };
    bench.machine.set_verdicts(bench.now, alone);
    run(&mut bench, Duration::ZERO, router_answers);
    assert_eq!(duties(&bench), (natural, 3), "nothing has moved yet");
    let rival = |bench: &mut Bench, frame: &Outgoing| {
        router_answers(bench, frame);
        if asked(frame) == Some(SNAT) {
            hears(bench, OTHER_MAC, SNAT);
        }
    };
    run(&mut bench, Duration::from_secs(5), rival);
    assert_eq!(duties(&bench), (false, 3), "another answers; it sends for its own VMs all the same");
    run(&mut bench, Duration::from_secs(2), router_answers);
    assert_eq!(duties(&bench).0, natural, "nobody answers, and this host has no port block of it");
    bench.machine.set_verdicts(bench.now, Verdicts::default());
    run(&mut bench, Duration::from_secs(1), router_answers);
    assert_eq!(duties(&bench), (natural, 3));
}

#[test]
fn a_drained_host_answers_for_a_second_and_forwards_for_ten() {
    let mut bench = Bench::connected();
    let other = with_known_gateway(&mut bench);
    let mut drained = bench.machine.slice.clone().unwrap();
    for network in drained.external_networks.values_mut() {
        network.egress = Egress::Gateway;
    }
    let tell = |bench: &mut Bench, slice: &Slice| {
        let slice = serde_json::to_vec(slice).unwrap();
        bench.hear(controller_message::Message::Snapshot(proto::Snapshot { slice })).unwrap();
        bench.program();
    };
    tell(&mut bench, &drained);
    let answered = duties(&bench).0;
    for network in drained.external_networks.values_mut() {
        network.gateways = vec![other];
    }
    tell(&mut bench, &drained);
    assert_eq!(duties(&bench), (answered, 2));
    run(&mut bench, Duration::from_millis(1001), router_answers);
    assert_eq!(duties(&bench), (false, 2));
    run(&mut bench, Duration::from_secs(9), router_answers);
    assert_eq!(duties(&bench), (false, 0));
}

#[test]
fn a_new_gateway_is_used_when_it_has_had_the_time_to_become_one() {
    let mut bench = Bench::connected();
    bench.program();
    let gateways = |bench: &Bench| bench.machine.programmed().unwrap().compiled.tables.gateways.len();
    assert_eq!(gateways(&bench), 1);
    with_second_gateway(&mut bench);
    assert_eq!(gateways(&bench), 1, "not yet");
    run(&mut bench, Duration::from_millis(501), |_, _| {});
    assert_eq!(gateways(&bench), 2);
}

#[test]
fn a_standby_says_nothing_but_questions() {
    let mut bench = Bench::connected();
    with_known_gateway(&mut bench);
    let other = bench.machine.verdicts.dead.clone();
    assert!(other.is_empty());
    let slice = bench.machine.slice.clone().unwrap();
    let (id, network) = slice.external_networks.iter().next().unwrap();
    let mut network = network.clone();
    network.gateways.retain(|gateway| *gateway != host());
    let upserts = vec![Object::ExternalNetwork(*id, network)];
    let delta = serde_json::to_vec(&Delta { revision: 9, upserts, removals: vec![] }).unwrap();
    bench.hear(controller_message::Message::Delta(proto::Delta { delta })).unwrap();
    bench.program();
    run(&mut bench, Duration::from_secs(2), |_, _| {});
    let mut said = 0;
    run(&mut bench, Duration::from_secs(200), |_, frame| {
        assert_eq!(asked(frame), Some(GATEWAY), "a question without a sender: {:?}", frame.frame);
        said += 1;
    });
    assert!(said < 60, "{said} questions for its own neighbour in 200 s");
}
