//! Which other hosts are alive, found out by BFD within milliseconds.
//!
//! [`peers`] is the logic, sans IO: one session per peer and a verdict on each. [`envelope`] is the tunnel's
//! headers around a control packet. [`thread`] runs it all: a thread of its own with its own timers, real-time
//! where that is permitted, so that neither a busy agent nor the compiler makes a host look dead. The main loop
//! gives it a [`Wanted`] and takes [`Verdicts`], both by watch channels: the newest value counts, nothing queues
//! ([decision 0010](../../../docs/decisions/0010-liveness.md)).

mod envelope;
mod peers;
mod thread;

pub(crate) use peers::PeerView;
pub(crate) use thread::{Liveness, start};

use crate::state::Tunnel;
use model::HostId;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Control packets go through this tunnel; none: plainly over the underlay.
    pub(crate) tunnel: Option<Tunnel>,
}

/// What BFD says of the other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdicts {
    /// Not to be used as gateways.
    pub(crate) dead: BTreeSet<HostId>,
    /// Of these, the ones that said so themselves: they are there, the path behind them is not. Of the others
    /// nobody knows what they do.
    pub(crate) withdrawn: BTreeSet<HostId>,
    /// There are other hosts, and none is trusted or says what it lacks.
    pub(crate) alone: bool,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) interval: Duration,
    pub(crate) multiplier: u8,
}
