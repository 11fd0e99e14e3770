//! What is said of a packet's way: the questions to hosts, their answers, and the whole of it.
//!
//! A host is asked to walk one frame over the tables it has programmed; whoever asks follows the frame to the next
//! host. What a walk would have written travels back and forth with the question ([`Kept`]), so that hosts keep
//! nothing and an answer still meets the session its question would have made.

use crate::PortId;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// Bytes as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

/// Text that is no even number of hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an even number of hexadecimal digits")]
pub struct NotHex;

impl std::str::FromStr for Hex {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        let pair = |pair: &[u8]| {
            let digits =
                std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+'));
            u8::from_str_radix(digits.ok_or(NotHex)?, 16).map_err(|_| NotHex)
        };
        text.as_bytes().chunks(2).map(pair).collect::<Result<_, _>>().map(Self)
    }
}

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a frame enters a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Sent by the VM of this port.
    Port(PortId),
    /// From the NIC of this physical network.
    Uplink(String),
    /// From another host, with its tunnel header.
    Underlay,
}

/// One entry that a walk changed and that the next walk on the host must see. `value` none: removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub table: String,
    pub key: Hex,
    pub value: Option<Hex>,
}

/// Walk this frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkRequest {
    pub entry: Entry,
    pub frame: Hex,
    /// The tag that the NIC took off.
    pub vlan: Option<u16>,
    /// As if the host had no sessions.
    pub fresh: bool,
    pub state: Vec<Kept>,
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalkAnswer {
    Walked(Box<Walked>),
    /// Nothing was walked: there is no such entry on this host.
    NoEntry(NoEntry),
}

/// Why a frame cannot enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoEntry {
    /// `port-not-here`, `no-link`, `link-down`, `no-uplink`, `not-programmed`, `state-unreadable`; or, where no host
    /// was asked, `not-bound`, `no-gateway-address`, `nobody-answers`, `not-on-link`.
    pub reason: String,
    pub text: String,
}

/// The headers of a frame, as far as they can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    pub src_mac: String,
    pub dst_mac: String,
    pub vlan: Option<u16>,
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    /// `icmp`, `icmpv6`, `tcp`, `udp`, `arp`, or a number.
    pub protocol: String,
    /// ICMP: the identifier of an echo.
    pub src_port: Option<u16>,
    pub dst_port: Option<u16>,
    pub ttl: Option<u8>,
    /// Bytes of the IP packet.
    pub length: Option<u16>,
    /// The packet in one line.
    pub text: String,
    /// Outer headers.
    pub tunnel: Option<Tunnel>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    /// `geneve` or `vxlan`.
    pub protocol: String,
    pub vni: u32,
}

/// The object of the model that an entry was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `port`, `network`, `external_network`, `router`, `floating_ip`, `block` or `host`.
    pub kind: String,
    pub id: String,
    pub why: String,
    /// As the controller knows it now.
    pub name: Option<String>,
    /// The object's own, as the controller knows it now.
    pub revision: Option<u64>,
}

/// One question of a stage to a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub table: String,
    pub key: String,
    /// None: there is no such entry.
    pub value: Option<String>,
    pub origin: Option<Origin>,
    /// The kernel holds something else than what was programmed.
    pub differs: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    /// What it came to, in a few words.
    pub text: String,
    pub looks: Vec<Look>,
}

/// How a session was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionUse {
    /// There is none, and none is made.
    None,
    /// The stored path was taken; the stages were not walked.
    Cached,
    /// The session was known, its path was found anew.
    Renewed,
    /// The first packet of a connection.
    Made,
    /// It was known and is no longer allowed.
    Ended,
}

/// A translation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    pub before: String,
    pub after: String,
}

/// How a walk ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `port`, `tunnel`, `uplink`, `host`, `punt` or `drop`.
    pub kind: String,
    /// The whole in words.
    pub text: String,
    /// Drop: where.
    pub stage: Option<String>,
    /// Drop or punt: why, by name.
    pub reason: Option<String>,
    pub sentence: Option<String>,
    /// Port: which, and its link.
    pub port: Option<PortId>,
    pub link: Option<String>,
    /// The link has carrier; only of ports and uplinks.
    pub link_up: Option<bool>,
    /// Uplink.
    pub physical_network: Option<String>,
    pub vlan: Option<u16>,
    /// Tunnel: the next host's tunnel address.
    pub vtep: Option<Ipv4Addr>,
    pub vni: Option<u32>,
    /// Punt because of the size: the largest packet that fits.
    pub mtu: Option<u32>,
    /// The next hop on an external network; of a punt because of it: who is asked for.
    pub neighbor: Option<IpAddr>,
    /// It was asked for its MAC several times and does not answer.
    pub neighbor_silent: bool,
}

/// One walk on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    /// The slice's revision that is programmed.
    pub revision: u64,
    pub epoch: u32,
    /// The entry in words.
    pub entered: String,
    pub packet: Headers,
    pub session: SessionUse,
    pub nat: Option<Nat>,
    pub stages: Vec<Stage>,
    pub verdict: Verdict,
    /// The frame as it leaves.
    pub output: Option<Headers>,
    pub frame: Hex,
    pub vlan: Option<u16>,
    pub state: Vec<Kept>,
}

/// One host of a way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    pub host: String,
    #[serde(flatten)]
    pub outcome: HopOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HopOutcome {
    Walked(Box<Walked>),
    NoEntry(NoEntry),
    /// The host said nothing, and why.
    Unanswered(String),
}

/// A packet's way in one direction, until it arrives or is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Asking for the first hop's MAC, by ARP or neighbour discovery, where that is part of sending.
    pub arp: Vec<Hop>,
    pub hops: Vec<Hop>,
    pub arrived: bool,
    /// Where it arrived, or what stopped it.
    pub text: String,
}

/// A packet described in words. Whoever sends it asks for the MAC of its first hop as a real sender would, unless the
/// MAC is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Description {
    /// The sender is this port. Or:
    pub from_port: Option<PortId>,
    /// it is outside, on this external network (name or id), with `source_ip`.
    pub from_external: Option<String>,
    /// None: the port's first address of the receiver's family.
    pub source_ip: Option<IpAddr>,
    pub source_mac: Option<String>,
    pub destination_ip: Option<IpAddr>,
    pub destination_mac: Option<String>,
    /// `icmp` (of IPv6: ICMPv6), `tcp`, `udp` or a number.
    pub protocol: Option<String>,
    /// ICMP: the echo's identifier.
    pub source_port: Option<u16>,
    pub destination_port: Option<u16>,
    /// As `syn,ack`.
    pub tcp_flags: Option<String>,
    /// Of IPv6: the hop limit.
    pub ttl: Option<u8>,
    /// IPv4 only.
    pub dont_fragment: bool,
    /// Bytes of the IP packet.
    pub length: Option<u16>,
    /// A whole frame instead of all of the above but the sender.
    pub frame: Option<Hex>,
    pub fresh: bool,
    /// Also walk what the receiver would answer; the default.
    pub answer: Option<bool>,
}

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    pub packet: Headers,
    pub forward: Way,
    /// What the receiver would answer; none if the packet did not arrive or nothing answers it.
    pub answer: Option<Way>,
    /// The packet arrives and so does the answer, if there is one.
    pub complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pairs_of_digits() {
        let hex: Hex = "00ff10".parse().unwrap();
        assert_eq!((hex.0.as_slice(), hex.to_string().as_str()), (&[0, 0xff, 0x10][..], "00ff10"));
        for bad in ["0", "0g", "+1", "00f", "é"] {
            assert_eq!(bad.parse::<Hex>(), Err(NotHex), "{bad}");
        }
    }
}
