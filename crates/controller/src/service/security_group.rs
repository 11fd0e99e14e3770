//! Security groups, and the default one that every project gets when it first needs it.

use super::standard::check_precondition;
use super::{Service, Write, by_ids, find, shared_with};
use api::resources::{SecurityGroupCreate, SecurityGroupRuleView, SecurityGroupUpdate, SecurityGroupView};
use api::{Caller, Error, Handles, Hints, Precondition, TagChange};
use model::SecurityGroupId;
use model::quota::Counted;
use model::rbac::{RbacAction, SharedKind};
use model::security::{Remote, SecurityGroup, SecurityGroupRule};
use store::Snapshot;

const DEFAULT_NAME: &str = "default";
const DEFAULT_DESCRIPTION: &str = "Default security group";

impl Handles<SecurityGroup> for Service {
    fn list(&self, caller: &Caller, hints: &Hints) -> Vec<SecurityGroupView> {
        let snapshot = self.snapshot();
        by_ids::<SecurityGroup>(&snapshot, hints).iter().map(|group| view(&snapshot, caller, group)).collect()
    }

    fn lacks(&self, caller: &Caller) -> bool {
        self.lacks_default_group(caller)
    }

    fn supply(&self, caller: &Caller) -> Result<(), Error> {
        self.supply_default_group(caller)
    }

    fn show(&self, caller: &Caller, id: SecurityGroupId) -> Result<SecurityGroupView, Error> {
        let snapshot = self.snapshot();
        Ok(view(&snapshot, caller, &*find::<SecurityGroup>(&snapshot, id)?))
    }

    fn create(
        &self,
        caller: &Caller,
        requests: Vec<SecurityGroupCreate>,
    ) -> Result<Vec<SecurityGroupView>, Error> {
        self.write(|write| {
            let create = |request| {
                let group = create(write, caller, request)?;
                let project_id = &group.standard.project_id;
                write.within_quota(Counted::SecurityGroup, project_id)?;
                write.within_quota(Counted::SecurityGroupRule, project_id)?;
                Ok(view(write.tx, caller, &group))
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        caller: &Caller,
        id: SecurityGroupId,
        change: SecurityGroupUpdate,
        precondition: Precondition,
    ) -> Result<SecurityGroupView, Error> {
        self.write(|write| {
            let group = update(write, id, change, precondition)?;
            Ok(view(write.tx, caller, &group))
        })
    }

    fn delete(&self, caller: &Caller, id: SecurityGroupId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| delete(write, caller, id, precondition))
    }

    fn change_tags(
        &self,
        _caller: &Caller,
        id: SecurityGroupId,
        change: TagChange,
    ) -> Result<Vec<String>, Error> {
        self.change_tags_of::<SecurityGroup>(id, change)
    }
}

impl Service {
    pub(super) fn lacks_default_group(&self, caller: &Caller) -> bool {
        !caller.project_id.is_empty() && self.snapshot().default_group(&caller.project_id).is_none()
    }

    pub(super) fn supply_default_group(&self, caller: &Caller) -> Result<(), Error> {
        self.write(|write| {
            write.default_group(&caller.project_id);
            Ok(())
        })
    }
}

impl Write<'_> {
    /// The default group of the project, made if there is none yet, whatever the quota: nothing of the project could
    /// be made without it. Nobody has none.
    pub(super) fn default_group(&mut self, project_id: &str) -> Option<SecurityGroupId> {
        if project_id.is_empty() {
            return None;
        }
        if let Some(group) = self.tx.default_group(project_id) {
            return Some(group.id);
        }
        let mut standard = self.standard_of(project_id.to_owned());
        DEFAULT_NAME.clone_into(&mut standard.name);
        DEFAULT_DESCRIPTION.clone_into(&mut standard.description);
        let group =
            SecurityGroup { id: SecurityGroupId::random(), standard, stateful: true, is_default: true };
        self.tx.put(group.clone());
        self.put_default_rules(&group);
        Some(group.id)
    }
}

fn view(snapshot: &Snapshot, caller: &Caller, group: &SecurityGroup) -> SecurityGroupView {
    let rules = snapshot.rules_of_group(group.id);
    let rules = rules.map(|rule| SecurityGroupRuleView::new(rule, group.is_default)).collect();
    SecurityGroupView::new(group, rules, is_shared_with(snapshot, group.id, &caller.project_id))
}

/// Somebody shares the group with that project.
pub(super) fn is_shared_with(snapshot: &Snapshot, group: SecurityGroupId, project_id: &str) -> bool {
    let object = (SharedKind::SecurityGroup, group.uuid());
    shared_with(snapshot, object, RbacAction::AccessAsShared, project_id)
}

fn create(
    write: &mut Write<'_>,
    caller: &Caller,
    request: SecurityGroupCreate,
) -> Result<SecurityGroup, Error> {
    not_default(&request.standard.name)?;
    let group = SecurityGroup {
        id: SecurityGroupId::random(),
        standard: write.standard(caller, request.standard),
        stateful: request.stateful,
        is_default: false,
    };
    write.default_group(&group.standard.project_id);
    write.tx.put(group.clone());
    write.put_default_rules(&group);
    Ok(group)
}

fn update(
    write: &mut Write<'_>,
    id: SecurityGroupId,
    change: SecurityGroupUpdate,
    precondition: Precondition,
) -> Result<SecurityGroup, Error> {
    let mut group = SecurityGroup::clone(&*find::<SecurityGroup>(write.tx, id)?);
    check_precondition(&group.standard, precondition)?;
    if let Some(name) = &change.standard.name {
        not_default(name)?;
        if group.is_default {
            return Err(Error::SecurityGroupCannotUpdateDefault {});
        }
    }
    change.standard.apply(&mut group.standard);
    if let Some(stateful) = change.stateful.filter(|stateful| *stateful != group.stateful) {
        not_in_use(write.tx, id)?;
        group.stateful = stateful;
    }
    Ok(write.put_changed(group))
}

fn delete(
    write: &mut Write<'_>,
    caller: &Caller,
    id: SecurityGroupId,
    precondition: Precondition,
) -> Result<(), Error> {
    let group = find::<SecurityGroup>(write.tx, id)?;
    check_precondition(&group.standard, precondition)?;
    not_in_use(write.tx, id)?;
    if group.is_default && !caller.is_admin() {
        return Err(Error::SecurityGroupCannotRemoveDefault {});
    }
    let own: Vec<_> = write.tx.rules_of_group(id).map(|rule| rule.id).collect();
    for rule in own {
        write.tx.remove::<SecurityGroupRule>(rule);
    }
    // A rule about a group that is gone would be about nobody.
    let about: Vec<_> = write.tx.rules_of_remote_group(id).map(|rule| (rule.group, rule.id)).collect();
    for (group, rule) in about {
        write.tx.remove::<SecurityGroupRule>(rule);
        write.touch::<SecurityGroup>(group);
    }
    write.remove_default_rules_about(Remote::Group(id));
    write.no_longer_shared(SharedKind::SecurityGroup, id.uuid());
    write.tx.remove::<SecurityGroup>(id);
    Ok(())
}

/// There is one group of that name per project, and the service makes it.
fn not_default(name: &str) -> Result<(), Error> {
    if name.eq_ignore_ascii_case(DEFAULT_NAME) {
        return Err(Error::SecurityGroupDefaultAlreadyExists {});
    }
    Ok(())
}

fn not_in_use(snapshot: &Snapshot, group: SecurityGroupId) -> Result<(), Error> {
    match snapshot.ports_of_group(group).next() {
        Some(_) => Err(Error::SecurityGroupInUse { group }),
        None => Ok(()),
    }
}
