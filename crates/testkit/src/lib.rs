//! For tests only: frames with checksums by an independent library, and a cluster of hosts whose tables the
//! compiler made and whose packets walk from host to host in memory.

pub mod frames;
pub mod groups;
pub mod ipv6;
pub mod world;

pub use world::{Arrival, World};
