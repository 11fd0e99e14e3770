//! Address scopes. What they say of routing is told to nobody: subnets of one scope never overlap, and NAT is as the
//! router says, between scopes as within.

use super::standard::check_precondition;
use super::{Service, by_ids, find};
use api::resources::{AddressScopeCreate, AddressScopeUpdate, AddressScopeView};
use api::{Caller, Error, Handles, Hints, Precondition};
use model::AddressScopeId;
use model::subnet_pool::AddressScope;

impl Handles<AddressScope> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<AddressScopeView> {
        let scopes = by_ids::<AddressScope>(&self.snapshot(), hints);
        scopes.iter().map(|scope| AddressScopeView::from(&**scope)).collect()
    }

    fn show(&self, _caller: &Caller, id: AddressScopeId) -> Result<AddressScopeView, Error> {
        Ok(AddressScopeView::from(&*find::<AddressScope>(&self.snapshot(), id)?))
    }

    fn create(
        &self,
        caller: &Caller,
        requests: Vec<AddressScopeCreate>,
    ) -> Result<Vec<AddressScopeView>, Error> {
        self.write(|write| {
            let create = |request: AddressScopeCreate| {
                let scope = AddressScope {
                    id: AddressScopeId::random(),
                    standard: write.standard(caller, request.standard),
                    ip_version: request.ip_version,
                    shared: request.shared,
                };
                let view = AddressScopeView::from(&scope);
                write.tx.put(scope);
                view
            };
            Ok(requests.into_iter().map(create).collect())
        })
    }

    fn update(
        &self,
        _caller: &Caller,
        id: AddressScopeId,
        change: AddressScopeUpdate,
        precondition: Precondition,
    ) -> Result<AddressScopeView, Error> {
        self.write(|write| {
            let mut scope = AddressScope::clone(&*find::<AddressScope>(write.tx, id)?);
            check_precondition(&scope.standard, precondition)?;
            if scope.shared && change.shared == Some(false) {
                let reason = "Shared address scope can't be unshared";
                return Err(Error::AddressScopeUpdateError { scope: id, reason });
            }
            scope.shared = change.shared.unwrap_or(scope.shared);
            scope.standard.name = change.name.unwrap_or(scope.standard.name);
            Ok(AddressScopeView::from(&write.put_changed(scope)))
        })
    }

    fn delete(&self, _caller: &Caller, id: AddressScopeId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| {
            let scope = find::<AddressScope>(write.tx, id)?;
            check_precondition(&scope.standard, precondition)?;
            if write.tx.pools_of_scope(id).next().is_some() {
                return Err(Error::AddressScopeInUse { scope: id });
            }
            write.tx.remove::<AddressScope>(id);
            Ok(())
        })
    }
}
