//! Metering labels count what crosses a router's gateway: to the byte, by direction and prefix, and on after the next
//! agent's start. Method: datagrams of known size through SNAT, and a download; the page for Prometheus.

use crate::common::{Bench, GATEWAY, Vm, run_in, wait_for_within};
use agent::config::Config;
use model::MeteringLabelId;
use model::metering::Prefixes;
use model::security::Direction::{self, Egress, Ingress};
use model::slice::{Meter, MeterRule};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use uuid::Uuid;

/// Of the first agent and the next: what served for the first one may still be there.
const METRICS: [&str; 2] = ["127.0.0.1:9100", "127.0.0.1:9101"];
/// Also outside, and not counted by the label `DOWN`.
const EXCLUDED: &str = "172.22.7.9";
/// Of IPv4 and UDP.
const HEADERS_LEN: u64 = 28;
/// IPv4 and TCP without options.
const TCP_HEADERS_LEN_MIN: u64 = 40;
/// What comes to VM a, but not from `EXCLUDED`.
const DOWN: u128 = 1;
/// What VM a sends to the subnet outside.
const UP: u128 = 2;
/// What comes to VM a, as `remote_ip_prefix` says it.
const REMOTE: u128 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

fn label(number: u128) -> MeteringLabelId {
    MeteringLabelId::from_uuid(Uuid::from_u128(number))
}

fn rule(direction: Direction, excluded: bool, source: &str, destination: &str) -> MeterRule {
    let prefix = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    let prefixes = Prefixes::Ends { source: prefix(source), destination: prefix(destination) };
    MeterRule { direction, excluded, prefixes }
}

fn meters() -> Vec<Meter> {
    let vm = "192.168.10.11/32";
    let remote =
        MeterRule { direction: Ingress, excluded: false, prefixes: Prefixes::Remote(vm.parse().unwrap()) };
    let of = [
        (DOWN, vec![rule(Ingress, false, "", vm), rule(Ingress, true, "172.22.7.9/32", "")]),
        (UP, vec![rule(Egress, false, vm, "172.22.7.0/24")]),
        (REMOTE, vec![remote]),
    ];
    of.map(|(number, rules)| Meter { label: label(number), rules }).into()
}

/// Packets and bytes of a label; none: the page does not have it.
fn counted((bench, agent): (&Bench, usize), number: u128) -> Option<(u64, u64)> {
    let scrape = || {
        let mut stream = TcpStream::connect(METRICS[agent])?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page).map(|_| page)
    };
    let page = bench.host.run(scrape).unwrap().ok()?;
    let value = |what: &str| -> Option<u64> {
        let series = format!("nanboku_metering_{what}_total{{label_id=\"{}\"}} ", label(number));
        page.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    };
    Some((value("packets")?, value("bytes")?))
}

/// Waits until the labels counted that: packets and bytes.
fn expect(bench: (&Bench, usize), when: &str, want: [(u128, (u64, u64)); 3]) {
    let all = || want.map(|(number, _)| (number, counted(bench, number)));
    let told = want.map(|(number, counts)| (number, Some(counts)));
    wait_for_within(
        PATIENCE,
        || format!("{when}: {told:?}; last seen: {:?}", all()),
        || (all() == told).then_some(()),
    );
}

fn udp(netns: &netlink::Netns, address: &str) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The VM sends 100 bytes and gets `answers` of 1000 bytes.
fn ask(vm: &UdpSocket, outside: &UdpSocket, answers: usize) {
    let mut buffer = [0; 2048];
    vm.send_to(&[1; 100], outside.local_addr().unwrap()).unwrap();
    let (len, seen) = outside.recv_from(&mut buffer).unwrap();
    assert_eq!(len, 100);
    for _ in 0..answers {
        outside.send_to(&[2; 1000], seen).unwrap();
        assert_eq!(vm.recv_from(&mut buffer).unwrap().0, 1000);
    }
}

/// A download of that many bytes by TCP.
fn download(bench: &Bench, vm: &Vm, len: usize) {
    let listener = bench.outside.run(|| TcpListener::bind((GATEWAY, 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(&vec![3; len]).unwrap());
    let mut stream = vm.0.run(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), len);
    server.join().unwrap();
}

#[test]
fn labels_count_what_crosses_the_gateway_to_the_byte() {
    let mut bench = Bench::new("meter");
    bench.ip("link set lo up");
    assert!(run_in(&bench.outside, &format!("ip addr add {EXCLUDED}/24 dev ext0")));
    bench.change_slice(|slice| {
        let gateways = slice.routers.values_mut().filter_map(|router| router.gateway.as_mut());
        gateways.for_each(|gateway| gateway.meters = meters());
    });
    let listening = |agent: usize| Some(METRICS[agent].parse::<SocketAddr>().unwrap());
    bench.start_with(Config { metrics_listen: listening(0), ..bench.config() });
    let (vm_a, vm_b) = (bench.vm("a"), bench.vm("b"));
    bench.plug(1, &vm_a).unwrap();
    bench.plug(2, &vm_b).unwrap();
    // Of this VM nothing is counted; then the neighbours outside are known.
    assert!(vm_b.reaches(GATEWAY) && vm_b.reaches(EXCLUDED));
    expect((&bench, 0), "at the start", [(DOWN, (0, 0)), (UP, (0, 0)), (REMOTE, (0, 0))]);

    let vm = udp(&vm_a.0, "192.168.10.11:4000");
    let counted_outside = udp(&bench.outside, &format!("{GATEWAY}:4001"));
    let excluded_outside = udp(&bench.outside, &format!("{EXCLUDED}:4001"));
    ask(&vm, &counted_outside, 40);
    ask(&vm, &excluded_outside, 10);
    let (sent, got) = (100 + HEADERS_LEN, 1000 + HEADERS_LEN);
    let so_far = [(DOWN, (40, 40 * got)), (UP, (2, 2 * sent)), (REMOTE, (50, 50 * got))];
    expect((&bench, 0), "after the datagrams", so_far);

    let len: u64 = 1 << 20;
    download(&bench, &vm_a, usize::try_from(len).unwrap());
    let down = || counted((&bench, 0), DOWN).map(|(packets, bytes)| (packets - 40, bytes - 40 * got));
    let said = || format!("packets and bytes of a download of {len} bytes; last seen: {:?}", down());
    // Every packet on the wire has headers of its own, also of those that came merged.
    let whole = |(packets, bytes): &(u64, u64)| *bytes >= len + packets * TCP_HEADERS_LEN_MIN;
    let (_, bytes) = wait_for_within(PATIENCE, said, || down().filter(whole));
    assert!(bytes < len + len / 5, "{bytes}: more than headers and a few repetitions");

    bench.kill();
    bench.start_with(Config { metrics_listen: listening(1), ..bench.config() });
    let zero = [(DOWN, (0, 0)), (UP, (0, 0)), (REMOTE, (0, 0))];
    expect((&bench, 1), "what was counted already is not counted again", zero);
    ask(&vm, &counted_outside, 3);
    let want = [(DOWN, (3, 3 * got)), (UP, (1, sent)), (REMOTE, (3, 3 * got))];
    expect((&bench, 1), "a session of before goes on", want);
}
