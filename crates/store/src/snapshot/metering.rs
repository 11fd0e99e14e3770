//! Questions about metering, and its indexes.

use super::{Indexes, Snapshot, set};
use model::metering::{MeteringLabel, MeteringLabelRule};
use model::{MeteringLabelId, MeteringLabelRuleId};
use std::sync::Arc;

impl Snapshot {
    /// The labels that count what routers of that project send and get: its own, and the shared ones.
    pub fn metering_labels_for(&self, project_id: &str) -> impl Iterator<Item = &Arc<MeteringLabel>> {
        let of = |project: Option<String>| {
            let range = (project.clone(), MeteringLabelId::MIN)..=(project, MeteringLabelId::MAX);
            self.indexes.metering_labels.range(range)
        };
        of(None).chain(of(Some(project_id.to_owned()))).filter_map(|(_, id)| self.metering_labels.get(id))
    }

    pub fn rules_of_metering_label(
        &self,
        label: MeteringLabelId,
    ) -> impl Iterator<Item = &Arc<MeteringLabelRule>> {
        let range = (label, MeteringLabelRuleId::MIN)..=(label, MeteringLabelRuleId::MAX);
        self.indexes
            .rules_by_metering_label
            .range(range)
            .filter_map(|(_, id)| self.metering_label_rules.get(id))
    }
}

impl Indexes {
    pub(crate) fn metering_labels(&mut self, label: &MeteringLabel, present: bool) {
        let project = (!label.shared).then(|| label.standard.project_id.clone());
        set(&mut self.metering_labels, (project, label.id), present);
    }

    pub(crate) fn metering_label_rules(&mut self, rule: &MeteringLabelRule, present: bool) {
        set(&mut self.rules_by_metering_label, (rule.label, rule.id), present);
    }
}
