//! A host's configuration tables as plain maps: what the compiler produces, the data plane writes to the
//! kernel, and the host runtime reads.

use crate::tables::*;
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

/// Key of `routes` with its prefix length in bits (32 for the router, 96 for IPv4, then the IPv4 prefix).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutePrefix {
    pub len: u32,
    pub key: RouteKey,
}

impl RoutePrefix {
    /// Whether the prefix matches a key.
    pub fn covers(&self, key: &RouteKey) -> bool {
        let bits = (self.key.as_bytes().iter().zip(key.as_bytes())).map(|(prefix, key)| prefix ^ key);
        let whole = (self.len / 8) as usize;
        let rest = 0xff00u16 >> (self.len % 8);
        bits.enumerate().all(|(place, differing)| match place.cmp(&whole) {
            std::cmp::Ordering::Less => differing == 0,
            std::cmp::Ordering::Equal => u16::from(differing) & rest & 0xff == 0,
            std::cmp::Ordering::Greater => true,
        })
    }
}

/// Every configuration table. `config.epoch` is set by the data plane, not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSet {
    pub config: Config,
    pub ports: BTreeMap<PortKey, Port>,
    /// The value is always 1: presence is permission.
    pub port_addresses: BTreeMap<PortAddressKey, u32>,
    pub networks: BTreeMap<NetworkKey, Network>,
    pub stations: BTreeMap<StationKey, Station>,
    pub neighbors: BTreeMap<NeighborKey, Neighbor>,
    pub routes: BTreeMap<RoutePrefix, Route>,
    pub externals: BTreeMap<NetworkKey, External>,
    pub uplinks: BTreeMap<UplinkKey, NetworkKey>,
    pub gateways: BTreeMap<GatewayKey, GatewayValue>,
    pub external_addresses: BTreeMap<ExternalAddressKey, ExternalAddress>,
    pub floating_by_fixed: BTreeMap<FixedKey, Floating>,
    pub snat: BTreeMap<RouterKey, Snat>,
    pub own_blocks: BTreeMap<BlockKey, PortBlock>,
    pub block_owners: BTreeMap<BlockOwnerKey, BlockOwner>,
    pub vteps: BTreeMap<VtepKey, Vtep>,
}
