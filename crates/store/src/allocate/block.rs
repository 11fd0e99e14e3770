//! Port blocks: aligned power-of-two ranges of the ports of an external address, without the system ports.

use super::Exhausted;
use crate::Snapshot;
use crate::record::Record;
use model::NetworkId;
use model::slice::BlockId;
use rand::Rng;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Ports below are never translated to (RFC 6335: system ports).
pub const PORT_FIRST: u16 = 1024;

/// First ports of all blocks of that size, a power of two, between [`PORT_FIRST`] and 65535. Where the first block
/// would begin below, it begins there, so that no port is left out.
pub fn block_starts(size: u16) -> impl Iterator<Item = u16> {
    let places = (0..=u16::MAX).step_by(usize::from(size.max(1)));
    let usable = places.filter(move |place| place | size.saturating_sub(1) >= PORT_FIRST);
    usable.map(|place| place.max(PORT_FIRST))
}

/// A random free block of one of `addresses`: of the address with the fewest blocks taken, so that they
/// fill evenly.
///
/// # Errors
/// `Exhausted` when every block of every address is taken.
pub fn free_block(
    snapshot: &Snapshot,
    external_network: NetworkId,
    addresses: &[Ipv4Addr],
    size: u16,
    rng: &mut impl Rng,
) -> Result<BlockId, Exhausted> {
    let mut best: Option<(Ipv4Addr, Vec<u16>)> = None;
    for address in addresses {
        let taken: BTreeSet<u16> = snapshot
            .blocks_of_address(external_network, *address)
            .map(|block| block.id().first_port / size.max(1))
            .collect();
        let free: Vec<u16> =
            block_starts(size).filter(|start| !taken.contains(&(start / size.max(1)))).collect();
        if free.len() > best.as_ref().map_or(0, |(_, free)| free.len()) {
            best = Some((*address, free));
        }
    }
    let (address, free) = best.ok_or(Exhausted)?;
    let first_port = *free.get(rng.random_range(0..free.len())).ok_or(Exhausted)?;
    Ok(BlockId { external_network, address, first_port })
}
