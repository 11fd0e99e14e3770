//! What the API's verbs do to the store: Neutron's rules for each resource, one file each.
//!
//! Every write is one transaction: it is checked and applied whole or not at all, and what it allocates is its
//! own. What the controller decides by itself (bindings by link, port blocks, what is programmed) is not here.

mod addresses;
mod admin;
mod agent;
mod floating_ip;
mod gateway;
mod interface;
mod network;
mod pools;
mod port;
mod provider;
mod router;
mod routes;
mod standard;
mod subnet;
mod trace;
mod who;

use crate::agents::Hub;
use crate::nat_log::NatLog;
use api::Error;
use api::resources::NetworkType;
use model::Vni;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Record, Snapshot, Store, StoreError, Transaction, VniRange};

/// What the operator decides.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Default and largest MTU of tenant networks: the underlay's less the tunnel's headers.
    pub tenant_mtu: u16,
    /// Default MTU of external networks.
    pub external_mtu: u16,
    /// Type of networks without a provider: the tunnel protocol of the cluster.
    pub overlay: NetworkType,
    pub vnis: VniRange,
}

impl Default for Settings {
    fn default() -> Self {
        let vnis = match (Vni::new(1), Vni::new(Vni::MAX)) {
            (Ok(first), Ok(last)) => VniRange { first, last },
            _ => unreachable!("1 and the largest VNI are VNIs"),
        };
        Self { tenant_mtu: 1450, external_mtu: 1500, overlay: NetworkType::Geneve, vnis }
    }
}

/// The service behind the API.
pub struct Service {
    store: Arc<Store>,
    hub: Arc<Hub>,
    settings: Settings,
    /// Seconds since 1970.
    clock: fn() -> i64,
    nat_log: Option<Arc<NatLog>>,
}

impl Service {
    pub fn new(store: Arc<Store>, hub: Arc<Hub>, settings: Settings, clock: fn() -> i64) -> Self {
        Self { store, hub, settings, clock, nat_log: None }
    }

    /// Answers about the past come from that log.
    pub fn with_nat_log(self, nat_log: Option<Arc<NatLog>>) -> Self {
        Self { nat_log, ..self }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    /// One transaction. Nothing is applied on `Err`.
    fn write<R>(&self, change: impl FnOnce(&mut Write<'_>) -> Result<R, Error>) -> Result<R, Error> {
        let result = self.store.transact(|tx| {
            let mut write = Write { tx, settings: self.settings, now: (self.clock)() };
            change(&mut write).map_err(Failure::Refused)
        });
        result.map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Store(error) => Error::internal(error),
        })
    }
}

/// A transaction and what changes need besides it.
struct Write<'a> {
    tx: &'a mut Transaction,
    settings: Settings,
    now: i64,
}

enum Failure {
    Refused(Error),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The record of that id, or Neutron's "not found".
fn find<R: Record + api::Resource<Id = <R as Record>::Id>>(
    snapshot: &Snapshot,
    id: <R as Record>::Id,
) -> Result<Arc<R>, Error> {
    snapshot.get::<R>(id).cloned().ok_or_else(|| R::not_found(id.to_string()))
}

/// Each record once, by id, whatever led to it.
fn unique<'a, R: Record>(records: impl Iterator<Item = &'a Arc<R>>) -> Vec<Arc<R>> {
    let by_id: BTreeMap<R::Id, Arc<R>> = records.map(|record| (record.id(), Arc::clone(record))).collect();
    by_id.into_values().collect()
}

/// Records of the ids asked for, or all.
fn by_ids<R: Record>(snapshot: &Snapshot, ids: Option<Vec<R::Id>>) -> Vec<Arc<R>> {
    match ids {
        Some(ids) => unique(ids.into_iter().filter_map(|id| snapshot.get::<R>(id))),
        None => R::table(snapshot).values().cloned().collect(),
    }
}
