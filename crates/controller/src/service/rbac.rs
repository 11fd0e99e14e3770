//! Who shares what with whom.

use super::Write;
use model::rbac::{EVERY_PROJECT, RbacAction, RbacPolicy, SharedKind, SharedObject};
use store::Snapshot;
use uuid::Uuid;

/// A policy lets that project use the thing.
pub(super) fn shared_with(
    snapshot: &Snapshot,
    (kind, id): (SharedKind, Uuid),
    action: RbacAction,
    project_id: &str,
) -> bool {
    let mut policies = snapshot.rbac_of_object(SharedObject { kind, id });
    policies.any(|policy| {
        policy.action == action && (policy.target == EVERY_PROJECT || policy.target == project_id)
    })
}

impl Write<'_> {
    /// The policies of a thing end with it.
    pub(super) fn no_longer_shared(&mut self, kind: SharedKind, id: Uuid) {
        let policies: Vec<_> =
            self.tx.rbac_of_object(SharedObject { kind, id }).map(|policy| policy.id).collect();
        for policy in policies {
            self.tx.remove::<RbacPolicy>(policy);
        }
    }
}
