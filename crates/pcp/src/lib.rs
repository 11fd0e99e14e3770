//! The server's part of the Port Control Protocol (RFC 6887), sans IO: a VM's frame in, the frame to answer with out, and
//! in between what is asked of the NAT ([`Nat`]).
//!
//! MAP of single TCP and UDP ports, and ANNOUNCE. Whose request it is follows from the port it came by; its source
//! address is checked by the data path already, and the message may only agree. There is no PEER, no mapping of all
//! ports, no mapping for others, and no filter: security groups are one.

mod message;
#[cfg(test)]
mod tests;

pub use message::{Code, Nonce};

use message::{Answer, Map, Request};
use packet::datagram::{self, Datagram, Ends};
use packet::ipv4;
use packet::udp::PORT_PCP_SERVER;
use std::net::{Ipv4Addr, SocketAddrV4};

/// RFC 6887 §15: shorter ones would be renewed all the time.
pub const LIFETIME_MIN_S: u32 = 120;
/// RFC 6887 §7.4: errors that may be over soon, and the others.
const SHORT_ERROR_S: u32 = 30;
const LONG_ERROR_S: u32 = 1800;

/// An internal port of the VM that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Internal {
    /// TCP or UDP.
    pub protocol: u8,
    pub port: u16,
}

/// A mapping to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub internal: Internal,
    pub nonce: Nonce,
    pub lifetime_s: u32,
    /// What is zero does not matter.
    pub external: SocketAddrV4,
    /// Another external endpoint is none.
    pub exact: bool,
}

/// A mapping that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub internal: Internal,
    pub nonce: Nonce,
    pub external: SocketAddrV4,
    /// What is left of its life.
    pub left_s: u32,
}

/// Why the NAT makes no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    #[error("the address is not one that the VM leaves by SNAT with")]
    NotTranslated,
    #[error("there is no free port")]
    NoResources,
    #[error("there is no port yet; it is being asked for")]
    NotYet,
    #[error("the VM has its share")]
    Quota,
    #[error("the external endpoint is not to be had")]
    External,
}

/// What the VM that asks has of the NAT. Its source address is part of it.
pub trait Nat {
    /// The mapping of one port, of those that were asked for.
    fn find(&self, internal: Internal) -> Option<Opened>;
    /// All of them.
    fn all(&self) -> Vec<Opened>;
    /// Makes a mapping where there was none of the kind.
    ///
    /// # Errors
    /// There is none afterwards either.
    fn open(&mut self, wanted: &Wanted) -> Result<SocketAddrV4, Refused>;
    /// Sets what is left of the life of one that there is.
    ///
    /// # Errors
    /// It is as it was.
    fn renew(&mut self, internal: Internal, lifetime_s: u32) -> Result<(), Refused>;
    fn close(&mut self, internal: Internal);
}

/// The server towards one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Longest life of a mapping without renewal.
    pub lifetime_max_s: u32,
    /// Since nothing the VM asked for was lost (§8.5).
    pub epoch_s: u32,
}

/// An Ethernet frame for the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: Code,
    pub frame: Vec<u8>,
}

/// The address a frame comes from; none: it is not for a PCP server.
pub fn client(frame: &[u8]) -> Option<Ipv4Addr> {
    request(frame).map(|datagram| datagram.ip.src.into())
}

fn request(frame: &[u8]) -> Option<Datagram<'_>> {
    datagram::read(frame).filter(|datagram| {
        datagram.udp.dst_port.get() == PORT_PCP_SERVER && message::is_request(datagram.payload)
    })
}

/// Answers the request in a VM's frame. None: it is no request.
pub fn answer(server: &Server, nat: &mut dyn Nat, frame: &[u8]) -> Option<Reply> {
    let asked = request(frame)?;
    let (code, payload) = server.answer(nat, asked.payload, asked.ip.src.into());
    let ends = Ends {
        macs: (asked.ethernet.dst, asked.ethernet.src),
        addresses: (asked.ip.dst, asked.ip.src),
        ports: (PORT_PCP_SERVER, asked.udp.src_port.get()),
    };
    Some(Reply { code, frame: [&datagram::headers(&ends, &payload)[..], &payload].concat() })
}

impl Server {
    fn answer(&self, nat: &mut dyn Nat, asked: &[u8], client: Ipv4Addr) -> (Code, Vec<u8>) {
        let epoch_s = self.epoch_s;
        if asked.first() == Some(&0) {
            return (Code::UnsupportedVersion, message::not_nat_pmp(asked, epoch_s));
        }
        let done = match message::read(asked, client) {
            Ok(Request::Announce) => Ok((0, None)),
            Ok(Request::Map(map)) => self.map(nat, &map),
            Err(code) => Err((code, LONG_ERROR_S)),
        };
        let answer = match done {
            Ok((lifetime_s, external)) => Answer { code: Code::Success, lifetime_s, epoch_s, external },
            Err((code, lifetime_s)) => Answer { code, lifetime_s, epoch_s, external: None },
        };
        (answer.code, answer.bytes(asked))
    }

    /// RFC 6887 §11.3. The life granted and the external endpoint, or the code and how long it holds.
    fn map(&self, nat: &mut dyn Nat, map: &Map) -> Result<(u32, Option<SocketAddrV4>), (Code, u32)> {
        if map.protocol == 0 && map.port != 0 {
            return Err((Code::MalformedRequest, LONG_ERROR_S));
        }
        if map.port == 0 && map.lifetime_s == 0 {
            close_all(nat, map);
            return Ok((0, None));
        }
        if map.port == 0 || ![ipv4::PROTOCOL_TCP, ipv4::PROTOCOL_UDP].contains(&map.protocol) {
            return Err((Code::UnsupportedProtocol, LONG_ERROR_S));
        }
        let internal = Internal { protocol: map.protocol, port: map.port };
        let lifetime_s = map.lifetime_s.max(LIFETIME_MIN_S).min(self.lifetime_max_s);
        match nat.find(internal) {
            Some(opened) if opened.nonce != map.nonce => Err((Code::NotAuthorized, opened.left_s)),
            Some(_) if map.lifetime_s == 0 => {
                nat.close(internal);
                Ok((0, None))
            }
            None if map.lifetime_s == 0 => Ok((0, None)),
            Some(opened) if map.exact && !suits(map.wanted, opened.external) => {
                Err((Code::CannotProvideExternal, opened.left_s))
            }
            Some(opened) => {
                nat.renew(internal, lifetime_s).map_err(refusal)?;
                Ok((lifetime_s, Some(opened.external)))
            }
            None => {
                let Map { nonce, wanted: external, exact, .. } = *map;
                let wanted = Wanted { internal, nonce, lifetime_s, external, exact };
                let external = nat.open(&wanted).map_err(refusal)?;
                Ok((lifetime_s, Some(external)))
            }
        }
    }
}

/// Whether an external endpoint is the one that was asked for.
pub fn suits(wanted: SocketAddrV4, external: SocketAddrV4) -> bool {
    (wanted.ip().is_unspecified() || wanted.ip() == external.ip())
        && (wanted.port() == 0 || wanted.port() == external.port())
}

/// RFC 6887 §15.1: every mapping of the protocol, or of both, that the client can name.
fn close_all(nat: &mut dyn Nat, map: &Map) {
    for opened in nat.all() {
        let of_protocol = map.protocol == 0 || map.protocol == opened.internal.protocol;
        if of_protocol && opened.nonce == map.nonce {
            nat.close(opened.internal);
        }
    }
}

fn refusal(refused: Refused) -> (Code, u32) {
    /// A block of ports is there in less.
    const BLOCK_S: u32 = 3;
    match refused {
        Refused::NotTranslated => (Code::NotAuthorized, LONG_ERROR_S),
        Refused::NoResources => (Code::NoResources, SHORT_ERROR_S),
        Refused::NotYet => (Code::NoResources, BLOCK_S),
        Refused::Quota => (Code::QuotaExceeded, SHORT_ERROR_S),
        Refused::External => (Code::CannotProvideExternal, SHORT_ERROR_S),
    }
}
