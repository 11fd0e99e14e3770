//! Which packets: expressions in the words of pcap-filter(7), as tcpdump takes them.
//!
//! Understood: `host`, `net`, `port`, `portrange` with `src` and `dst`; `ether host`; `ip`, `ip6`, `arp`, `tcp`, `udp`,
//! `icmp`, `icmp6`, `proto N`, `ip proto N`, `ip6 proto N`; `less`, `greater`; `vlan [ID]`; bytes of headers as in
//! `tcp[tcpflags] & tcp-syn != 0`; `and`, `or`, `not`, parentheses. Two differences: a VLAN tag hides nothing, `host A`
//! finds tagged packets too; and `tcp[…]`, `udp[…]` are bytes of IPv6's transport headers as well. As with tcpdump, the
//! protocol of IPv6 is what its first header says.

use crate::MacAddr;
use ipnet::{IpNet, Ipv4Net};
use packet::{ethernet, ipv4, ipv6};
use pipeline::capture::{End, Slot};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod parse;

pub use parse::NotAFilter;

/// A condition on a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    All,
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Test(Test),
}

/// At which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Src,
    Dst,
    Either,
    Both,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    Ethertype(u16),
    Protocol(u8),
    Net(Side, IpNet),
    Mac(Side, MacAddr),
    /// TCP and UDP, or the one protocol.
    Ports(Side, Option<u8>, std::ops::RangeInclusive<u16>),
    Vlan(Option<u16>),
    Compare(Value, Relation, Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A number out of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u32),
    /// Of the frame.
    Len,
    /// `size` bytes at `offset` of a header.
    Bytes(Header, u32, u32),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Plus(Box<Self>, Box<Self>),
    Minus(Box<Self>, Box<Self>),
}

/// Where an offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Ether,
    Ip,
    Ip6,
    /// The transport header of that protocol.
    Transport(u8),
}

impl std::str::FromStr for Filter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        parse::parse(text)
    }
}

/// A frame, cut or whole, as tests look at it.
struct Frame<'a> {
    bytes: &'a [u8],
    /// Of the whole frame.
    len: u32,
    vlan: Option<u16>,
    ethertype: u16,
    network: &'a [u8],
    protocol: Option<u8>,
    /// None: a later fragment, or no IP.
    transport: Option<&'a [u8]>,
}

impl<'a> Frame<'a> {
    fn of(bytes: &'a [u8], len: u32) -> Self {
        let half = |at: usize| bytes.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
        let tagged = half(12) == ethernet::TYPE_VLAN;
        let offset = if tagged { 16 } else { 12 };
        let network = bytes.get(offset + 2..).unwrap_or_default();
        let ethertype = half(offset);
        let is_ip = ethertype == ethernet::TYPE_IPV4 && network.len() >= ipv4::LEN;
        if ethertype == ethernet::TYPE_IPV6 {
            let vlan = tagged.then(|| half(14) & 0x0fff);
            let protocol = network.get(6).copied().filter(|_| network.len() >= ipv6::LEN);
            let transport = network.get(ipv6::LEN..);
            return Self { bytes, len, vlan, ethertype, network, protocol, transport };
        }
        let header_len = network.first().map_or(0, |first| usize::from(first & 0xf) * 4);
        let later = network.get(6..8).is_some_and(|two| u16::from_be_bytes([two[0], two[1]]) & 0x1fff != 0);
        Self {
            bytes,
            len,
            vlan: tagged.then(|| half(14) & 0x0fff),
            ethertype,
            network,
            protocol: is_ip.then(|| network.get(9).copied().unwrap_or_default()),
            transport: if is_ip && !later { network.get(header_len..) } else { None },
        }
    }

    fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let at = |offset: usize| {
            let four: [u8; 4] = self.network.get(offset..offset + 4)?.try_into().ok()?;
            Some(IpAddr::from(Ipv4Addr::from(four)))
        };
        let at6 = |offset: u32| {
            let offset = offset as usize;
            let sixteen: [u8; 16] = self.network.get(offset..offset + 16)?.try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(sixteen)))
        };
        match self.ethertype {
            ethernet::TYPE_IPV6 => Some((at6(ipv6::OFFSET_SRC)?, at6(ipv6::OFFSET_DST)?)),
            ethernet::TYPE_IPV4 => Some((at(12)?, at(16)?)),
            ethernet::TYPE_ARP => Some((at(14)?, at(24)?)),
            _ => None,
        }
    }

    fn ports(&self, only: Option<u8>) -> Option<(u16, u16)> {
        let protocol = self.protocol?;
        let wanted =
            only.map_or(matches!(protocol, ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP), |only| only == protocol);
        let four: &[u8; 4] = self.transport?.first_chunk().filter(|_| wanted)?;
        let [a, b, c, d] = *four;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// The network header, if the packet is of that kind.
    fn network_of(&self, ethertype: u16) -> Option<&'a [u8]> {
        self.protocol.filter(|_| self.ethertype == ethertype).map(|_| self.network)
    }

    fn mac(&self, at: usize) -> Option<MacAddr> {
        Some(MacAddr(self.bytes.get(at..at + 6)?.try_into().ok()?))
    }
}

impl Side {
    fn is<T>(self, ends: Option<(T, T)>, test: impl Fn(T) -> bool) -> bool {
        let Some((src, dst)) = ends else { return false };
        match self {
            Self::Src => test(src),
            Self::Dst => test(dst),
            Self::Either => test(src) || test(dst),
            Self::Both => test(src) && test(dst),
        }
    }
}

impl Filter {
    /// Whether a frame, of which these bytes are there, fits. A byte that is not there fits nothing.
    pub fn matches(&self, bytes: &[u8], len: u32) -> bool {
        self.fits(&Frame::of(bytes, len))
    }

    fn fits(&self, frame: &Frame<'_>) -> bool {
        match self {
            Self::All => true,
            Self::And(a, b) => a.fits(frame) && b.fits(frame),
            Self::Or(a, b) => a.fits(frame) || b.fits(frame),
            Self::Not(a) => !a.fits(frame),
            Self::Test(test) => test.fits(frame),
        }
    }

    /// What the programs can look for themselves: everything that fits the filter fits the slot.
    pub fn slot(&self) -> Slot {
        let mut slot = Slot::default();
        let mut nets: Vec<(Side, Ipv4Net)> = Vec::new();
        self.conjuncts(&mut |test| match test {
            Test::Ethertype(ethertype) => (slot.ethertype, slot.ethertype_mask) = (*ethertype, u16::MAX),
            Test::Protocol(protocol) => (slot.protocol, slot.protocol_mask) = (*protocol, u8::MAX),
            // Slots have no room for addresses of IPv6: the programs tell of all such packets.
            Test::Net(_, IpNet::V6(_)) => {
                (slot.ethertype, slot.ethertype_mask) = (ethernet::TYPE_IPV6, u16::MAX);
            }
            Test::Net(side, IpNet::V4(net)) => nets.push((*side, *net)),
            Test::Ports(side, only, range) => {
                if let Some(protocol) = only {
                    (slot.protocol, slot.protocol_mask) = (*protocol, u8::MAX);
                }
                if range.start() == range.end() && *side != Side::Both {
                    (slot.ends[0].port, slot.ends[0].port_mask) = (*range.start(), u16::MAX);
                }
            }
            _ => {}
        });
        let Some((_, first)) = nets.first().copied() else { return slot };
        // An address and a port need not be of the same end.
        slot.ends[0] = end(first);
        let apart = |net: &Ipv4Net| !net.contains(&first) && !first.contains(net);
        if let Some((_, second)) = nets.iter().skip(1).find(|(_, net)| apart(net)) {
            slot.ends[1] = end(*second);
        }
        slot
    }

    fn conjuncts<'a>(&'a self, visit: &mut impl FnMut(&'a Test)) {
        match self {
            Self::And(a, b) => {
                a.conjuncts(visit);
                b.conjuncts(visit);
            }
            Self::Test(test) => visit(test),
            Self::All | Self::Or(..) | Self::Not(_) => {}
        }
    }
}

fn end(net: Ipv4Net) -> End {
    let word = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
    End { address: word(net.network()), address_mask: word(net.netmask()), ..End::default() }
}

impl Test {
    fn fits(&self, frame: &Frame<'_>) -> bool {
        match self {
            Self::Ethertype(ethertype) => frame.ethertype == *ethertype,
            Self::Protocol(protocol) => frame.protocol == Some(*protocol),
            Self::Net(side, net) => side.is(frame.addresses(), |address| net.contains(&address)),
            Self::Mac(side, mac) => side.is(frame.mac(6).zip(frame.mac(0)), |found| found == *mac),
            Self::Ports(side, protocol, range) => {
                side.is(frame.ports(*protocol), |port| range.contains(&port))
            }
            Self::Vlan(None) => frame.vlan.is_some(),
            Self::Vlan(wanted) => frame.vlan == *wanted,
            Self::Compare(a, relation, b) => {
                a.of(frame).zip(b.of(frame)).is_some_and(|(a, b)| relation.holds(a, b))
            }
        }
    }
}

impl Relation {
    const fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
        }
    }
}

impl Value {
    fn of(&self, frame: &Frame<'_>) -> Option<u32> {
        let both = |a: &Self, b: &Self| a.of(frame).zip(b.of(frame));
        match self {
            Self::Number(number) => Some(*number),
            Self::Len => Some(frame.len),
            Self::Bytes(header, offset, size) => {
                let bytes = match header {
                    Header::Ether => frame.bytes,
                    Header::Ip => frame.network_of(ethernet::TYPE_IPV4)?,
                    Header::Ip6 => frame.network_of(ethernet::TYPE_IPV6)?,
                    Header::Transport(protocol) => {
                        frame.transport.filter(|_| frame.protocol == Some(*protocol))?
                    }
                };
                let (start, end) = (*offset as usize, (*offset as usize).checked_add(*size as usize)?);
                Some(bytes.get(start..end)?.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
            }
            Self::And(a, b) => both(a, b).map(|(a, b)| a & b),
            Self::Or(a, b) => both(a, b).map(|(a, b)| a | b),
            Self::Plus(a, b) => both(a, b).map(|(a, b)| a.wrapping_add(b)),
            Self::Minus(a, b) => both(a, b).map(|(a, b)| a.wrapping_sub(b)),
        }
    }
}

#[cfg(test)]
mod tests;
