use super::*;
use packet::ethernet;
use trace::Link;
use trace::frames::{Packet, Transport};

const PORT: u32 = 5;
const UPLINK: u32 = 9;
const PORT_ID: model::PortId = model::PortId::from_uuid(uuid::Uuid::from_u128(5));

fn given(request: CaptureRequest) -> Request {
    let links = [
        (PORT, Link { name: "tap5".into(), up: true, port: Some(PORT_ID), physical_network: None }),
        (
            UPLINK,
            Link { name: "eth1".into(), up: true, port: None, physical_network: Some("physnet1".into()) },
        ),
    ];
    let names = Names {
        networks: [(100, "blue-net".to_owned()), (7, "outside".to_owned())].into(),
        links: links.into(),
        ..Names::default()
    };
    Request { host: "ahv01".into(), names, request, ..Request::default() }
}

fn packet(src: [u8; 4], dst: [u8; 4], port: u16) -> Vec<u8> {
    let mac = trace::MacAddr([2, 0, 0, 0, 0, 1]);
    let transport = Transport::Udp { src: port, dst: 53 };
    let packet = Packet {
        src_mac: mac,
        dst_mac: mac,
        src: src.into(),
        dst: dst.into(),
        transport,
        ttl: 64,
        dont_fragment: false,
        length: None,
    };
    packet.compose().unwrap()
}

fn tuple(frame: &[u8]) -> Tuple {
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    Tuple {
        src: frame[26..30].try_into().unwrap(),
        dst: frame[30..34].try_into().unwrap(),
        src_port: half(34),
        dst_port: half(36),
        ethertype: ethernet::TYPE_IPV4,
        protocol: 17,
        transport: frame[34..42].try_into().unwrap(),
        ..Tuple::default()
    }
}

/// A datagram of a VM to 8.8.8.8, as it came and as it left: translated, tagged, by the uplink.
fn walk() -> [Captured; 2] {
    let (came, left) =
        (packet([10, 0, 0, 5], [8, 8, 8, 8], 4000), packet([172, 22, 7, 27], [8, 8, 8, 8], 2047));
    let stages = [Stage::Classify, Stage::Snat, Stage::Resolve, Stage::Output];
    let head = Head {
        walk: 77,
        arrived_ns: 10,
        left_ns: 30,
        hook: Hook::Port as u32,
        ingress: PORT,
        verdict: 2,
        detail: UPLINK,
        stages: stages.iter().map(|stage| 1 << *stage as u32).sum(),
        arrived_vni: 100,
        left_vni: 7,
        routed: 1,
        left_vlan: 2207,
        before: tuple(&came),
        after: tuple(&left),
        frame_len: came.len() as u32,
        captured_len: came.len() as u32,
        ..Head::default()
    };
    [Captured { head, frame: came }, Captured { head: Head { point: Head::LEFT, ..head }, frame: left }]
}

fn rows(given: Request) -> Vec<Seen> {
    let view = View::new(given).unwrap();
    walk().iter().flat_map(|captured| view.rows(captured, 1000)).collect()
}

fn edges(request: CaptureRequest) -> Vec<String> {
    rows(given(request)).into_iter().map(|row| row.edge).collect()
}

#[test]
fn a_walk_is_told_at_both_ends_with_its_nat_and_its_tag() {
    let rows = rows(given(CaptureRequest::default()));
    let [came, left] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((came.at_ns, left.at_ns), (1010, 1030));
    assert_eq!((came.from.name.as_str(), came.from.network.as_str()), ("tap5", "blue-net"));
    assert_eq!(left.to.as_ref().unwrap().name, "eth1");
    assert_eq!(left.to.as_ref().unwrap().kind, PlaceKind::Uplink);
    let nat = came.nat.as_ref().unwrap();
    assert_eq!(
        (nat.before.as_str(), nat.after.as_str()),
        ("10.0.0.5:4000 > 8.8.8.8:53", "172.22.7.27:2047 > 8.8.8.8:53")
    );
    assert_eq!(left.frame.0[12..16], [0x81, 0, 8, 159]);
    assert_eq!(left.frame_len as usize, left.frame.0.len());
    assert_eq!(left.verdict, "to uplink eth1, VLAN 2207");
    assert_eq!(came.stages, ["classify", "snat", "resolve", "output"]);
    assert_ne!(came.arrived_as, came.left_as);
}

#[test]
fn edges_that_were_asked_for_and_walked_are_told_and_no_others() {
    let of = |edges: &[&str]| CaptureRequest {
        edges: edges.iter().map(|edge| (*edge).to_owned()).collect(),
        ..CaptureRequest::default()
    };
    assert_eq!(edges(of(&["out"])), ["out"]);
    assert_eq!(edges(of(&["in", "snat", "resolve", "route"])), ["in", "snat", "resolve"]);
    let between = rows(given(of(&["snat", "resolve"])));
    assert_eq!(between[0].frame.0[26..30], [10, 0, 0, 5]);
    assert_eq!(between[1].frame.0[26..30], [172, 22, 7, 27]);
    assert!(View::new(given(of(&["nat"]))).is_err());
}

#[test]
fn a_filter_is_asked_at_every_edge_by_itself_or_of_the_walk_as_a_whole() {
    let of = |filter: &str, whole| CaptureRequest {
        filter: filter.to_owned(),
        whole,
        ..CaptureRequest::default()
    };
    assert_eq!(edges(of("host 172.22.7.27", false)), ["out"]);
    assert_eq!(edges(of("host 172.22.7.27", true)), ["in", "out"]);
    assert_eq!(edges(of("host 10.0.0.5", true)), ["in", "out"]);
    assert_eq!(edges(of("port 54", true)), [""; 0]);
    assert_eq!(edges(of("vlan 2207", false)), ["out"]);
    let error = View::new(given(of("port x", false))).unwrap_err();
    assert!(error.contains("column 6"), "{error}");
}

#[test]
fn whose_own_port_it_is_sees_nothing_beyond_it() {
    let request = CaptureRequest { port: Some(PORT_ID), own: true, ..CaptureRequest::default() };
    let rows = rows(Request { ifindex: Some(PORT), ..given(request) });
    let [came] = &rows[..] else { panic!("{rows:?}") };
    let text = serde_json::to_string(came).unwrap();
    assert!(!text.contains("eth1") && !text.contains("ahv01") && !text.contains("2207"), "{text}");
    assert_eq!((came.edge.as_str(), came.verdict.as_str()), ("in", "forwarded"));
}

#[test]
fn at_the_point_itself_the_other_end_is_not_shown() {
    let request = CaptureRequest { here: true, ..CaptureRequest::default() };
    let edges = |ifindex| {
        let rows = rows(Request { ifindex: Some(ifindex), ..given(request.clone()) });
        rows.into_iter().map(|row| row.edge).collect::<Vec<_>>()
    };
    assert_eq!((edges(PORT), edges(UPLINK)), (vec!["in".to_owned()], vec!["out".to_owned()]));
}

/// A VM sends to a floating IP behind which there is another project's VM on the same host.
#[test]
fn who_is_behind_an_address_is_not_told_to_members() {
    let [mut came, mut left] = walk();
    let behind = tuple(&packet([172, 22, 7, 27], [10, 99, 99, 99], 2047));
    for captured in [&mut came, &mut left] {
        captured.head.after = behind;
        (captured.head.verdict, captured.head.detail) = (1, PORT + 1);
    }
    let request = CaptureRequest { port: Some(PORT_ID), own: true, ..CaptureRequest::default() };
    let at = |ifindex| View::new(Request { ifindex: Some(ifindex), ..given(request.clone()) }).unwrap();
    let text = |view: View, captured| serde_json::to_string(&view.rows(captured, 0)).unwrap();
    let (sender, receiver) = (text(at(PORT), &came), text(at(PORT + 1), &left));
    assert!(sender.contains("\"in\"") && !sender.contains("10.99.99.99"), "{sender}");
    assert!(receiver.contains("\"out\"") && !receiver.contains("10.0.0.5"), "{receiver}");
}

#[test]
fn places_are_those_that_were_asked_for() {
    let all = given(CaptureRequest::default());
    let router = Router { vni: 900, inside: [100].into(), addresses: [[10, 0, 0, 1].into()].into() };
    assert_eq!(rows(Request { ifindex: Some(UPLINK), ..all.clone() }).len(), 2);
    assert_eq!(rows(Request { ifindex: Some(6), ..all.clone() }).len(), 0);
    assert_eq!(rows(Request { vni: Some(7), ..all.clone() }).len(), 2);
    assert_eq!(rows(Request { vni: Some(8), ..all.clone() }).len(), 0);
    assert_eq!(rows(Request { router: Some(router.clone()), ..all.clone() }).len(), 2);
    let other = Router { inside: [101].into(), ..router };
    assert_eq!(rows(Request { router: Some(other), ..all }).len(), 0);
}
