//! `/v2.0/security-group-rules`.

use super::StandardCreate;
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use model::moment;
use model::security::{Direction, Ethertype, Remote, SecurityGroupRule};
use model::{AddressGroupId, SecurityGroupId, SecurityGroupRuleId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

impl Resource for SecurityGroupRule {
    type Id = SecurityGroupRuleId;
    type Create = SecurityGroupRuleCreate;
    type Update = SecurityGroupRuleUpdate;
    type View = SecurityGroupRuleView;

    const NAME: &'static str = "security_group_rule";
    const COLLECTION: &'static str = "security_group_rules";
    const PATH: &'static str = "security-group-rules";
    const LACKS: &'static [&'static str] = &["name", "tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("security_group_id", check::text).required(),
        Attribute::fixed("direction", check::direction).required(),
        Attribute::fixed("ethertype", check::any),
        Attribute::fixed("protocol", check::any),
        Attribute::fixed("port_range_min", check::any),
        Attribute::fixed("port_range_max", check::any),
        Attribute::fixed("remote_ip_prefix", check::text_or_null),
        Attribute::fixed("remote_group_id", check::text_or_null),
        Attribute::fixed("remote_address_group_id", check::text_or_null),
        Attribute::read_only("normalized_cidr", check::cidr_or_null),
        Attribute::read_only("belongs_to_default_sg", check::boolean),
    ];

    const POLICY: &'static Policy = &table::SECURITY_GROUP_RULE;

    fn not_found(id: String) -> Error {
        Error::SecurityGroupRuleNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct SecurityGroupRuleCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    pub security_group_id: String,
    #[serde(flatten)]
    pub rule: RuleRequest,
}

/// What a rule shall allow. Values whose errors have types of their own are checked by the service.
#[derive(Clone, Debug, Deserialize)]
pub struct RuleRequest {
    pub direction: Direction,
    /// Absent: IPv4.
    pub ethertype: Option<Value>,
    #[serde(default)]
    pub protocol: Value,
    #[serde(default)]
    pub port_range_min: Value,
    #[serde(default)]
    pub port_range_max: Value,
    pub remote_ip_prefix: Option<String>,
    pub remote_group_id: Option<String>,
    pub remote_address_group_id: Option<String>,
}

/// Rules never change.
#[derive(Clone, Debug, Deserialize)]
pub enum SecurityGroupRuleUpdate {}

#[derive(Clone, Debug, Serialize)]
pub struct SecurityGroupRuleView {
    pub id: SecurityGroupRuleId,
    pub security_group_id: SecurityGroupId,
    pub direction: Direction,
    pub ethertype: Ethertype,
    pub protocol: Option<String>,
    pub port_range_min: Option<u16>,
    pub port_range_max: Option<u16>,
    pub remote_ip_prefix: Option<String>,
    pub normalized_cidr: Option<String>,
    pub remote_group_id: Option<SecurityGroupId>,
    pub remote_address_group_id: Option<AddressGroupId>,
    pub belongs_to_default_sg: bool,
    pub description: String,
    pub project_id: String,
    pub tenant_id: String,
    pub created_at: String,
    pub updated_at: String,
    pub revision_number: u64,
}

impl SecurityGroupRuleView {
    pub fn new(rule: &SecurityGroupRule, belongs_to_default_sg: bool) -> Self {
        let standard = &rule.standard;
        let prefix = if let Remote::Prefix(prefix) = rule.remote { Some(prefix) } else { None };
        Self {
            id: rule.id,
            security_group_id: rule.group,
            direction: rule.direction,
            ethertype: rule.ethertype,
            protocol: rule.protocol.as_ref().map(|protocol| protocol.text.clone()),
            port_range_min: rule.port_range_min,
            port_range_max: rule.port_range_max,
            remote_ip_prefix: prefix.map(|prefix| prefix.to_string()),
            normalized_cidr: prefix.map(|prefix| prefix.trunc().to_string()),
            remote_group_id: if let Remote::Group(group) = rule.remote { Some(group) } else { None },
            remote_address_group_id: if let Remote::AddressGroup(group) = rule.remote {
                Some(group)
            } else {
                None
            },
            belongs_to_default_sg,
            description: standard.description.clone(),
            project_id: standard.project_id.clone(),
            tenant_id: standard.project_id.clone(),
            created_at: moment::text_s(standard.created_at),
            updated_at: moment::text_s(standard.updated_at),
            revision_number: standard.revision_number,
        }
    }
}
