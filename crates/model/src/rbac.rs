//! Who besides its project may use a thing: role based access control policies, as Neutron calls them.

use crate::RbacPolicyId;
use crate::resource::Standard;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Target of a policy for every project.
pub const EVERY_PROJECT: &str = "*";

/// One project, or all of them, may use one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbacPolicy {
    pub id: RbacPolicyId,
    /// Its project alone counts; it has neither name nor tags.
    pub standard: Standard,
    pub object: SharedObject,
    pub action: RbacAction,
    /// A project, or [`EVERY_PROJECT`].
    pub target: String,
}

/// What a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SharedObject {
    #[serde(rename = "object_type")]
    pub kind: SharedKind,
    #[serde(rename = "object_id")]
    pub id: Uuid,
}

/// Kinds of things that can be shared, by their names in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedKind {
    Network,
    SecurityGroup,
    AddressGroup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RbacAction {
    /// Use it like one's own: ports on it, rules that name it.
    AccessAsShared,
    /// Gateways and floating IPs on it.
    AccessAsExternal,
}
