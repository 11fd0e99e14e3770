//! The exchanges of RFC 2131 §3 and §4.3, message by message.

use super::*;
use packet::dhcp::{Header, Options};
use packet::{U16, U32, ipv4, udp};

const MAC: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 5]);
const SERVER: Server =
    Server { mac: MacAddr([2, 0, 0xa9, 0xfe, 0xa9, 0xfe]), address: Ipv4Addr::new(169, 254, 169, 254) };
const FIXED: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 5);
const STRANGE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

fn lease() -> Lease {
    let routes = vec![("10.17.0.0/16".parse().unwrap(), Ipv4Addr::new(10, 1, 0, 254))];
    let address = |net: &str, routes| LeasedAddress {
        address: net.parse().unwrap(),
        gateway: Some(Ipv4Addr::new(10, 1, 0, 1)),
        dns_servers: vec![Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(1, 1, 1, 1)],
        routes,
    };
    Lease {
        mac: MAC,
        addresses: vec![address("10.1.0.5/24", routes), address("10.2.0.5/16", Vec::new())],
        mtu: 1450,
        lease_s: 86_400,
        options: BTreeMap::new(),
    }
}

/// A client's message in the making.
#[derive(Clone)]
struct Client {
    ciaddr: Ipv4Addr,
    giaddr: Ipv4Addr,
    mac: MacAddr,
    flags: u16,
    file: Vec<u8>,
    options: Vec<u8>,
}

impl Client {
    fn says(kind: u8) -> Self {
        Self {
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac: MAC,
            flags: 0,
            file: Vec::new(),
            options: vec![option::MESSAGE_TYPE, 1, kind],
        }
    }

    fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.extend([code, value.len() as u8]);
        self.options.extend(value);
        self
    }

    fn has(mut self, address: Ipv4Addr) -> Self {
        self.ciaddr = address;
        self
    }

    fn frame(&self) -> Vec<u8> {
        let mut header: Header = packet::view([0; packet::dhcp::LEN]);
        header.op = packet::dhcp::OP_REQUEST;
        (header.htype, header.hlen) = (1, 6);
        header.xid = U32::new(0x1234_5678);
        header.flags = U16::new(self.flags);
        header.ciaddr = self.ciaddr.octets();
        header.giaddr = self.giaddr.octets();
        header.chaddr[..6].copy_from_slice(&self.mac.0);
        header.file[..self.file.len()].copy_from_slice(&self.file);
        header.cookie = U32::new(packet::dhcp::COOKIE);
        let mut payload = packet::bytes::<_, { packet::dhcp::LEN }>(header).to_vec();
        payload.extend(&self.options);
        payload.push(option::END);
        let mut frame = [&[0xff; 6][..], &self.mac.0, &[8, 0, 0x45, 0]].concat();
        frame.extend((payload.len() as u16 + 28).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67]);
        frame.extend((payload.len() as u16 + 8).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    fn asks(&self) -> Result<Answer, Silence> {
        answer(&SERVER, &lease(), &self.frame()).map(|reply| Answer::of(&reply))
    }
}

/// An answer taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    kind: Kind,
    to: (MacAddr, Ipv4Addr),
    header: Header,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Answer {
    fn of(reply: &Reply) -> Self {
        let ethernet: packet::ethernet::Header = packet::read(&reply.frame, 0).unwrap();
        let ip: ipv4::Header = packet::read(&reply.frame, 14).unwrap();
        let ports: udp::Header = packet::read(&reply.frame, 34).unwrap();
        assert_eq!((ports.src_port.get(), ports.dst_port.get()), (67, 68));
        assert_eq!((ethernet.src, Ipv4Addr::from(ip.src)), (SERVER.mac, SERVER.address));
        let header = packet::read(&reply.frame, 42).unwrap();
        let read = Options::new(&reply.frame[282..]).map(Result::unwrap);
        let options = read.map(|(code, value)| (code, value.to_vec())).collect();
        Self { kind: reply.kind, to: (ethernet.dst, ip.dst.into()), header, options }
    }

    fn address(&self) -> Ipv4Addr {
        self.header.yiaddr.into()
    }
}

fn discover() -> Client {
    Client::says(message_type::DISCOVER)
}

fn request() -> Client {
    Client::says(message_type::REQUEST)
}

#[test]
fn an_offer_says_everything_the_subnet_has() {
    let offer = discover().asks().unwrap();
    assert_eq!((offer.kind, offer.to, offer.address()), (Kind::Offer, (MAC, FIXED), FIXED));
    assert_eq!((offer.header.op, offer.header.xid.get()), (2, 0x1234_5678));
    let want: [(u8, &[u8]); 13] = [
        (1, &[255, 255, 255, 0]),
        (3, &[10, 1, 0, 1]),
        (6, &[8, 8, 8, 8, 1, 1, 1, 1]),
        (12, b"host-10-1-0-5"),
        (26, &1450_u16.to_be_bytes()),
        (28, &[10, 1, 0, 255]),
        (51, &86_400_u32.to_be_bytes()),
        (53, &[message_type::OFFER]),
        (54, &[169, 254, 169, 254]),
        (58, &43_200_u32.to_be_bytes()),
        (59, &75_600_u32.to_be_bytes()),
        (121, &[0, 10, 1, 0, 1, 32, 169, 254, 169, 254, 0, 0, 0, 0, 16, 10, 17, 10, 1, 0, 254]),
        (249, &[0, 10, 1, 0, 1, 32, 169, 254, 169, 254, 0, 0, 0, 0, 16, 10, 17, 10, 1, 0, 254]),
    ];
    assert_eq!(offer.options, want.map(|(code, value)| (code, value.to_vec())).into());
}

#[test]
fn a_client_gets_what_it_asks_for_and_what_it_must_have() {
    let offer =
        discover().with(option::PARAMETER_LIST, &[6, 26]).with(option::CLIENT_ID, b"me").asks().unwrap();
    assert_eq!(offer.options.keys().copied().collect::<Vec<_>>(), [1, 6, 26, 51, 53, 54, 58, 59, 61]);
    assert_eq!(offer.options[&61], b"me");
}

#[test]
fn a_client_that_cannot_take_unicast_is_told_by_broadcast() {
    let client = Client { flags: packet::dhcp::FLAG_BROADCAST, ..discover() };
    assert_eq!(client.asks().unwrap().to, (MacAddr::BROADCAST, Ipv4Addr::BROADCAST));
}

/// Every state a client asks from (RFC 2131 §4.3.2, table 4), with the right address and with another one.
#[test]
fn requests_are_granted_for_the_ports_addresses_only() {
    type Asks = fn(Ipv4Addr) -> Client;
    let states: [(&str, Asks); 3] = [
        ("selecting", |address| {
            request()
                .with(option::SERVER_ID, &SERVER.address.octets())
                .with(option::REQUESTED_ADDRESS, &address.octets())
        }),
        ("init-reboot", |address| request().with(option::REQUESTED_ADDRESS, &address.octets())),
        ("renewing, rebinding", |address| request().has(address)),
    ];
    for (state, client) in states {
        for address in [FIXED, SECOND] {
            let ack = client(address).asks().unwrap();
            assert_eq!((ack.kind, ack.to, ack.address()), (Kind::Ack, (MAC, address), address), "{state}");
        }
        let nak = client(STRANGE).asks().unwrap();
        assert_eq!((nak.kind, nak.address()), (Kind::Nak, Ipv4Addr::UNSPECIFIED), "{state}");
        assert_eq!(nak.to, (MacAddr::BROADCAST, Ipv4Addr::BROADCAST), "{state}");
        assert_eq!(nak.options.keys().copied().collect::<Vec<_>>(), [53, 54, 56], "{state}");
    }
}

#[test]
fn an_address_of_the_port_may_be_wished_for() {
    let wish =
        |address: Ipv4Addr| discover().with(option::REQUESTED_ADDRESS, &address.octets()).asks().unwrap();
    assert_eq!(wish(SECOND).address(), SECOND);
    assert_eq!(wish(STRANGE).address(), FIXED);
}

#[test]
fn who_has_an_address_is_informed_of_the_rest() {
    let ack = Client::says(message_type::INFORM).has(SECOND).asks().unwrap();
    assert_eq!((ack.kind, ack.to, ack.address()), (Kind::Ack, (MAC, SECOND), Ipv4Addr::UNSPECIFIED));
    assert_eq!(ack.options[&1], [255, 255, 0, 0]);
    assert!([51, 58, 59].iter().all(|code| !ack.options.contains_key(code)));
}

#[test]
fn silence_has_a_reason() {
    let relayed = Client { giaddr: STRANGE, ..discover() };
    let other_client = Client { mac: MacAddr([2, 0, 0, 0, 0, 9]), ..discover() };
    let other_server = request().with(option::SERVER_ID, &STRANGE.octets());
    let table = [
        (relayed, Silence::Relayed),
        (other_client, Silence::OtherClient),
        (other_server, Silence::OtherServer),
        (Client::says(message_type::DECLINE), Silence::Declined),
        (Client::says(message_type::RELEASE).has(FIXED), Silence::Released),
        (Client::says(message_type::INFORM), Silence::Malformed),
        (Client::says(message_type::OFFER), Silence::Malformed),
        (Client { options: Vec::new(), ..discover() }, Silence::Malformed),
    ];
    for (client, want) in table {
        assert_eq!(client.asks(), Err(want));
    }
    let off = Lease { addresses: Vec::new(), ..lease() };
    assert_eq!(answer(&SERVER, &off, &discover().frame()), Err(Silence::Off));
}

#[test]
fn a_message_that_is_cut_anywhere_is_refused() {
    let frame = request().with(option::REQUESTED_ADDRESS, &FIXED.octets()).frame();
    for len in 0..frame.len() {
        assert_eq!(answer(&SERVER, &lease(), &frame[..len]), Err(Silence::Malformed), "{len} bytes");
    }
    let cut = Client { options: vec![53, 1, 1, 50, 9, 10], ..discover() };
    assert_eq!(cut.asks(), Err(Silence::Malformed));
}

#[test]
fn options_may_be_in_the_boot_fields_and_in_parts() {
    let [a, b, c, d] = SECOND.octets();
    let mut client = discover().with(option::OVERLOAD, &[packet::dhcp::OVERLOAD_FILE]);
    client = client.with(option::REQUESTED_ADDRESS, &[a, b]);
    client.file = vec![option::REQUESTED_ADDRESS, 2, c, d, option::END];
    assert_eq!(client.asks().unwrap().address(), SECOND);
}

#[test]
fn a_ports_own_options_win() {
    let mut lease = lease();
    lease.options = [
        (option::MTU, vec![5, 0]),
        (option::LEASE_TIME, 60_u32.to_be_bytes().to_vec()),
        (option::BOOT_FILE, b"pxelinux.0".to_vec()),
        (option::TFTP_SERVER_ADDRESS, vec![10, 1, 0, 9]),
    ]
    .into();
    let reply = answer(&SERVER, &lease, &request().has(FIXED).frame()).unwrap();
    let ack = Answer::of(&reply);
    assert_eq!((&ack.options[&26], &ack.options[&67]), (&vec![5, 0], &b"pxelinux.0".to_vec()));
    assert_eq!(ack.options[&51], 60_u32.to_be_bytes());
    assert_eq!(ack.options[&58], 30_u32.to_be_bytes());
    assert_eq!(ack.header.siaddr, [10, 1, 0, 9]);
    assert_eq!(&ack.header.file[..11], b"pxelinux.0\0");
}

/// RFC 2131 §2: nobody has to take more than 576 bytes, and what does not fit is left out, the least important first.
#[test]
fn an_answer_is_no_longer_than_the_client_takes() {
    let mut lease = lease();
    lease.options = (200..=209).map(|code| (code, vec![code; 100])).collect();
    let len = |client: Client| {
        let reply = answer(&SERVER, &lease, &client.frame()).unwrap();
        (reply.frame.len() - 14, Answer::of(&reply).options)
    };
    let (plain, options) = len(discover());
    assert!(plain <= 576 && options.contains_key(&1) && options.contains_key(&200), "{plain}: {options:?}");
    let (long, options) = len(discover().with(option::SIZE_MAX, &1400_u16.to_be_bytes()));
    assert!((577..=1400).contains(&long) && options.contains_key(&209), "{long}");
    let (bounded, _) = len(discover().with(option::SIZE_MAX, &[255, 255]));
    assert!(bounded <= 1450, "{bounded}");
    assert!(len(discover().with(option::SIZE_MAX, &[0, 1])).0 <= 576);
}
