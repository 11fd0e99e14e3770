//! `/v2.0/floatingips/{id}/port_forwardings`.

use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use model::resource::{ForwardedProtocol, PortForwarding};
use model::{PortForwardingId, PortId};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

impl Resource for PortForwarding {
    type Id = PortForwardingId;
    type Create = PortForwardingCreate;
    type Update = PortForwardingUpdate;
    type View = PortForwardingView;

    const NAME: &'static str = "port_forwarding";
    const COLLECTION: &'static str = "port_forwardings";
    const PATH: &'static str = "floatingips/{id}/port_forwardings";
    const LACKS: &'static [&'static str] =
        &["name", "project_id", "tenant_id", "created_at", "updated_at", "revision_number", "tags", "status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::writable("external_port", check::port_number).required(),
        Attribute::writable("internal_port", check::port_number).required(),
        Attribute::writable("internal_port_id", check::uuid).required(),
        Attribute::writable("internal_ip_address", check::ipv4_or_null),
        Attribute::writable("protocol", check::forwarded_protocol).required(),
    ];

    /// Whoever may change a floating IP may forward its ports.
    const POLICY: &'static Policy = &table::FLOATING_IP;

    fn not_found(id: String) -> Error {
        Error::PortForwardingNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct PortForwardingCreate {
    #[serde(default)]
    pub description: String,
    pub external_port: u16,
    pub internal_port: u16,
    pub internal_port_id: PortId,
    /// None: the port's first IPv4 address.
    pub internal_ip_address: Option<Ipv4Addr>,
    pub protocol: ForwardedProtocol,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PortForwardingUpdate {
    pub description: Option<String>,
    pub external_port: Option<u16>,
    pub internal_port: Option<u16>,
    pub internal_port_id: Option<PortId>,
    pub internal_ip_address: Option<Ipv4Addr>,
    pub protocol: Option<ForwardedProtocol>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PortForwardingView {
    pub id: PortForwardingId,
    pub description: String,
    pub external_port: u16,
    pub internal_port: u16,
    pub internal_port_id: PortId,
    pub internal_ip_address: Ipv4Addr,
    pub protocol: ForwardedProtocol,
}

impl PortForwardingView {
    pub fn new(forwarding: &PortForwarding) -> Self {
        Self {
            id: forwarding.id,
            description: forwarding.description.clone(),
            external_port: forwarding.external_port,
            internal_port: forwarding.internal_port,
            internal_port_id: forwarding.port,
            internal_ip_address: forwarding.internal_address,
            protocol: forwarding.protocol,
        }
    }
}

/// As the floating IP itself shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ForwardedPort {
    pub id: PortForwardingId,
    pub external_port: u16,
    pub internal_port: u16,
    pub internal_port_id: PortId,
    pub internal_ip_address: Ipv4Addr,
    pub protocol: ForwardedProtocol,
}

impl ForwardedPort {
    pub(super) fn new(forwarding: &PortForwarding) -> Self {
        let PortForwardingView {
            id,
            external_port,
            internal_port,
            internal_port_id,
            internal_ip_address,
            protocol,
            ..
        } = PortForwardingView::new(forwarding);
        Self { id, external_port, internal_port, internal_port_id, internal_ip_address, protocol }
    }
}
