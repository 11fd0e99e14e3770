//! The server's part of DHCPv6 (RFC 8415), sans IO: a VM's frame and what its port is in, the frame to answer with out.
//!
//! As with DHCPv4 the addresses are the port's and nothing is allocated. On networks where guests make their addresses
//! themselves only questions for the rest are answered (`dhcpv6-stateless`); where they are told them
//! (`dhcpv6-stateful`), the first association they ask for gets all of the port's. Relays are refused.

mod message;
#[cfg(test)]
mod tests;

use message::{Message, kind, option};
use packet::MacAddr;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// RFC 8415 §21.13.
const STATUS_NO_ADDRESSES: u16 = 2;
const STATUS_NOT_ON_LINK: u16 = 4;
/// RFC 8415 §11.4, Ethernet.
const DUID_LINK_LAYER: [u8; 4] = [0, 3, 0, 1];

/// Who answers; the same on every host, so that a VM that moved knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pub mac: MacAddr,
}

/// What a port's VM is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub mac: MacAddr,
    /// Those of the port's addresses that are told by DHCPv6.
    pub addresses: Vec<Ipv6Addr>,
    pub dns_servers: Vec<Ipv6Addr>,
    pub lease_s: u32,
    /// By code: the port's own, which win over what follows from the rest.
    pub options: BTreeMap<u16, Vec<u8>>,
}

/// The kind of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Advertise,
    Reply,
}

impl Kind {
    /// For counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Advertise => "advertises",
            Self::Reply => "replies",
        }
    }

    const fn message_type(self) -> u8 {
        match self {
            Self::Advertise => kind::ADVERTISE,
            Self::Reply => kind::REPLY,
        }
    }
}

/// An Ethernet frame for the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub kind: Kind,
    pub frame: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Silence {
    #[error("not a client's DHCPv6 message over Ethernet, or it is cut")]
    Malformed,
    #[error("it came through a relay")]
    Relayed,
    #[error("it is from a MAC that is not the port's")]
    OtherClient,
    #[error("it is for another server")]
    OtherServer,
    #[error("DHCPv6 is off on the port's subnets")]
    Off,
}

impl Silence {
    /// For counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Relayed => "relayed",
            Self::OtherClient => "other-client",
            Self::OtherServer => "other-server",
            Self::Off => "off",
        }
    }
}

/// Answers the message in a frame of the port that `lease` is for; no lease: DHCPv6 is off there.
///
/// # Errors
/// It is not to be answered.
pub fn answer(server: &Server, lease: Option<&Lease>, frame: &[u8]) -> Result<Reply, Silence> {
    let message = Message::read(frame)?;
    let lease = lease.ok_or(Silence::Off)?;
    if message.mac != lease.mac {
        return Err(Silence::OtherClient);
    }
    let exchange = Exchange { server, lease, message: &message };
    exchange.check()?;
    match message.kind {
        kind::SOLICIT if message.has(option::RAPID_COMMIT) && !lease.addresses.is_empty() => {
            let rapid = (option::RAPID_COMMIT, Vec::new());
            Ok(exchange.reply(Kind::Reply, [rapid].into_iter().chain(exchange.associations())))
        }
        kind::SOLICIT => Ok(exchange.reply(Kind::Advertise, exchange.associations())),
        kind::REQUEST | kind::RENEW | kind::REBIND => {
            Ok(exchange.reply(Kind::Reply, exchange.associations()))
        }
        kind::CONFIRM => Ok(exchange.confirm()),
        // There is nothing to take back: the addresses stay the port's.
        kind::RELEASE | kind::DECLINE => Ok(exchange.reply(Kind::Reply, [status(0)])),
        kind::INFORMATION_REQUEST => Ok(exchange.reply(Kind::Reply, [])),
        _ => Err(Silence::Malformed),
    }
}

/// A message and what it is answered from.
struct Exchange<'a> {
    server: &'a Server,
    lease: &'a Lease,
    message: &'a Message,
}

type Options = (u16, Vec<u8>);

impl Exchange<'_> {
    fn server_id(&self) -> Vec<u8> {
        [&DUID_LINK_LAYER[..], &self.server.mac.0].concat()
    }

    /// RFC 8415 §16: who must say which identifier.
    fn check(&self) -> Result<(), Silence> {
        let message = self.message;
        let to_one = matches!(message.kind, kind::REQUEST | kind::RENEW | kind::RELEASE | kind::DECLINE);
        let to_all = matches!(message.kind, kind::SOLICIT | kind::CONFIRM | kind::REBIND);
        let inform = message.kind == kind::INFORMATION_REQUEST;
        let server = message.option(option::SERVER_ID);
        if server.is_some_and(|id| id != self.server_id()) {
            return Err(Silence::OtherServer);
        }
        let associations = [option::IA_NA, option::IA_TA, option::IA_PD];
        let wrong = to_one && server.is_none()
            || to_all && server.is_some()
            || !inform && message.option(option::CLIENT_ID).is_none_or(<[u8]>::is_empty)
            || inform && associations.iter().any(|code| message.has(*code));
        if wrong { Err(Silence::Malformed) } else { Ok(()) }
    }

    /// What becomes of the associations that the client asks for.
    fn associations(&self) -> Vec<Options> {
        let asked = self.message.options.iter().filter(|(code, _)| *code == option::IA_NA);
        let ids = asked.filter_map(|(_, value)| value.first_chunk::<4>());
        let mut told: Vec<Options> = Vec::new();
        for id in ids {
            let whole = told.is_empty() && !self.lease.addresses.is_empty();
            told.push((option::IA_NA, if whole { self.association(*id) } else { refused(*id) }));
        }
        if told.is_empty() { vec![status(STATUS_NO_ADDRESSES)] } else { told }
    }

    /// The port's addresses, for as long as a lease of DHCPv4.
    fn association(&self, id: [u8; 4]) -> Vec<u8> {
        let lease_s = self.lease.lease_s;
        // RFC 8415 §21.4: half and four fifths.
        let mut value = [id, (lease_s / 2).to_be_bytes(), (lease_s / 5 * 4).to_be_bytes()].concat();
        for address in &self.lease.addresses {
            let times = [lease_s.to_be_bytes(), lease_s.to_be_bytes()].concat();
            let address = [&address.octets()[..], &times].concat();
            message::push(&mut value, option::IA_ADDRESS, &address);
        }
        value
    }

    /// RFC 8415 §18.3.3: whether all addresses the client has are the port's.
    fn confirm(&self) -> Reply {
        let associations = self.message.options.iter().filter(|(code, _)| *code == option::IA_NA);
        let inside = associations.filter_map(|(_, value)| message::options(value.get(12..)?));
        let addresses = inside.flatten().filter(|(code, _)| *code == option::IA_ADDRESS);
        let mut addresses = addresses.filter_map(|(_, value)| value.first_chunk::<16>().copied());
        let right = addresses.all(|address| self.lease.addresses.contains(&Ipv6Addr::from(address)));
        self.reply(Kind::Reply, [status(if right { 0 } else { STATUS_NOT_ON_LINK })])
    }

    fn reply(&self, kind: Kind, own: impl IntoIterator<Item = Options>) -> Reply {
        let mut options = vec![(option::SERVER_ID, self.server_id())];
        let client = self.message.option(option::CLIENT_ID);
        options.extend(client.map(|id| (option::CLIENT_ID, id.to_vec())));
        options.extend(own);
        self.add_configuration(&mut options);
        let frame = self.message.reply(self.server, kind.message_type(), &options);
        Reply { kind, frame }
    }

    /// What the client asks for besides addresses, as far as it fits.
    fn add_configuration(&self, options: &mut Vec<Options>) {
        let servers: Vec<u8> = self.lease.dns_servers.iter().flat_map(Ipv6Addr::octets).collect();
        let by_subnet = (!servers.is_empty()).then_some((option::DNS_SERVERS, servers));
        let mut told: BTreeMap<u16, Vec<u8>> = by_subnet.into_iter().collect();
        told.extend(self.lease.options.clone());
        let mut len = options.iter().map(|(_, value)| message::OPTION_LEN + value.len()).sum::<usize>();
        for (code, value) in told.into_iter().filter(|(code, _)| self.message.asks_for(*code)) {
            let longer = len + message::OPTION_LEN + value.len();
            if longer <= message::OPTIONS_LEN_MAX {
                len = longer;
                options.push((code, value));
            }
        }
    }
}

fn status(code: u16) -> Options {
    (option::STATUS, code.to_be_bytes().to_vec())
}

/// An association without addresses.
fn refused(id: [u8; 4]) -> Vec<u8> {
    let mut value = [id, [0; 4], [0; 4]].concat();
    message::push(&mut value, option::STATUS, &STATUS_NO_ADDRESSES.to_be_bytes());
    value
}
