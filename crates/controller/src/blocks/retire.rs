//! How blocks come back: a host that uses little of what it has gives up the rest.
//!
//! In two steps, so that no connection is lost. A block that is too many for long enough *retires*: its owner is
//! told, makes no new mappings in it and says so. When it then reports that no mapping is left, the block is
//! released. A request for more blocks stops the retirement of those that are not yet gone.
//!
//! Pure: what hosts report and since when they have had too many comes in.

use crate::slices::block_id;
use model::resource::{Network, PortBlock};
use model::slice::BlockId;
use model::{HostId, RouterId};
use std::collections::{BTreeMap, BTreeSet};
use store::{Snapshot, Transaction};

/// A host keeps blocks for this many times the ports it uses. Blocks double when two thirds of the ports are
/// taken, which leaves three times as many as are used: never too many right after.
pub const SPARE_FACTOR: u32 = 4;

/// Between a block's retirement and its release at least: packets that chose a port in it before their host
/// knew have long made their mapping by then.
pub const RETIRING_MS_MIN: i64 = 10_000;

/// What an agent says of one of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Most of one protocol.
    pub ports_used: u32,
    /// The host's tables do not offer it to new mappings.
    pub retiring: bool,
}

/// What one host says of all its blocks.
pub type Report = BTreeMap<BlockId, Use>;

/// Blocks of one router on one host.
type Owned<'a> = BTreeMap<RouterId, Vec<&'a PortBlock>>;

/// The blocks of the host that can be released now: retiring for long enough, known to be so, and unused.
pub fn released(snapshot: &Snapshot, host: HostId, report: &Report, now_ms: i64) -> Vec<BlockId> {
    let unused = |block: &&PortBlock| {
        let since = block.retiring_since_ms.filter(|since| now_ms.abs_diff(*since) >= RETIRING_MS_MIN as u64);
        let told = report.get(&block_id(block));
        since.is_some() && told.is_some_and(|told| told.retiring && told.ports_used == 0)
    };
    let blocks = snapshot.blocks_of_host(host).map(AsRef::as_ref);
    blocks.filter(unused).map(block_id).collect()
}

/// The routers of which the host has blocks too many, and which of them it should give up.
pub fn surplus(snapshot: &Snapshot, host: HostId, report: &Report) -> BTreeMap<RouterId, Vec<BlockId>> {
    let mut owned = Owned::new();
    for block in snapshot.blocks_of_host(host).filter(|block| block.retiring_since_ms.is_none()) {
        owned.entry(block.router).or_default().push(block);
    }
    let surplus = owned.into_iter().filter_map(|(router, blocks)| {
        let extra = extra(snapshot, blocks, report)?;
        (!extra.is_empty()).then_some((router, extra))
    });
    surplus.collect()
}

/// None if the report does not tell of every block: they changed since.
fn extra(snapshot: &Snapshot, blocks: Vec<&PortBlock>, report: &Report) -> Option<Vec<BlockId>> {
    let network = snapshot.get::<Network>(blocks.first()?.external_network)?;
    let size = u32::from(network.provider.as_ref()?.block_size);
    let mut by_use = Vec::with_capacity(blocks.len());
    for block in blocks {
        by_use.push((report.get(&block_id(block))?.ports_used, block));
    }
    let used: u32 = by_use.iter().map(|(used, _)| used).sum();
    let kept = (used * SPARE_FACTOR).div_ceil(size).max(1) as usize;
    // The address with most of the ports in use stays the host's address.
    let mut per_address: BTreeMap<_, u32> = BTreeMap::new();
    for (used, block) in &by_use {
        *per_address.entry(block.address).or_default() += used;
    }
    by_use.sort_by_key(|(used, block)| {
        (
            std::cmp::Reverse(per_address.get(&block.address).copied()),
            std::cmp::Reverse(*used),
            block.first_port,
        )
    });
    Some(by_use.into_iter().skip(kept).map(|(_, block)| block_id(block)).collect())
}

/// Tells the owners of these blocks to give them up.
pub fn apply(transaction: &mut Transaction, blocks: &BTreeSet<BlockId>, now_ms: i64) {
    for id in blocks {
        if let Some(block) = transaction.get::<PortBlock>(*id).map(|block| **block) {
            transaction.put(PortBlock { retiring_since_ms: Some(now_ms), ..block });
        }
    }
}
