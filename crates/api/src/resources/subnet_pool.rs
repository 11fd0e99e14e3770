//! `/v2.0/subnetpools`.

use super::{StandardCreate, StandardUpdate, StandardView};
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::resource::present;
use crate::{Attribute, Error, Resource};
use ipnet::IpNet;
use model::subnet_pool::SubnetPool;
use model::{AddressScopeId, IpVersion, NetworkId, SubnetPoolId};
use serde::{Deserialize, Serialize};

impl Resource for SubnetPool {
    type Id = SubnetPoolId;
    type Create = SubnetPoolCreate;
    type Update = SubnetPoolUpdate;
    type View = SubnetPoolView;

    const NAME: &'static str = "subnetpool";
    const COLLECTION: &'static str = "subnetpools";
    const LACKS: &'static [&'static str] = &["status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::writable("prefixes", check::cidrs).required().not_filterable(),
        Attribute::writable("default_prefixlen", check::prefix_len_or_null),
        Attribute::writable("min_prefixlen", check::prefix_len_or_null),
        Attribute::writable("max_prefixlen", check::prefix_len_or_null),
        Attribute::writable("default_quota", check::quota_or_null),
        Attribute::writable("is_default", check::boolean),
        Attribute::writable("address_scope_id", check::uuid_or_null),
        Attribute::fixed("shared", check::boolean),
        Attribute::read_only("ip_version", check::ip_version),
    ];

    const POLICY: &'static Policy = &table::SUBNET_POOL;

    fn not_found(id: String) -> Error {
        Error::SubnetPoolNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct SubnetPoolCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    pub prefixes: Vec<IpNet>,
    pub default_prefixlen: Option<u8>,
    pub min_prefixlen: Option<u8>,
    pub max_prefixlen: Option<u8>,
    pub default_quota: Option<u64>,
    #[serde(default)]
    pub is_default: bool,
    pub address_scope_id: Option<AddressScopeId>,
    #[serde(default)]
    pub shared: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SubnetPoolUpdate {
    #[serde(flatten)]
    pub standard: StandardUpdate,
    /// May only grow.
    pub prefixes: Option<Vec<IpNet>>,
    pub default_prefixlen: Option<u8>,
    pub min_prefixlen: Option<u8>,
    pub max_prefixlen: Option<u8>,
    #[serde(default, deserialize_with = "present")]
    pub default_quota: Option<Option<u64>>,
    pub is_default: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    pub address_scope_id: Option<Option<AddressScopeId>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SubnetPoolView {
    pub id: SubnetPoolId,
    pub name: String,
    pub ip_version: IpVersion,
    pub prefixes: Vec<IpNet>,
    pub default_prefixlen: u8,
    pub min_prefixlen: u8,
    pub max_prefixlen: u8,
    pub default_quota: Option<u64>,
    pub is_default: bool,
    pub address_scope_id: Option<AddressScopeId>,
    pub shared: bool,
    #[serde(flatten)]
    pub standard: StandardView,
}

impl From<&SubnetPool> for SubnetPoolView {
    fn from(pool: &SubnetPool) -> Self {
        Self {
            id: pool.id,
            name: pool.standard.name.clone(),
            ip_version: pool.ip_version,
            prefixes: pool.prefixes.clone(),
            default_prefixlen: pool.prefix_lens.default,
            min_prefixlen: pool.prefix_lens.min,
            max_prefixlen: pool.prefix_lens.max,
            default_quota: pool.default_quota,
            is_default: pool.is_default,
            address_scope_id: pool.address_scope,
            shared: pool.shared,
            standard: StandardView::of(&pool.standard),
        }
    }
}

/// What may be done to a pool besides changing its attributes.
#[derive(Clone, Debug)]
pub enum SubnetPoolAction {
    /// The prefixes of the network's subnets become the pool's, and these subnets its allocations.
    Onboard(NetworkId),
    AddPrefixes(Vec<IpNet>),
    /// Prefixes, or parts of them, that no subnet has.
    RemovePrefixes(Vec<IpNet>),
}
