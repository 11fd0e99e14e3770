//! `/v2.0/agents`: the hosts, as Neutron shows them.

use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::resource::present;
use crate::zone::ZONE;
use crate::{Attribute, Error, Resource};
use model::moment;
use model::resource::Host;
use model::{HostId, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::Ipv4Addr;

impl Resource for Host {
    type Id = HostId;
    type Create = AgentCreate;
    type Update = AgentUpdate;
    type View = AgentView;

    const NAME: &'static str = "agent";
    const COLLECTION: &'static str = "agents";
    const LACKS: &'static [&'static str] =
        &["name", "project_id", "tenant_id", "created_at", "updated_at", "revision_number", "tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::read_only("agent_type", check::text),
        Attribute::read_only("binary", check::text),
        Attribute::read_only("topic", check::text),
        Attribute::read_only("host", check::text),
        Attribute { post: false, ..Attribute::writable("admin_state_up", check::boolean) },
        Attribute { post: false, ..Attribute::writable("description", check::text_or_null) },
        Attribute::read_only("alive", check::boolean),
        Attribute::read_only("availability_zone", check::text),
        Attribute::read_only("created_at", check::text),
        Attribute::read_only("started_at", check::text),
        Attribute::read_only("heartbeat_timestamp", check::text),
        Attribute::read_only("configurations", check::any).not_filterable(),
    ];

    const POLICY: &'static Policy = &table::AGENT;

    fn not_found(id: String) -> Error {
        Error::AgentNotFound { id }
    }
}

/// Agents are made by connecting, never by a client.
#[derive(Clone, Debug, Deserialize)]
pub enum AgentCreate {}

#[derive(Clone, Debug, Deserialize)]
pub struct AgentUpdate {
    /// False drains the host: it takes no part as a gateway.
    pub admin_state_up: Option<bool>,
    /// Null and "" clear.
    #[serde(default, deserialize_with = "present")]
    pub description: Option<Option<String>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct AgentConfigurations {
    pub vtep: Ipv4Addr,
    pub dvr_mac: Mac,
    pub physical_networks: Vec<String>,
    pub version: String,
    pub programmed_revision: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct AgentView {
    pub id: HostId,
    pub agent_type: &'static str,
    pub binary: &'static str,
    pub topic: &'static str,
    pub host: String,
    pub admin_state_up: bool,
    pub alive: bool,
    pub availability_zone: &'static str,
    pub configurations: AgentConfigurations,
    pub created_at: String,
    pub started_at: String,
    pub heartbeat_timestamp: String,
    pub description: Option<String>,
    pub resources_synced: Option<bool>,
    pub resource_versions: Map<String, Value>,
}

impl AgentView {
    /// `heard_at`: seconds since 1970 of the last message of the agent.
    pub fn new(host: &Host, alive: bool, heard_at: Option<i64>, programmed_revision: Option<u64>) -> Self {
        Self {
            id: host.id,
            agent_type: "Nanboku agent",
            binary: "nanboku",
            topic: "N/A",
            host: host.name.clone(),
            admin_state_up: !host.drained,
            alive,
            availability_zone: ZONE,
            configurations: AgentConfigurations {
                vtep: host.vtep,
                dvr_mac: host.dvr_mac,
                physical_networks: host.physical_networks.clone(),
                version: host.version.clone(),
                programmed_revision,
            },
            created_at: timestamp(host.created_at),
            started_at: timestamp(host.started_at),
            heartbeat_timestamp: timestamp(heard_at.unwrap_or(host.started_at)),
            description: Some(host.description.clone()).filter(|text| !text.is_empty()),
            resources_synced: None,
            resource_versions: Map::new(),
        }
    }
}

/// Without T and Z, unlike everywhere else: clients parse no other form here.
fn timestamp(seconds: i64) -> String {
    moment::text_s(seconds).replace('T', " ").replace('Z', "")
}
