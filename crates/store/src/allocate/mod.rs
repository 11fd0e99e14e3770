//! Allocators: pure choices over a snapshot. Inside a transaction they cannot give the same thing twice.

mod address;
mod block;
mod prefix;
mod vni;

pub use address::free_address;
pub use block::{PORT_FIRST, block_starts, free_block};
pub use prefix::free_prefix;
pub use vni::{VniRange, free_vni};

/// Nothing free is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing free is left")]
pub struct Exhausted;
