//! What compiling gives: tables, provenance, problems; and the builder that keeps the three together.

use model::slice::ObjectId;
use packet::zerocopy::{Immutable, IntoBytes};
use pipeline::nat::BindingKey;
use pipeline::table_set::{Prefix, RoutePrefix, TableSet};
use pipeline::tables::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The outcome for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// `config.epoch` is left 0: the data plane sets it.
    pub tables: TableSet,
    /// One per entry of every table.
    pub provenance: BTreeMap<EntryName, Provenance>,
    /// Objects that were wrong, wholly or in part, in order of id.
    pub problems: Vec<Problem>,
}

/// Names an entry of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryName {
    /// The map's name.
    pub table: &'static str,
    /// The key as it is in the map; of longest-prefix tables: the prefix length (4 bytes, host order), then the key.
    pub key: Vec<u8>,
}

/// Who made an entry and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    pub object: ObjectId,
    pub why: &'static str,
}

/// What is wrong with an object. Its other parts, and other objects, are compiled regardless.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub object: ObjectId,
    pub text: String,
}

/// A key as bytes, for [`EntryName`].
pub(crate) trait KeyBytes {
    fn key_bytes(&self) -> Vec<u8>;
}

impl<K: IntoBytes + Immutable> KeyBytes for Prefix<K> {
    fn key_bytes(&self) -> Vec<u8> {
        let mut bytes = self.len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(self.key.as_bytes());
        bytes
    }
}

/// A table of the set, with its name.
pub(crate) struct Table<K, V> {
    name: &'static str,
    of: fn(&mut TableSet) -> &mut BTreeMap<K, V>,
}

macro_rules! tables {
    ($($constant:ident: $field:ident, $key:ty => $value:ty;)*) => {
        $(pub(crate) const $constant: Table<$key, $value> =
            Table { name: stringify!($field), of: |set| &mut set.$field };)*
    };
}

macro_rules! plain_keys {
    ($($key:ty)*) => {$(
        impl KeyBytes for $key {
            fn key_bytes(&self) -> Vec<u8> {
                bytes_of(self)
            }
        }
    )*};
}

tables! {
    PORTS: ports, PortKey => Port;
    PORT_ADDRESSES: port_addresses, PortAddressKey => u32;
    NETWORKS: networks, NetworkKey => Network;
    STATIONS: stations, StationKey => Station;
    NEIGHBORS: neighbors, NeighborKey => Neighbor;
    ROUTES: routes, RoutePrefix => Route;
    EXTERNALS: externals, NetworkKey => External;
    UPLINKS: uplinks, UplinkKey => NetworkKey;
    GATEWAYS: gateways, GatewayKey => GatewayValue;
    EXTERNAL_ADDRESSES: external_addresses, ExternalAddressKey => ExternalAddress;
    FORWARDINGS: forwardings, BindingKey => Forwarding;
    FLOATING_BY_FIXED: floating_by_fixed, FixedKey => Floating;
    SNAT: snat, RouterKey => Snat;
    OWN_BLOCKS: own_blocks, BlockKey => PortBlock;
    BLOCK_OWNERS: block_owners, BlockOwnerKey => BlockOwner;
    VTEPS: vteps, VtepKey => Vtep;
    SERVICES: services, ServiceKey => Service;
    PORT_PREFIXES: port_prefixes, Prefix<PortAddressKey> => u32;
    ACL_REMOTES: acl_remotes, Prefix<AclRemoteKey> => AclClasses;
    ACL_RULES: acl_rules, Prefix<AclRuleKey> => u32;
}

plain_keys! {
    PortKey PortAddressKey NetworkKey StationKey NeighborKey UplinkKey GatewayKey ExternalAddressKey
    FixedKey RouterKey BlockKey BlockOwnerKey VtepKey ServiceKey
    BindingKey
}

fn bytes_of<K: IntoBytes + Immutable>(key: &K) -> Vec<u8> {
    key.as_bytes().to_vec()
}

/// Collects entries with their provenance. The first object to claim a key keeps it.
#[derive(Default)]
pub(crate) struct Builder {
    tables: TableSet,
    provenance: BTreeMap<EntryName, Provenance>,
    problems: Vec<Problem>,
}

impl Builder {
    pub(crate) fn config(&mut self, config: Config, origin: Provenance) {
        self.tables.config = config;
        self.provenance.insert(EntryName { table: "config", key: Vec::new() }, origin);
    }

    /// Puts an entry. A different value that is there already stays, and the newcomer has a problem.
    pub(crate) fn put<K, V>(&mut self, table: &Table<K, V>, key: K, value: V, origin: Provenance)
    where
        K: KeyBytes + Ord + std::fmt::Debug,
        V: PartialEq,
    {
        let name = EntryName { table: table.name, key: key.key_bytes() };
        match (table.of)(&mut self.tables).entry(key) {
            Entry::Vacant(slot) => {
                slot.insert(value);
                self.provenance.insert(name, origin);
            }
            Entry::Occupied(slot) if *slot.get() == value => {}
            Entry::Occupied(slot) => {
                let key = slot.key();
                let first = self.provenance.get(&name).map(|first| first.object);
                let text = format!("{} {key:?} is taken by {first:?}; left out: {}", table.name, origin.why);
                self.problem(origin.object, text);
            }
        }
    }

    /// Puts an entry unless there is one for the key: for whatever yields to more particular entries.
    pub(crate) fn put_default<K, V>(&mut self, table: &Table<K, V>, key: K, value: V, origin: Provenance)
    where
        K: KeyBytes + Ord + std::fmt::Debug,
        V: PartialEq,
    {
        if !(table.of)(&mut self.tables).contains_key(&key) {
            self.put(table, key, value, origin);
        }
    }

    pub(crate) fn problem(&mut self, object: ObjectId, text: impl Into<String>) {
        self.problems.push(Problem { object, text: text.into() });
    }

    pub(crate) fn finish(mut self) -> Compiled {
        self.problems.sort();
        self.problems.dedup();
        Compiled { tables: self.tables, provenance: self.provenance, problems: self.problems }
    }
}

/// Shorthand for a provenance.
pub(crate) fn by(object: ObjectId, why: &'static str) -> Provenance {
    Provenance { object, why }
}

pub(crate) fn mac(mac: model::Mac) -> packet::MacAddr {
    packet::MacAddr(mac.0)
}
