//! The exchanges of RFC 6887, message by message, against a NAT of a few ports.

use super::*;
use packet::MacAddr;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

const VM_MAC: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 5]);
const ROUTER_MAC: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);
const VM: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 27);
const ANY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
const SERVER: Server = Server { lifetime_max_s: 86_400, epoch_s: 77 };
const NONCE: Nonce = [7; 12];
const WEB: Internal = Internal { protocol: 6, port: 80 };

/// Ports 2048 and up, four of them.
#[derive(Debug, Default)]
struct FewPorts(BTreeMap<Internal, Opened>);

impl Nat for FewPorts {
    fn find(&self, internal: Internal) -> Option<Opened> {
        self.0.get(&internal).copied()
    }

    fn all(&self) -> Vec<Opened> {
        self.0.values().copied().collect()
    }

    fn open(&mut self, wanted: &Wanted) -> Result<SocketAddrV4, Refused> {
        let taken = |port: &u16| self.0.values().any(|opened| opened.external.port() == *port);
        let free: Vec<u16> = (2048..2052).filter(|port| !taken(port)).collect();
        let first = *free.first().ok_or(Refused::NoResources)?;
        let port = if free.contains(&wanted.external.port()) { wanted.external.port() } else { first };
        let external = SocketAddrV4::new(OUTSIDE, port);
        if wanted.exact && !suits(wanted.external, external) {
            return Err(Refused::External);
        }
        let Wanted { internal, nonce, lifetime_s: left_s, .. } = *wanted;
        self.0.insert(internal, Opened { internal, nonce, external, left_s });
        Ok(external)
    }

    fn renew(&mut self, internal: Internal, lifetime_s: u32) -> Result<(), Refused> {
        self.0.get_mut(&internal).ok_or(Refused::NoResources)?.left_s = lifetime_s;
        Ok(())
    }

    fn close(&mut self, internal: Internal) {
        self.0.remove(&internal);
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let ends =
        Ends { macs: (VM_MAC, ROUTER_MAC), addresses: (VM.octets(), ROUTER.octets()), ports: (4000, 5351) };
    [&datagram::headers(&ends, payload)[..], payload].concat()
}

fn header(opcode: u8, lifetime_s: u32) -> Vec<u8> {
    [&[2, opcode, 0, 0][..], &lifetime_s.to_be_bytes(), &VM.to_ipv6_mapped().octets()].concat()
}

fn map(nonce: Nonce, internal: Internal, lifetime_s: u32, wanted: SocketAddrV4) -> Vec<u8> {
    let mut bytes = header(1, lifetime_s);
    bytes.extend(nonce);
    bytes.extend([internal.protocol, 0, 0, 0]);
    bytes.extend(internal.port.to_be_bytes());
    bytes.extend(wanted.port().to_be_bytes());
    bytes.extend(wanted.ip().to_ipv6_mapped().octets());
    bytes
}

/// The payload of the answer, whose frame is checked.
fn ask(nat: &mut FewPorts, payload: &[u8]) -> Vec<u8> {
    let reply = answer(&SERVER, nat, &frame(payload)).expect("an answer");
    let said = datagram::read(&reply.frame).expect("a datagram");
    assert_eq!((said.ethernet.src, said.ethernet.dst), (ROUTER_MAC, VM_MAC));
    assert_eq!((said.ip.src, said.ip.dst), (ROUTER.octets(), VM.octets()));
    assert_eq!((said.udp.src_port.get(), said.udp.dst_port.get()), (5351, 4000));
    said.payload.to_vec()
}

/// Result code and lifetime of an answer of version 2, whose header is checked.
fn outcome(opcode: u8, answer: &[u8]) -> (u8, u32) {
    assert_eq!((answer[0], answer[1]), (2, opcode | 0x80));
    assert_eq!(answer[8..24], [&77_u32.to_be_bytes()[..], &[0; 12]].concat());
    assert_eq!(answer.len() % 4, 0);
    (answer[3], u32::from_be_bytes(answer[4..8].try_into().unwrap()))
}

/// Of a MAP: the external endpoint too.
fn mapped(nat: &mut FewPorts, payload: &[u8]) -> (u8, u32, SocketAddrV4) {
    let answer = ask(nat, payload);
    let (code, lifetime_s) = outcome(1, &answer);
    assert_eq!(answer[24..42], payload[24..42], "nonce, protocol and internal port are told back");
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(&answer[44..60]).unwrap()).to_ipv4_mapped().unwrap();
    let port = u16::from_be_bytes(answer[42..44].try_into().unwrap());
    (code, lifetime_s, SocketAddrV4::new(address, port))
}

fn outside(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(OUTSIDE, port)
}

#[test]
fn rfc6887_s11_a_mapping_is_made_renewed_and_ended() {
    let mut nat = FewPorts::default();
    assert_eq!(mapped(&mut nat, &map(NONCE, WEB, 3600, ANY)), (0, 3600, outside(2048)));
    assert_eq!(mapped(&mut nat, &map(NONCE, WEB, 600, outside(2051))), (0, 600, outside(2048)));
    assert_eq!(nat.0[&WEB].left_s, 600);
    let (code, lifetime_s, _) = mapped(&mut nat, &map(NONCE, WEB, 0, ANY));
    assert_eq!((code, lifetime_s), (0, 0));
    assert!(nat.0.is_empty());
    let again = outcome(1, &ask(&mut nat, &map(NONCE, WEB, 0, ANY)));
    assert_eq!(again, (0, 0), "the end of what is not there is no error");
}

#[test]
fn rfc6887_s15_a_lifetime_is_kept_within_bounds() {
    let mut nat = FewPorts::default();
    for (asked, want) in [(1, 120), (119, 120), (121, 121), (86_400, 86_400), (u32::MAX, 86_400)] {
        assert_eq!(mapped(&mut nat, &map(NONCE, WEB, asked, ANY)).1, want);
    }
}

#[test]
fn rfc6887_s11_only_who_knows_the_nonce_changes_a_mapping() {
    let mut nat = FewPorts::default();
    ask(&mut nat, &map(NONCE, WEB, 3600, ANY));
    for lifetime_s in [0, 600] {
        let answer = ask(&mut nat, &map([8; 12], WEB, lifetime_s, ANY));
        assert_eq!(outcome(1, &answer), (2, 3600), "NOT_AUTHORIZED, for as long as the mapping lives");
    }
    assert_eq!(nat.0[&WEB].left_s, 3600);
}

#[test]
fn rfc6887_s11_a_suggested_port_is_given_if_it_is_free() {
    let mut nat = FewPorts::default();
    let second = Internal { protocol: 17, port: 53 };
    assert_eq!(mapped(&mut nat, &map(NONCE, WEB, 600, outside(2050))).2, outside(2050));
    assert_eq!(mapped(&mut nat, &map(NONCE, second, 600, outside(2050))).2, outside(2048));
}

#[test]
fn rfc6887_s13_with_prefer_failure_another_port_is_none() {
    let mut nat = FewPorts::default();
    let prefer_failure = [2, 0, 0, 0];
    let exact = |internal, port| [&map(NONCE, internal, 600, outside(port))[..], &prefer_failure].concat();
    assert_eq!(mapped(&mut nat, &exact(WEB, 2050)).0, 0);
    let second = Internal { protocol: 17, port: 53 };
    assert_eq!(outcome(1, &ask(&mut nat, &exact(second, 80))), (11, 30), "CANNOT_PROVIDE_EXTERNAL");
    assert_eq!(outcome(1, &ask(&mut nat, &exact(WEB, 2051))), (11, 600), "it has another one");
    assert_eq!(nat.0.len(), 1);
    let twice = [&exact(WEB, 2050)[..], &prefer_failure].concat();
    assert_eq!(outcome(1, &ask(&mut nat, &twice)).0, 6, "MALFORMED_OPTION");
}

#[test]
fn rfc6887_s8_what_is_not_supported_is_said() {
    let mut nat = FewPorts::default();
    let plain = map(NONCE, WEB, 600, ANY);
    let with = |option: &[u8]| [&plain[..], option].concat();
    let third_party = [&[1, 0, 0, 16][..], &[0; 16]].concat();
    let filter = [&[3, 0, 0, 20][..], &[0; 20]].concat();
    let of = |protocol, port| map(NONCE, Internal { protocol, port }, 600, ANY);
    let strange = [&header(1, 600)[..8], &[0; 16], &plain[24..]].concat();
    let mut peer = plain.clone();
    peer[1] = 2;
    for (name, request, want) in [
        ("THIRD_PARTY", with(&third_party), 5),
        ("FILTER", with(&filter), 5),
        ("an unknown option that must be known", with(&[9, 0, 0, 0]), 5),
        ("an unknown option that need not", with(&[0x89, 0, 0, 1, 5, 0, 0, 0]), 0),
        ("an option beyond the end", with(&[9, 0, 0, 8, 0, 0, 0, 0]), 6),
        ("every protocol", of(0, 0), 9),
        ("every port", of(6, 0), 9),
        ("every protocol and one port", of(0, 80), 3),
        ("SCTP", of(132, 80), 9),
        ("another client's address", strange, 12),
        ("PEER", peer, 4),
        ("cut", plain[..56].to_vec(), 3),
        ("only a header", header(1, 600), 3),
        ("shorter than that", plain[..8].to_vec(), 3),
        ("no whole words", with(&[0]), 3),
        ("too long", with(&[0x80; 1100]), 3),
    ] {
        let opcode = request[1];
        assert_eq!(outcome(opcode, &ask(&mut nat, &request)).0, want, "{name}");
    }
    assert_eq!(nat.0.len(), 1, "one was answered well");
}

#[test]
fn rfc6887_s11_no_port_is_left_and_that_is_said() {
    let mut nat = FewPorts::default();
    for port in 0..4 {
        ask(&mut nat, &map(NONCE, Internal { protocol: 6, port: 80 + port }, 600, ANY));
    }
    assert_eq!(
        outcome(1, &ask(&mut nat, &map(NONCE, Internal { protocol: 6, port: 90 }, 600, ANY))),
        (8, 30)
    );
}

#[test]
fn rfc6887_s15_all_of_a_client_ends_at_once() {
    let mut nat = FewPorts::default();
    let other = Internal { protocol: 6, port: 81 };
    let dns = Internal { protocol: 17, port: 53 };
    ask(&mut nat, &map(NONCE, WEB, 600, ANY));
    ask(&mut nat, &map(NONCE, dns, 600, ANY));
    ask(&mut nat, &map([8; 12], other, 600, ANY));
    let all_tcp = Internal { protocol: 6, port: 0 };
    assert_eq!(outcome(1, &ask(&mut nat, &map(NONCE, all_tcp, 0, ANY))), (0, 0));
    assert_eq!(nat.0.keys().copied().collect::<Vec<_>>(), [other, dns]);
    ask(&mut nat, &map(NONCE, Internal { protocol: 0, port: 0 }, 0, ANY));
    assert_eq!(nat.0.keys().copied().collect::<Vec<_>>(), [other]);
}

#[test]
fn rfc6887_s14_announce_tells_the_epoch() {
    let mut nat = FewPorts::default();
    assert_eq!(outcome(0, &ask(&mut nat, &header(0, 5))), (0, 0));
}

#[test]
fn rfc6887_s9_other_versions_are_told_which_one_there_is() {
    let mut nat = FewPorts::default();
    let mut newer = map(NONCE, WEB, 600, ANY);
    newer[0] = 3;
    let answer = ask(&mut nat, &newer);
    assert_eq!((outcome(1, &answer), answer.len()), ((1, 1800), 24));
    assert_eq!(ask(&mut nat, &[0, 0]), [0, 0x80, 0, 1, 0, 0, 0, 77], "NAT-PMP, in its own words");
    assert!(nat.0.is_empty());
}

#[test]
fn rfc6887_s8_what_is_no_request_is_not_answered() {
    let mut nat = FewPorts::default();
    for payload in [&[][..], &[2], &[2, 0x81, 0, 0], &[0, 0x80, 0, 0]] {
        assert_eq!(answer(&SERVER, &mut nat, &frame(payload)), None, "{payload:?}");
    }
    let mut elsewhere = frame(&header(0, 0));
    elsewhere[37] = 0;
    assert_eq!(answer(&SERVER, &mut nat, &elsewhere), None);
    assert_eq!(client(&frame(&header(0, 0))), Some(VM));
}
