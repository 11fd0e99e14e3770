//! Address groups: named sets of prefixes that rules of security groups may be about.

use super::standard::check_precondition;
use super::{Service, Write, by_ids, find, shared_with};
use api::resources::{AddressGroupCreate, AddressGroupUpdate, AddressGroupView, AddressesChange};
use api::{AddressGroupActions, Caller, Error, Handles, Hints, Precondition};
use ipnet::IpNet;
use model::AddressGroupId;
use model::rbac::{RbacAction, SharedKind};
use model::security::{AddressGroup, Remote};
use store::Snapshot;

impl Handles<AddressGroup> for Service {
    fn list(&self, caller: &Caller, hints: &Hints) -> Vec<AddressGroupView> {
        let snapshot = self.snapshot();
        by_ids::<AddressGroup>(&snapshot, hints).iter().map(|group| view(&snapshot, caller, group)).collect()
    }

    fn show(&self, caller: &Caller, id: AddressGroupId) -> Result<AddressGroupView, Error> {
        let snapshot = self.snapshot();
        Ok(view(&snapshot, caller, &*find::<AddressGroup>(&snapshot, id)?))
    }

    fn create(
        &self,
        caller: &Caller,
        requests: Vec<AddressGroupCreate>,
    ) -> Result<Vec<AddressGroupView>, Error> {
        self.write(|write| {
            let create = |request: AddressGroupCreate| {
                let group = AddressGroup {
                    id: AddressGroupId::random(),
                    standard: write.standard(caller, request.standard),
                    addresses: request.addresses.into_iter().collect(),
                };
                write.tx.put(group.clone());
                view(write.tx, caller, &group)
            };
            Ok(requests.into_iter().map(create).collect())
        })
    }

    fn update(
        &self,
        caller: &Caller,
        id: AddressGroupId,
        change: AddressGroupUpdate,
        precondition: Precondition,
    ) -> Result<AddressGroupView, Error> {
        self.write(|write| {
            let mut group = AddressGroup::clone(&*find::<AddressGroup>(write.tx, id)?);
            check_precondition(&group.standard, precondition)?;
            change.standard.apply(&mut group.standard);
            let group = write.put_changed(group);
            Ok(view(write.tx, caller, &group))
        })
    }

    fn delete(&self, _caller: &Caller, id: AddressGroupId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| {
            let group = find::<AddressGroup>(write.tx, id)?;
            check_precondition(&group.standard, precondition)?;
            if write.tx.rules_of_address_group(id).next().is_some() {
                return Err(Error::AddressGroupInUse { group: id });
            }
            write.remove_default_rules_about(Remote::AddressGroup(id));
            write.no_longer_shared(SharedKind::AddressGroup, id.uuid());
            write.tx.remove::<AddressGroup>(id);
            Ok(())
        })
    }
}

impl AddressGroupActions for Service {
    fn change_addresses(
        &self,
        caller: &Caller,
        id: AddressGroupId,
        change: AddressesChange,
    ) -> Result<AddressGroupView, Error> {
        self.write(|write| {
            let group = change_addresses(write, id, change)?;
            Ok(view(write.tx, caller, &group))
        })
    }
}

fn change_addresses(
    write: &mut Write<'_>,
    id: AddressGroupId,
    change: AddressesChange,
) -> Result<AddressGroup, Error> {
    let mut group = AddressGroup::clone(&*find::<AddressGroup>(write.tx, id)?);
    let listed = |addresses: Vec<String>| format!("['{}']", addresses.join("', '"));
    let texts = |addresses: &[IpNet], present: bool| -> Vec<String> {
        let wrong = addresses.iter().filter(|address| group.addresses.contains(*address) == present);
        wrong.map(ToString::to_string).collect()
    };
    match change {
        AddressesChange::Add(addresses) => {
            let there = texts(&addresses, true);
            if !there.is_empty() {
                return Err(Error::AddressesAlreadyExist { addresses: listed(there), group: id });
            }
            group.addresses.extend(addresses);
        }
        AddressesChange::Remove(addresses) => {
            let missing = texts(&addresses, false);
            if !missing.is_empty() {
                return Err(Error::AddressesNotFound { addresses: listed(missing), group: id });
            }
            group.addresses.retain(|address| !addresses.contains(address));
        }
    }
    Ok(write.put_changed(group))
}

/// Somebody shares the group with that project.
pub(super) fn is_shared_with(snapshot: &Snapshot, group: AddressGroupId, project_id: &str) -> bool {
    let object = (SharedKind::AddressGroup, group.uuid());
    shared_with(snapshot, object, RbacAction::AccessAsShared, project_id)
}

fn view(snapshot: &Snapshot, caller: &Caller, group: &AddressGroup) -> AddressGroupView {
    AddressGroupView::new(group, is_shared_with(snapshot, group.id, &caller.project_id))
}
