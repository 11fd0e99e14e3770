//! Quotas: how much of what a project may have.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// No limit.
pub const UNLIMITED: i64 = -1;

/// Largest limit: a database's signed 32 bits, as in Neutron.
pub const LIMIT_MAX: i64 = 0x7fff_ffff;

/// What is counted, by its name in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    Network,
    Subnet,
    Port,
    Router,
    FloatingIp,
    SubnetPool,
    #[serde(rename = "security_group")]
    SecurityGroup,
    #[serde(rename = "security_group_rule")]
    SecurityGroupRule,
    #[serde(rename = "rbac_policy")]
    RbacPolicy,
}

impl Counted {
    pub const ALL: [Self; 9] = [
        Self::Network,
        Self::Subnet,
        Self::Port,
        Self::Router,
        Self::FloatingIp,
        Self::SubnetPool,
        Self::SecurityGroup,
        Self::SecurityGroupRule,
        Self::RbacPolicy,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::Port => "port",
            Self::Router => "router",
            Self::FloatingIp => "floatingip",
            Self::SubnetPool => "subnetpool",
            Self::SecurityGroup => "security_group",
            Self::SecurityGroupRule => "security_group_rule",
            Self::RbacPolicy => "rbac_policy",
        }
    }

    /// Of a project for which nothing was said, if the operator says nothing either: Neutron's defaults.
    pub const fn default_limit(self) -> i64 {
        match self {
            Self::Network | Self::Subnet => 100,
            Self::Port => 500,
            Self::Router | Self::SecurityGroup | Self::RbacPolicy => 10,
            Self::FloatingIp => 50,
            Self::SecurityGroupRule => 100,
            Self::SubnetPool => UNLIMITED,
        }
    }
}

/// What a project may have for which nothing was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultQuota([i64; Counted::ALL.len()]);

impl Default for DefaultQuota {
    fn default() -> Self {
        Self(Counted::ALL.map(Counted::default_limit))
    }
}

impl DefaultQuota {
    /// [`UNLIMITED`] or the most there may be.
    pub fn limit(&self, counted: Counted) -> i64 {
        let own = Counted::ALL.iter().zip(&self.0).find(|(other, _)| **other == counted);
        own.map_or(UNLIMITED, |(_, limit)| *limit)
    }

    pub fn set(&mut self, counted: Counted, limit: i64) {
        for (other, own) in Counted::ALL.into_iter().zip(&mut self.0) {
            if other == counted {
                *own = limit;
            }
        }
    }
}

/// One per project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaId(Uuid);

impl QuotaId {
    /// Projects are free text, ids are not: it is made from the text (UUID version 5).
    pub fn of(project_id: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, project_id.as_bytes()))
    }
}

impl fmt::Display for QuotaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for QuotaId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What an administrator said of a project; the rest is as for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub project_id: String,
    /// [`UNLIMITED`] or the most there may be.
    pub limits: BTreeMap<Counted, i64>,
}
