//! The resources: attributes, typed requests and views, one file each with the same skeleton.

mod address_group;
mod address_scope;
mod agent;
mod default_security_group_rule;
mod floating_ip;
mod metering_label;
mod metering_label_rule;
mod network;
mod port;
mod port_forwarding;
mod rbac_policy;
mod router;
mod security_group;
mod security_group_rule;
mod subnet;
mod subnet_pool;

pub use address_group::{AddressGroupCreate, AddressGroupUpdate, AddressGroupView, AddressesChange};
pub use address_scope::{AddressScopeCreate, AddressScopeUpdate, AddressScopeView};
pub use agent::{AgentConfigurations, AgentCreate, AgentUpdate, AgentView};
pub use default_security_group_rule::{
    DefaultSecurityGroupRuleCreate, DefaultSecurityGroupRuleUpdate, DefaultSecurityGroupRuleView, PARENT,
};
pub use floating_ip::{FloatingIpCreate, FloatingIpUpdate, FloatingIpView, PortDetails};
pub use metering_label::{MeteringLabelCreate, MeteringLabelUpdate, MeteringLabelView};
pub use metering_label_rule::{MeteringLabelRuleCreate, MeteringLabelRuleUpdate, MeteringLabelRuleView};
pub use network::{NetworkCreate, NetworkType, NetworkUpdate, NetworkView};
pub use port::{
    AddressPairRequest, DhcpOptionChange, FixedIpRequest, FixedIpView, PortCreate, PortFacts, PortUpdate,
    PortView,
};
pub use port_forwarding::{ForwardedPort, PortForwardingCreate, PortForwardingUpdate, PortForwardingView};
pub use rbac_policy::{RbacPolicyCreate, RbacPolicyUpdate, RbacPolicyView};
pub use router::{
    GatewayRequest, GatewayView, InterfaceRequest, InterfaceView, RouteList, RouteView, RouterCreate,
    RouterUpdate, RouterView,
};
pub use security_group::{SecurityGroupCreate, SecurityGroupUpdate, SecurityGroupView};
pub use security_group_rule::{
    RuleRequest, SecurityGroupRuleCreate, SecurityGroupRuleUpdate, SecurityGroupRuleView,
};
pub use subnet::{SubnetCreate, SubnetUpdate, SubnetView};
pub use subnet_pool::{SubnetPoolAction, SubnetPoolCreate, SubnetPoolUpdate, SubnetPoolView};

use model::moment;
use model::resource::Standard;
use serde::{Deserialize, Serialize};

/// Standard attributes as a client may give them at creation.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StandardCreate {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub project_id: Option<String>,
    pub tenant_id: Option<String>,
}

/// Standard attributes as a client may change them.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StandardUpdate {
    pub name: Option<String>,
    pub description: Option<String>,
}

impl StandardUpdate {
    pub fn apply(self, standard: &mut Standard) {
        if let Some(name) = self.name {
            standard.name = name;
        }
        if let Some(description) = self.description {
            standard.description = description;
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct StandardView {
    pub description: String,
    pub project_id: String,
    pub tenant_id: String,
    pub tags: Vec<String>,
    pub created_at: String,
    pub updated_at: String,
    pub revision_number: u64,
}

impl StandardView {
    fn of(standard: &Standard) -> Self {
        Self {
            description: standard.description.clone(),
            project_id: standard.project_id.clone(),
            tenant_id: standard.project_id.clone(),
            tags: standard.tags.clone(),
            created_at: moment::text_s(standard.created_at),
            updated_at: moment::text_s(standard.updated_at),
            revision_number: standard.revision_number,
        }
    }
}

const fn yes() -> bool {
    true
}
