//! The kernel's tables as a walk that is only looked at may read them.
//!
//! Each question is one lookup in the map that the programs use, so nothing is copied beforehand and what is
//! seen is what a packet would meet at that moment.

use crate::Dataplane;
use crate::error::Error;
use crate::object::LpmKey;
use crate::sys::MapFd;
use pipeline::fragment::{Fragment, FragmentKey};
use pipeline::host::Source;
use pipeline::nat::{BindingKey, ContactKey, Mapping, MappingKey};
use pipeline::session::{Session, SessionKey};
use pipeline::table_set::Prefix;
use pipeline::tables::*;
use std::cell::RefCell;
use zerocopy::{FromBytes, IntoBytes};

const CONFIG_KEY: u32 = 0;

/// The tables of a data path, to be read one entry at a time.
#[derive(Debug)]
pub struct View<'a> {
    dataplane: &'a Dataplane,
    seed: u64,
    now_ns: u64,
    /// The first lookup that the kernel refused.
    error: RefCell<Option<Error>>,
}

impl Dataplane {
    /// The tables as a walk sees them. `seed`: of its random numbers.
    pub fn view(&self, seed: u64) -> View<'_> {
        View { dataplane: self, seed, now_ns: crate::clock_ns(), error: RefCell::new(None) }
    }
}

impl View<'_> {
    /// Whether all lookups were answered; what was refused looked like a missing entry to the walk.
    ///
    /// # Errors
    /// The first that was not.
    pub fn finish(self) -> Result<(), Error> {
        self.error.into_inner().map_or(Ok(()), Err)
    }

    fn get<K: IntoBytes, V: FromBytes + IntoBytes>(
        &self,
        name: &'static str,
        table: &MapFd<K, V>,
        key: &K,
    ) -> Option<V> {
        table.get(key).map_err(Error::table(name)).unwrap_or_else(|error| {
            self.error.borrow_mut().get_or_insert(error);
            None
        })
    }
}

macro_rules! looked_up {
    ($($method:ident in $table:ident: $key:ty => $value:ty;)*) => {
        $(fn $method(&self, key: &$key) -> Option<$value> {
            self.get(stringify!($table), &self.dataplane.object.tables.$table, key)
        })*
    };
}

impl Source for View<'_> {
    looked_up! {
        port in ports: PortKey => Port;
        network in networks: NetworkKey => Network;
        station in stations: StationKey => Station;
        neighbor in neighbors: NeighborKey => Neighbor;
        external in externals: NetworkKey => External;
        uplink in uplinks: UplinkKey => NetworkKey;
        gateway in gateways: GatewayKey => GatewayValue;
        external_address in external_addresses: ExternalAddressKey => ExternalAddress;
        forwarding in forwardings: BindingKey => Forwarding;
        floating_by_fixed in floating_by_fixed: FixedKey => Floating;
        snat in snat: RouterKey => Snat;
        own_block in own_blocks: BlockKey => PortBlock;
        block_owner in block_owners: BlockOwnerKey => BlockOwner;
        vtep in vteps: VtepKey => Vtep;
        service in services: ServiceKey => Service;
        session in sessions: SessionKey => Session;
        reply in replies: SessionKey => SessionKey;
        mapping in mappings: MappingKey => Mapping;
        binding in bindings: BindingKey => MappingKey;
        fragment in fragments: FragmentKey => Fragment;
    }

    fn config(&self) -> Config {
        self.get("config", &self.dataplane.object.tables.config, &CONFIG_KEY).unwrap_or_default()
    }

    fn port_address(&self, key: &PortAddressKey) -> bool {
        self.get("port_addresses", &self.dataplane.object.tables.port_addresses, key).is_some()
    }

    fn route(&self, key: &RouteKey) -> Option<Route> {
        let key = LpmKey::from(Prefix { len: RouteKey::LPM_LEN, key: *key });
        self.get("routes", &self.dataplane.object.tables.routes, &key)
    }

    fn port_prefix(&self, key: &PortAddressKey) -> bool {
        let key = LpmKey::from(Prefix { len: PortAddressKey::LPM_LEN, key: *key });
        self.get("port_prefixes", &self.dataplane.object.tables.port_prefixes, &key).is_some()
    }

    fn acl_remote(&self, key: &AclRemoteKey) -> Option<AclClasses> {
        let key = LpmKey::from(Prefix { len: AclRemoteKey::LPM_LEN, key: *key });
        self.get("acl_remotes", &self.dataplane.object.tables.acl_remotes, &key)
    }

    fn acl_rule(&self, key: &AclRuleKey) -> u32 {
        let key = LpmKey::from(Prefix { len: AclRuleKey::LPM_LEN, key: *key });
        self.get("acl_rules", &self.dataplane.object.tables.acl_rules, &key).unwrap_or(0)
    }

    fn contact(&self, key: &ContactKey) -> bool {
        self.get("contacts", &self.dataplane.object.tables.contacts, key).is_some()
    }

    fn opening(&self, key: &BindingKey) -> bool {
        self.get("openings", &self.dataplane.object.tables.openings, key).is_some()
    }

    fn port_usage(&self, key: &FixedKey) -> u32 {
        self.get("port_usage", &self.dataplane.object.tables.port_usage, key).map_or(0, |usage| usage.ports)
    }

    fn port_sessions(&self, ifindex: u32) -> Option<u32> {
        self.get("port_sessions", &self.dataplane.object.tables.port_sessions, &PortKey { ifindex })
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
