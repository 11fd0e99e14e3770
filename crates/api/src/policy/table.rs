//! The rules, as Neutron's defaults have them: one entry per resource. Every resource names its entry, so there is
//! none without.
//!
//! What holds for all is not repeated here: administrators may do everything; others see and, as members, change what
//! belongs to their project.

use super::{AttributeRule, Policy, See, Who};

pub(crate) const NETWORK: Policy = Policy {
    see: &[See::Shared, See::External],
    network_owner_changes: false,
    attributes: &[
        AttributeRule::new("shared", Who::Admin).with_default(false),
        AttributeRule::new("router:external", Who::Admin).with_default(false),
        AttributeRule::new("is_default", Who::Admin).with_default(false),
        AttributeRule::new("provider:network_type", Who::Admin),
        AttributeRule::new("provider:physical_network", Who::Admin),
        AttributeRule::new("provider:segmentation_id", Who::Admin),
        AttributeRule::new("nanboku:egress", Who::Admin),
        AttributeRule::new("nanboku:block_size", Who::Admin),
    ],
    hidden: &[
        "provider:network_type",
        "provider:physical_network",
        "provider:segmentation_id",
        "nanboku:block_size",
    ],
};

pub(crate) const SUBNET: Policy = Policy {
    // Not of external networks: whoever only gets addresses there need not know which there are.
    see: &[See::Shared, See::NetworkOwner],
    network_owner_changes: true,
    attributes: &[
        AttributeRule::new("network_id", Who::NetworkOwner),
        AttributeRule::new("service_types", Who::Admin),
    ],
    hidden: &[],
};

pub(crate) const PORT: Policy = Policy {
    see: &[See::NetworkOwner],
    network_owner_changes: false,
    attributes: &[
        AttributeRule::new("network_id", Who::NetworkUser),
        AttributeRule::new("fixed_ips:ip_address", Who::NetworkOwner),
        AttributeRule::new("mac_address", Who::NetworkOwner),
        AttributeRule::new("allowed_address_pairs", Who::NetworkOwner),
        AttributeRule::new("port_security_enabled", Who::NetworkOwner).with_default(true),
        AttributeRule::new("binding:host_id", Who::Admin),
        AttributeRule::new("binding:profile", Who::Admin),
    ],
    hidden: &["binding:host_id", "binding:profile", "binding:vif_type", "binding:vif_details"],
};

pub(crate) const ROUTER: Policy = Policy {
    see: &[],
    network_owner_changes: false,
    attributes: &[
        AttributeRule::new("external_gateway_info:enable_snat", Who::Admin),
        AttributeRule::new("external_gateway_info:external_fixed_ips", Who::Admin),
        AttributeRule::new("external_gateway_info:nanboku:ports_per_vm_max", Who::Admin),
        AttributeRule::new("external_gateway_info:nanboku:mappings_per_second_max", Who::Admin),
        AttributeRule::new("external_gateway_info:nanboku:port_control", Who::Admin),
        AttributeRule::new("external_gateway_info:nanboku:untranslated_destinations", Who::Admin),
        AttributeRule::new("external_gateway_info:nanboku:snat_shared", Who::Admin),
    ],
    hidden: &[],
};

pub(crate) const FLOATING_IP: Policy = Policy {
    see: &[],
    network_owner_changes: false,
    attributes: &[AttributeRule::new("floating_ip_address", Who::Admin)],
    hidden: &[],
};

pub(crate) const SECURITY_GROUP: Policy =
    Policy { see: &[See::Shared], network_owner_changes: false, attributes: &[], hidden: &[] };

pub(crate) const ADDRESS_GROUP: Policy =
    Policy { see: &[See::Shared], network_owner_changes: false, attributes: &[], hidden: &[] };

/// What may be shared with whom is the service's question.
pub(crate) const RBAC_POLICY: Policy =
    Policy { see: &[], network_owner_changes: false, attributes: &[], hidden: &[] };

/// Whoever sees a shared group sees its rules within it, not by themselves.
pub(crate) const SECURITY_GROUP_RULE: Policy =
    Policy { see: &[See::GroupOwner], network_owner_changes: false, attributes: &[], hidden: &[] };

pub(crate) const DEFAULT_SECURITY_GROUP_RULE: Policy =
    Policy { see: &[See::Everyone], network_owner_changes: false, attributes: &[], hidden: &[] };

pub(crate) const SUBNET_POOL: Policy = Policy {
    see: &[See::Shared],
    network_owner_changes: false,
    attributes: &[
        AttributeRule::new("shared", Who::Admin).with_default(false),
        AttributeRule::new("is_default", Who::Admin).with_default(false),
    ],
    hidden: &[],
};

pub(crate) const ADDRESS_SCOPE: Policy = Policy {
    see: &[See::Shared],
    network_owner_changes: false,
    attributes: &[AttributeRule::new("shared", Who::Admin).with_default(false)],
    hidden: &[],
};

pub(crate) const METERING_LABEL: Policy =
    Policy { see: &[See::Administrators], network_owner_changes: false, attributes: &[], hidden: &[] };

pub(crate) const METERING_LABEL_RULE: Policy =
    Policy { see: &[See::Administrators], network_owner_changes: false, attributes: &[], hidden: &[] };

/// Nobody's: administrators alone see them.
pub(crate) const AGENT: Policy =
    Policy { see: &[], network_owner_changes: false, attributes: &[], hidden: &[] };
