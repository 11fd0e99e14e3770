//! `/v2.0/address-groups`.

use super::{StandardCreate, StandardUpdate};
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use ipnet::IpNet;
use model::AddressGroupId;
use model::moment;
use model::security::AddressGroup;
use serde::{Deserialize, Serialize};

impl Resource for AddressGroup {
    type Id = AddressGroupId;
    type Create = AddressGroupCreate;
    type Update = AddressGroupUpdate;
    type View = AddressGroupView;

    const NAME: &'static str = "address_group";
    const COLLECTION: &'static str = "address_groups";
    const PATH: &'static str = "address-groups";
    const LACKS: &'static [&'static str] = &["tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("addresses", check::prefixes).not_filterable(),
        Attribute::read_only("shared", check::boolean),
    ];

    const POLICY: &'static Policy = &table::ADDRESS_GROUP;

    fn not_found(id: String) -> Error {
        Error::AddressGroupNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct AddressGroupCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    #[serde(default)]
    pub addresses: Vec<IpNet>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct AddressGroupUpdate {
    #[serde(flatten)]
    pub standard: StandardUpdate,
}

/// What `add_addresses` and `remove_addresses` do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressesChange {
    Add(Vec<IpNet>),
    Remove(Vec<IpNet>),
}

#[derive(Clone, Debug, Serialize)]
pub struct AddressGroupView {
    pub id: AddressGroupId,
    pub name: String,
    pub description: String,
    pub project_id: String,
    pub tenant_id: String,
    pub addresses: Vec<IpNet>,
    /// With whoever asks.
    pub shared: bool,
    pub created_at: String,
    pub updated_at: String,
    pub revision_number: u64,
}

impl AddressGroupView {
    pub fn new(group: &AddressGroup, shared: bool) -> Self {
        let standard = &group.standard;
        Self {
            id: group.id,
            name: standard.name.clone(),
            description: standard.description.clone(),
            project_id: standard.project_id.clone(),
            tenant_id: standard.project_id.clone(),
            addresses: group.addresses.iter().copied().collect(),
            shared,
            created_at: moment::text_s(standard.created_at),
            updated_at: moment::text_s(standard.updated_at),
            revision_number: standard.revision_number,
        }
    }
}
