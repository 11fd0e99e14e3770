//! Questions about security groups, and about who shares what.

use super::{Indexes, Snapshot, map, set};
use model::quota::Counted;
use model::rbac::{RbacPolicy, SharedObject};
use model::resource::Port;
use model::security::{AddressGroup, DefaultSecurityGroupRule, Remote, SecurityGroup, SecurityGroupRule};
use model::{AddressGroupId, PortId, RbacPolicyId, SecurityGroupId, SecurityGroupRuleId};
use std::sync::Arc;

impl Snapshot {
    /// The project's group for ports that name none; none: it was not needed yet.
    pub fn default_group(&self, project_id: &str) -> Option<&Arc<SecurityGroup>> {
        self.security_groups.get(self.indexes.default_groups.get(project_id)?)
    }

    pub fn rules_of_group(&self, group: SecurityGroupId) -> impl Iterator<Item = &Arc<SecurityGroupRule>> {
        let range = (group, SecurityGroupRuleId::MIN)..=(group, SecurityGroupRuleId::MAX);
        self.rules_at(self.indexes.rules_by_group.range(range).map(|(_, id)| id))
    }

    /// Rules, of whatever group, whose remote end is that group.
    pub fn rules_of_remote_group(
        &self,
        group: SecurityGroupId,
    ) -> impl Iterator<Item = &Arc<SecurityGroupRule>> {
        let range = (group, SecurityGroupRuleId::MIN)..=(group, SecurityGroupRuleId::MAX);
        self.rules_at(self.indexes.rules_by_remote_group.range(range).map(|(_, id)| id))
    }

    /// Rules whose remote end is that address group.
    pub fn rules_of_address_group(
        &self,
        group: AddressGroupId,
    ) -> impl Iterator<Item = &Arc<SecurityGroupRule>> {
        let range = (group, SecurityGroupRuleId::MIN)..=(group, SecurityGroupRuleId::MAX);
        self.rules_at(self.indexes.rules_by_address_group.range(range).map(|(_, id)| id))
    }

    fn rules_at<'a, I: Iterator<Item = &'a SecurityGroupRuleId>>(
        &'a self,
        ids: I,
    ) -> impl Iterator<Item = &'a Arc<SecurityGroupRule>> + use<'a, I> {
        ids.filter_map(|id| self.security_group_rules.get(id))
    }

    /// What new groups begin with, by id.
    pub fn default_rules(&self) -> Vec<DefaultSecurityGroupRule> {
        let stored = &self.default_security_group_rules;
        let first = DefaultSecurityGroupRule::first();
        let first = first.into_iter().filter(|rule| !stored.contains_key(&rule.id));
        let made =
            stored.values().filter(|rule| !rule.removed).map(|rule| DefaultSecurityGroupRule::clone(rule));
        let mut rules: Vec<_> = first.chain(made).collect();
        rules.sort_by_key(|rule| rule.id);
        rules
    }

    /// The members of a group.
    pub fn ports_of_group(&self, group: SecurityGroupId) -> impl Iterator<Item = &Arc<Port>> {
        let range = (group, PortId::MIN)..=(group, PortId::MAX);
        self.indexes.ports_by_group.range(range).filter_map(|(_, id)| self.ports.get(id))
    }

    /// The policies that share a thing.
    pub fn rbac_of_object(&self, object: SharedObject) -> impl Iterator<Item = &Arc<RbacPolicy>> {
        let range = (object, RbacPolicyId::MIN)..=(object, RbacPolicyId::MAX);
        self.indexes.rbac_by_object.range(range).filter_map(|(_, id)| self.rbac_policies.get(id))
    }
}

impl Indexes {
    pub(crate) fn security_groups(&mut self, group: &SecurityGroup, present: bool) {
        self.own(Counted::SecurityGroup, group.id.uuid(), &group.standard, present);
        if group.is_default {
            map(&mut self.default_groups, group.standard.project_id.clone(), group.id, present);
        }
    }

    pub(crate) fn security_group_rules(&mut self, rule: &SecurityGroupRule, present: bool) {
        self.own(Counted::SecurityGroupRule, rule.id.uuid(), &rule.standard, present);
        set(&mut self.rules_by_group, (rule.group, rule.id), present);
        match rule.remote {
            Remote::Group(group) => set(&mut self.rules_by_remote_group, (group, rule.id), present),
            Remote::AddressGroup(group) => set(&mut self.rules_by_address_group, (group, rule.id), present),
            Remote::Any | Remote::Prefix(_) => {}
        }
    }

    /// Asked for by id alone.
    pub(crate) fn address_groups(&mut self, _group: &AddressGroup, _present: bool) {}

    /// Asked for all at once.
    pub(crate) fn default_security_group_rules(&mut self, _rule: &DefaultSecurityGroupRule, _present: bool) {}

    pub(crate) fn rbac_policies(&mut self, policy: &RbacPolicy, present: bool) {
        self.own(Counted::RbacPolicy, policy.id.uuid(), &policy.standard, present);
        set(&mut self.rbac_by_object, (policy.object, policy.id), present);
    }
}
