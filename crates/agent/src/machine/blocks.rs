//! Port blocks: asking for more in time, and telling how those there are are used.
//!
//! One request of a router is outstanding at a time. It is answered when the tables have more blocks for new
//! mappings than when it was made; until then it is repeated, less and less often. Grants double, so a burst is
//! followed by as many requests as it takes, one round trip each.

use super::Machine;
use model::slice::BlockId;
use model::{NetworkId, RouterId};
use pipeline::nat::{Mapping, MappingKey};
use proto::agent_message::Message;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// A request that got no answer is repeated after this, then after twice as long, and so on.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
const REPEAT_AFTER_MAX: Duration = Duration::from_secs(32);
/// Events of the time before new blocks were programmed come for this long; they ask for nothing more.
const SETTLE: Duration = Duration::from_millis(10);

/// What was asked for, by router.
pub(super) type Requests = BTreeMap<RouterId, Request>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Not before then again.
    due: Instant,
    repeat_after: Duration,
    /// Blocks there were for new mappings when it was made.
    blocks: usize,
    answered: bool,
}

/// How many ports of each own block are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockUses {
    /// First and last port, external network's VNI and address: what a mapping is looked up by.
    blocks: BTreeMap<(u32, Ipv4Addr, u16), Own>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    id: BlockId,
    last_port: u16,
    retiring: bool,
    /// By protocol.
    used: BTreeMap<u8, u32>,
}

impl BlockUses {
    /// Counts a mapping of this host.
    pub(crate) fn count(&mut self, key: &MappingKey, mapping: &Mapping) {
        let address = Ipv4Addr::from(mapping.address.to_v4());
        let place = (mapping.external_vni, address, mapping.port);
        let first = (mapping.external_vni, address, 0);
        let Some((_, block)) = self.blocks.range_mut(first..=place).next_back() else { return };
        if mapping.port <= block.last_port {
            *block.used.entry(key.protocol).or_default() += 1;
        }
    }

    /// Blocks that are active, blocks that retire, ports of all of them, ports used.
    pub(crate) fn sums(&self) -> [u64; 4] {
        self.blocks.iter().fold([0; 4], |[active, retiring, ports, used], ((_, _, first), own)| {
            let most = own.used.values().copied().max().unwrap_or(0);
            [
                active + u64::from(!own.retiring),
                retiring + u64::from(own.retiring),
                ports + u64::from(own.last_port - first) + 1,
                used + u64::from(most),
            ]
        })
    }

    pub(super) fn to_proto(&self) -> Vec<proto::BlockUse> {
        let told = |own: &Own| proto::BlockUse {
            block_id: own.id.to_string(),
            ports_used: own.used.values().copied().max().unwrap_or(0),
            retiring: own.retiring,
        };
        self.blocks.values().map(told).collect()
    }
}

impl Machine {
    /// The data path says that the blocks of a router run low.
    pub(crate) fn request_block(&mut self, now: Instant, router_vni: u32) {
        let mut routers = self.slice.iter().flat_map(|slice| &slice.routers);
        let Some((id, _)) = routers.find(|(_, router)| router.vni.get() == router_vni) else { return };
        let id = *id;
        let former = self.block_requests.get(&id).copied();
        if !self.connected || former.is_some_and(|request| now < request.due) {
            return;
        }
        let repeat_after = match former.filter(|request| !request.answered) {
            Some(request) => (request.repeat_after * 2).min(REPEAT_AFTER_MAX),
            None => REPEAT_AFTER,
        };
        let blocks = self.blocks_for_new_mappings(id);
        let request = Request { due: now + repeat_after, repeat_after, blocks, answered: false };
        self.block_requests.insert(id, request);
        self.outbox.push(Message::BlockRequest(proto::BlockRequest { router_id: id.to_string() }));
    }

    /// Tables were programmed: requests that had been answered by what is in them are over.
    pub(super) fn blocks_programmed(&mut self, now: Instant) {
        let counts: Vec<(RouterId, usize)> =
            self.block_requests.keys().map(|id| (*id, self.blocks_for_new_mappings(*id))).collect();
        for (id, blocks) in counts {
            if let Some(request) = self.block_requests.get_mut(&id)
                && blocks > request.blocks
                && !request.answered
            {
                *request = Request { due: now + SETTLE, answered: true, ..*request };
            }
        }
        let slice = self.slice.as_ref();
        self.block_requests.retain(|id, _| slice.is_some_and(|slice| slice.routers.contains_key(id)));
    }

    fn blocks_for_new_mappings(&self, router: RouterId) -> usize {
        let host = self.welcome.as_ref().map(|welcome| welcome.host);
        let blocks = self.slice.iter().flat_map(|slice| slice.blocks.values());
        blocks.filter(|block| block.router == router && Some(block.host) == host && !block.retiring).count()
    }

    /// This host's blocks that are in the tables, nothing counted yet.
    pub(crate) fn own_blocks(&self) -> BlockUses {
        let mut uses = BlockUses::default();
        let (Some(welcome), Some(slice)) = (&self.welcome, &self.slice) else { return uses };
        // What changed since the last plan is told when it is in the tables.
        let current = self.programmed.as_ref().is_some_and(|plan| plan.revision == slice.revision);
        if !current || self.stale {
            return uses;
        }
        let external = |id: &NetworkId| slice.external_networks.get(id);
        for (id, block) in slice.blocks.iter().filter(|(_, block)| block.host == welcome.host) {
            let Some(network) = external(&id.external_network) else { continue };
            let last_port = id.last_port(network.block_size);
            let own = Own { id: *id, last_port, retiring: block.retiring, used: BTreeMap::new() };
            uses.blocks.insert((network.vni.get(), id.address, id.first_port), own);
        }
        uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses() -> BlockUses {
        let mut uses = BlockUses::default();
        let address = Ipv4Addr::new(172, 22, 7, 27);
        for first_port in [1024_u16, 4096] {
            let id = BlockId { external_network: NetworkId::MIN, address, first_port };
            let own = Own { id, last_port: first_port + 1023, retiring: false, used: BTreeMap::new() };
            uses.blocks.insert((201, address, first_port), own);
        }
        uses
    }

    #[test]
    fn ports_are_counted_per_block_and_the_busiest_protocol_is_told() {
        let mut uses = uses();
        let mapping = |port| Mapping {
            external_vni: 201,
            address: Ipv4Addr::new(172, 22, 7, 27).into(),
            port,
            ..Mapping::default()
        };
        let key = |protocol| MappingKey {
            router_vni: 301,
            address: Ipv4Addr::new(192, 168, 10, 11).into(),
            port: 1,
            protocol,
            zero: 0,
        };
        for (port, protocol) in
            [(1024, 6), (2047, 6), (1030, 17), (4096, 17), (1023, 6), (2048, 6), (5120, 6)]
        {
            uses.count(&key(protocol), &mapping(port));
        }
        uses.count(&key(6), &Mapping { external_vni: 202, ..mapping(1024) });
        let told: Vec<u32> = uses.to_proto().iter().map(|block| block.ports_used).collect();
        assert_eq!(told, [2, 1]);
    }
}
