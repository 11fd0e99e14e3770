//! Who shares what with whom: policies, and what depends on them.

use super::{Service, Write, by_ids, find};
use api::resources::{RbacPolicyCreate, RbacPolicyUpdate, RbacPolicyView, StandardCreate};
use api::{Caller, Error, Handles, Hints, Precondition, Resource, Sharing};
use model::quota::Counted;
use model::rbac::{EVERY_PROJECT, RbacAction, RbacPolicy, SharedKind, SharedObject};
use model::resource::Network;
use model::security::{AddressGroup, SecurityGroup};
use model::{AddressGroupId, NetworkId, RbacPolicyId, SecurityGroupId};
use std::collections::BTreeSet;
use store::Snapshot;
use uuid::Uuid;

impl Handles<RbacPolicy> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<RbacPolicyView> {
        by_ids::<RbacPolicy>(&self.snapshot(), hints).iter().map(|policy| (&**policy).into()).collect()
    }

    fn show(&self, _caller: &Caller, id: RbacPolicyId) -> Result<RbacPolicyView, Error> {
        Ok((&*find::<RbacPolicy>(&self.snapshot(), id)?).into())
    }

    fn create(&self, caller: &Caller, requests: Vec<RbacPolicyCreate>) -> Result<Vec<RbacPolicyView>, Error> {
        self.write(|write| {
            let create = |request| {
                let policy = create(write, caller, request)?;
                write.within_quota(Counted::RbacPolicy, &policy.standard.project_id)?;
                Ok((&policy).into())
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        caller: &Caller,
        id: RbacPolicyId,
        change: RbacPolicyUpdate,
        _precondition: Precondition,
    ) -> Result<RbacPolicyView, Error> {
        self.write(|write| Ok((&update(write, caller, id, change)?).into()))
    }

    fn delete(&self, _caller: &Caller, id: RbacPolicyId, _precondition: Precondition) -> Result<(), Error> {
        self.write(|write| {
            let policy = find::<RbacPolicy>(write.tx, id)?;
            not_depended_on(write.tx, &policy, None)?;
            write.tx.remove::<RbacPolicy>(id);
            Ok(())
        })
    }
}

impl Sharing for Service {
    fn is_external_for(&self, network: NetworkId, project_id: &str) -> bool {
        let object = (SharedKind::Network, network.uuid());
        shared_with(&self.snapshot(), object, RbacAction::AccessAsExternal, project_id)
    }
}

/// A policy lets that project use the thing.
pub(super) fn shared_with(
    snapshot: &Snapshot,
    (kind, id): (SharedKind, Uuid),
    action: RbacAction,
    project_id: &str,
) -> bool {
    let mut policies = snapshot.rbac_of_object(SharedObject { kind, id });
    policies.any(|policy| policy.action == action && reaches(&policy.target, project_id))
}

fn reaches(target: &str, project_id: &str) -> bool {
    target == EVERY_PROJECT || target == project_id
}

impl Write<'_> {
    /// The policies of a thing end with it.
    pub(super) fn no_longer_shared(&mut self, kind: SharedKind, id: Uuid) {
        let policies: Vec<_> =
            self.tx.rbac_of_object(SharedObject { kind, id }).map(|policy| policy.id).collect();
        for policy in policies {
            self.tx.remove::<RbacPolicy>(policy);
        }
    }

    /// The network is for every project to use like that, or no longer. No quota is asked: as in Neutron, it is a
    /// change of the network.
    ///
    /// # Errors
    /// `InvalidSharedSetting` if others depend on it.
    pub(super) fn open_to_all(
        &mut self,
        network: &Network,
        action: RbacAction,
        open: bool,
    ) -> Result<(), Error> {
        let object = SharedObject { kind: SharedKind::Network, id: network.id.uuid() };
        let mut policies = self.tx.rbac_of_object(object);
        let found =
            policies.find(|policy| policy.action == action && policy.target == EVERY_PROJECT).cloned();
        drop(policies);
        match (found, open) {
            (Some(policy), false) => {
                let refuse = |_| Error::InvalidSharedSetting { network: network.id };
                not_depended_on(self.tx, &policy, None).map_err(refuse)?;
                self.tx.remove::<RbacPolicy>(policy.id);
            }
            (None, true) => {
                let standard = self.standard_of(network.standard.project_id.clone());
                let target = EVERY_PROJECT.to_owned();
                self.tx.put(RbacPolicy { id: RbacPolicyId::random(), standard, object, action, target });
            }
            (Some(_), true) | (None, false) => {}
        }
        Ok(())
    }

    /// To be asked when nothing uses the network as an external one.
    pub(super) fn no_longer_external(&mut self, network: NetworkId) {
        let object = SharedObject { kind: SharedKind::Network, id: network.uuid() };
        let policies = self.tx.rbac_of_object(object);
        let external = policies.filter(|policy| policy.action == RbacAction::AccessAsExternal);
        let external: Vec<_> = external.map(|policy| policy.id).collect();
        for policy in external {
            self.tx.remove::<RbacPolicy>(policy);
        }
    }
}

fn create(write: &mut Write<'_>, caller: &Caller, request: RbacPolicyCreate) -> Result<RbacPolicy, Error> {
    let kind = kind(&request.object_type)?;
    let action = action(kind, &request.action)?;
    let object = SharedObject { kind, id: request.object_id };
    let owner = owner(write.tx, object)?;
    if !caller.is_admin() && !caller.owns(&owner) {
        return Err(foreign(write.tx, caller, object));
    }
    may_target(caller, "create", &request.target_tenant)?;
    if action == RbacAction::AccessAsExternal {
        make_external(write, caller, NetworkId::from_uuid(object.id))?;
    }
    let standard = StandardCreate { project_id: request.project_id, ..StandardCreate::default() };
    let standard = write.standard(caller, standard);
    let policy =
        RbacPolicy { id: RbacPolicyId::random(), standard, object, action, target: request.target_tenant };
    only_one(write.tx, &policy)?;
    write.tx.put(policy.clone());
    Ok(policy)
}

fn update(
    write: &mut Write<'_>,
    caller: &Caller,
    id: RbacPolicyId,
    change: RbacPolicyUpdate,
) -> Result<RbacPolicy, Error> {
    let old = find::<RbacPolicy>(write.tx, id)?;
    let Some(target) = change.target_tenant.filter(|target| *target != old.target) else {
        return Ok(RbacPolicy::clone(&old));
    };
    may_target(caller, "update", &target)?;
    not_depended_on(write.tx, &old, Some(&target))?;
    let policy = RbacPolicy { target, ..RbacPolicy::clone(&old) };
    only_one(write.tx, &policy)?;
    write.tx.put(policy.clone());
    Ok(policy)
}

fn kind(text: &str) -> Result<SharedKind, Error> {
    match text.trim().to_ascii_lowercase().as_str() {
        "network" => Ok(SharedKind::Network),
        "security_group" => Ok(SharedKind::SecurityGroup),
        "address_group" => Ok(SharedKind::AddressGroup),
        _ => Err(Error::invalid_input(format!("'{text}' is not a valid RBAC object type"))),
    }
}

fn action(kind: SharedKind, text: &str) -> Result<RbacAction, Error> {
    match (kind, text) {
        (_, "access_as_shared") => Ok(RbacAction::AccessAsShared),
        (SharedKind::Network, "access_as_external") => Ok(RbacAction::AccessAsExternal),
        _ => {
            let valid = match kind {
                SharedKind::Network => "access_as_shared, access_as_external",
                SharedKind::SecurityGroup | SharedKind::AddressGroup => "access_as_shared",
            };
            Err(Error::InvalidActionForType { action: text.to_owned(), valid })
        }
    }
}

/// # Errors
/// There is no such thing.
fn owner(snapshot: &Snapshot, SharedObject { kind, id }: SharedObject) -> Result<String, Error> {
    let standard = match kind {
        SharedKind::Network => find::<Network>(snapshot, NetworkId::from_uuid(id))?.standard.clone(),
        SharedKind::SecurityGroup => {
            find::<SecurityGroup>(snapshot, SecurityGroupId::from_uuid(id))?.standard.clone()
        }
        SharedKind::AddressGroup => {
            find::<AddressGroup>(snapshot, AddressGroupId::from_uuid(id))?.standard.clone()
        }
    };
    Ok(standard.project_id)
}

/// The answer to who would share what belongs to others: it is not there, unless it is shared with them.
fn foreign(snapshot: &Snapshot, caller: &Caller, object: SharedObject) -> Error {
    let SharedObject { kind, id } = object;
    let seen = snapshot.rbac_of_object(object).any(|policy| reaches(&policy.target, &caller.project_id));
    match kind {
        _ if seen => {
            Error::invalid_input("Only admins can manipulate policies on objects they do not own".to_owned())
        }
        SharedKind::Network => Network::not_found(id.to_string()),
        SharedKind::SecurityGroup => SecurityGroup::not_found(id.to_string()),
        SharedKind::AddressGroup => AddressGroup::not_found(id.to_string()),
    }
}

/// Only administrators share with all.
fn may_target(caller: &Caller, verb: &str, target: &str) -> Result<(), Error> {
    if target == EVERY_PROJECT && !caller.is_admin() {
        return Err(Error::PolicyNotAuthorized { rule: format!("{verb}_rbac_policy:target_tenant") });
    }
    Ok(())
}

/// As in Neutron, who opens a network as an external one makes it one. That is for administrators.
fn make_external(write: &mut Write<'_>, caller: &Caller, id: NetworkId) -> Result<(), Error> {
    let network = find::<Network>(write.tx, id)?;
    if network.external {
        return Ok(());
    }
    if !caller.is_admin() {
        return Err(Error::PolicyNotAuthorized { rule: "update_network:router:external".to_owned() });
    }
    super::network::check_external(write.tx, &network, true)?;
    write.put_changed(Network { external: true, ..Network::clone(&network) });
    Ok(())
}

fn only_one(snapshot: &Snapshot, new: &RbacPolicy) -> Result<(), Error> {
    let mut others = snapshot.rbac_of_object(new.object).filter(|policy| policy.id != new.id);
    if others.any(|policy| policy.action == new.action && policy.target == new.target) {
        return Err(Error::DuplicateRbacPolicy {});
    }
    Ok(())
}

/// Projects other than the owner that use the thing by that action.
fn users(snapshot: &Snapshot, object: SharedObject, action: RbacAction) -> BTreeSet<String> {
    let SharedObject { kind, id } = object;
    let mut users: BTreeSet<String> = match (kind, action) {
        (SharedKind::Network, RbacAction::AccessAsShared) => {
            let ports = snapshot.ports_of_network(NetworkId::from_uuid(id));
            ports.map(|port| port.standard.project_id.clone()).collect()
        }
        (SharedKind::Network, RbacAction::AccessAsExternal) => {
            let routers = snapshot.routers_of_external_network(NetworkId::from_uuid(id));
            routers.map(|router| router.standard.project_id.clone()).collect()
        }
        (SharedKind::SecurityGroup, _) => {
            let ports = snapshot.ports_of_group(SecurityGroupId::from_uuid(id));
            ports.map(|port| port.standard.project_id.clone()).collect()
        }
        (SharedKind::AddressGroup, _) => {
            let rules = snapshot.rules_of_address_group(AddressGroupId::from_uuid(id));
            rules.map(|rule| rule.standard.project_id.clone()).collect()
        }
    };
    // Ports of gateways and floating IPs are nobody's.
    users.remove("");
    if let Ok(owner) = owner(snapshot, object) {
        users.remove(&owner);
    }
    users
}

/// Nobody loses by the end of the policy, or its new target, what it uses.
fn not_depended_on(snapshot: &Snapshot, policy: &RbacPolicy, new_target: Option<&str>) -> Result<(), Error> {
    let others = snapshot.rbac_of_object(policy.object);
    let others: Vec<_> =
        others.filter(|other| other.id != policy.id && other.action == policy.action).collect();
    let keeps = |user: &str| {
        others.iter().any(|other| reaches(&other.target, user))
            || new_target.is_some_and(|target| reaches(target, user))
    };
    let users = users(snapshot, policy.object, policy.action);
    match users.into_iter().find(|user| reaches(&policy.target, user) && !keeps(user)) {
        Some(user) => {
            Err(Error::RbacPolicyInUse { object: policy.object.id, details: format!("project_id={user}") })
        }
        None => Ok(()),
    }
}

impl Service {
    /// Networks of a version without policies say themselves whether they are shared; external ones were
    /// everybody's. What they say becomes policies, once. To be called before the first request.
    ///
    /// # Errors
    /// The store's.
    pub fn upgrade(&self) -> Result<(), Error> {
        self.write(|write| {
            let before = write.tx.networks.values().filter(|network| network.shared.is_some());
            let before: Vec<_> = before.cloned().collect();
            for network in before {
                if network.shared == Some(true) {
                    write.open_to_all(&network, RbacAction::AccessAsShared, true)?;
                }
                if network.external {
                    write.open_to_all(&network, RbacAction::AccessAsExternal, true)?;
                }
                write.tx.put(Network { shared: None, ..Network::clone(&network) });
            }
            Ok(())
        })
    }
}
