//! Port blocks: which host owns which ports of a router's SNAT addresses.
//!
//! The rule: a host with a bound port on a network of a router with SNAT owns at least one block of one of
//! that router's SNAT addresses, and a host without owns none. [`plan`] compares the rule with a snapshot and
//! says what to grant and what to release; it is pure, and nothing is left to plan once its answer is applied.
//! [`more`] is a host's request for further blocks.
//!
//! Race-free because both run on the working copy of a store transaction, of which there is one at a time.
//!
//! A released block rests before another host may have it: packets of the connections that used it may still
//! come, and their peers must not reach somebody else (RFC 6888 §4 REQ-8). The memory of it is lost with the process;
//! then a block is reused at most that much too early.

use crate::slices::{self, block_id};
use model::resource::{Network, PortBlock, Router};
use model::slice::BlockId;
use model::{HostId, NetworkId, RouterId};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use store::Snapshot;
use store::allocate::block_starts;

/// How long a released block is kept from other hosts (RFC 6888 §4 REQ-8 recommends 120 s).
pub const COOL_DOWN: Duration = Duration::from_secs(120);

/// Blocks of one router on one host: half the blocks of an address, so that one VM that opens connections
/// without end leaves something to its siblings on other hosts.
pub const BLOCKS_PER_HOST_MAX: usize = 32;

/// What to change. Nothing in it: the rule holds, as far as there are free blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub release: Vec<BlockId>,
    pub grant: Vec<PortBlock>,
    /// No free block was left for these.
    pub short: Vec<(RouterId, HostId)>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.release.is_empty() && self.grant.is_empty()
    }
}

/// Released blocks and who had them.
#[derive(Clone, Debug, Default)]
pub struct Cooling {
    released: HashMap<BlockId, (HostId, Instant)>,
}

impl Cooling {
    /// Notes a release. What has cooled down is forgotten here, so that the memory stays bounded by the
    /// releases of one cool-down.
    pub fn note(&mut self, block: BlockId, host: HostId, now: Instant) {
        self.released.retain(|_, (_, since)| now.duration_since(*since) < COOL_DOWN);
        self.released.insert(block, (host, now));
    }

    /// May `host` have the block? Its former owner may have it at once.
    pub fn allows(&self, block: &BlockId, host: HostId, now: Instant) -> bool {
        self.released
            .get(block)
            .is_none_or(|(owner, since)| *owner == host || now.duration_since(*since) >= COOL_DOWN)
    }

    /// When the next block has cooled down, so that what is short can be planned again; past instants excluded.
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        self.released.values().map(|(_, since)| *since + COOL_DOWN).filter(|end| *end > now).min()
    }
}

/// A router that translates: its external network and SNAT addresses.
struct Snat {
    network: NetworkId,
    block_size: u16,
    addresses: Vec<Ipv4Addr>,
}

/// What the rule asks to change in `snapshot`.
pub fn plan(snapshot: &Snapshot, cooling: &Cooling, now: Instant, rng: &mut impl Rng) -> Plan {
    let mut chosen = Chosen::new(cooling, now);
    let wanted = wanted(snapshot);
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
                chosen.grant(snapshot, snat, (*router, *host), rng);
            }
        }
    }
    chosen.plan
}

/// Grants `host` as many blocks of `router` again as it has, within [`BLOCKS_PER_HOST_MAX`]. Empty if it has
/// none (then [`plan`] says whether it should) or the most it may have.
pub fn more(
    snapshot: &Snapshot,
    (router, host): (RouterId, HostId),
    cooling: &Cooling,
    now: Instant,
    rng: &mut impl Rng,
) -> Plan {
    let mut chosen = Chosen::new(cooling, now);
    let Some(mut snat) = snat(snapshot, router) else { return chosen.plan };
    let own: Vec<_> = snapshot.blocks_of_host(host).filter(|block| block.router == router).collect();
    let count = own.len().min(BLOCKS_PER_HOST_MAX.saturating_sub(own.len()));
    // The address the host has already, before another one: a VM should keep one address outside.
    let used: BTreeSet<Ipv4Addr> = own.iter().map(|block| block.address).collect();
    let others: Vec<Ipv4Addr> =
        snat.addresses.iter().copied().filter(|address| !used.contains(address)).collect();
    for _ in 0..count {
        snat.addresses = used.iter().copied().collect();
        if chosen.free_block(snapshot, &snat, host, rng).is_none() {
            snat.addresses = others.clone();
        }
        chosen.grant(snapshot, &snat, (router, host), rng);
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

/// The hosts with a bound port behind each router.
fn wanted(snapshot: &Snapshot) -> BTreeMap<RouterId, BTreeSet<HostId>> {
    let mut wanted: BTreeMap<RouterId, BTreeSet<HostId>> = BTreeMap::new();
    let mut routers_of: HashMap<NetworkId, BTreeSet<RouterId>> = HashMap::new();
    for host in snapshot.hosts.values() {
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
    cooling: &'a Cooling,
    now: Instant,
}

impl<'a> Chosen<'a> {
    fn new(cooling: &'a Cooling, now: Instant) -> Self {
        Self { plan: Plan::default(), taken: BTreeSet::new(), cooling, now }
    }

    fn grant(
        &mut self,
        snapshot: &Snapshot,
        snat: &Snat,
        (router, host): (RouterId, HostId),
        rng: &mut impl Rng,
    ) {
        let Some(id) = self.free_block(snapshot, snat, host, rng) else {
            self.plan.short.push((router, host));
            return;
        };
        self.taken.insert(id);
        let BlockId { external_network, address, first_port } = id;
        self.plan.grant.push(PortBlock { external_network, address, first_port, router, host });
    }

    /// A random free block of the address with the most free blocks.
    fn free_block(
        &self,
        snapshot: &Snapshot,
        snat: &Snat,
        host: HostId,
        rng: &mut impl Rng,
    ) -> Option<BlockId> {
        let free = snat.addresses.iter().map(|address| self.free_of_address(snapshot, snat, *address, host));
        let free = free.max_by_key(Vec::len)?;
        if free.is_empty() {
            return None;
        }
        free.get(rng.random_range(0..free.len())).copied()
    }

    fn free_of_address(
        &self,
        snapshot: &Snapshot,
        snat: &Snat,
        address: Ipv4Addr,
        host: HostId,
    ) -> Vec<BlockId> {
        let used: BTreeSet<u16> =
            snapshot.blocks_of_address(snat.network, address).map(|block| block.first_port).collect();
        block_starts(snat.block_size)
            .filter(|first_port| !used.contains(first_port))
            .map(|first_port| BlockId { external_network: snat.network, address, first_port })
            .filter(|id| !self.taken.contains(id) && self.cooling.allows(id, host, self.now))
            .collect()
    }
}

/// Applies a plan to a transaction. The caller notes the releases in its [`Cooling`] once the transaction is
/// durable; [`releases`] lists them.
pub fn apply(transaction: &mut store::Transaction, plan: &Plan) {
    for id in &plan.release {
        transaction.remove::<PortBlock>(*id);
    }
    for block in &plan.grant {
        transaction.put(*block);
    }
}

/// The blocks that `after` has no more or gave to somebody else, with their former owners.
pub fn releases(before: &Snapshot, after: &Snapshot) -> Vec<(BlockId, HostId)> {
    let gone = |id: &BlockId, block: &PortBlock| {
        after.get::<PortBlock>(*id).is_none_or(|now| now.host != block.host)
    };
    before.blocks.iter().filter(|(id, block)| gone(id, block)).map(|(id, block)| (*id, block.host)).collect()
}
