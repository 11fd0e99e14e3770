//! Writing a host's tables into the kernel.
//!
//! Only differences are written, against a copy of what the kernel holds. Order: additions and changes from
//! what others point to up to the ports, then removals from the ports down, then the configuration with a
//! new epoch. So a port forwards only when everything it needs is there, and a walk that met tables of both
//! sides belongs to the old epoch and is repeated by the next packet. A mark in the configuration says that a
//! change is under way: a process that dies in between leaves it, and the next one bumps the epoch even if
//! it finds nothing to change.

use crate::Dataplane;
use crate::error::Error;
use crate::object::{KernelTables, LpmKey};
use crate::openings;
use crate::sys::{MapFd, possible_cpus};
use pipeline::Ingress;
use pipeline::bounds::FRAME_BUCKET;
use pipeline::table_set::{Prefix, TableSet};
use pipeline::tables::{Config, PortKey};
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// In `Config::flags`, unseen by the pipeline: a change was begun and not finished.
const FLAG_UNFINISHED: u32 = 1 << 31;
const CONFIG_KEY: u32 = 0;

/// What [`Dataplane::apply`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Entries written or removed. 0: the kernel had it all, and nothing was touched.
    pub changed: usize,
    /// The configuration epoch now in force.
    pub epoch: u32,
}

/// Calls a macro for every table, from what others point to up to the ports.
macro_rules! in_order {
    ($each:ident) => {
        $each!(
            vteps,
            networks,
            stations,
            neighbors,
            routes,
            gateways,
            externals,
            block_owners,
            own_blocks,
            snat,
            floating_by_fixed,
            forwardings,
            external_addresses,
            uplinks,
            acl_rules,
            acl_remotes,
            port_addresses,
            port_prefixes,
            services,
            ports
        )
    };
}

/// The same, down.
macro_rules! in_reverse {
    ($each:ident) => {
        $each!(
            ports,
            services,
            port_prefixes,
            port_addresses,
            acl_remotes,
            acl_rules,
            uplinks,
            external_addresses,
            forwardings,
            floating_by_fixed,
            snat,
            own_blocks,
            block_owners,
            externals,
            gateways,
            routes,
            neighbors,
            stations,
            networks,
            vteps
        )
    };
}

impl Dataplane {
    /// Makes the kernel's tables those of `desired`. `desired.config.epoch` is not looked at.
    ///
    /// After an error the tables are partly new; calling it again continues.
    pub fn apply(&mut self, desired: &TableSet) -> Result<Applied, Error> {
        let mut target = Config { epoch: self.current.config.epoch, ..desired.config };
        target.flags &= !FLAG_UNFINISHED;
        let tables_changed = differs(&self.current, desired);
        let buckets_changed = self.ingresses != ingresses(desired);
        let config_changed = self.current.config != target || target.epoch == 0;
        if !tables_changed && !buckets_changed && !config_changed {
            return Ok(Applied { changed: 0, epoch: target.epoch });
        }
        self.write_config(Config {
            flags: self.current.config.flags | FLAG_UNFINISHED,
            ..self.current.config
        })?;
        let mut changed = usize::from(config_changed);
        self.add_ingresses(desired)?;
        changed += add_all(&self.object.tables, &mut self.current, desired)?;
        changed += remove_all(&self.object.tables, &mut self.current, desired)?;
        self.remove_ingresses(desired)?;
        // Two writes: the array's element changes word by word under a reader's eyes, and what a path was
        // computed from must be complete before the epoch that vouches for it.
        target.flags |= FLAG_UNFINISHED;
        self.write_config(target)?;
        target.flags &= !FLAG_UNFINISHED;
        target.epoch = target.epoch.wrapping_add(1).max(1);
        self.write_config(target)?;
        Ok(Applied { changed, epoch: target.epoch })
    }

    /// What the kernel holds, read anew.
    pub fn read_tables(&self) -> Result<TableSet, Error> {
        let mut tables = read_all(&self.object.tables)?;
        tables.config.flags &= !FLAG_UNFINISHED;
        Ok(tables)
    }

    /// Reads the copy that [`Dataplane::apply`] compares with.
    pub(crate) fn reread(&mut self) -> Result<(), Error> {
        self.current = read_all(&self.object.tables)?;
        self.openings = openings::read(&self.object.tables)?;
        let buckets = self.object.tables.punt_buckets.elements();
        self.ingresses = buckets
            .map(|bucket| bucket.map(|(ingress, _)| ingress))
            .collect::<Result<_, _>>()
            .map_err(Error::table("punt_buckets"))?;
        Ok(())
    }

    fn write_config(&mut self, config: Config) -> Result<(), Error> {
        self.object.tables.config.put(&CONFIG_KEY, &config).map_err(Error::table("config"))?;
        self.current.config = config;
        Ok(())
    }

    /// Port counters, counts of sessions and punt buckets, before the ports that use them.
    fn add_ingresses(&mut self, desired: &TableSet) -> Result<(), Error> {
        let cpus = possible_cpus().map_err(Error::table("port_counters"))?;
        for key in desired.ports.keys() {
            let counters = &self.object.tables.port_counters;
            counters.add_per_cpu(key, cpus).map_err(Error::table("port_counters"))?;
            let sessions = &self.object.tables.port_sessions;
            sessions.add(key, &0).map_err(Error::table("port_sessions"))?;
        }
        for ingress in ingresses(desired) {
            if !self.ingresses.contains(&ingress) {
                let buckets = &self.object.tables.punt_buckets;
                buckets.add(&ingress, &0).map_err(Error::table("punt_buckets"))?;
                self.ingresses.insert(ingress);
            }
        }
        Ok(())
    }

    /// Likewise, after the ports are gone.
    fn remove_ingresses(&mut self, desired: &TableSet) -> Result<(), Error> {
        let wanted = ingresses(desired);
        for ingress in self.ingresses.clone() {
            if !wanted.contains(&ingress) {
                let tables = &self.object.tables;
                tables.punt_buckets.delete(&ingress).map_err(Error::table("punt_buckets"))?;
                let key = PortKey { ifindex: ingress };
                tables.port_counters.delete(&key).map_err(Error::table("port_counters"))?;
                tables.port_sessions.delete(&key).map_err(Error::table("port_sessions"))?;
                self.ingresses.remove(&ingress);
            }
        }
        Ok(())
    }
}

/// Buckets of everything that may punt: ports, uplinks, the tunnel; one for events, one for whole frames.
fn ingresses(tables: &TableSet) -> BTreeSet<u32> {
    let ports = tables.ports.keys().map(|key| key.ifindex);
    let uplinks = tables.uplinks.keys().map(|key| key.ifindex);
    let all = ports.chain(uplinks).chain([Ingress::TUNNEL_ID]);
    all.flat_map(|ingress| [ingress, ingress | FRAME_BUCKET]).collect()
}

fn differs(current: &TableSet, desired: &TableSet) -> bool {
    macro_rules! any_differs {
        ($($table:ident),*) => { false $(|| current.$table != desired.$table)* };
    }
    in_order!(any_differs)
}

fn add_all(kernel: &KernelTables, current: &mut TableSet, desired: &TableSet) -> Result<usize, Error> {
    let mut changed = 0;
    macro_rules! add_each {
        ($($table:ident),*) => {
            $(changed += add(&kernel.$table, &mut current.$table, &desired.$table)
                .map_err(Error::table(stringify!($table)))?;)*
        };
    }
    in_order!(add_each);
    Ok(changed)
}

fn remove_all(kernel: &KernelTables, current: &mut TableSet, desired: &TableSet) -> Result<usize, Error> {
    let mut changed = 0;
    macro_rules! remove_each {
        ($($table:ident),*) => {
            $(changed += remove(&kernel.$table, &mut current.$table, &desired.$table)
                .map_err(Error::table(stringify!($table)))?;)*
        };
    }
    in_reverse!(remove_each);
    Ok(changed)
}

fn read_all(kernel: &KernelTables) -> Result<TableSet, Error> {
    let mut tables = TableSet::default();
    if let Some(config) = kernel.config.get(&CONFIG_KEY).map_err(Error::table("config"))? {
        tables.config = config;
    }
    macro_rules! read_each {
        ($($table:ident),*) => {
            $(tables.$table = read(&kernel.$table).map_err(Error::table(stringify!($table)))?;)*
        };
    }
    in_order!(read_each);
    Ok(tables)
}

/// A key as the kernel's table has it.
trait KernelKey<K>: FromBytes + IntoBytes {
    fn of(key: K) -> Self;
    fn into_key(self) -> K;
}

impl<K: FromBytes + IntoBytes> KernelKey<K> for K {
    fn of(key: K) -> Self {
        key
    }

    fn into_key(self) -> K {
        self
    }
}

impl<K: FromBytes + IntoBytes + Immutable + Copy> KernelKey<Prefix<K>> for LpmKey<K> {
    fn of(key: Prefix<K>) -> Self {
        key.into()
    }

    fn into_key(self) -> Prefix<K> {
        self.into()
    }
}

fn add<K: Ord + Copy, Kernel: KernelKey<K>, V: FromBytes + IntoBytes + PartialEq + Copy>(
    kernel: &MapFd<Kernel, V>,
    current: &mut BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
) -> std::io::Result<usize> {
    let mut changed = 0;
    for (key, value) in desired {
        if current.get(key) != Some(value) {
            kernel.put(&Kernel::of(*key), value)?;
            current.insert(*key, *value);
            changed += 1;
        }
    }
    Ok(changed)
}

/// After [`add`]: everything desired is there.
fn remove<K: Ord + Copy, Kernel: KernelKey<K>, V: FromBytes + IntoBytes>(
    kernel: &MapFd<Kernel, V>,
    current: &mut BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
) -> std::io::Result<usize> {
    if current.len() == desired.len() {
        return Ok(0);
    }
    let extra: Vec<K> = current.keys().filter(|key| !desired.contains_key(key)).copied().collect();
    for key in &extra {
        kernel.delete(&Kernel::of(*key))?;
        current.remove(key);
    }
    Ok(extra.len())
}

fn read<K: Ord, Kernel: KernelKey<K>, V: FromBytes + IntoBytes>(
    kernel: &MapFd<Kernel, V>,
) -> std::io::Result<BTreeMap<K, V>> {
    kernel.elements().map(|element| element.map(|(key, value)| (key.into_key(), value))).collect()
}
