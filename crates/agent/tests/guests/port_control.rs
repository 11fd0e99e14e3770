//! PCP on the wire: a VM asks its router for mappings, and strangers outside reach it by them.

use super::dhcp::count;
use crate::common::{Bench, SNAT_ADDRESS, Vm, wait_for};
use netlink::Netns;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const VM: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 11);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 1);
const ANYCAST: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 9);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 1);
const NONCE: [u8; 12] = *b"a dozen byte";
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A host whose router lets VMs ask, with one VM.
fn bench(title: &str) -> (Bench, Vm) {
    let mut bench = Bench::new(title);
    bench.change_slice(|slice| {
        let gateways = slice.routers.values_mut().filter_map(|router| router.gateway.as_mut());
        gateways.for_each(|gateway| gateway.port_control = true);
    });
    bench.start();
    let vm = bench.vm("a");
    bench.plug(1, &vm).unwrap();
    (bench, vm)
}

fn udp(netns: &Netns, address: (Ipv4Addr, u16)) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// Asks as RFC 6887 §8.1.1 says, again and again until there is an answer: code, lifetime and external port.
fn ask(
    vm: &Vm,
    to: Ipv4Addr,
    (protocol, port): (u8, u16),
    nonce: [u8; 12],
    lifetime_s: u32,
) -> (u8, u32, u16) {
    let mut request = vec![2, 1, 0, 0];
    request.extend(lifetime_s.to_be_bytes());
    request.extend(VM.to_ipv6_mapped().octets());
    request.extend(nonce);
    request.extend([protocol, 0, 0, 0]);
    request.extend(port.to_be_bytes());
    request.extend([0; 2]);
    request.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    let socket = udp(&vm.0, (VM, 0));
    socket.connect((to, 5351)).unwrap();
    let mut buffer = [0; 1100];
    let len = wait_for("an answer", || {
        socket.send(&request).unwrap();
        socket.recv(&mut buffer).ok()
    });
    let answer = &buffer[..len];
    assert_eq!((len, &answer[..2], &answer[24..36]), (60, &[2, 0x81][..], &nonce[..]), "{answer:?}");
    let lifetime_s = u32::from_be_bytes(answer[4..8].try_into().unwrap());
    if answer[3] == 0 && lifetime_s != 0 {
        assert_eq!(answer[44..60], SNAT_ADDRESS.to_ipv6_mapped().octets());
    }
    (answer[3], lifetime_s, u16::from_be_bytes(answer[42..44].try_into().unwrap()))
}

/// Sends until it arrives; who it came from.
fn arrives(from: &UdpSocket, to: (Ipv4Addr, u16), at: &UdpSocket) -> SocketAddr {
    wait_for("a datagram", || {
        from.send_to(b"hello", to).unwrap();
        let mut buffer = [0; 16];
        at.recv_from(&mut buffer).ok().map(|(_, from)| from)
    })
}

#[test]
fn rfc6888_req9a_a_vm_opens_a_port_and_strangers_reach_it() {
    let (mut bench, vm) = bench("pcp");
    let served = udp(&vm.0, (VM, 7000));
    let (code, lifetime_s, port) = ask(&vm, ROUTER, (UDP, 7000), NONCE, 600);
    assert_eq!((code, lifetime_s), (0, 600));
    let strangers = [4000, 4001, 4002].map(|port| udp(&bench.outside, (OUTSIDE, port)));
    let from = arrives(&strangers[0], (SNAT_ADDRESS, port), &served);
    assert_eq!(from, (OUTSIDE, 4000).into());
    let back = arrives(&served, (OUTSIDE, 4000), &strangers[0]);
    assert_eq!(back, (SNAT_ADDRESS, port).into());
    let own = arrives(&served, (OUTSIDE, 4001), &strangers[1]);
    assert_eq!(own, (SNAT_ADDRESS, port).into(), "the VM's own datagrams leave by the same port");

    bench.kill();
    bench.start();
    assert_eq!(arrives(&strangers[2], (SNAT_ADDRESS, port), &served), (OUTSIDE, 4002).into());
    assert_eq!(ask(&vm, ANYCAST, (UDP, 7000), NONCE, 1200), (0, 1200, port), "renewed, at the next agent");
    let (code, left_s, _) = ask(&vm, ROUTER, (UDP, 7000), [0; 12], 0);
    assert!(code == 2 && (1000..=1200).contains(&left_s), "not authorized: {code}, {left_s}");

    let refused = "drop.dnat.filtered";
    let before = count(&bench, refused);
    assert_eq!(ask(&vm, ROUTER, (UDP, 7000), NONCE, 0).0, 0);
    // The session that had come in ends, and nobody begins another.
    wait_for("the end of what had come in", || {
        strangers[2].send_to(b"still there?", (SNAT_ADDRESS, port)).unwrap();
        (count(&bench, refused) > before).then_some(())
    });
}

#[test]
fn rfc6888_req9a_a_vm_serves_tcp_by_a_port_it_opened() {
    let (bench, vm) = bench("pcptcp");
    let listener = vm.0.run(|| TcpListener::bind((VM, 8080))).unwrap().unwrap();
    let (code, _, port) = ask(&vm, ROUTER, (TCP, 8080), NONCE, 120);
    assert_eq!(code, 0);
    let stranger = bench
        .outside
        .run(|| TcpStream::connect_timeout(&(SNAT_ADDRESS, port).into(), Duration::from_secs(20)))
        .unwrap();
    let mut stranger = stranger.expect("a connection from outside");
    let (mut served, _) = listener.accept().unwrap();
    served.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    stranger.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
    assert!(count(&bench, "agent.port-control-success") >= 1);
}
