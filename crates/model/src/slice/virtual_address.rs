//! Virtual addresses: addresses of allowed address pairs that a port has announced, and may announce away from it.

use super::{Port, Slice};
use crate::{Mac, NetworkId, PortId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// An address on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddressId {
    pub network: NetworkId,
    pub address: IpAddr,
}

/// Who announced it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualAddress {
    pub port: PortId,
    /// The port's own, or that of its pair.
    pub mac: Mac,
}

impl Port {
    /// One of its pairs names the address with this MAC.
    pub fn may_announce(&self, address: IpAddr, mac: Mac) -> bool {
        let names = |pair: &super::AllowedPair| {
            pair.address.contains(&address) && pair.mac.unwrap_or(self.mac) == mac
        };
        self.allowed_pairs.iter().any(names)
    }
}

impl Slice {
    /// The network and those that share a router with it.
    pub fn networks_routed_with(&self, network: NetworkId) -> BTreeSet<NetworkId> {
        let legs =
            |router: &super::Router| router.interfaces.iter().map(|leg| leg.network).collect::<Vec<_>>();
        let routers = self.routers.values().map(legs).filter(|legs| legs.contains(&network));
        routers.flatten().chain([network]).collect()
    }

    /// Puts or takes away who has a virtual address. What the outside knows it by moves with it: floating IPs that stand
    /// for it, and the routed addresses of a port that is nowhere and whose first one it is.
    pub fn hold(&mut self, id: VirtualAddressId, holder: Option<VirtualAddress>) {
        let host = holder.and_then(|holder| self.ports.get(&holder.port)).and_then(|port| port.host);
        match holder {
            Some(holder) => drop(self.virtual_addresses.insert(id, holder)),
            None => drop(self.virtual_addresses.remove(&id)),
        }
        let ports = &self.ports;
        for floating_ip in self.floating_ips.values_mut() {
            let unbound = ports.get(&floating_ip.port).is_some_and(|port| port.host.is_none());
            let fixed = IpAddr::from(floating_ip.fixed_address);
            if unbound && floating_ip.network == id.network && fixed == id.address {
                floating_ip.host = host;
            }
        }
        for (port, routed) in &mut self.routed_ports {
            let unbound = ports.get(port).is_some_and(|port| port.host.is_none());
            let first = routed.addresses.first().map(|routed| routed.address);
            if unbound && routed.network == id.network && first == Some(id.address) {
                routed.host = host;
            }
        }
    }
}

impl std::fmt::Display for VirtualAddressId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.address)
    }
}

/// Text that is not `<network id>/<address>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a virtual address of the form <network id>/<address>")]
pub struct NotAVirtualAddressId(String);

impl std::str::FromStr for VirtualAddressId {
    type Err = NotAVirtualAddressId;

    fn from_str(text: &str) -> Result<Self, NotAVirtualAddressId> {
        let parse = || {
            let (network, address) = text.split_once('/')?;
            Some(Self { network: network.parse().ok()?, address: address.parse().ok()? })
        };
        parse().ok_or_else(|| NotAVirtualAddressId(text.to_owned()))
    }
}

impl Serialize for VirtualAddressId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VirtualAddressId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::VirtualAddressId;
    use crate::NetworkId;

    #[test]
    fn a_virtual_address_is_the_same_after_it_was_written_and_read() {
        for address in ["10.1.0.100", "fd00::100"] {
            let id = VirtualAddressId { network: NetworkId::MAX, address: address.parse().unwrap() };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for wrong in ["", "10.1.0.100", "network/10.1.0.100"] {
            assert!(wrong.parse::<VirtualAddressId>().is_err(), "{wrong}");
        }
    }
}
