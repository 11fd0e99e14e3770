//! Port blocks: which host owns which ports of a router's SNAT addresses.
//!
//! The rule: a host with a bound port on a network of a router with SNAT owns at least one block of one of
//! that router's SNAT addresses, and a host without owns none. [`plan`] compares the rule with a snapshot and
//! says what to grant and what to release; it is pure, and nothing is left to plan once its answer is applied.
//! [`more`] is a host's request for further blocks, [`retire`](mod@retire) the way back.
//!
//! Several routers may share an address: its blocks are each the router's that has them, and no router grows
//! beyond its equal part of the address.
//!
//! A host keeps to the SNAT address it has blocks of, or had a moment ago, until that has none free (RFC 4787
//! REQ-2).
//!
//! Race-free because all of it runs on the working copy of a store transaction, of which there is one at a time.
//!
//! A released block rests before another host may have it: packets of the connections that used it may still
//! come, and their peers must not reach somebody else (RFC 6888 §4 REQ-8). What rests is in the store and
//! survives the controller. A clock that is set ends a rest early or late, never a block's ownership.

pub mod retire;

use crate::slices::{self, block_id};
use model::resource::{Network, PortBlock, RestingBlock, Router};
use model::slice::BlockId;
use model::{HostId, NetworkId, RouterId};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use store::Snapshot;
use store::allocate::block_starts;

/// How long a released block is kept from other hosts (RFC 6888 §4 REQ-8 recommends 120 s).
pub const COOL_DOWN_MS: i64 = 120_000;

/// Blocks of one router on one host: half the blocks of an address, so that one VM that opens connections
/// without end leaves something to its siblings on other hosts.
pub const BLOCKS_PER_HOST_MAX: usize = 32;

/// What to change. Nothing in it: the rule holds, as far as there are free blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub release: Vec<BlockId>,
    pub grant: Vec<PortBlock>,
    /// Blocks that go on as if they had not been about to retire.
    pub keep: Vec<BlockId>,
    /// No free block was left for these.
    pub short: Vec<(RouterId, HostId)>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.release.is_empty() && self.grant.is_empty() && self.keep.is_empty()
    }
}

/// What a plan depends on besides the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// Hosts whose agents have been away for so long that their blocks go to others.
    pub lost: &'a BTreeSet<HostId>,
}

/// May `host` have the block? The former owner of one that rests may have it at once.
pub fn allows(snapshot: &Snapshot, block: BlockId, host: HostId, now_ms: i64) -> bool {
    let resting = snapshot.get::<RestingBlock>(block);
    resting.is_none_or(|resting| resting.host == host || has_rested(resting, now_ms))
}

fn has_rested(block: &RestingBlock, now_ms: i64) -> bool {
    now_ms.abs_diff(block.since_ms) >= COOL_DOWN_MS.unsigned_abs()
}

/// When the next block has rested, so that what is short can be planned again; past moments excluded.
pub fn next_rested(snapshot: &Snapshot, now_ms: i64) -> Option<i64> {
    let ends = snapshot.resting_blocks.values().map(|block| block.since_ms + COOL_DOWN_MS);
    ends.filter(|end| (now_ms + 1..=now_ms + COOL_DOWN_MS).contains(end)).min()
}

/// A router that translates: its external network and SNAT addresses.
struct Snat {
    network: NetworkId,
    block_size: u16,
    addresses: Vec<Ipv4Addr>,
}

/// What the rule asks to change in `snapshot`.
pub fn plan(snapshot: &Snapshot, moment: Moment<'_>, rng: &mut impl Rng) -> Plan {
    let mut chosen = Chosen::new(snapshot, moment.now_ms);
    let wanted = wanted(snapshot, moment.lost);
    let translators: BTreeMap<RouterId, Snat> =
        wanted.keys().filter_map(|router| Some((*router, snat(snapshot, *router)?))).collect();
    let mut owners: BTreeSet<(RouterId, HostId)> = BTreeSet::new();
    for block in snapshot.blocks.values() {
        if is_due(block, &wanted, &translators) {
            owners.insert((block.router, block.host));
        } else {
            chosen.plan.release.push(block_id(block));
        }
    }
    for (router, snat) in &translators {
        for host in wanted.get(router).into_iter().flatten() {
            if !owners.contains(&(*router, *host)) {
                let before = chosen.addresses_before(snat, *host);
                chosen.grant(snat, &before, (*router, *host), rng);
            }
        }
    }
    chosen.plan
}

/// Grants `host` as many blocks of `router` again as it has, within [`BLOCKS_PER_HOST_MAX`]; those about to
/// retire come first. Empty if it has none (then [`plan`] says whether it should) or the most it may have.
pub fn more(
    snapshot: &Snapshot,
    (router, host): (RouterId, HostId),
    moment: Moment<'_>,
    rng: &mut impl Rng,
) -> Plan {
    let mut chosen = Chosen::new(snapshot, moment.now_ms);
    let Some(snat) = snat(snapshot, router) else { return chosen.plan };
    let own: Vec<_> = snapshot.blocks_of_host(host).filter(|block| block.router == router).collect();
    let (retiring, active): (Vec<&PortBlock>, Vec<&PortBlock>) =
        own.iter().map(AsRef::as_ref).partition(|block| block.retiring_since_ms.is_some());
    let wanted = active.len().max(1).min(BLOCKS_PER_HOST_MAX.saturating_sub(active.len()));
    if own.is_empty() {
        return chosen.plan;
    }
    chosen.plan.keep.extend(retiring.iter().take(wanted).map(|block| block_id(block)));
    let room = BLOCKS_PER_HOST_MAX.saturating_sub(own.len());
    let count = wanted.saturating_sub(retiring.len()).min(room);
    let used: BTreeSet<Ipv4Addr> = own.iter().map(|block| block.address).collect();
    for _ in 0..count {
        let addresses = snat.addresses.iter().copied();
        let open = addresses.filter(|address| chosen.may_grow(&snat, *address, router)).collect();
        let open = Snat { addresses: open, ..snat };
        chosen.grant(&open, &used, (router, host), rng);
    }
    chosen.plan
}

fn is_due(
    block: &PortBlock,
    wanted: &BTreeMap<RouterId, BTreeSet<HostId>>,
    translators: &BTreeMap<RouterId, Snat>,
) -> bool {
    let host_needs_it = wanted.get(&block.router).is_some_and(|hosts| hosts.contains(&block.host));
    let snat = translators.get(&block.router);
    let address_serves = snat.is_some_and(|snat| {
        snat.network == block.external_network && snat.addresses.contains(&block.address)
    });
    host_needs_it && address_serves
}

/// The hosts with a bound port behind each router, but for those that are lost.
fn wanted(snapshot: &Snapshot, lost: &BTreeSet<HostId>) -> BTreeMap<RouterId, BTreeSet<HostId>> {
    let mut wanted: BTreeMap<RouterId, BTreeSet<HostId>> = BTreeMap::new();
    let mut routers_of: HashMap<NetworkId, BTreeSet<RouterId>> = HashMap::new();
    for host in snapshot.hosts.values().filter(|host| !lost.contains(&host.id)) {
        for network in slices::networks_of_host(snapshot, &host.name) {
            let routers =
                routers_of.entry(network).or_insert_with(|| slices::routers_of_network(snapshot, network));
            for router in routers.iter() {
                wanted.entry(*router).or_default().insert(host.id);
            }
        }
    }
    wanted
}

/// How a router translates; none without an external gateway, with SNAT switched off or without an address.
fn snat(snapshot: &Snapshot, router: RouterId) -> Option<Snat> {
    let router = snapshot.get::<Router>(router)?;
    let gateway = router.gateway.as_ref().filter(|gateway| gateway.enable_snat)?;
    let provider = snapshot.get::<Network>(gateway.network)?.provider.as_ref()?;
    let addresses = slices::gateway_addresses(snapshot, gateway);
    let snat = Snat { network: gateway.network, block_size: provider.block_size, addresses };
    Some(snat).filter(|snat| !snat.addresses.is_empty())
}

/// A plan in the making: what it granted is taken for what it grants next.
struct Chosen<'a> {
    plan: Plan,
    taken: BTreeSet<BlockId>,
    snapshot: &'a Snapshot,
    now_ms: i64,
}

impl<'a> Chosen<'a> {
    fn new(snapshot: &'a Snapshot, now_ms: i64) -> Self {
        Self { plan: Plan::default(), taken: BTreeSet::new(), snapshot, now_ms }
    }

    /// `preferred`: addresses to exhaust before another one.
    fn grant(
        &mut self,
        snat: &Snat,
        preferred: &BTreeSet<Ipv4Addr>,
        (router, host): (RouterId, HostId),
        rng: &mut impl Rng,
    ) {
        let (near, far): (Vec<Ipv4Addr>, Vec<Ipv4Addr>) =
            snat.addresses.iter().partition(|address| preferred.contains(*address));
        let found =
            self.free_block(snat, &near, host, rng).or_else(|| self.free_block(snat, &far, host, rng));
        let Some(BlockId { external_network, address, first_port }) = found else {
            self.plan.short.push((router, host));
            return;
        };
        self.taken.insert(BlockId { external_network, address, first_port });
        self.plan.grant.push(PortBlock {
            external_network,
            address,
            first_port,
            router,
            host,
            granted_at_ms: self.now_ms,
            retiring_since_ms: None,
        });
    }

    /// Addresses of which the host had blocks that still rest.
    fn addresses_before(&self, snat: &Snat, host: HostId) -> BTreeSet<Ipv4Addr> {
        let resting = self.snapshot.resting_blocks.values();
        let own = resting.filter(|block| block.host == host && block.external_network == snat.network);
        own.map(|block| block.address).collect()
    }

    /// Whether the router has less than its part of an address that it may share with other routers.
    fn may_grow(&self, snat: &Snat, address: Ipv4Addr, router: RouterId) -> bool {
        let sharers = self.snapshot.ports_by_address(snat.network, address).count();
        if sharers < 2 {
            return true;
        }
        let part = block_starts(snat.block_size).count().div_ceil(sharers);
        let had = self.snapshot.blocks_of_address(snat.network, address);
        let had = had.filter(|block| block.router == router).count();
        let granted = self.plan.grant.iter().filter(|block| block.address == address).count();
        had + granted < part
    }

    /// A random free block of the address with the most free blocks.
    fn free_block(
        &self,
        snat: &Snat,
        addresses: &[Ipv4Addr],
        host: HostId,
        rng: &mut impl Rng,
    ) -> Option<BlockId> {
        let free = addresses.iter().map(|address| self.free_of_address(snat, *address, host));
        let free = free.max_by_key(Vec::len)?;
        if free.is_empty() {
            return None;
        }
        free.get(rng.random_range(0..free.len())).copied()
    }

    fn free_of_address(&self, snat: &Snat, address: Ipv4Addr, host: HostId) -> Vec<BlockId> {
        let taken = self.snapshot.blocks_of_address(snat.network, address);
        let used: BTreeSet<u16> = taken.map(|block| block.first_port).collect();
        block_starts(snat.block_size)
            .filter(|first_port| !used.contains(first_port))
            .map(|first_port| BlockId { external_network: snat.network, address, first_port })
            .filter(|id| !self.taken.contains(id) && allows(self.snapshot, *id, host, self.now_ms))
            .collect()
    }
}

/// Applies a plan to a transaction. What it releases rests from `now_ms` on; what has rested is forgotten.
pub fn apply(transaction: &mut store::Transaction, plan: &Plan, now_ms: i64) {
    if plan.is_empty() {
        return;
    }
    let rested = transaction.resting_blocks.values().filter(|block| has_rested(block, now_ms));
    for id in rested.map(|block| resting_id(block)).collect::<Vec<_>>() {
        transaction.remove::<RestingBlock>(id);
    }
    for id in &plan.release {
        let Some(block) = transaction.remove::<PortBlock>(*id) else { continue };
        let BlockId { external_network, address, first_port } = *id;
        let host = block.host;
        transaction.put(RestingBlock { external_network, address, first_port, host, since_ms: now_ms });
    }
    for block in &plan.grant {
        transaction.remove::<RestingBlock>(block_id(block));
        transaction.put(*block);
    }
    for id in &plan.keep {
        if let Some(block) = transaction.get::<PortBlock>(*id).map(|block| **block) {
            transaction.put(PortBlock { retiring_since_ms: None, ..block });
        }
    }
}

fn resting_id(block: &RestingBlock) -> BlockId {
    BlockId { external_network: block.external_network, address: block.address, first_port: block.first_port }
}
