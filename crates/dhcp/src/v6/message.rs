//! DHCPv6 messages (RFC 8415 §8, §21): out of a client's frame, and into the frame of an answer.

use super::{Server, Silence};
use packet::{MacAddr, U16, U32, ethernet, icmp6, ipv6, nd, udp};

pub(super) mod kind {
    pub(crate) const SOLICIT: u8 = 1;
    pub(crate) const ADVERTISE: u8 = 2;
    pub(crate) const REQUEST: u8 = 3;
    pub(crate) const CONFIRM: u8 = 4;
    pub(crate) const RENEW: u8 = 5;
    pub(crate) const REBIND: u8 = 6;
    pub(crate) const REPLY: u8 = 7;
    pub(crate) const RELEASE: u8 = 8;
    pub(crate) const DECLINE: u8 = 9;
    pub(crate) const INFORMATION_REQUEST: u8 = 11;
    pub(crate) const RELAY_FORWARD: u8 = 12;
}

pub(super) mod option {
    pub(crate) const CLIENT_ID: u16 = 1;
    pub(crate) const SERVER_ID: u16 = 2;
    pub(crate) const IA_NA: u16 = 3;
    pub(crate) const IA_TA: u16 = 4;
    pub(crate) const IA_ADDRESS: u16 = 5;
    pub(crate) const REQUESTED: u16 = 6;
    pub(crate) const STATUS: u16 = 13;
    pub(crate) const RAPID_COMMIT: u16 = 14;
    pub(crate) const DNS_SERVERS: u16 = 23;
    pub(crate) const IA_PD: u16 = 25;
}

pub(super) const PORT_CLIENT: u16 = 546;
pub(super) const PORT_SERVER: u16 = 547;
/// Message type and transaction id.
const HEADER_LEN: usize = 4;
/// Code and length.
pub(super) const OPTION_LEN: usize = 4;
/// Of all options of a message: every link carries it whole.
pub(super) const OPTIONS_LEN_MAX: usize = ipv6::MTU_MIN as usize - ipv6::LEN - udp::LEN - HEADER_LEN;
const HOP_LIMIT: u8 = 64;

/// A client's message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Of [`kind`].
    pub(super) kind: u8,
    pub(super) transaction: [u8; 3],
    /// In their order, whole.
    pub(super) options: Vec<(u16, Vec<u8>)>,
    /// Of the frame: where the answer goes.
    pub(super) mac: MacAddr,
    pub(super) address: [u8; 16],
}

impl Message {
    pub(super) fn read(frame: &[u8]) -> Result<Self, Silence> {
        let link: ethernet::Header = packet::read(frame, 0).ok_or(Silence::Malformed)?;
        let ip: ipv6::Header = packet::read(frame, ethernet::LEN).ok_or(Silence::Malformed)?;
        let payload = payload(frame, &link, &ip).ok_or(Silence::Malformed)?;
        let (header, rest) = payload.split_at_checked(HEADER_LEN).ok_or(Silence::Malformed)?;
        let &[kind, a, b, c] = header else { return Err(Silence::Malformed) };
        if kind == kind::RELAY_FORWARD {
            return Err(Silence::Relayed);
        }
        let options = options(rest).ok_or(Silence::Malformed)?;
        Ok(Self { kind, transaction: [a, b, c], options, mac: link.src, address: ip.src })
    }

    /// The first of them.
    pub(super) fn option(&self, code: u16) -> Option<&[u8]> {
        self.options.iter().find(|(own, _)| *own == code).map(|(_, value)| value.as_slice())
    }

    pub(super) fn has(&self, code: u16) -> bool {
        self.option(code).is_some()
    }

    /// Whether the client asks for an option; one that asks for none in particular takes all.
    pub(super) fn asks_for(&self, code: u16) -> bool {
        let Some(codes) = self.option(option::REQUESTED) else { return true };
        codes.chunks_exact(2).any(|pair| pair == code.to_be_bytes())
    }

    /// The frame that answers.
    pub(super) fn reply(&self, server: &Server, kind: u8, options: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let [a, b, c] = self.transaction;
        let mut payload = vec![kind, a, b, c];
        options.iter().for_each(|(code, value)| push(&mut payload, *code, value));
        let src = nd::link_local(server.mac);
        let len = U16::new((udp::LEN + payload.len()) as u16);
        let header = udp::Header {
            src_port: U16::new(PORT_SERVER),
            dst_port: U16::new(PORT_CLIENT),
            len,
            checksum: U16::new(0),
        };
        let mut datagram = [&packet::bytes::<_, { udp::LEN }>(header)[..], &payload].concat();
        let sum = match icmp6::transport_checksum(&src, &self.address, PROTOCOL_UDP, &datagram) {
            0 => 0xffff,
            sum => sum,
        };
        if let Some(place) = datagram.get_mut(6..8) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        let ip = ipv6::Header {
            version_class_label: U32::new(6 << 28),
            payload_len: len,
            next_header: PROTOCOL_UDP,
            hop_limit: HOP_LIMIT,
            src,
            dst: self.address,
        };
        let link =
            ethernet::Header { dst: self.mac, src: server.mac, ethertype: U16::new(ethernet::TYPE_IPV6) };
        let (link, ip) = (packet::bytes::<_, { ethernet::LEN }>(link), packet::bytes::<_, { ipv6::LEN }>(ip));
        [&link[..], &ip[..], &datagram].concat()
    }
}

const PROTOCOL_UDP: u8 = packet::ipv4::PROTOCOL_UDP;

/// Appends an option. Values are short: what is not is left out.
pub(super) fn push(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    if let Ok(len) = u16::try_from(value.len()) {
        bytes.extend(code.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(value);
    }
}

/// All options of a message or of an option; none if one is cut.
pub(super) fn options(mut bytes: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        let (&[a, b, c, d], rest) = bytes.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([c, d])))?;
        options.push((u16::from_be_bytes([a, b]), value.to_vec()));
        bytes = rest;
    }
    Some(options)
}

/// What is behind Ethernet, IPv6 and UDP to the server's port; the lengths in the headers count, not the frame's. The
/// checksum is not looked at: a VM may have left it to its virtual NIC.
fn payload<'a>(frame: &'a [u8], link: &ethernet::Header, ip: &ipv6::Header) -> Option<&'a [u8]> {
    let sound = link.ethertype.get() == ethernet::TYPE_IPV6
        && ip.version() == 6
        && ip.next_header == PROTOCOL_UDP
        && ip.src.starts_with(&[0xfe, 0x80]);
    let datagram = frame.get(ethernet::LEN + ipv6::LEN..).filter(|_| sound)?;
    let datagram = datagram.get(..usize::from(ip.payload_len.get()))?;
    let header: udp::Header = packet::read(datagram, 0)?;
    let to_server = header.dst_port.get() == PORT_SERVER;
    datagram.get(udp::LEN..usize::from(header.len.get())).filter(|_| to_server)
}
