//! Every answer that is not a success: Neutron's type, status and sentence, and the one body they share.
//!
//! The table below is the only place where a status is decided. Clients map the type to an exception, so
//! types are exactly Neutron's; sentences are kept close to Neutron's because scripts match on them.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{FloatingIpId, Mac, NetworkId, PortId, RouterId, SubnetId};
use serde_json::json;
use std::net::Ipv4Addr;

macro_rules! errors {
    ($($status:literal { $($(#[$meta:meta])* $variant:ident $fields:tt $message:literal)* })*) => {
        errors! { @enum $($($(#[$meta])* $variant $fields $message)*)* }

        impl Error {
            /// Neutron's name of the error.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $($(Self::$variant { .. } => stringify!($variant),)*)*
                }
            }

            fn status_code(&self) -> u16 {
                match self {
                    $($(Self::$variant { .. } => $status,)*)*
                }
            }
        }
    };
    (@enum $($(#[$meta:meta])* $variant:ident {$($field:ident: $kind:ty),*} $message:literal)*) => {
        /// What a client is told when a request fails.
        #[derive(Debug, thiserror::Error)]
        pub enum Error {
            $($(#[$meta])* #[error($message)] $variant { $($field: $kind),* },)*
        }
    };
}

errors! {
    400 {
        HTTPBadRequest { message: String } "{message}"
        InvalidInput { error_message: String } "Invalid input for operation: {error_message}."
        BadRequest { resource: &'static str, reason: String } "Bad {resource} request: {reason}."
        InvalidIpForNetwork { address: Ipv4Addr }
            "IP address {address} is not a valid IP for any of the subnets on the specified network."
        InvalidIpForSubnet { address: Ipv4Addr }
            "IP address {address} is not a valid IP for the specified subnet."
        InvalidAllocationPool { pool: String } "The allocation pool {pool} is not valid."
        OutOfBoundsAllocationPool { pool: String, cidr: String }
            "The allocation pool {pool} spans beyond the subnet cidr {cidr}."
        InvalidRoutes { routes: String, reason: String } "Invalid format for routes: {routes}, {reason}"
        RoutesExhausted { router: RouterId, quota: usize }
            "Unable to complete operation for {router}. The number of routes exceeds the maximum {quota}."
        ExternalIpAddressExhausted { network: NetworkId }
            "Unable to find any IP address on external network {network}."
        InvalidMTU { mtu: u16, reason: String } "Invalid MTU {mtu}: {reason}."
    }
    401 {
        /// Told in Keystone's form, not Neutron's.
        Unauthorized {} "The request you have made requires authentication."
    }
    403 {
        PolicyNotAuthorized { rule: String } "rule:{rule} is disallowed by policy"
    }
    404 {
        HTTPNotFound {} "The resource could not be found."
        NetworkNotFound { id: String } "Network {id} could not be found."
        SubnetNotFound { id: String } "Subnet {id} could not be found."
        PortNotFound { id: String } "Port {id} could not be found."
        RouterNotFound { id: String } "Router {id} could not be found"
        FloatingIPNotFound { id: String } "Floating IP {id} could not be found"
        AgentNotFound { id: String } "Agent {id} could not be found."
        HostNotFound { id: String } "Host {id} could not be found."
        SecurityGroupNotFound { id: String } "Security group {id} does not exist"
        SubnetPoolNotFound { id: String } "Subnet pool {id} could not be found."
        TagNotFound { tag: String } "Tag {tag} could not be found."
        ExtensionNotFound { alias: String } "Extension with alias {alias} does not exist"
        RouterInterfaceNotFound { router: RouterId, port: PortId }
            "Router {router} does not have an interface with id {port}"
        RouterInterfaceNotFoundForSubnet { router: RouterId, subnet: SubnetId }
            "Router {router} has no interface on subnet {subnet}"
        ExternalGatewayForFloatingIPNotFound { external_network: NetworkId, subnet: SubnetId, port: PortId }
            "External network {external_network} is not reachable from subnet {subnet}. Therefore, cannot associate Port {port} with a Floating IP."
    }
    405 {
        HTTPMethodNotAllowed {} "The method is not allowed for this resource."
    }
    409 {
        OverQuota { overs: String } "Quota exceeded for resources: {overs}."
        NetworkInUse { network: NetworkId, ports: String }
            "Unable to complete operation on network {network}. There are one or more ports still in use on the network, id for these ports is: {ports}"
        SubnetInUse { subnet: SubnetId, reason: String }
            "Unable to complete operation on subnet {subnet}: {reason}."
        PortInUse { port: PortId, network: NetworkId, device: String }
            "Unable to complete operation on port {port} for network {network}. Port already has an attached device {device}."
        IpAddressGenerationFailure { network: NetworkId }
            "No more IP addresses available on network {network}."
        IpAddressAlreadyAllocated { address: Ipv4Addr, subnet: SubnetId }
            "IP address {address} already allocated in subnet {subnet}"
        MacAddressInUse { network: NetworkId, mac: Mac }
            "Unable to complete operation for network {network}. The mac address {mac} is in use."
        OverlappingAllocationPools { first: String, second: String, cidr: String }
            "Found overlapping allocation pools: {first} {second} for subnet {cidr}."
        GatewayConflictWithAllocationPools { address: Ipv4Addr, pool: String }
            "Gateway ip {address} conflicts with allocation pool {pool}."
        GatewayIpInUse { address: Ipv4Addr, port: PortId }
            "Current gateway ip {address} already in use by port {port}. Unable to update."
        ServicePortInUse { port: PortId, reason: String }
            "Port {port} cannot be deleted directly via the port API: {reason}."
        AddressPairAndPortSecurityRequired {}
            "Port Security must be enabled in order to have allowed address pairs on a port."
        RouterInUse { router: RouterId, reason: &'static str } "Router {router} {reason}"
        RouterInterfaceInUseByFloatingIP { router: RouterId, subnet: SubnetId }
            "Router interface for subnet {subnet} on router {router} cannot be deleted, as it is required by one or more floating IPs."
        RouterInterfaceInUseByRoute { router: RouterId, subnet: SubnetId }
            "Router interface for subnet {subnet} on router {router} cannot be deleted, as it is required by one or more routes."
        RouterExternalGatewayInUseByFloatingIp { router: RouterId, network: NetworkId }
            "Gateway cannot be updated for router {router}, since a gateway to external network {network} is required by one or more floating IPs."
        FloatingIPPortAlreadyAssociated {
            address: Ipv4Addr, floating_ip: FloatingIpId, port: PortId, fixed_address: Ipv4Addr, network: NetworkId
        }
            "Cannot associate floating IP {address} ({floating_ip}) with port {port} using fixed IP {fixed_address}, as that fixed IP already has a floating IP on external network {network}."
        SubnetMismatchForPort { port: PortId, subnet: SubnetId }
            "Subnet on port {port} does not match the requested subnet {subnet}"
        ExternalNetworkInUse { network: NetworkId }
            "External network {network} cannot be updated to be made non-external, since it has existing gateway ports."
        VlanIdInUse { vlan: u16, physical_network: String }
            "Unable to create the network. The VLAN {vlan} on physical network {physical_network} is in use."
        FlatNetworkInUse { physical_network: String }
            "Unable to create the flat network. Physical network {physical_network} is in use."
        TunnelIdInUse { tunnel: u32 }
            "Unable to create the network. The tunnel ID {tunnel} is in use."
        AgentInUse { id: String }
            "Agent {id} is alive or has ports bound to its host; stop it and move them first."
    }
    412 {
        RevisionNumberConstraintFailed { expected: u64, current: u64 }
            "Constrained to {expected}, but current revision is {current}"
    }
    413 {
        HTTPRequestEntityTooLarge {} "The request body is larger than 1048576 bytes."
    }
    503 {
        /// The cause is logged with its chain, never told.
        IdentityUnavailable { cause: Box<dyn std::error::Error + Send + Sync> }
            "The identity service does not answer; nobody can say who you are."
        NoNetworkAvailable {} "Unable to create the network. No tenant network is available for allocation."
        AgentUnreachable { host: String, reason: String } "Host {host} did not answer: {reason}"
    }
    500 {
        /// The cause is logged with its chain, never told.
        HTTPInternalServerError { cause: Box<dyn std::error::Error + Send + Sync> }
            "Request Failed: internal server error while processing your request."
    }
}

impl Error {
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::HTTPBadRequest { message: message.into() }
    }

    pub fn invalid_input(error_message: impl Into<String>) -> Self {
        Self::InvalidInput { error_message: error_message.into() }
    }

    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::HTTPInternalServerError { cause: cause.into() }
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::HTTPInternalServerError { cause } | Self::IdentityUnavailable { cause } = &self {
            let mut chain = cause.to_string();
            let mut source = cause.source();
            while let Some(error) = source {
                chain.push_str(": ");
                chain.push_str(&error.to_string());
                source = error.source();
            }
            tracing::error!(error = chain, "request failed");
        }
        if let Self::Unauthorized {} = &self {
            let body = json!({"error": {"code": 401, "title": "Unauthorized", "message": self.to_string()}});
            let challenge = [(header::WWW_AUTHENTICATE, "Keystone")];
            return (self.status(), challenge, Json(body)).into_response();
        }
        let body = json!({"NeutronError": {
            "type": self.type_name(), "message": self.to_string(), "detail": "",
        }});
        (self.status(), Json(body)).into_response()
    }
}
