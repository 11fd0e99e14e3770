//! A client's message out of its frame, and the frame of an answer.

use crate::{Kind, Lease, Server, Silence};
use packet::datagram::{self, Ends};
use packet::dhcp::{self, Header, Options, message_type, option};
use packet::{MacAddr, U16, U32, udp};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A BOOTP message without vendor area is shorter, but there are clients that count on one (RFC 1542 §2.1).
const LEN_MIN: usize = 300;
const VALUE_LEN_MAX: usize = 255;

/// A client's message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) header: Header,
    /// Of [`message_type`].
    pub(crate) kind: u8,
    /// By code; the parts of one that comes more than once are one (RFC 3396).
    pub(crate) options: BTreeMap<u8, Vec<u8>>,
}

impl Message {
    pub(crate) fn read(frame: &[u8]) -> Result<Self, Silence> {
        let payload = payload(frame).ok_or(Silence::Malformed)?;
        let header: Header =
            packet::read(payload, 0).filter(Header::is_ethernet_request).ok_or(Silence::Malformed)?;
        let mut options = BTreeMap::new();
        collect(payload.get(dhcp::LEN..).unwrap_or_default(), &mut options)?;
        let overload = single(&options, option::OVERLOAD).unwrap_or(0);
        if overload & dhcp::OVERLOAD_FILE != 0 {
            collect(&header.file, &mut options)?;
        }
        if overload & dhcp::OVERLOAD_SNAME != 0 {
            collect(&header.sname, &mut options)?;
        }
        let kind = single(&options, option::MESSAGE_TYPE).ok_or(Silence::Malformed)?;
        Ok(Self { header, kind, options })
    }

    /// The value of an option that is an address; none if it is unspecified.
    pub(crate) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.options.get(&code)?.as_slice().try_into().ok()?;
        Some(Ipv4Addr::from(octets)).filter(|address| !address.is_unspecified())
    }

    /// What the client has already.
    pub(crate) fn client_address(&self) -> Ipv4Addr {
        self.header.ciaddr.into()
    }

    /// The answer from its first byte, at most `len_max` long, which is no less than RFC 2131 asks for: options that
    /// do not fit are left out.
    pub(crate) fn reply(
        &self,
        kind: Kind,
        address: Ipv4Addr,
        lease: &Lease,
        options: &[(u8, Vec<u8>)],
        len_max: usize,
    ) -> Vec<u8> {
        let told = kind != Kind::Nak;
        let own = |code| lease.options.get(&code).filter(|_| told);
        let server = own(option::TFTP_SERVER_ADDRESS).and_then(|value| value.first_chunk::<4>());
        let mut file = [0; 128];
        if let Some(name) = own(option::BOOT_FILE).filter(|name| name.len() < file.len()) {
            file.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        }
        let header = Header {
            op: dhcp::OP_REPLY,
            hops: 0,
            secs: U16::new(0),
            ciaddr: if kind == Kind::Ack { self.header.ciaddr } else { [0; 4] },
            yiaddr: address.octets(),
            siaddr: server.copied().unwrap_or_default(),
            sname: [0; 64],
            file,
            cookie: U32::new(dhcp::COOKIE),
            ..self.header
        };
        let mut payload = packet::bytes::<_, { dhcp::LEN }>(header).to_vec();
        for (code, value) in options {
            let parts = value.chunks(VALUE_LEN_MAX);
            // The end mark has its place too.
            if payload.len() + 2 * parts.len() + value.len() < len_max {
                for part in parts {
                    payload.extend([*code, part.len() as u8]);
                    payload.extend(part);
                }
            }
        }
        payload.push(option::END);
        payload.resize(payload.len().max(LEN_MIN), option::PAD);
        payload
    }
}

fn collect(bytes: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) -> Result<(), Silence> {
    for read in Options::new(bytes) {
        let (code, value) = read.map_err(|_| Silence::Malformed)?;
        options.entry(code).or_default().extend(value);
    }
    Ok(())
}

fn single(options: &BTreeMap<u8, Vec<u8>>, code: u8) -> Option<u8> {
    match options.get(&code)?.as_slice() {
        [value] => Some(*value),
        _ => None,
    }
}

/// What is behind Ethernet, IPv4 and UDP to the server's port.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let datagram = datagram::read(frame)?;
    (datagram.udp.dst_port.get() == udp::PORT_DHCP_SERVER).then_some(datagram.payload)
}

/// To whom an answer goes (RFC 2131 §4.1).
fn destination(message: &Message, kind: Kind, address: Ipv4Addr) -> (MacAddr, Ipv4Addr) {
    let (mac, has) = (message.header.client_mac(), message.client_address());
    let broadcast = message.header.flags.get() & dhcp::FLAG_BROADCAST != 0;
    if kind == Kind::Nak {
        (MacAddr::BROADCAST, Ipv4Addr::BROADCAST)
    } else if !has.is_unspecified() && message.kind != message_type::DISCOVER {
        (mac, has)
    } else if broadcast {
        (MacAddr::BROADCAST, Ipv4Addr::BROADCAST)
    } else {
        (mac, address)
    }
}

/// The frame of an answer. `payload`: shorter than an IP packet may be by far.
pub(crate) fn frame(
    server: &Server,
    message: &Message,
    kind: Kind,
    address: Ipv4Addr,
    payload: &[u8],
) -> Vec<u8> {
    let (mac, to) = destination(message, kind, address);
    let ends = Ends {
        macs: (server.mac, mac),
        addresses: (server.address.octets(), to.octets()),
        ports: (udp::PORT_DHCP_SERVER, udp::PORT_DHCP_CLIENT),
    };
    [&datagram::headers(&ends, payload)[..], payload].concat()
}
