//! Questions about subnet pools and address scopes, and their indexes.

use super::{Indexes, Snapshot, set};
use model::quota::Counted;
use model::resource::Subnet;
use model::subnet_pool::{AddressScope, SubnetPool};
use model::{AddressScopeId, SubnetId, SubnetPoolId};
use std::sync::Arc;

impl Snapshot {
    /// Subnets whose prefix is from that pool.
    pub fn subnets_of_pool(&self, pool: SubnetPoolId) -> impl Iterator<Item = &Arc<Subnet>> {
        let range = (pool, SubnetId::MIN)..=(pool, SubnetId::MAX);
        self.indexes.subnets_by_pool.range(range).filter_map(|(_, id)| self.subnets.get(id))
    }

    pub fn pools_of_scope(&self, scope: AddressScopeId) -> impl Iterator<Item = &Arc<SubnetPool>> {
        let range = (scope, SubnetPoolId::MIN)..=(scope, SubnetPoolId::MAX);
        self.indexes.pools_by_scope.range(range).filter_map(|(_, id)| self.subnet_pools.get(id))
    }
}

impl Indexes {
    pub(crate) fn subnet_pools(&mut self, pool: &SubnetPool, present: bool) {
        self.own(Counted::SubnetPool, pool.id.uuid(), &pool.standard, present);
        if let Some(scope) = pool.address_scope {
            set(&mut self.pools_by_scope, (scope, pool.id), present);
        }
    }

    /// Asked for by id alone.
    pub(crate) fn address_scopes(&mut self, _scope: &AddressScope, _present: bool) {}
}
