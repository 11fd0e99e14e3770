//! `/v2.0/default-security-group-rules`: what new security groups begin with.

use super::RuleRequest;
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use model::security::{DefaultSecurityGroupRule, Direction, Ethertype, Remote};
use model::{AddressGroupId, DefaultSecurityGroupRuleId};
use serde::{Deserialize, Serialize};

/// As the remote group: the group that is made.
pub const PARENT: &str = "PARENT";

impl Resource for DefaultSecurityGroupRule {
    type Id = DefaultSecurityGroupRuleId;
    type Create = DefaultSecurityGroupRuleCreate;
    type Update = DefaultSecurityGroupRuleUpdate;
    type View = DefaultSecurityGroupRuleView;

    const NAME: &'static str = "default_security_group_rule";
    const COLLECTION: &'static str = "default_security_group_rules";
    const PATH: &'static str = "default-security-group-rules";
    const LACKS: &'static [&'static str] =
        &["name", "project_id", "tenant_id", "created_at", "updated_at", "revision_number", "tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("direction", check::direction).required(),
        Attribute::fixed("ethertype", check::any),
        Attribute::fixed("protocol", check::any),
        Attribute::fixed("port_range_min", check::any),
        Attribute::fixed("port_range_max", check::any),
        Attribute::fixed("remote_ip_prefix", check::text_or_null),
        Attribute::fixed("remote_group_id", check::text_or_null),
        Attribute::fixed("remote_address_group_id", check::text_or_null),
        Attribute::fixed("used_in_default_sg", check::boolean),
        Attribute::fixed("used_in_non_default_sg", check::boolean),
    ];

    const POLICY: &'static Policy = &table::DEFAULT_SECURITY_GROUP_RULE;

    fn not_found(id: String) -> Error {
        Error::DefaultSecurityGroupRuleNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct DefaultSecurityGroupRuleCreate {
    #[serde(default)]
    pub description: String,
    #[serde(flatten)]
    pub rule: RuleRequest,
    #[serde(default)]
    pub used_in_default_sg: bool,
    #[serde(default = "super::yes")]
    pub used_in_non_default_sg: bool,
}

/// Rules never change.
#[derive(Clone, Debug, Deserialize)]
pub enum DefaultSecurityGroupRuleUpdate {}

#[derive(Clone, Debug, Serialize)]
pub struct DefaultSecurityGroupRuleView {
    pub id: DefaultSecurityGroupRuleId,
    pub description: String,
    pub direction: Direction,
    pub ethertype: Ethertype,
    pub protocol: Option<String>,
    pub port_range_min: Option<u16>,
    pub port_range_max: Option<u16>,
    pub remote_ip_prefix: Option<String>,
    pub remote_group_id: Option<String>,
    pub remote_address_group_id: Option<AddressGroupId>,
    pub used_in_default_sg: bool,
    pub used_in_non_default_sg: bool,
}

impl From<&DefaultSecurityGroupRule> for DefaultSecurityGroupRuleView {
    fn from(rule: &DefaultSecurityGroupRule) -> Self {
        let (mut prefix, mut group, mut addresses) = (None, None, None);
        match rule.remote {
            None => group = Some(PARENT.to_owned()),
            Some(Remote::Any) => {}
            Some(Remote::Prefix(of)) => prefix = Some(of.to_string()),
            Some(Remote::Group(of)) => group = Some(of.to_string()),
            Some(Remote::AddressGroup(of)) => addresses = Some(of),
        }
        Self {
            id: rule.id,
            description: rule.description.clone(),
            direction: rule.direction,
            ethertype: rule.ethertype,
            protocol: rule.protocol.as_ref().map(|protocol| protocol.text.clone()),
            port_range_min: rule.port_range_min,
            port_range_max: rule.port_range_max,
            remote_ip_prefix: prefix,
            remote_group_id: group,
            remote_address_group_id: addresses,
            used_in_default_sg: rule.used_in_default_sg,
            used_in_non_default_sg: rule.used_in_non_default_sg,
        }
    }
}
