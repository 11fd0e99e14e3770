//! Labs: hosts, VMs and the outside in network namespaces of this machine, with real processes and real packets.

pub mod error;
pub mod file;
pub mod plan;
mod presets;
