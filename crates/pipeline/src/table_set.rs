//! A host's configuration tables as plain maps: what the compiler produces, the data plane writes to the
//! kernel, and the host runtime reads.

use crate::nat::BindingKey;
use crate::tables::*;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Key of a longest-prefix table with its prefix length in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<K> {
    pub len: u32,
    pub key: K,
}

/// Of `routes`: 32 bits of the router, 96 for IPv4, then the IPv4 prefix.
pub type RoutePrefix = Prefix<RouteKey>;

impl<K: FromBytes + IntoBytes + Immutable + Copy + Ord> Prefix<K> {
    /// The prefix of `len` bits of a key; what is behind them becomes zero.
    pub fn new(len: u32, mut key: K) -> Self {
        for (place, byte) in key.as_mut_bytes().iter_mut().enumerate() {
            let kept = len.saturating_sub(place as u32 * 8).min(8);
            *byte &= !(0xffu16 >> kept) as u8;
        }
        Self { len, key }
    }

    /// The entry of the longest prefix that matches a key, of those made by [`Prefix::new`] with one of these lengths.
    pub fn longest<'a, V>(
        table: &'a BTreeMap<Self, V>,
        key: &K,
        lengths: RangeInclusive<u32>,
    ) -> Option<(Self, &'a V)> {
        let mut all = lengths.rev().map(|len| Self::new(len, *key));
        all.find_map(|prefix| table.get(&prefix).map(|value| (prefix, value)))
    }

    /// Whether the prefix matches a key.
    pub fn covers(&self, key: &K) -> bool {
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
    pub forwardings: BTreeMap<BindingKey, Forwarding>,
    pub floating_by_fixed: BTreeMap<FixedKey, Floating>,
    pub snat: BTreeMap<RouterKey, Snat>,
    pub own_blocks: BTreeMap<BlockKey, PortBlock>,
    pub block_owners: BTreeMap<BlockOwnerKey, BlockOwner>,
    pub vteps: BTreeMap<VtepKey, Vtep>,
    pub services: BTreeMap<ServiceKey, Service>,
    /// The value is always 1, as in `port_addresses`.
    pub port_prefixes: BTreeMap<Prefix<PortAddressKey>, u32>,
    pub acl_remotes: BTreeMap<Prefix<AclRemoteKey>, AclClasses>,
    /// The value is [`allow`] bits.
    pub acl_rules: BTreeMap<Prefix<AclRuleKey>, u32>,
}
