//! Metering: labels, and rules that say what they count. The counting is the hosts'.

use super::{Service, Write, by_ids, find, unique};
use api::resources::{
    MeteringLabelCreate, MeteringLabelRuleCreate, MeteringLabelRuleUpdate, MeteringLabelRuleView,
    MeteringLabelUpdate, MeteringLabelView,
};
use api::{Caller, Error, Handles, Hints, Precondition};
use ipnet::IpNet;
use model::metering::{MeteringLabel, MeteringLabelRule, Prefixes};
use model::{IpVersion, MeteringLabelId, MeteringLabelRuleId};
use std::net::IpAddr;
use store::Snapshot;

impl Handles<MeteringLabel> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<MeteringLabelView> {
        let labels = by_ids::<MeteringLabel>(&self.snapshot(), hints);
        labels.iter().map(|label| MeteringLabelView::from(&**label)).collect()
    }

    fn show(&self, _caller: &Caller, id: MeteringLabelId) -> Result<MeteringLabelView, Error> {
        Ok(MeteringLabelView::from(&*find::<MeteringLabel>(&self.snapshot(), id)?))
    }

    fn create(
        &self,
        caller: &Caller,
        requests: Vec<MeteringLabelCreate>,
    ) -> Result<Vec<MeteringLabelView>, Error> {
        self.write(|write| {
            let create = |request: MeteringLabelCreate| {
                let label = MeteringLabel {
                    id: MeteringLabelId::random(),
                    standard: write.standard(caller, request.standard),
                    shared: request.shared,
                };
                let view = MeteringLabelView::from(&label);
                write.tx.put(label);
                view
            };
            Ok(requests.into_iter().map(create).collect())
        })
    }

    fn update(
        &self,
        _caller: &Caller,
        _id: MeteringLabelId,
        change: MeteringLabelUpdate,
        _precondition: Precondition,
    ) -> Result<MeteringLabelView, Error> {
        match change {}
    }

    /// With its rules. They have no revisions.
    fn delete(
        &self,
        _caller: &Caller,
        id: MeteringLabelId,
        _precondition: Precondition,
    ) -> Result<(), Error> {
        self.write(|write| {
            find::<MeteringLabel>(write.tx, id)?;
            let rules: Vec<_> = write.tx.rules_of_metering_label(id).map(|rule| rule.id).collect();
            for rule in rules {
                write.tx.remove::<MeteringLabelRule>(rule);
            }
            write.tx.remove::<MeteringLabel>(id);
            Ok(())
        })
    }
}

impl Handles<MeteringLabelRule> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<MeteringLabelRuleView> {
        let snapshot = self.snapshot();
        let rules = match hints.ids::<MeteringLabelId>("metering_label_id") {
            Some(labels) => unique(labels.into_iter().flat_map(|id| snapshot.rules_of_metering_label(id))),
            None => by_ids::<MeteringLabelRule>(&snapshot, hints),
        };
        rules.iter().map(|rule| MeteringLabelRuleView::from(&**rule)).collect()
    }

    fn show(&self, _caller: &Caller, id: MeteringLabelRuleId) -> Result<MeteringLabelRuleView, Error> {
        Ok(MeteringLabelRuleView::from(&*find::<MeteringLabelRule>(&self.snapshot(), id)?))
    }

    fn create(
        &self,
        _caller: &Caller,
        requests: Vec<MeteringLabelRuleCreate>,
    ) -> Result<Vec<MeteringLabelRuleView>, Error> {
        self.write(|write| requests.into_iter().map(|request| create_rule(write, &request)).collect())
    }

    fn update(
        &self,
        _caller: &Caller,
        _id: MeteringLabelRuleId,
        change: MeteringLabelRuleUpdate,
        _precondition: Precondition,
    ) -> Result<MeteringLabelRuleView, Error> {
        match change {}
    }

    fn delete(
        &self,
        _caller: &Caller,
        id: MeteringLabelRuleId,
        _precondition: Precondition,
    ) -> Result<(), Error> {
        self.write(|write| {
            find::<MeteringLabelRule>(write.tx, id)?;
            write.tx.remove::<MeteringLabelRule>(id);
            Ok(())
        })
    }
}

fn create_rule(
    write: &mut Write<'_>,
    request: &MeteringLabelRuleCreate,
) -> Result<MeteringLabelRuleView, Error> {
    let rule = MeteringLabelRule {
        id: MeteringLabelRuleId::random(),
        label: request.metering_label_id,
        direction: request.direction,
        excluded: request.excluded,
        prefixes: prefixes(request)?,
    };
    not_overlapping(write.tx, &rule)?;
    find::<MeteringLabel>(write.tx, rule.label)?;
    let view = MeteringLabelRuleView::from(&rule);
    write.tx.put(rule);
    Ok(view)
}

/// # Errors
/// What Neutron answers, and that source and destination are of different versions: it would match nothing.
fn prefixes(request: &MeteringLabelRuleCreate) -> Result<Prefixes, Error> {
    let invalid = |message: &str| Error::Invalid { message: message.to_owned() };
    let remote = prefix("remote_ip_prefix", request.remote_ip_prefix.as_deref())?;
    let source = prefix("source_ip_prefix", request.source_ip_prefix.as_deref())?;
    let destination = prefix("destination_ip_prefix", request.destination_ip_prefix.as_deref())?;
    match (remote, source, destination) {
        (Some(remote), None, None) => Ok(Prefixes::Remote(remote)),
        (Some(_), ..) => Err(invalid(
            "Cannot use 'remote-ip-prefix' in conjunction with 'source-ip-prefix' or 'destination-ip-prefix'.",
        )),
        (None, None, None) => Err(invalid(
            "You must define at least one of the following parameters 'remote_ip_prefix', or 'source_ip_prefix' or 'destination_ip_prefix'.",
        )),
        (None, Some(source), Some(destination))
            if IpVersion::of_net(source) != IpVersion::of_net(destination) =>
        {
            Err(invalid("'source_ip_prefix' and 'destination_ip_prefix' must be of the same IP version."))
        }
        (None, source, destination) => Ok(Prefixes::Ends { source, destination }),
    }
}

/// An address alone stands for itself, an empty text for nothing.
fn prefix(field: &str, text: Option<&str>) -> Result<Option<IpNet>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let refuse = |_| Error::Invalid {
        message: format!(
            "{field}: {text} is invalid ['{text}' does not appear to be an IPv4 or IPv6 interface]."
        ),
    };
    parsed.map(Some).map_err(refuse)
}

/// As in Neutron, of `remote_ip_prefix` only: rules about sources and destinations may overlap.
fn not_overlapping(snapshot: &Snapshot, new: &MeteringLabelRule) -> Result<(), Error> {
    let Prefixes::Remote(prefix) = new.prefixes else { return Ok(()) };
    let overlaps = |rule: &MeteringLabelRule| {
        let Prefixes::Remote(other) = rule.prefixes else { return false };
        let alike = rule.direction == new.direction && rule.excluded == new.excluded;
        alike && (other.contains(&prefix.network()) || prefix.contains(&other.network()))
    };
    if snapshot.rules_of_metering_label(new.label).any(|rule| overlaps(rule)) {
        return Err(Error::MeteringLabelRuleOverlaps { prefix: prefix.to_string() });
    }
    Ok(())
}
