//! `/v2.0/rbac-policies`.

use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use model::RbacPolicyId;
use model::rbac::{RbacAction, RbacPolicy, SharedKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

impl Resource for RbacPolicy {
    type Id = RbacPolicyId;
    type Create = RbacPolicyCreate;
    type Update = RbacPolicyUpdate;
    type View = RbacPolicyView;

    const NAME: &'static str = "rbac_policy";
    const COLLECTION: &'static str = "rbac_policies";
    const PATH: &'static str = "rbac-policies";
    const LACKS: &'static [&'static str] =
        &["name", "description", "created_at", "updated_at", "revision_number", "tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("object_type", check::text).required(),
        Attribute::fixed("object_id", check::uuid).required(),
        Attribute::fixed("action", check::text).required(),
        Attribute::writable("target_tenant", check::target_project).required(),
    ];

    const POLICY: &'static Policy = &table::RBAC_POLICY;

    fn not_found(id: String) -> Error {
        Error::RbacPolicyNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct RbacPolicyCreate {
    pub project_id: Option<String>,
    pub object_type: String,
    pub object_id: Uuid,
    pub action: String,
    pub target_tenant: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RbacPolicyUpdate {
    pub target_tenant: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct RbacPolicyView {
    pub id: RbacPolicyId,
    pub object_type: SharedKind,
    pub object_id: Uuid,
    pub action: RbacAction,
    pub target_tenant: String,
    pub project_id: String,
    pub tenant_id: String,
}

impl From<&RbacPolicy> for RbacPolicyView {
    fn from(policy: &RbacPolicy) -> Self {
        Self {
            id: policy.id,
            object_type: policy.object.kind,
            object_id: policy.object.id,
            action: policy.action,
            target_tenant: policy.target.clone(),
            project_id: policy.standard.project_id.clone(),
            tenant_id: policy.standard.project_id.clone(),
        }
    }
}
