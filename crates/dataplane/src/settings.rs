//! What the data plane is told at start.

use pipeline::bounds::*;
use std::path::PathBuf;

/// Where state is pinned and how large it may grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A directory on a BPF file system, of this agent alone, for example `/sys/fs/bpf/nanboku/default`.
    pub pin_dir: PathBuf,
    /// Used when a table is made; a table found pinned keeps the size it has.
    pub sizes: Sizes,
}

/// Largest number of entries of the tables that grow with traffic or with the cluster. Memory is taken per
/// entry in use, and 16 bytes per possible entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub ports: u32,
    pub networks: u32,
    pub stations: u32,
    pub neighbors: u32,
    pub routes: u32,
    pub external_addresses: u32,
    pub block_owners: u32,
    pub sessions: u32,
    pub mappings: u32,
    /// Prefixes of remote ends, and of what may come from them, of all lists of security groups. There is room for
    /// twice as many, because what is new comes before what is old goes.
    pub acl_remotes: u32,
    pub acl_rules: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            ports: PORTS_MAX,
            networks: NETWORKS_MAX,
            stations: STATIONS_MAX,
            neighbors: NEIGHBORS_MAX,
            routes: ROUTES_MAX,
            external_addresses: EXTERNAL_ADDRESSES_MAX,
            block_owners: BLOCK_OWNERS_MAX,
            sessions: SESSIONS_MAX,
            mappings: MAPPINGS_MAX,
            acl_remotes: ACL_REMOTES_MAX,
            acl_rules: ACL_RULES_MAX,
        }
    }
}

impl Sizes {
    /// Small tables, for tests and labs with many hosts on one machine.
    pub const SMALL: Self = Self {
        ports: 256,
        networks: 1024,
        stations: 4096,
        neighbors: 4096,
        routes: 4096,
        external_addresses: 4096,
        block_owners: 8192,
        sessions: 32768,
        mappings: 16384,
        acl_remotes: 32768,
        acl_rules: 65536,
    };

    /// Sizes by the tables' names.
    pub(crate) fn named(&self) -> [(&'static str, u32); 20] {
        [
            ("ports", self.ports),
            ("port_addresses", self.ports.saturating_mul(4)),
            ("port_counters", self.ports),
            ("port_sessions", self.ports),
            ("punt_buckets", self.ports.saturating_mul(2)),
            ("networks", self.networks),
            ("stations", self.stations),
            ("neighbors", self.neighbors),
            ("routes", self.routes),
            ("external_addresses", self.external_addresses),
            ("block_owners", self.block_owners),
            ("sessions", self.sessions),
            ("replies", self.sessions),
            ("contacts", self.sessions),
            ("mappings", self.mappings),
            ("bindings", self.mappings),
            ("port_usage", self.mappings),
            ("port_prefixes", self.ports.saturating_mul(4)),
            ("acl_remotes", self.acl_remotes.saturating_mul(2)),
            ("acl_rules", self.acl_rules.saturating_mul(2)),
        ]
    }
}
