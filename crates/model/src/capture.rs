//! What somebody wants to see of real packets, and what hosts tell of them.

use crate::trace::Hex;
use crate::{NetworkId, PortId, RouterId};
use serde::{Deserialize, Serialize};

/// Bytes of a frame that are kept unless somebody says otherwise: all that the programs keep.
pub const SNAP_LEN_MAX: u32 = 16384;

/// Look on. Everything that is given must fit; with nothing given, everything does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureRequest {
    /// Packets from or to this port.
    pub port: Option<PortId>,
    /// Packets that this router forwards or answers.
    pub router: Option<RouterId>,
    /// Packets from or to this network, a tenant's or an external one.
    pub network: Option<NetworkId>,
    /// Packets from or to the uplink of this physical network.
    pub physical_network: Option<String>,
    /// Where they are looked at: `in`, `out`, or before a stage; none: in and out.
    pub edges: Vec<String>,
    /// In tcpdump's words; empty: all.
    pub filter: String,
    /// Bytes of each frame; none: [`SNAP_LEN_MAX`].
    pub snap_len: Option<u32>,
    /// Walks that are told of per second at most; none: all.
    pub per_second: Option<u32>,
    /// Both ends of every walk, also if only one fits the filter.
    pub whole: bool,
    /// Only at the point itself, not at the other end of its packets' walks.
    pub here: bool,
    /// Nothing but what the port itself sends and gets: no hosts, no tunnels, no uplinks.
    pub own: bool,
}

/// One line of a capture's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureRow {
    Seen(Box<Seen>),
    /// Comes every second.
    Count(Count),
}

/// How a host's part of a capture stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub host: String,
    /// False: the host does not look on yet.
    pub looking: bool,
    /// Frames that were told of.
    pub seen: u64,
    /// Frames that fitted, perhaps, and for which there was no room.
    pub lost: u64,
}

/// A packet at one edge of its walk through a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub host: String,
    /// The same for all that is told of one walk on a host.
    pub walk: u64,
    /// Nanoseconds since 1970, by the host's clock: when it came or, of `out`, when it left.
    pub at_ns: u64,
    /// `in`, `out`, or the name of the stage it is about to enter.
    pub edge: String,
    pub from: Place,
    /// Of a packet that goes on.
    pub to: Option<Place>,
    /// Every stage it went through; of a packet of a known session: the first and the last.
    pub stages: Vec<String>,
    pub verdict: String,
    /// Of a drop.
    pub drop: Option<Dropped>,
    /// Addresses before and after, if the host changed them.
    pub nat: Option<Translation>,
    /// What names the packet between hosts: as it came, and as it leaves; 0: nothing does.
    pub arrived_as: u64,
    pub left_as: u64,
    /// Bytes of the whole frame, its VLAN tag counted, its tunnel's headers not.
    pub frame_len: u32,
    /// The beginning of it.
    pub frame: Hex,
}

/// Where a packet comes from or goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub kind: PlaceKind,
    /// The interface's name; of a tunnel, the other host's.
    pub name: String,
    /// The network's or router's.
    pub network: String,
    pub port: Option<PortId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    #[default]
    Port,
    Uplink,
    Tunnel,
    /// The host's own stack.
    Host,
    /// Its agent.
    Agent,
}

impl PlaceKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Uplink => "uplink",
            Self::Tunnel => "tunnel",
            Self::Host => "host",
            Self::Agent => "agent",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub stage: String,
    pub reason: String,
    pub sentence: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translation {
    pub before: String,
    pub after: String,
}
