//! Default rules: what new security groups begin with, each project's default one or the others.

use super::security_group_rule::Allowed;
use super::{Service, Write, rule_check};
use api::resources::{
    DefaultSecurityGroupRuleCreate, DefaultSecurityGroupRuleUpdate, DefaultSecurityGroupRuleView, PARENT,
};
use api::{Caller, Error, Handles, Hints, Precondition, Resource};
use model::security::{AddressGroup, DefaultSecurityGroupRule, Remote, SecurityGroup, SecurityGroupRule};
use model::{DefaultSecurityGroupRuleId, SecurityGroupRuleId};
use store::Snapshot;

impl Handles<DefaultSecurityGroupRule> for Service {
    fn list(&self, _caller: &Caller, _hints: &Hints) -> Vec<DefaultSecurityGroupRuleView> {
        self.snapshot().default_rules().iter().map(DefaultSecurityGroupRuleView::from).collect()
    }

    fn show(
        &self,
        _caller: &Caller,
        id: DefaultSecurityGroupRuleId,
    ) -> Result<DefaultSecurityGroupRuleView, Error> {
        Ok(DefaultSecurityGroupRuleView::from(&find(&self.snapshot(), id)?))
    }

    fn create(
        &self,
        _caller: &Caller,
        requests: Vec<DefaultSecurityGroupRuleCreate>,
    ) -> Result<Vec<DefaultSecurityGroupRuleView>, Error> {
        self.write(|write| requests.into_iter().map(|request| create(write, request)).collect())
    }

    fn update(
        &self,
        _caller: &Caller,
        _id: DefaultSecurityGroupRuleId,
        change: DefaultSecurityGroupRuleUpdate,
        _precondition: Precondition,
    ) -> Result<DefaultSecurityGroupRuleView, Error> {
        match change {}
    }

    /// They have no revisions.
    fn delete(
        &self,
        _caller: &Caller,
        id: DefaultSecurityGroupRuleId,
        _precondition: Precondition,
    ) -> Result<(), Error> {
        self.write(|write| {
            let rule = find(write.tx, id)?;
            write.remove_default_rule(rule);
            Ok(())
        })
    }
}

fn find(snapshot: &Snapshot, id: DefaultSecurityGroupRuleId) -> Result<DefaultSecurityGroupRule, Error> {
    let found = snapshot.default_rules().into_iter().find(|rule| rule.id == id);
    found.ok_or_else(|| DefaultSecurityGroupRule::not_found(id.to_string()))
}

fn create(
    write: &mut Write<'_>,
    request: DefaultSecurityGroupRuleCreate,
) -> Result<DefaultSecurityGroupRuleView, Error> {
    let matched = rule_check::checked(&request.rule)?;
    let remote = match (&request.rule.remote_group_id, &request.rule.remote_address_group_id) {
        (Some(id), _) if id == PARENT => None,
        (Some(id), _) => {
            let group = id.parse().ok().and_then(|id| write.tx.get::<SecurityGroup>(id));
            let group = group.ok_or_else(|| SecurityGroup::not_found(id.clone()))?;
            Some(Remote::Group(group.id))
        }
        (None, Some(id)) => {
            let group = id.parse().ok().and_then(|id| write.tx.get::<AddressGroup>(id));
            let group = group.ok_or_else(|| AddressGroup::not_found(id.clone()))?;
            Some(Remote::AddressGroup(group.id))
        }
        (None, None) => Some(matched.prefix.map_or(Remote::Any, Remote::Prefix)),
    };
    let rule = DefaultSecurityGroupRule {
        id: DefaultSecurityGroupRuleId::random(),
        description: request.description,
        direction: request.rule.direction,
        ethertype: matched.ethertype,
        protocol: matched.protocol,
        port_range_min: matched.port_range_min,
        port_range_max: matched.port_range_max,
        remote,
        used_in_default_sg: request.used_in_default_sg,
        used_in_non_default_sg: request.used_in_non_default_sg,
        removed: false,
    };
    let twice = |other: &DefaultSecurityGroupRule| {
        let together = (rule.used_in_default_sg && other.used_in_default_sg)
            || (rule.used_in_non_default_sg && other.used_in_non_default_sg);
        together && Allowed::by_default(&rule) == Allowed::by_default(other)
    };
    if let Some(other) = write.tx.default_rules().into_iter().find(twice) {
        return Err(Error::DefaultSecurityGroupRuleExists { rule: other.id });
    }
    write.tx.put(rule.clone());
    Ok(DefaultSecurityGroupRuleView::from(&rule))
}

impl Write<'_> {
    /// One of the first ones stays as a record that it is gone.
    fn remove_default_rule(&mut self, rule: DefaultSecurityGroupRule) {
        if DefaultSecurityGroupRule::first().iter().any(|first| first.id == rule.id) {
            self.tx.put(DefaultSecurityGroupRule { removed: true, ..rule });
        } else {
            self.tx.remove::<DefaultSecurityGroupRule>(rule.id);
        }
    }

    /// Default rules about a group that goes away go with it: they would be about nobody.
    pub(super) fn remove_default_rules_about(&mut self, remote: Remote) {
        let about = self.tx.default_rules().into_iter().filter(|rule| rule.remote == Some(remote));
        let about: Vec<_> = about.collect();
        about.into_iter().for_each(|rule| self.remove_default_rule(rule));
    }

    /// The rules that a new group begins with.
    pub(super) fn put_default_rules(&mut self, group: &SecurityGroup) {
        let used = |rule: &DefaultSecurityGroupRule| {
            if group.is_default { rule.used_in_default_sg } else { rule.used_in_non_default_sg }
        };
        for rule in self.tx.default_rules().into_iter().filter(used) {
            let standard = self.standard_of(group.standard.project_id.clone());
            self.tx.put(SecurityGroupRule {
                id: SecurityGroupRuleId::random(),
                standard,
                group: group.id,
                direction: rule.direction,
                ethertype: rule.ethertype,
                protocol: rule.protocol,
                port_range_min: rule.port_range_min,
                port_range_max: rule.port_range_max,
                remote: rule.remote.unwrap_or(Remote::Group(group.id)),
            });
        }
    }
}
