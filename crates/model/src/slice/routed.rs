//! Routed addresses: addresses of VMs that the outside sees as they are (RFC 6888 REQ-6).

use crate::{HostId, NetworkId, RouterId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A port with routed addresses. A gateway is told of it without its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutedPort {
    /// Tenant network of the port.
    pub network: NetworkId,
    /// Where it is bound; none: nowhere yet.
    pub host: Option<HostId>,
    /// One for each fixed address and router that leaves it as it is.
    pub addresses: Vec<RoutedAddress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoutedAddress {
    pub external_network: NetworkId,
    pub router: RouterId,
    /// The port's fixed address.
    pub address: IpAddr,
}
