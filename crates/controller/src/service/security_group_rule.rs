//! Rules of security groups.

use super::security_group::is_shared_with;
use super::standard::check_precondition;
use super::{Service, Write, address_group, by_ids, find, rule_check, unique};
use api::resources::{SecurityGroupRuleCreate, SecurityGroupRuleUpdate, SecurityGroupRuleView};
use api::{Caller, Error, Handles, Hints, Precondition, Resource};
use model::quota::Counted;
use model::security::{
    AddressGroup, DefaultSecurityGroupRule, Direction, Ethertype, Remote, SecurityGroup, SecurityGroupRule,
};
use model::{AddressGroupId, SecurityGroupId, SecurityGroupRuleId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use store::Snapshot;

impl Handles<SecurityGroupRule> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<SecurityGroupRuleView> {
        let snapshot = self.snapshot();
        let rules = match hints.ids::<SecurityGroupId>("security_group_id") {
            Some(groups) => unique(groups.into_iter().flat_map(|id| snapshot.rules_of_group(id))),
            None => by_ids::<SecurityGroupRule>(&snapshot, hints),
        };
        rules.iter().map(|rule| view(&snapshot, rule)).collect()
    }

    fn lacks(&self, caller: &Caller) -> bool {
        self.lacks_default_group(caller)
    }

    fn supply(&self, caller: &Caller) -> Result<(), Error> {
        self.supply_default_group(caller)
    }

    fn show(&self, _caller: &Caller, id: SecurityGroupRuleId) -> Result<SecurityGroupRuleView, Error> {
        let snapshot = self.snapshot();
        Ok(view(&snapshot, &*find::<SecurityGroupRule>(&snapshot, id)?))
    }

    fn create(
        &self,
        caller: &Caller,
        requests: Vec<SecurityGroupRuleCreate>,
    ) -> Result<Vec<SecurityGroupRuleView>, Error> {
        self.write(|write| {
            let rules = create(write, caller, requests)?;
            Ok(rules.iter().map(|rule| view(write.tx, rule)).collect())
        })
    }

    fn update(
        &self,
        _caller: &Caller,
        _id: SecurityGroupRuleId,
        change: SecurityGroupRuleUpdate,
        _precondition: Precondition,
    ) -> Result<SecurityGroupRuleView, Error> {
        match change {}
    }

    fn delete(
        &self,
        _caller: &Caller,
        id: SecurityGroupRuleId,
        precondition: Precondition,
    ) -> Result<(), Error> {
        self.write(|write| {
            let rule = find::<SecurityGroupRule>(write.tx, id)?;
            check_precondition(&rule.standard, precondition)?;
            write.tx.remove::<SecurityGroupRule>(id);
            write.touch::<SecurityGroup>(rule.group);
            Ok(())
        })
    }
}

fn view(snapshot: &Snapshot, rule: &SecurityGroupRule) -> SecurityGroupRuleView {
    let group = snapshot.get::<SecurityGroup>(rule.group);
    SecurityGroupRuleView::new(rule, group.is_some_and(|group| group.is_default))
}

/// Rules made at once are of one group and one project.
fn create(
    write: &mut Write<'_>,
    caller: &Caller,
    requests: Vec<SecurityGroupRuleCreate>,
) -> Result<Vec<SecurityGroupRule>, Error> {
    let rules: Vec<SecurityGroupRule> =
        requests.into_iter().map(|request| rule(write, caller, request)).collect::<Result<_, _>>()?;
    let Some(first) = rules.first() else { return Ok(rules) };
    if rules.iter().any(|rule| rule.group != first.group) {
        return Err(Error::SecurityGroupNotSingleGroupRules {});
    }
    if rules.iter().any(|rule| rule.standard.project_id != first.standard.project_id) {
        return Err(Error::SecurityGroupRulesNotSingleProject {});
    }
    not_there_yet(write.tx, first.group, &rules)?;
    for rule in &rules {
        write.tx.put(rule.clone());
    }
    write.touch::<SecurityGroup>(first.group);
    write.within_quota(Counted::SecurityGroupRule, &first.standard.project_id)?;
    Ok(rules)
}

fn rule(
    write: &Write<'_>,
    caller: &Caller,
    request: SecurityGroupRuleCreate,
) -> Result<SecurityGroupRule, Error> {
    let matched = rule_check::checked(&request.rule)?;
    let standard = write.standard(caller, request.standard);
    let project_id = standard.project_id.as_str();
    let remote = match (&request.rule.remote_group_id, &request.rule.remote_address_group_id) {
        (Some(id), _) => Remote::Group(usable_group(write.tx, caller, id, project_id)?),
        (None, Some(id)) => Remote::AddressGroup(usable_address_group(write.tx, caller, id, project_id)?),
        (None, None) => matched.prefix.map_or(Remote::Any, Remote::Prefix),
    };
    Ok(SecurityGroupRule {
        id: SecurityGroupRuleId::random(),
        group: usable_group(write.tx, caller, &request.security_group_id, project_id)?,
        standard,
        direction: request.rule.direction,
        ethertype: matched.ethertype,
        protocol: matched.protocol,
        port_range_min: matched.port_range_min,
        port_range_max: matched.port_range_max,
        remote,
    })
}

/// The project's own, or one that is shared with it. Administrators may name any.
fn usable_group(
    snapshot: &Snapshot,
    caller: &Caller,
    text: &str,
    project_id: &str,
) -> Result<SecurityGroupId, Error> {
    let group = text.parse().ok().and_then(|id| snapshot.get::<SecurityGroup>(id));
    let usable = |group: &&Arc<SecurityGroup>| {
        caller.is_admin()
            || group.standard.project_id == project_id
            || is_shared_with(snapshot, group.id, project_id)
    };
    let group = group.filter(usable).map(|group| group.id);
    group.ok_or_else(|| SecurityGroup::not_found(text.to_owned()))
}

/// As [`usable_group`].
fn usable_address_group(
    snapshot: &Snapshot,
    caller: &Caller,
    text: &str,
    project_id: &str,
) -> Result<AddressGroupId, Error> {
    let group = text.parse().ok().and_then(|id| snapshot.get::<AddressGroup>(id));
    let usable = |group: &&Arc<AddressGroup>| {
        caller.is_admin()
            || group.standard.project_id == project_id
            || address_group::is_shared_with(snapshot, group.id, project_id)
    };
    let group = group.filter(usable).map(|group| group.id);
    group.ok_or_else(|| AddressGroup::not_found(text.to_owned()))
}

/// What a rule allows: two that allow the same are one too many.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Allowed {
    direction: Direction,
    ethertype: Ethertype,
    protocol: Option<u8>,
    ports: (Option<u16>, Option<u16>),
    /// None: the group that a default rule is used in.
    remote: Option<Remote>,
}

/// A prefix of all addresses is anyone.
fn plain(remote: Remote) -> Remote {
    match remote {
        Remote::Prefix(prefix) if prefix.prefix_len() == 0 => Remote::Any,
        remote => remote,
    }
}

impl Allowed {
    pub(super) fn by_default(rule: &DefaultSecurityGroupRule) -> Self {
        Self {
            direction: rule.direction,
            ethertype: rule.ethertype,
            protocol: rule.protocol.as_ref().map(|protocol| protocol.number),
            ports: (rule.port_range_min, rule.port_range_max),
            remote: rule.remote.map(plain),
        }
    }

    fn by(rule: &SecurityGroupRule) -> Self {
        Self {
            direction: rule.direction,
            ethertype: rule.ethertype,
            protocol: rule.protocol.as_ref().map(|protocol| protocol.number),
            ports: (rule.port_range_min, rule.port_range_max),
            remote: Some(plain(rule.remote)),
        }
    }
}

fn not_there_yet(
    snapshot: &Snapshot,
    group: SecurityGroupId,
    new: &[SecurityGroupRule],
) -> Result<(), Error> {
    let distinct: BTreeSet<Allowed> = new.iter().map(Allowed::by).collect();
    if distinct.len() < new.len() {
        return Err(Error::DuplicateSecurityGroupRuleInPost {});
    }
    let there: HashMap<Allowed, SecurityGroupRuleId> =
        snapshot.rules_of_group(group).map(|rule| (Allowed::by(rule), rule.id)).collect();
    match distinct.iter().find_map(|allowed| there.get(allowed)) {
        Some(rule) => Err(Error::SecurityGroupRuleExists { rule: *rule }),
        None => Ok(()),
    }
}
