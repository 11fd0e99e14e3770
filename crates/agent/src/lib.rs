//! The agent of a host: brings the kernel to what the controller wants, answers what the data path cannot,
//! and tells what it did.
//!
//! - [`config`]: the configuration file and flags.
//! - [`control`]: the local socket and its client, for `nanboku port plug`.
//! - `machine` with `neighbors`, `announce`, `answer`, `backoff`: the logic, sans IO.
//! - `liveness`: BFD between hosts, in a thread of its own.
//! - `observe` with `scene`, `sessions`, `tables`, `flows`: what people ask about this host's present state;
//!   `meters`: what Prometheus asks.
//! - `run`, `kernel`, `connection`, `control_server`, `plug`, `tunnel`, `state`, `check`: the IO around it.
//!
//! Everything that packets need is pinned: the agent may be killed, upgraded or absent, and packets go on.
//! It keeps its last slice on disk and needs no controller to start.

mod advertise;
mod announce;
mod answer;
mod backoff;
mod capture;
mod check;
pub mod config;
mod connection;
pub mod control;
mod control_server;
mod dhcp;
mod discovery;
mod error;
pub mod flow_log;
mod flows;
mod frames;
mod gateway_watch;
mod kernel;
mod liveness;
mod machine;
mod mappings;
pub mod metadata;
mod metering;
mod meters;
mod neighbors;
mod observe;
mod plug;
mod port_control;
mod rivals;
mod run;
mod scene;
mod sessions;
mod state;
mod sweep;
mod tables;
mod tunnel;

pub use error::Error;
pub use run::run;

use error::chain;
