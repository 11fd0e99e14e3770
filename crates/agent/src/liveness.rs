//! Which other hosts are alive, found out by BFD within milliseconds.
//!
//! [`peers`] is the logic, sans IO: one session per peer and a verdict on each. [`thread`] runs it: a thread of
//! its own with its own timers, real-time where that is permitted, so that neither a busy agent nor the
//! compiler makes a host look dead. The main loop gives it a [`Wanted`] and takes the set of dead hosts, both by
//! watch channels: the newest value counts, nothing queues ([decision 0010](../../../docs/decisions/0010-liveness.md)).

mod peers;
mod thread;

pub(crate) use thread::{Liveness, start};

use model::HostId;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What the main loop wants of the sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Tunnel address by host.
    pub(crate) peers: BTreeMap<HostId, Ipv4Addr>,
    /// This host's tables are programmed. Until then every session is AdminDown: alive means that packets are
    /// forwarded, not that a process runs.
    pub(crate) serving: bool,
    /// This host forwards, but its uplink or the gateway behind it is gone: others must not use it as a gateway.
    pub(crate) path_down: bool,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) interval: Duration,
    pub(crate) multiplier: u8,
}
