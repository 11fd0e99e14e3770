//! The controller's side of the streams to the agents.
//!
//! - [`service`](Service): the gRPC service; checks who is calling.
//! - `connection`: one stream: Hello, snapshot, deltas, acks, status.
//! - [`control`]: the one loop that turns what agents and store say into transactions.
//! - `settle`, `programmed`, `liveness`, `registration`: its decisions, pure.
//! - [`Hub`]: what the rest of the controller may ask: who is there, and what they see ([`Inquiry`]).

mod connection;
pub mod control;
mod hub;
mod inquiry;
pub mod liveness;
pub mod programmed;
pub mod registration;
mod service;
mod settle;

pub use hub::{Hub, Presence, Uplink};
pub(crate) use hub::{now_ms, now_s, now_us};
pub use inquiry::{Inquiry, Part};
pub use service::Service;

use model::{Mac, NatTimeouts};
use std::time::Duration;

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `geneve:6081` or `vxlan:4789`: one for the cluster.
    pub tunnel: String,
    /// Hosts get the addresses above it.
    pub dvr_base_mac: Mac,
    /// How long a host stays live after its stream broke.
    pub liveness_grace: Duration,
    /// How long a host has port blocks too many before it gives them up.
    pub block_hold: Duration,
    /// How long a host is away before its port blocks go to others; none: for ever.
    pub block_reassign_after: Option<Duration>,
    /// Agents end sessions by these.
    pub nat_timeouts: NatTimeouts,
}

/// Bounds of the agents' side.
mod bounds {
    use std::time::Duration;

    /// Messages on their way to one agent. Few: a slow agent gets one delta for many changes instead.
    pub(super) const OUTBOUND_MAX: usize = 4;
    /// Events on their way to the control loop. Full means that agents wait.
    pub(super) const EVENTS_MAX: usize = 1024;
    /// Events taken into one transaction.
    pub(super) const BATCH_MAX: usize = 256;
    /// Slices sent and not yet acked of which the floating IPs are remembered.
    pub(super) const IN_FLIGHT_MAX: usize = 64;
    /// Questions waiting for one agent.
    pub(super) const QUESTIONS_MAX: usize = 16;
    /// From the opened stream to Hello.
    pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
    /// After the store refused a transaction, before the next try.
    pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
    /// Ports, links or port blocks in one message of an agent.
    pub(super) const PORTS_MAX: usize = 16_384;
}
