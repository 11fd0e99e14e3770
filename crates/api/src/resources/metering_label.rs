//! `/v2.0/metering/metering-labels`.

use super::StandardCreate;
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use model::MeteringLabelId;
use model::metering::MeteringLabel;
use serde::{Deserialize, Serialize};

impl Resource for MeteringLabel {
    type Id = MeteringLabelId;
    type Create = MeteringLabelCreate;
    type Update = MeteringLabelUpdate;
    type View = MeteringLabelView;

    const NAME: &'static str = "metering_label";
    const COLLECTION: &'static str = "metering_labels";
    const PATH: &'static str = "metering/metering-labels";
    const LACKS: &'static [&'static str] = &["created_at", "updated_at", "revision_number", "tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("name", check::text),
        Attribute::fixed("description", check::long_text),
        Attribute::fixed("shared", check::boolean),
    ];

    const POLICY: &'static Policy = &table::METERING_LABEL;

    fn not_found(id: String) -> Error {
        Error::MeteringLabelNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct MeteringLabelCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    #[serde(default)]
    pub shared: bool,
}

/// Labels never change.
#[derive(Clone, Debug, Deserialize)]
pub enum MeteringLabelUpdate {}

#[derive(Clone, Debug, Serialize)]
pub struct MeteringLabelView {
    pub id: MeteringLabelId,
    pub name: String,
    pub description: String,
    pub project_id: String,
    pub tenant_id: String,
    pub shared: bool,
}

impl From<&MeteringLabel> for MeteringLabelView {
    fn from(label: &MeteringLabel) -> Self {
        let standard = &label.standard;
        Self {
            id: label.id,
            name: standard.name.clone(),
            description: standard.description.clone(),
            project_id: standard.project_id.clone(),
            tenant_id: standard.project_id.clone(),
            shared: label.shared,
        }
    }
}
