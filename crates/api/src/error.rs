//! Every answer that is not a success: Neutron's type, status and sentence, and the one body they share.
//!
//! The table below is the only place where a status is decided. Clients map the type to an exception, so
//! types are exactly Neutron's; sentences are kept close to Neutron's because scripts match on them.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::security::Ethertype;
use model::{
    AddressGroupId, AddressScopeId, DefaultSecurityGroupRuleId, FloatingIpId, IpVersion, Mac, NetworkId,
    PortId, RouterId, SecurityGroupId, SecurityGroupRuleId, SubnetId, SubnetPoolId,
};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

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
        InvalidIpForNetwork { address: IpAddr }
            "IP address {address} is not a valid IP for any of the subnets on the specified network."
        InvalidIpForSubnet { address: IpAddr }
            "IP address {address} is not a valid IP for the specified subnet."
        InvalidAllocationPool { pool: String } "The allocation pool {pool} is not valid."
        OutOfBoundsAllocationPool { pool: String, cidr: String }
            "The allocation pool {pool} spans beyond the subnet cidr {cidr}."
        InvalidRoutes { routes: String, reason: String } "Invalid format for routes: {routes}, {reason}"
        RoutesExhausted { router: RouterId, quota: usize }
            "Unable to complete operation for {router}. The number of routes exceeds the maximum {quota}."
        ExternalIpAddressExhausted { network: NetworkId }
            "Unable to find any IP address on external network {network}."
        AllowedAddressPairExhausted { quota: usize }
            "The number of allowed address pair exceeds the maximum {quota}."
        DuplicateAddressPairInRequest { mac: Mac, address: String }
            "Request contains duplicate address pair: mac_address {mac} ip_address {address}."
        PortSecurityAndIPRequiredForSecurityGroups {}
            "Port security must be enabled and port must have an IP address in order to use security groups."
        SecurityGroupInvalidPortRange {}
            "For TCP/UDP protocols, port_range_min must be <= port_range_max"
        SecurityGroupInvalidProtocolForPort { protocol: u8 }
            "Ports cannot be specified for protocol {protocol}. Ports are only supported for DCCP, SCTP, TCP, UDP, UDPLITE."
        SecurityGroupInvalidPortValue { port: String } "Invalid value for port {port}"
        SecurityGroupInvalidIcmpValue { field: &'static str, attribute: &'static str, value: u16 }
            "Invalid value for ICMP {field} ({attribute}) {value}. It must be 0 to 255."
        SecurityGroupMissingIcmpType { code: u16 }
            "ICMP code (port-range-max) {code} is provided but ICMP type (port-range-min) is missing."
        SecurityGroupEthertypeConflictWithProtocol { ethertype: Ethertype, protocol: String }
            "Invalid ethertype {ethertype} for protocol {protocol}."
        SecurityGroupRuleInvalidProtocol { protocol: String, values: String }
            "Security group rule protocol {protocol} not supported. Only protocol values [{values}] and integer representations [0 to 255] are supported."
        SecurityGroupRuleInvalidEtherType { ethertype: String }
            "Security group rule for ethertype '{ethertype}' not supported. Allowed values are ['IPv4', 'IPv6']."
        SecurityGroupRuleParameterConflict { ethertype: Ethertype, cidr: String }
            "Conflicting value ethertype {ethertype} for CIDR {cidr}"
        SecurityGroupProtocolRequiredWithPorts {} "Must also specify protocol if port range is given."
        SecurityGroupMultipleRemoteEntites {}
            "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided."
        SecurityGroupNotSingleGroupRules {}
            "Only allowed to update rules for one security profile at a time"
        SecurityGroupRulesNotSingleProject {}
            "Multiple project_ids in bulk security group rule create not allowed"
        InvalidCIDR { input: String } "Invalid CIDR {input} given as IP prefix."
        InvalidActionForType { action: String, valid: &'static str }
            "Invalid action '{action}' for this object type. Valid actions: {valid}"
        AddressesAlreadyExist { addresses: String, group: AddressGroupId }
            "Addresses {addresses} already exist in the address group {group}."
        AllocationOnAutoAddressSubnet { address: IpAddr, subnet: SubnetId }
            "IPv6 address {address} can not be directly assigned to a port on subnet {subnet} since the subnet is configured for automatic addresses"
        EmptySubnetPoolPrefixList {} "Empty subnet pool prefix list."
        PrefixVersionMismatch {} "Cannot mix IPv4 and IPv6 prefixes in a subnet pool."
        IllegalSubnetPoolPrefixBounds { what: &'static str, length: u8, bound: &'static str, limit: u8 }
            "Illegal prefix bounds: {what}={length}, {bound}={limit}."
        IllegalSubnetPoolPrefixUpdate { reason: String } "Illegal update to prefixes: {reason}."
        IllegalSubnetPoolAssociationToAddressScope { pool: SubnetPoolId, scope: AddressScopeId }
            "Illegal subnetpool association: subnetpool {pool} cannot be associated with address scope {scope}."
        IllegalSubnetPoolIpVersionAssociationToAddressScope { pool: SubnetPoolId, scope: AddressScopeId, version: IpVersion }
            "Illegal subnetpool association: subnetpool {pool} cannot associate with address scope {scope} because subnetpool ip_version is not {version}."
        MinPrefixSubnetAllocationError { length: u8, limit: u8 }
            "Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {limit}."
        MaxPrefixSubnetAllocationError { length: u8, limit: u8 }
            "Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {limit}."
        SubnetPoolDeleteError { reason: &'static str } "Unable to delete subnet pool: {reason}."
        NetworkSubnetPoolAffinityError {}
            "Subnets hosted on the same network must be allocated from the same subnet pool."
        AddressScopeUpdateError { scope: AddressScopeId, reason: &'static str }
            "Unable to update address scope {scope} : {reason}"
        PortHasPortForwarding { port: PortId }
            "Cannot associate floating IP to port {port} because it already has a Port Forwarding binding."
        Invalid { message: String } "{message}"
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
        PortForwardingNotFound { id: String } "Port Forwarding {id} could not be found."
        AgentNotFound { id: String } "Agent {id} could not be found."
        AvailabilityZoneNotFound { availability_zone: String }
            "AvailabilityZone {availability_zone} could not be found."
        HostNotFound { id: String } "Host {id} could not be found."
        SecurityGroupNotFound { id: String } "Security group {id} does not exist"
        SecurityGroupRuleNotFound { id: String } "Security group rule {id} does not exist"
        DefaultSecurityGroupRuleNotFound { id: String } "Default security group rule {id} does not exist"
        MeteringLabelNotFound { id: String } "Metering label {id} does not exist"
        MeteringLabelRuleNotFound { id: String } "Metering label rule {id} does not exist"
        RbacPolicyNotFound { id: String } "RBAC policy of type unknown with ID {id} not found"
        AddressGroupNotFound { id: String } "Address group {id} could not be found."
        AddressesNotFound { addresses: String, group: AddressGroupId }
            "Addresses {addresses} not found in the address group {group}."
        SubnetPoolNotFound { id: String } "Subnet pool {id} could not be found."
        AddressScopeNotFound { id: String } "Address scope {id} could not be found."
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
    408 {
        HTTPRequestTimeout {} "The body of the request did not come in time."
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
        IpAddressAlreadyAllocated { address: IpAddr, subnet: SubnetId }
            "IP address {address} already allocated in subnet {subnet}"
        MacAddressInUse { network: NetworkId, mac: Mac }
            "Unable to complete operation for network {network}. The mac address {mac} is in use."
        OverlappingAllocationPools { first: String, second: String, cidr: String }
            "Found overlapping allocation pools: {first} {second} for subnet {cidr}."
        GatewayConflictWithAllocationPools { address: IpAddr, pool: String }
            "Gateway ip {address} conflicts with allocation pool {pool}."
        GatewayIpInUse { address: IpAddr, port: PortId }
            "Current gateway ip {address} already in use by port {port}. Unable to update."
        ServicePortInUse { port: PortId, reason: String }
            "Port {port} cannot be deleted directly via the port API: {reason}."
        AddressPairAndPortSecurityRequired {}
            "Port Security must be enabled in order to have allowed address pairs on a port."
        SecurityGroupInUse { group: SecurityGroupId } "Security Group {group} in use."
        SecurityGroupCannotRemoveDefault {} "Insufficient rights for removing default security group."
        SecurityGroupCannotUpdateDefault {} "Updating default security group not allowed."
        SecurityGroupDefaultAlreadyExists {} "Default security group already exists."
        SecurityGroupRuleExists { rule: SecurityGroupRuleId }
            "Security group rule already exists. Rule id is {rule}."
        DefaultSecurityGroupRuleExists { rule: DefaultSecurityGroupRuleId }
            "Default Security group rule already exists. Rule id is {rule}."
        DuplicateSecurityGroupRuleInPost {} "Duplicate Security Group Rule in POST."
        SecurityGroupConflict { reason: &'static str } "Error {reason} while attempting the operation."
        PortSecurityPortHasSecurityGroup {}
            "Port has security group associated. Cannot disable port security or IP address until security group is removed."
        InvalidSharedSetting { network: NetworkId }
            "Unable to reconfigure sharing settings for network {network}. Multiple projects are using it."
        DuplicateRbacPolicy {} "An RBAC policy already exists with those values."
        RbacPolicyInUse { object: Uuid, details: String }
            "RBAC policy on object {object} cannot be removed because other objects depend on it.\nDetails: {details}"
        AddressGroupInUse { group: AddressGroupId }
            "Address group {group} is in use on one or more security group rules."
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
        FipInUseByPortForwarding { floating_ip: FloatingIpId }
            "Floating IP {floating_ip} in use by Port Forwarding resources."
        PortHasBindingFloatingIP {
            address: Ipv4Addr, floating_ip: FloatingIpId, port: PortId, fixed_address: Ipv4Addr
        }
            "Cannot create port forwarding to floating IP {address} ({floating_ip}) with port {port} using fixed IP {fixed_address}, as that port already has a binding floating IP."
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
        SubnetAllocationError { reason: String } "Failed to allocate subnet: {reason}."
        SubnetPoolQuotaExceeded {} "Per-tenant subnet pool prefix quota exceeded."
        AddressScopePrefixConflict {}
            "Failed to associate address scope: subnetpools within an address scope must have unique prefixes."
        AddressScopeInUse { scope: AddressScopeId }
            "Unable to complete operation on address scope {scope}. There are one or more subnet pools in use on the address scope"
        MeteringLabelRuleOverlaps { prefix: String }
            "Metering label rule with remote_ip_prefix {prefix} overlaps another"
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
        HTTPServiceUnavailable {} "The request took too long; it may still be carried out."
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
