//! `/v2.0/address-scopes`.

use super::StandardCreate;
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use model::subnet_pool::AddressScope;
use model::{AddressScopeId, IpVersion};
use serde::{Deserialize, Serialize};

impl Resource for AddressScope {
    type Id = AddressScopeId;
    type Create = AddressScopeCreate;
    type Update = AddressScopeUpdate;
    type View = AddressScopeView;

    const NAME: &'static str = "address_scope";
    const COLLECTION: &'static str = "address_scopes";
    const PATH: &'static str = "address-scopes";
    const LACKS: &'static [&'static str] =
        &["description", "created_at", "updated_at", "revision_number", "tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("ip_version", check::ip_version).required(),
        Attribute::writable("shared", check::boolean),
    ];

    const POLICY: &'static Policy = &table::ADDRESS_SCOPE;

    fn not_found(id: String) -> Error {
        Error::AddressScopeNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct AddressScopeCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    pub ip_version: IpVersion,
    #[serde(default)]
    pub shared: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct AddressScopeUpdate {
    pub name: Option<String>,
    /// Sharing ends with the scope.
    pub shared: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
pub struct AddressScopeView {
    pub id: AddressScopeId,
    pub name: String,
    pub project_id: String,
    pub tenant_id: String,
    pub ip_version: IpVersion,
    pub shared: bool,
}

impl From<&AddressScope> for AddressScopeView {
    fn from(scope: &AddressScope) -> Self {
        Self {
            id: scope.id,
            name: scope.standard.name.clone(),
            project_id: scope.standard.project_id.clone(),
            tenant_id: scope.standard.project_id.clone(),
            ip_version: scope.ip_version,
            shared: scope.shared,
        }
    }
}
