//! Labs: hosts, VMs and the outside in network namespaces of this machine, with real processes and real packets.
//!
//! A lab is declared in a TOML file ([`file`], `docs/lab-file.md`). [`up`] makes it, [`check`] proves from the file what
//! can and what must not reach what, [`exec`] enters a machine, [`down`] leaves nothing behind. Everything of a lab
//! lives in namespaces named `nbk-LAB.MACHINE` and below `/run/nanboku/lab/LAB`, so several can be up side by side.
//!
//! No part of the product needs this crate: it talks to the controller through the API and to the kernel through
//! `netlink`, as an operator's tools would.

mod access;
mod agents;
mod api;
mod check;
mod config;
mod down;
pub mod error;
mod fabric;
mod fault;
pub mod file;
mod guest;
mod hostile;
mod names;
pub mod plan;
mod presets;
mod process;
mod resources;
mod running;
mod state;
mod up;
mod vm;
mod wait;

pub use check::{Checked, check};
pub use down::{down, down_all};
pub use fault::{
    Fault, FlowFigures, Limits, Options as FaultOptions, Repetition, Report as FaultReport,
    Summary as FaultSummary, fault,
};
pub use file::Tunnel;
pub use guest::{GuestArgs, run as guest};
pub use hostile::{Connections, Flood, Flooded, Options as HostileOptions, hostile};
pub use plan::Overrides;
pub use running::{Listed, exec, list};
pub use up::{Summary, check_root, up};
