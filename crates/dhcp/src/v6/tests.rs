//! Exchanges as clients begin them, and messages that must not be answered.

use super::message::{self, Message, kind, option};
use super::*;
use packet::{U16, U32, ethernet, ipv6, nd, udp};

const SERVER: Server = Server { mac: MacAddr([2, 0, 0, 0, 0, 0xfe]) };
const VM: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 5]);
const CLIENT_ID: [u8; 10] = [0, 3, 0, 1, 0xfa, 0x16, 0x3e, 0, 0, 5];
const ADDRESS: &str = "2001:db8:1::5";

fn lease(addresses: &[&str]) -> Lease {
    Lease {
        mac: VM,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        dns_servers: vec!["2001:db8::53".parse().unwrap()],
        lease_s: 1000,
        options: BTreeMap::new(),
    }
}

/// A client's frame.
fn frame(kind: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut payload = vec![kind, 1, 2, 3];
    options.iter().for_each(|(code, value)| message::push(&mut payload, *code, value));
    let len = U16::new((udp::LEN + payload.len()) as u16);
    let header = udp::Header {
        src_port: U16::new(message::PORT_CLIENT),
        dst_port: U16::new(message::PORT_SERVER),
        len,
        checksum: U16::new(0),
    };
    let ip = ipv6::Header {
        version_class_label: U32::new(6 << 28),
        payload_len: len,
        next_header: 17,
        hop_limit: 1,
        src: nd::link_local(VM),
        dst: [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2],
    };
    let link = ethernet::Header {
        dst: MacAddr([0x33, 0x33, 0, 1, 0, 2]),
        src: VM,
        ethertype: U16::new(ethernet::TYPE_IPV6),
    };
    let link = packet::bytes::<_, { ethernet::LEN }>(link);
    [&link[..], &packet::bytes::<_, 40>(ip), &packet::bytes::<_, 8>(header), &payload].concat()
}

/// What an answer says, and that it is a sound frame to the client.
fn said(reply: &Reply) -> (u8, Vec<(u16, Vec<u8>)>) {
    let link: ethernet::Header = packet::read(&reply.frame, 0).unwrap();
    let ip: ipv6::Header = packet::read(&reply.frame, 14).unwrap();
    assert_eq!((link.dst, link.src, ip.dst), (VM, SERVER.mac, nd::link_local(VM)));
    let datagram = &reply.frame[54..];
    assert_eq!(packet::icmp6::transport_checksum(&ip.src, &ip.dst, 17, datagram), 0);
    assert_eq!(datagram[..4], [547u16.to_be_bytes(), 546u16.to_be_bytes()].concat());
    let payload = &datagram[8..];
    assert_eq!(payload[1..4], [1, 2, 3], "the client's transaction");
    (payload[0], message::options(&payload[4..]).unwrap())
}

fn server_id() -> Vec<u8> {
    [&DUID_LINK_LAYER[..], &SERVER.mac.0].concat()
}

/// An association as a client asks for it, or as it is given.
fn association(id: u8, times: [u32; 2], address: Option<&str>) -> Vec<u8> {
    let [first, second] = times.map(u32::to_be_bytes);
    let mut value = [[0, 0, 0, id], first, second].concat();
    if let Some(address) = address {
        let address: Ipv6Addr = address.parse().unwrap();
        let inner = [&address.octets()[..], &1000u32.to_be_bytes(), &1000u32.to_be_bytes()].concat();
        message::push(&mut value, option::IA_ADDRESS, &inner);
    }
    value
}

fn dns() -> (u16, Vec<u8>) {
    (option::DNS_SERVERS, "2001:db8::53".parse::<Ipv6Addr>().unwrap().octets().to_vec())
}

#[test]
fn a_question_for_the_rest_is_answered_with_name_servers() {
    let asked = [0, 23, 0, 24];
    let question =
        frame(kind::INFORMATION_REQUEST, &[(option::CLIENT_ID, &CLIENT_ID), (option::REQUESTED, &asked)]);
    let reply = answer(&SERVER, Some(&lease(&[])), &question).unwrap();
    let want = vec![(option::SERVER_ID, server_id()), (option::CLIENT_ID, CLIENT_ID.to_vec()), dns()];
    assert_eq!(said(&reply), (kind::REPLY, want));
    let others = frame(kind::INFORMATION_REQUEST, &[(option::REQUESTED, &[0, 24])]);
    let reply = answer(&SERVER, Some(&lease(&[])), &others).unwrap();
    assert_eq!(said(&reply), (kind::REPLY, vec![(option::SERVER_ID, server_id())]), "not asked for");
}

/// RFC 8415 §18.3: what is asked for; every link carries the answer whole.
#[test]
fn the_ports_own_options_win_and_are_told_if_they_are_asked_for_and_fit() {
    let own = |code: u16, len| (code, vec![code as u8; len]);
    let options = [own(23, 16), own(59, 500), own(60, 500), own(61, 400), own(62, 8)];
    let lease = Lease { options: options.clone().into(), ..lease(&[]) };
    let id = (option::CLIENT_ID, &CLIENT_ID[..]);
    let told = |asked: &[u8]| {
        let question = frame(kind::INFORMATION_REQUEST, &[id, (option::REQUESTED, asked)]);
        let reply = answer(&SERVER, Some(&lease), &question).unwrap();
        assert!(reply.frame.len() <= 14 + 1280, "{} bytes", reply.frame.len());
        said(&reply).1.split_off(2)
    };
    assert_eq!(told(&[0, 23, 0, 59]), options[..2]);
    let [a, b, c, _, e] = options.clone();
    assert_eq!(told(&[0, 23, 0, 59, 0, 60, 0, 61, 0, 62]), [a, b, c, e], "what does not fit is left out");
}

#[test]
fn a_client_gets_the_ports_address_in_four_messages() {
    let lease = lease(&[ADDRESS]);
    let wanted = association(7, [0; 2], None);
    let given = association(7, [500, 800], Some(ADDRESS));
    let want = |answer| {
        let ids = [(option::SERVER_ID, server_id()), (option::CLIENT_ID, CLIENT_ID.to_vec())];
        (answer, ids.into_iter().chain([(option::IA_NA, given.clone()), dns()]).collect::<Vec<_>>())
    };
    let solicit = frame(kind::SOLICIT, &[(option::CLIENT_ID, &CLIENT_ID), (option::IA_NA, &wanted)]);
    let reply = answer(&SERVER, Some(&lease), &solicit).unwrap();
    assert_eq!((reply.kind, said(&reply)), (Kind::Advertise, want(kind::ADVERTISE)));
    let (server, client) = (server_id(), CLIENT_ID);
    let to_us = [(option::CLIENT_ID, &client[..]), (option::SERVER_ID, &server), (option::IA_NA, &wanted)];
    for message in [kind::REQUEST, kind::RENEW] {
        let reply = answer(&SERVER, Some(&lease), &frame(message, &to_us)).unwrap();
        assert_eq!(said(&reply), want(kind::REPLY), "{message}");
    }
    let rapid = [(option::CLIENT_ID, &client[..]), (option::IA_NA, &wanted), (option::RAPID_COMMIT, &[])];
    let reply = answer(&SERVER, Some(&lease), &frame(kind::SOLICIT, &rapid)).unwrap();
    assert_eq!(said(&reply).0, kind::REPLY);
}

#[test]
fn only_one_association_has_the_addresses_and_without_any_there_are_none() {
    let (first, second) = (association(1, [0; 2], None), association(2, [0; 2], None));
    let asked = [(option::CLIENT_ID, &CLIENT_ID[..]), (option::IA_NA, &first), (option::IA_NA, &second)];
    let refusals = |addresses: &[&str]| {
        let reply = answer(&SERVER, Some(&lease(addresses)), &frame(kind::SOLICIT, &asked)).unwrap();
        let associations = said(&reply).1.into_iter().filter(|(code, _)| *code == option::IA_NA);
        associations.map(|(_, value)| value.ends_with(&[0, 13, 0, 2, 0, 2])).collect::<Vec<_>>()
    };
    assert_eq!(refusals(&[ADDRESS]), [false, true]);
    assert_eq!(refusals(&[]), [true, true]);
}

#[test]
fn a_client_that_moved_learns_whether_its_address_is_right() {
    for (address, want) in [(ADDRESS, 0), ("2001:db8:9::9", STATUS_NOT_ON_LINK)] {
        let has = association(1, [0; 2], Some(address));
        let confirm = frame(kind::CONFIRM, &[(option::CLIENT_ID, &CLIENT_ID), (option::IA_NA, &has)]);
        let reply = answer(&SERVER, Some(&lease(&[ADDRESS])), &confirm).unwrap();
        assert!(said(&reply).1.contains(&status(want)), "{address}");
    }
}

#[test]
fn what_is_not_for_us_is_not_answered() {
    let id = (option::CLIENT_ID, &CLIENT_ID[..]);
    let other = (option::SERVER_ID, &[0, 3, 0, 1, 9, 9, 9, 9, 9, 9][..]);
    let server = server_id();
    let own = (option::SERVER_ID, &server[..]);
    let wanted = association(1, [0; 2], None);
    let table = [
        ("no identifier", frame(kind::SOLICIT, &[]), Silence::Malformed),
        ("a request to nobody", frame(kind::REQUEST, &[id]), Silence::Malformed),
        ("a request to another", frame(kind::REQUEST, &[id, other]), Silence::OtherServer),
        ("a solicit to us", frame(kind::SOLICIT, &[id, own]), Silence::Malformed),
        ("addresses asked for by inform", frame(11, &[id, (option::IA_NA, &wanted)]), Silence::Malformed),
        ("a relay", frame(kind::RELAY_FORWARD, &[id]), Silence::Relayed),
        ("a server", frame(kind::REPLY, &[id]), Silence::Malformed),
    ];
    let lease = lease(&[ADDRESS]);
    for (name, frame, want) in table {
        assert_eq!(answer(&SERVER, Some(&lease), &frame), Err(want), "{name}");
    }
    let question = frame(kind::INFORMATION_REQUEST, &[id]);
    assert_eq!(answer(&SERVER, None, &question), Err(Silence::Off));
    let other = Lease { mac: SERVER.mac, ..lease };
    assert_eq!(answer(&SERVER, Some(&other), &question), Err(Silence::OtherClient));
}

#[test]
fn a_frame_cut_anywhere_is_malformed() {
    let wanted = association(7, [0; 2], Some(ADDRESS));
    let whole = frame(kind::SOLICIT, &[(option::CLIENT_ID, &CLIENT_ID), (option::IA_NA, &wanted)]);
    for len in 0..whole.len() {
        assert_eq!(Message::read(&whole[..len]).err(), Some(Silence::Malformed), "{len} bytes");
    }
    assert!(Message::read(&whole).is_ok());
}
