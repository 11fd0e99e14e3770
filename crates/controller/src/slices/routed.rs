//! Routed addresses of a slice: those of VMs whose router leaves them as they are towards some destinations.

use super::{gateway_fixed_ips, host_of, interface_ports};
use crate::virtual_addresses::host_of_address;
use model::resource::{FixedIp, GatewayInfo, Port, Router};
use model::slice::{RoutedAddress, RoutedPort, Slice};
use std::collections::BTreeSet;
use std::net::IpAddr;
use store::Snapshot;

/// Adds the fixed addresses of every VM behind the router that the outside sees as they are.
pub(super) fn add(snapshot: &Snapshot, router: &Router, slice: &mut Slice) {
    let Some(gateway) = &router.gateway else { return };
    for leg in interface_ports(snapshot, router.id) {
        let subnets: BTreeSet<_> =
            leg.fixed_ips.iter().filter(|ip| is_routed(snapshot, gateway, ip)).map(|ip| ip.subnet).collect();
        if subnets.is_empty() {
            continue;
        }
        for port in snapshot.ports_of_network(leg.network).filter(|port| !port.is_infrastructure()) {
            let own = port.fixed_ips.iter().filter(|ip| subnets.contains(&ip.subnet));
            let addresses = own.map(|ip| RoutedAddress {
                external_network: gateway.network,
                router: router.id,
                address: ip.address,
            });
            tell(snapshot, port, addresses, slice);
        }
    }
}

/// Whether the router leaves addresses of the subnet of its own address `leg` as they are, towards anything. Nothing
/// of IPv6 is translated.
fn is_routed(snapshot: &Snapshot, gateway: &GatewayInfo, leg: &FixedIp) -> bool {
    match leg.address {
        IpAddr::V4(_) => !gateway.untranslated_destinations.is_empty(),
        IpAddr::V6(_) => gateway_fixed_ips(snapshot, gateway).iter().any(|ip| ip.address.is_ipv6()),
    }
}

fn tell(snapshot: &Snapshot, port: &Port, addresses: impl Iterator<Item = RoutedAddress>, slice: &mut Slice) {
    let fresh = || RoutedPort { network: port.network, host: host_of(snapshot, port), addresses: Vec::new() };
    for address in addresses {
        let told = slice.routed_ports.entry(port.id).or_insert_with(fresh);
        if let Err(place) = told.addresses.binary_search(&address) {
            told.addresses.insert(place, address);
        }
    }
    // Of a port that is nowhere, whoever announced its first one has them.
    if let Some(told) = slice.routed_ports.get_mut(&port.id).filter(|told| told.host.is_none()) {
        let first = told.addresses.first();
        told.host = first.and_then(|first| host_of_address(snapshot, port.network, first.address));
    }
}
