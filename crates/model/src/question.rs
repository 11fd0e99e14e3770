//! What the controller asks a host about its present state, for people who look.
//!
//! A question travels as JSON, and its answer as rows of JSON, one object per line. Filters are evaluated on the
//! host: what nobody asked for does not leave it.

use crate::capture::CaptureRequest;
use crate::trace::WalkRequest;
use crate::{MeteringLabelId, NetworkId, PortId, RouterId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", content = "of", rename_all = "snake_case")]
pub enum Question {
    /// Connections.
    Sessions(SessionFilter),
    /// Ends the connections that match, and tells which they were.
    EndSessions(SessionFilter),
    /// Ports of SNAT addresses and whose they are now: [`MappingRow`]s.
    Mappings(MappingFilter),
    /// Who has which MAC, and where.
    Fdb(NetworkFilter),
    /// Who has which address, and how that is known.
    Neighbors(NetworkFilter),
    /// The entries of every stage with what they did.
    Flows(FlowFilter),
    /// What is going on now: ports with their counters.
    Ports,
    /// What metering labels counted.
    Metering(MeteringFilter),
    /// Real packets as they pass, until the asker leaves: [`crate::capture::CaptureRow`]s.
    Capture(Box<CaptureRequest>),
    /// The way of a frame that somebody describes: one row, a [`crate::trace::WalkAnswer`].
    Walk(Box<WalkRequest>),
}

/// Which sessions; every field that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionFilter {
    /// Rows of each host at most; none: all.
    pub limit: Option<u64>,
    /// As rows name it.
    pub id: Option<String>,
    /// A port at either end.
    pub port: Option<PortId>,
    /// The router on the way.
    pub router: Option<RouterId>,
    /// The network of either end.
    pub network: Option<NetworkId>,
    /// At either end, before or after translation.
    pub address: Option<AddressFilter>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    pub state: Option<SessionState>,
    pub nat: Option<NatFilter>,
    /// Sessions whose sender the outside sees so.
    pub outside: Option<SocketAddrV4>,
    /// Tunnel addresses of the hosts that are asked too. A connection between two of them is told by the host of
    /// its opener alone.
    pub asked: BTreeSet<Ipv4Addr>,
}

/// Which mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MappingFilter {
    /// The router that translates.
    pub router: Option<RouterId>,
}

/// An internal endpoint and the external one that it has, whatever it talks to. Of ICMP the ports are identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRow {
    pub router: RouterId,
    /// IP protocol number.
    pub protocol: u8,
    pub internal: SocketAddrV4,
    pub external: SocketAddrV4,
    pub age_ms: u64,
}

/// Counts of one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeteringFilter {
    pub label: Option<MeteringLabelId>,
}

/// Rows of one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkFilter {
    pub network: Option<NetworkId>,
}

/// Which rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowFilter {
    /// Only this stage.
    pub stage: Option<String>,
}

/// An address or prefix, and a transport port if one matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressFilter {
    pub net: IpNet,
    pub port: Option<u16>,
}

/// Text that is no such thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAFilter {
    #[error(
        "'{0}' is no IP address, prefix (10.0.0.0/8, 2001:db8::/32) or address and port (10.0.0.1:53, [2001:db8::1]:53)"
    )]
    Address(String),
    #[error("'{0}' is no protocol: icmp, icmpv6, tcp, udp or a number up to 255")]
    Protocol(String),
    #[error("'{0}' is no state: transitory, established, closed or active")]
    State(String),
    #[error("'{0}' is no kind of NAT: any, none, snat, floating or dnat")]
    Nat(String),
}

impl AddressFilter {
    pub fn matches(&self, address: IpAddr, port: u16) -> bool {
        self.net.contains(&address) && self.port.is_none_or(|wanted| wanted == port)
    }
}

impl FromStr for AddressFilter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        let bad = || NotAFilter::Address(text.to_owned());
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        if let Ok(net) = net {
            return Ok(Self { net, port: None });
        }
        let end: SocketAddr = text.parse().map_err(|_| bad())?;
        Ok(Self { net: end.ip().into(), port: Some(end.port()) })
    }
}

impl fmt::Display for AddressFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.net.addr(), port)),
            None => write!(f, "{}", self.net),
        }
    }
}

impl Serialize for AddressFilter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddressFilter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    Transitory,
    Established,
    Closed,
    /// Whatever is not TCP.
    Active,
}

impl SessionState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transitory => "transitory",
            Self::Established => "established",
            Self::Closed => "closed",
            Self::Active => "active",
        }
    }
}

impl FromStr for SessionState {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        let all = [Self::Transitory, Self::Established, Self::Closed, Self::Active];
        all.into_iter().find(|state| state.name() == text).ok_or_else(|| NotAFilter::State(text.to_owned()))
    }
}

/// How a connection is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NatFilter {
    Any,
    None,
    Snat,
    Floating,
    Dnat,
}

impl FromStr for NatFilter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        Ok(match text {
            "any" => Self::Any,
            "none" => Self::None,
            "snat" => Self::Snat,
            "floating" => Self::Floating,
            "dnat" => Self::Dnat,
            _ => return Err(NotAFilter::Nat(text.to_owned())),
        })
    }
}

/// The number of a protocol by its name.
///
/// # Errors
/// It is neither one of the names nor a number up to 255.
pub fn protocol(text: &str) -> Result<u8, NotAFilter> {
    match text {
        "icmp" => Ok(1),
        "icmpv6" => Ok(58),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        _ => text.parse().map_err(|_| NotAFilter::Protocol(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_filter_is_an_address_a_prefix_or_an_endpoint() {
        let filter = |text: &str| text.parse::<AddressFilter>();
        let matches =
            |text: &str, address: [u8; 4], port| filter(text).unwrap().matches(address.into(), port);
        assert!(matches("8.8.8.8", [8, 8, 8, 8], 53) && !matches("8.8.8.8", [8, 8, 4, 4], 53));
        assert!(matches("8.8.0.0/16", [8, 8, 4, 4], 53));
        assert!(matches("8.8.8.8:53", [8, 8, 8, 8], 53) && !matches("8.8.8.8:53", [8, 8, 8, 8], 443));
        let matches6 =
            |text: &str, address: &str, port| filter(text).unwrap().matches(address.parse().unwrap(), port);
        assert!(
            matches6("2001:db8::/32", "2001:db8::1", 53) && !matches6("2001:db8::/32", "2001:db9::1", 53)
        );
        assert!(
            matches6("[2001:db8::1]:53", "2001:db8::1", 53) && !matches6("2001:db8::1", "2001:db8::2", 53)
        );
        assert!(!matches6("::/0", "8.8.8.8", 53));
        for text in ["8.8.8.8:53", "10.0.0.0/8", "[2001:db8::1]:53", "2001:db8::/32"] {
            assert_eq!(filter(text).unwrap().to_string(), text);
        }
        for bad in [
            "[2001:db8::1]",
            "2001:db8::/129",
            "",
            "8.8.8",
            "8.8.8.8:",
            "8.8.8.8:99999",
            "8.8.8.8/33",
            "8.8.8.8/24:53",
            "vm1",
        ] {
            assert_eq!(filter(bad), Err(NotAFilter::Address(bad.to_owned())));
        }
    }

    #[test]
    fn a_question_is_the_same_after_the_way() {
        let filter = SessionFilter {
            address: Some("8.8.8.8:53".parse().unwrap()),
            state: Some("established".parse().unwrap()),
            nat: Some("snat".parse().unwrap()),
            protocol: Some(protocol("udp").unwrap()),
            outside: Some("172.22.7.27:2047".parse().unwrap()),
            ..SessionFilter::default()
        };
        for question in [
            Question::Sessions(filter.clone()),
            Question::EndSessions(filter),
            Question::Mappings(MappingFilter { router: Some(RouterId::MAX) }),
            Question::Fdb(NetworkFilter::default()),
            Question::Flows(FlowFilter { stage: Some("route".to_owned()) }),
            Question::Ports,
            Question::Metering(MeteringFilter { label: Some(MeteringLabelId::MAX) }),
        ] {
            let text = serde_json::to_string(&question).unwrap();
            assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), question, "{text}");
        }
    }

    #[test]
    fn what_is_no_word_of_a_filter_is_said_with_those_that_are() {
        assert!("open".parse::<SessionState>().unwrap_err().to_string().contains("established"));
        assert!("nat".parse::<NatFilter>().unwrap_err().to_string().contains("floating"));
        assert!(protocol("sctp").unwrap_err().to_string().contains("icmp, icmpv6, tcp, udp"));
        assert_eq!(protocol("132"), Ok(132));
    }
}
