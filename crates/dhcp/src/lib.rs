//! What guests are told to configure themselves by, sans IO: router advertisements ([`advertisement`]), DHCPv6 ([`v6`])
//! and, here, the server's part of DHCPv4 (RFC 2131, RFC 2132, RFC 3442, RFC 6842): a VM's frame and what its port is in,
//! the frame to answer with out.
//!
//! There is one client per port and its address is the port's: nothing is allocated, so there is no state, and a
//! restarted server goes on as if nothing had been. Whose message it is follows from the port it came by; the message
//! itself may only agree. Relays have no place between a VM and its host: messages of theirs are refused.

pub mod advertisement;
mod message;
#[cfg(test)]
mod tests;
pub mod v6;

use ipnet::Ipv4Net;
use message::Message;
use model::dhcp::push_route;
use packet::MacAddr;
use packet::dhcp::{message_type, option};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// RFC 2131 §2: what every client takes, as an IP datagram.
const SIZE_MIN: u16 = 576;
/// IPv4 without options, and UDP.
const OUTER_LEN: usize = packet::ipv4::LEN + packet::udp::LEN;
/// Mandatory in what is said of an address, whether it is asked for or not.
const ALWAYS: [u8; 7] = [
    option::MESSAGE_TYPE,
    option::SERVER_ID,
    option::LEASE_TIME,
    option::RENEWAL_TIME,
    option::REBINDING_TIME,
    option::SUBNET_MASK,
    option::CLIENT_ID,
];

/// Who answers. Clients reach it by a route of their own, to this address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pub mac: MacAddr,
    pub address: Ipv4Addr,
}

/// What a port's VM is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub mac: MacAddr,
    /// The first is for who asks for none in particular.
    pub addresses: Vec<LeasedAddress>,
    /// Largest IP packet on the network.
    pub mtu: u16,
    pub lease_s: u32,
    /// By code: the port's own, which win over what follows from the rest.
    pub options: BTreeMap<u8, Vec<u8>>,
}

/// An address of the port, and its subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedAddress {
    /// The address itself, with the subnet's prefix length.
    pub address: Ipv4Net,
    pub gateway: Option<Ipv4Addr>,
    pub dns_servers: Vec<Ipv4Addr>,
    /// Destination and next hop.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
}

/// The kind of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Offer,
    Ack,
    Nak,
}

impl Kind {
    /// For counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offer => "offers",
            Self::Ack => "acks",
            Self::Nak => "naks",
        }
    }

    const fn message_type(self) -> u8 {
        match self {
            Self::Offer => message_type::OFFER,
            Self::Ack => message_type::ACK,
            Self::Nak => message_type::NAK,
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
    #[error("not a client's DHCP message over Ethernet, or it is cut")]
    Malformed,
    #[error("it came through a relay")]
    Relayed,
    #[error("it asks for a MAC that is not the port's")]
    OtherClient,
    #[error("it is for another server")]
    OtherServer,
    #[error("DHCP is off on the port's subnets")]
    Off,
    #[error("the client says that somebody else uses the address")]
    Declined,
    #[error("the client gives its address up")]
    Released,
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
            Self::Declined => "declined",
            Self::Released => "released",
        }
    }
}

/// Answers the message in a frame of the port that `lease` is for.
///
/// # Errors
/// It is not to be answered.
pub fn answer(server: &Server, lease: &Lease, frame: &[u8]) -> Result<Reply, Silence> {
    let message = Message::read(frame)?;
    if message.header.giaddr != [0; 4] {
        return Err(Silence::Relayed);
    }
    if message.header.client_mac() != lease.mac {
        return Err(Silence::OtherClient);
    }
    let Some(first) = lease.addresses.first() else { return Err(Silence::Off) };
    let exchange = Exchange { server, lease, message: &message };
    match message.kind {
        message_type::DISCOVER => {
            let wanted = message.address(option::REQUESTED_ADDRESS).and_then(|address| lease.find(address));
            Ok(exchange.grant(Kind::Offer, wanted.unwrap_or(first)))
        }
        message_type::REQUEST => exchange.request(),
        message_type::DECLINE => Err(Silence::Declined),
        message_type::RELEASE => Err(Silence::Released),
        message_type::INFORM if message.client_address().is_unspecified() => Err(Silence::Malformed),
        message_type::INFORM => {
            let known = lease.find(message.client_address());
            Ok(exchange.inform(known.unwrap_or(first)))
        }
        _ => Err(Silence::Malformed),
    }
}

impl Lease {
    fn find(&self, address: Ipv4Addr) -> Option<&LeasedAddress> {
        self.addresses.iter().find(|leased| leased.address.addr() == address)
    }

    fn lease_s(&self) -> u32 {
        let own = self.options.get(&option::LEASE_TIME).and_then(|value| value.as_slice().try_into().ok());
        own.map_or(self.lease_s, u32::from_be_bytes)
    }
}

/// A message and what it is answered from.
struct Exchange<'a> {
    server: &'a Server,
    lease: &'a Lease,
    message: &'a Message,
}

impl Exchange<'_> {
    /// RFC 2131 §4.3.2: the client has chosen an offer (server named), was here before (address asked for), or
    /// wants to keep what it has (its address in the header).
    fn request(&self) -> Result<Reply, Silence> {
        let server = self.message.address(option::SERVER_ID);
        if server.is_some_and(|server| server != self.server.address) {
            return Err(Silence::OtherServer);
        }
        let requested = self.message.address(option::REQUESTED_ADDRESS);
        let wanted = requested.unwrap_or_else(|| self.message.client_address());
        match self.lease.find(wanted) {
            Some(leased) => Ok(self.grant(Kind::Ack, leased)),
            None => Ok(self.refuse(wanted)),
        }
    }

    fn grant(&self, kind: Kind, leased: &LeasedAddress) -> Reply {
        let mut options = vec![
            (option::MESSAGE_TYPE, vec![kind.message_type()]),
            (option::SERVER_ID, self.server.address.octets().to_vec()),
        ];
        let lease_s = u64::from(self.lease.lease_s());
        // RFC 2131 §4.4.5. At most 7/8 of 32 bits.
        let times = [
            (option::LEASE_TIME, lease_s),
            (option::RENEWAL_TIME, lease_s / 2),
            (option::REBINDING_TIME, lease_s * 7 / 8),
        ];
        let own = |code| self.lease.options.get(&code).cloned();
        let derived = |time_s: u64| (time_s as u32).to_be_bytes().to_vec();
        options.extend(times.map(|(code, time_s)| (code, own(code).unwrap_or_else(|| derived(time_s)))));
        self.push_parameters(&mut options, leased);
        self.reply(kind, leased.address.addr(), options)
    }

    /// RFC 2131 §4.3.5: no address and no times.
    fn inform(&self, leased: &LeasedAddress) -> Reply {
        let mut options = vec![
            (option::MESSAGE_TYPE, vec![message_type::ACK]),
            (option::SERVER_ID, self.server.address.octets().to_vec()),
        ];
        self.push_parameters(&mut options, leased);
        options.retain(|(code, _)| *code != option::LEASE_TIME);
        self.reply(Kind::Ack, Ipv4Addr::UNSPECIFIED, options)
    }

    fn refuse(&self, wanted: Ipv4Addr) -> Reply {
        let text = format!("{wanted} is not an address of this port");
        let mut options = vec![
            (option::MESSAGE_TYPE, vec![message_type::NAK]),
            (option::SERVER_ID, self.server.address.octets().to_vec()),
            (option::MESSAGE, text.into_bytes()),
        ];
        options.extend(self.client_id());
        self.reply(Kind::Nak, Ipv4Addr::UNSPECIFIED, options)
    }

    /// RFC 6842: it is told back.
    fn client_id(&self) -> Option<(u8, Vec<u8>)> {
        self.message.options.get(&option::CLIENT_ID).map(|id| (option::CLIENT_ID, id.clone()))
    }

    /// Everything but the exchange itself, as far as it is asked for, the most important first.
    fn push_parameters(&self, options: &mut Vec<(u8, Vec<u8>)>, leased: &LeasedAddress) {
        let own = &self.lease.options;
        let asked = self.message.options.get(&option::PARAMETER_LIST);
        let wanted = |code: u8| ALWAYS.contains(&code) || asked.is_none_or(|asked| asked.contains(&code));
        let host_name = format!("host-{}", leased.address.addr().to_string().replace('.', "-"));
        let routes = self.routes(leased);
        let derived = [
            (option::SUBNET_MASK, leased.address.netmask().octets().to_vec()),
            (option::ROUTER, leased.gateway.map(|gateway| gateway.octets().to_vec()).unwrap_or_default()),
            (option::DNS_SERVER, leased.dns_servers.iter().flat_map(Ipv4Addr::octets).collect()),
            (option::CLASSLESS_ROUTES, routes.clone()),
            (option::CLASSLESS_ROUTES_MICROSOFT, routes),
            (option::MTU, self.lease.mtu.to_be_bytes().to_vec()),
            (option::BROADCAST, leased.address.broadcast().octets().to_vec()),
            (option::HOST_NAME, host_name.into_bytes()),
        ];
        options.extend(self.client_id());
        let told = options.iter().map(|(code, _)| *code).collect::<Vec<_>>();
        let own_first = own.iter().map(|(code, value)| (*code, value.clone()));
        let rest = derived.into_iter().filter(|(code, value)| !value.is_empty() && !own.contains_key(code));
        options.extend(own_first.chain(rest).filter(|(code, _)| wanted(*code) && !told.contains(code)));
    }

    /// RFC 3442: who takes these ignores the router option, so that the way to the gateway is among them. The
    /// server's address is on the link.
    fn routes(&self, leased: &LeasedAddress) -> Vec<u8> {
        let default = leased.gateway.map(|gateway| (Ipv4Net::default(), gateway));
        let service = (Ipv4Net::from(self.server.address), Ipv4Addr::UNSPECIFIED);
        let mut bytes = Vec::new();
        for (destination, next_hop) in
            default.into_iter().chain([service]).chain(leased.routes.iter().copied())
        {
            push_route(&mut bytes, destination, next_hop);
        }
        bytes
    }

    fn reply(&self, kind: Kind, address: Ipv4Addr, options: Vec<(u8, Vec<u8>)>) -> Reply {
        let asked = self.message.options.get(&option::SIZE_MAX);
        let asked =
            asked.and_then(|value| value.as_slice().try_into().ok()).map_or(SIZE_MIN, u16::from_be_bytes);
        let size_max = usize::from(asked.clamp(SIZE_MIN, self.lease.mtu.max(SIZE_MIN)));
        let payload = self.message.reply(kind, address, self.lease, &options, size_max - OUTER_LEN);
        Reply { kind, frame: message::frame(self.server, self.message, kind, address, &payload) }
    }
}
