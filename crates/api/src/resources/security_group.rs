//! `/v2.0/security-groups`.

use super::{SecurityGroupRuleView, StandardCreate, StandardUpdate, StandardView, yes};
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use model::SecurityGroupId;
use model::security::SecurityGroup;
use serde::{Deserialize, Serialize};

impl Resource for SecurityGroup {
    type Id = SecurityGroupId;
    type Create = SecurityGroupCreate;
    type Update = SecurityGroupUpdate;
    type View = SecurityGroupView;

    const NAME: &'static str = "security_group";
    const COLLECTION: &'static str = "security_groups";
    const PATH: &'static str = "security-groups";
    const LACKS: &'static [&'static str] = &["status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::writable("stateful", check::boolean),
        Attribute::read_only("shared", check::boolean),
        Attribute::read_only("security_group_rules", check::any).not_filterable(),
    ];

    const POLICY: &'static Policy = &table::SECURITY_GROUP;

    fn not_found(id: String) -> Error {
        Error::SecurityGroupNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct SecurityGroupCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    #[serde(default = "yes")]
    pub stateful: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SecurityGroupUpdate {
    #[serde(flatten)]
    pub standard: StandardUpdate,
    pub stateful: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SecurityGroupView {
    pub id: SecurityGroupId,
    pub name: String,
    pub stateful: bool,
    /// With whoever asks.
    pub shared: bool,
    pub security_group_rules: Vec<SecurityGroupRuleView>,
    #[serde(flatten)]
    pub standard: StandardView,
}

impl SecurityGroupView {
    pub fn new(group: &SecurityGroup, rules: Vec<SecurityGroupRuleView>, shared: bool) -> Self {
        Self {
            id: group.id,
            name: group.standard.name.clone(),
            stateful: group.stateful,
            shared,
            security_group_rules: rules,
            standard: StandardView::of(&group.standard),
        }
    }
}
