//! `/v2.0/metering/metering-label-rules`.

use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use model::metering::{MeteringLabelRule, Prefixes};
use model::security::Direction;
use model::{MeteringLabelId, MeteringLabelRuleId};
use serde::{Deserialize, Serialize};

impl Resource for MeteringLabelRule {
    type Id = MeteringLabelRuleId;
    type Create = MeteringLabelRuleCreate;
    type Update = MeteringLabelRuleUpdate;
    type View = MeteringLabelRuleView;

    const NAME: &'static str = "metering_label_rule";
    const COLLECTION: &'static str = "metering_label_rules";
    const PATH: &'static str = "metering/metering-label-rules";
    const LACKS: &'static [&'static str] =
        &["name", "description", "created_at", "updated_at", "revision_number", "tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        // Whose they are is their labels' matter: clients may say it, and Neutron does not.
        Attribute::fixed("project_id", check::text).not_filterable(),
        Attribute::fixed("tenant_id", check::text).not_filterable(),
        Attribute::fixed("metering_label_id", check::uuid).required(),
        Attribute::fixed("direction", check::direction).required(),
        Attribute::fixed("excluded", check::boolean),
        Attribute::fixed("remote_ip_prefix", check::text_or_null),
        Attribute::fixed("source_ip_prefix", check::text_or_null),
        Attribute::fixed("destination_ip_prefix", check::text_or_null),
    ];

    const POLICY: &'static Policy = &table::METERING_LABEL_RULE;

    fn not_found(id: String) -> Error {
        Error::MeteringLabelRuleNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct MeteringLabelRuleCreate {
    pub metering_label_id: MeteringLabelId,
    pub direction: Direction,
    #[serde(default)]
    pub excluded: bool,
    pub remote_ip_prefix: Option<String>,
    pub source_ip_prefix: Option<String>,
    pub destination_ip_prefix: Option<String>,
}

/// Rules never change.
#[derive(Clone, Debug, Deserialize)]
pub enum MeteringLabelRuleUpdate {}

#[derive(Clone, Debug, Serialize)]
pub struct MeteringLabelRuleView {
    pub id: MeteringLabelRuleId,
    pub metering_label_id: MeteringLabelId,
    pub direction: Direction,
    pub excluded: bool,
    pub remote_ip_prefix: Option<String>,
    pub source_ip_prefix: Option<String>,
    pub destination_ip_prefix: Option<String>,
}

impl From<&MeteringLabelRule> for MeteringLabelRuleView {
    fn from(rule: &MeteringLabelRule) -> Self {
        let (remote, source, destination) = match rule.prefixes {
            Prefixes::Remote(prefix) => (Some(prefix), None, None),
            Prefixes::Ends { source, destination } => (None, source, destination),
        };
        let text = |prefix: Option<ipnet::IpNet>| prefix.map(|prefix| prefix.to_string());
        Self {
            id: rule.id,
            metering_label_id: rule.label,
            direction: rule.direction,
            excluded: rule.excluded,
            remote_ip_prefix: text(remote),
            source_ip_prefix: text(source),
            destination_ip_prefix: text(destination),
        }
    }
}
