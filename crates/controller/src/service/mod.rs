//! What the API's verbs do to the store: Neutron's rules for each resource, one file each.
//!
//! Every write is one transaction: it is checked and applied whole or not at all, and what it allocates is its
//! own. What the controller decides by itself (bindings by link, port blocks, what is programmed) is not here.

mod address_group;
mod address_scope;
mod addresses;
mod admin;
mod agent;
mod default_rules;
mod floating_ip;
mod gateway;
mod interface;
mod metering;
mod nat;
mod network;
mod pools;
mod port;
mod port_forwarding;
mod port_security;
mod provider;
mod quota;
mod rbac;
mod router;
mod routes;
mod rule_check;
mod security_group;
mod security_group_rule;
mod standard;
mod subnet;
mod subnet_pool;
mod trace;
mod untranslated;
mod who;

use crate::agents::Hub;
use crate::nat_log::NatLog;
use api::resources::NetworkType;
use api::{Error, Hints, PageHint};
use model::Vni;
use model::quota::DefaultQuota;
pub use nat::NatSettings;
use rbac::shared_with;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Owned, Record, Snapshot, Store, StoreError, Transaction, VniRange};

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
    /// Of projects for which nothing was said.
    pub quotas: DefaultQuota,
    pub nat: NatSettings,
}

impl Default for Settings {
    fn default() -> Self {
        let vnis = match (Vni::new(1), Vni::new(Vni::MAX)) {
            (Ok(first), Ok(last)) => VniRange { first, last },
            _ => unreachable!("1 and the largest VNI are VNIs"),
        };
        Self {
            tenant_mtu: 1450,
            external_mtu: 1500,
            overlay: NetworkType::Geneve,
            vnis,
            quotas: DefaultQuota::default(),
            nat: NatSettings::default(),
        }
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

/// As [`by_ids`]; of one project, if it alone is asked for or all that the caller sees is its own.
fn owned<R: Owned>(snapshot: &Snapshot, hints: &Hints) -> Vec<Arc<R>> {
    let projects = hints.values("project_id").or_else(|| hints.values("tenant_id"));
    match (hints.values("id"), projects, &hints.owner) {
        (None, Some(projects), _) => unique(projects.iter().flat_map(|id| snapshot.of_project::<R>(id))),
        (None, None, Some(owner)) => snapshot.of_project::<R>(owner).cloned().collect(),
        (Some(_), ..) | (None, None, None) => by_ids(snapshot, hints),
    }
}

/// Records of the ids asked for, or of the page, or all.
fn by_ids<R: Record>(snapshot: &Snapshot, hints: &Hints) -> Vec<Arc<R>> {
    match (hints.ids("id"), &hints.page) {
        (Some(ids), _) => unique(ids.into_iter().filter_map(|id| snapshot.get::<R>(id))),
        (None, Some(page)) => page_of(R::table(snapshot), page),
        (None, None) => R::table(snapshot).values().cloned().collect(),
    }
}

/// Ids sort as their texts do. A marker that is no id is not among the records: the API says so.
fn page_of<R: Record>(table: &store::Table<R>, page: &PageHint) -> Vec<Arc<R>> {
    let all = |records: &mut dyn Iterator<Item = (&R::Id, &Arc<R>)>, count| {
        records.take(count).map(|(_, record)| Arc::clone(record)).collect()
    };
    // The marker itself comes first.
    let with_marker = page.limit.saturating_add(1);
    let marker = page.marker.as_ref().map(|marker| marker.parse::<R::Id>());
    match (marker, page.reverse) {
        (None, false) => all(&mut table.iter(), page.limit),
        (None, true) => all(&mut table.iter().rev(), page.limit),
        (Some(Ok(marker)), false) => all(&mut table.range(marker..), with_marker),
        (Some(Ok(marker)), true) => all(&mut table.range(..=marker).rev(), with_marker),
        (Some(Err(_)), _) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::resource::RestingBlock;
    use model::{HostId, NetworkId};

    #[test]
    fn no_more_records_than_a_page_needs_are_looked_at() {
        let store = Store::open(None).unwrap();
        let put = |first_port| RestingBlock {
            external_network: NetworkId::MIN,
            address: [172, 22, 7, 27].into(),
            first_port,
            host: HostId::MIN,
            since_ms: 0,
        };
        let records = store.transact::<_, StoreError>(|transaction| {
            (1..=9).for_each(|port| transaction.put(put(port)));
            Ok(transaction.resting_blocks.clone())
        });
        let records = records.unwrap();
        let ports = |marker: Option<u16>, reverse| -> Vec<u16> {
            let marker = marker.map(|port| put(port).id().to_string());
            let page = PageHint { marker, limit: 3, reverse };
            page_of::<RestingBlock>(&records, &page).iter().map(|block| block.first_port).collect()
        };
        assert_eq!(ports(None, false), [1, 2, 3]);
        assert_eq!(ports(Some(3), false), [3, 4, 5, 6], "the marker and what is behind it");
        assert_eq!(ports(Some(9), false), [9]);
        assert_eq!(ports(None, true), [9, 8, 7]);
        assert_eq!(ports(Some(7), true), [7, 6, 5, 4]);
        let page = PageHint { marker: Some("x".to_owned()), limit: 3, reverse: false };
        assert!(page_of::<RestingBlock>(&records, &page).is_empty());
    }
}
