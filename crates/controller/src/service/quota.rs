//! Quotas: set per project, checked where things are made, in the transaction that makes them.

use super::{Service, Write};
use api::{Caller, Error, QuotaUse, Quotas};
use model::quota::{Counted, DefaultQuota, Quota, QuotaId, UNLIMITED};
use std::collections::BTreeMap;
use store::Snapshot;

impl Quotas for Service {
    fn quota(&self, project_id: &str) -> Vec<QuotaUse> {
        quota(&self.snapshot(), &self.settings.quotas, project_id)
    }

    fn default_quota(&self) -> DefaultQuota {
        self.settings.quotas
    }

    fn projects_with_quota(&self) -> Vec<String> {
        self.snapshot().quotas.values().map(|quota| quota.project_id.clone()).collect()
    }

    fn set_quota(
        &self,
        project_id: &str,
        limits: &[(Counted, i64)],
        check_limit: bool,
    ) -> Result<Vec<QuotaUse>, Error> {
        self.write(|write| {
            let old = write.tx.quota(project_id).map(|quota| quota.limits.clone());
            let mut new: BTreeMap<Counted, i64> = old.unwrap_or_default();
            for (counted, limit) in limits {
                let used = write.tx.count(*counted, project_id);
                if check_limit && exceeds(used, *limit) {
                    let name = counted.name();
                    return Err(Error::bad_request(format!(
                        "Quota limit {limit} for {name} is below the {used} that are in use"
                    )));
                }
                new.insert(*counted, *limit);
            }
            write.tx.put(Quota { project_id: project_id.to_owned(), limits: new });
            Ok(quota(write.tx, &write.settings.quotas, project_id))
        })
    }

    fn reset_quota(&self, project_id: &str) -> Result<(), Error> {
        self.write(|write| {
            write.tx.remove::<Quota>(QuotaId::of(project_id));
            Ok(())
        })
    }
}

impl Write<'_> {
    /// To be asked when the new thing is already counted; the transaction ends with the error.
    ///
    /// # Errors
    /// `OverQuota`.
    pub(super) fn within_quota(&self, counted: Counted, project_id: &str) -> Result<(), Error> {
        let used = self.tx.count(counted, project_id);
        if exceeds(used, limit(self.tx, &self.settings.quotas, counted, project_id)) {
            return Err(Error::OverQuota { overs: format!("['{}']", counted.name()) });
        }
        Ok(())
    }
}

fn exceeds(used: u64, limit: i64) -> bool {
    u64::try_from(limit).is_ok_and(|limit| used > limit)
}

fn limit(snapshot: &Snapshot, default: &DefaultQuota, counted: Counted, project_id: &str) -> i64 {
    // Ports of gateways and floating IPs are nobody's.
    let everybody = project_id.is_empty() || project_id == Caller::PROJECT_OF_ALL;
    let default = if everybody { UNLIMITED } else { default.limit(counted) };
    snapshot.quota(project_id).and_then(|quota| quota.limits.get(&counted).copied()).unwrap_or(default)
}

fn quota(snapshot: &Snapshot, default: &DefaultQuota, project_id: &str) -> Vec<QuotaUse> {
    let part = |counted| QuotaUse {
        counted,
        limit: limit(snapshot, default, counted, project_id),
        used: snapshot.count(counted, project_id),
    };
    Counted::ALL.map(part).into()
}
