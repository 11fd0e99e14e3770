//! IPv6 in the cluster: a subnet of it on each network, and a way outside for VPC blue.
//!
//! Each VM has the last number of its IPv4 address there. Blue's addresses are used outside as they are; green has a
//! subnet, but no way out.

use crate::frames::{self, Ends, Read};
use crate::world::{EXTERNAL, GATEWAY_MAC, network_id, router_id, router_mac, subnet_id, vni};
use crate::{Arrival, World};
use model::Mac;
use model::slice::{Interface, RoutedAddress, RoutedPort, Subnet};
use packet::MacAddr;
use std::net::{IpAddr, Ipv6Addr};

/// Of router blue.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0x27);
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1);
pub const INTERNET6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 8);

/// An address on a network of the scenario.
pub fn address6(network: u128, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x10 * network as u16, 0, 0, 0, 0, u16::from(last))
}

/// fe80::/64 and the MAC's modified EUI-64.
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    packet::nd::link_local(mac).into()
}

impl World {
    /// Adds it to the cluster and programs it.
    pub fn add_ipv6(&mut self) {
        for network in [1, 2, 3] {
            let subnet = Subnet::new(
                format!("{}/64", address6(network, 0)).parse().expect("a prefix"),
                Some(address6(network, 1).into()),
            );
            let known = self.slice.networks.get_mut(&network_id(network)).expect("a network");
            known.subnets.insert(subnet_id(network + 0x60), subnet);
            let router = self.slice.routers.get_mut(&router_id(if network == 3 { 2 } else { 1 }));
            let router = router.expect("a router");
            let port = router.interfaces[0].port;
            router.interfaces.push(Interface {
                port,
                network: network_id(network),
                subnet: subnet_id(network + 0x60),
                mac: Mac(router_mac(network).0),
                address: address6(network, 1).into(),
            });
        }
        for vm in self.vms.values() {
            let port = self.slice.ports.get_mut(&vm.port).expect("a port");
            port.addresses.push(vm.address6().into());
        }
        self.add_way_out6();
        self.program();
    }

    fn add_way_out6(&mut self) {
        let cidr = "2001:db8:7::/64".parse().expect("a prefix");
        let external = self.slice.external_networks.get_mut(&network_id(EXTERNAL)).expect("the network");
        external.subnets.insert(subnet_id(EXTERNAL + 0x60), Subnet::new(cidr, Some(GATEWAY6.into())));
        for host in &mut self.hosts {
            host.facts.neighbors.insert((vni(900), IpAddr::from(GATEWAY6)), Mac(GATEWAY_MAC.0));
        }
        let router = self.slice.routers.get_mut(&router_id(1)).expect("a router");
        router.gateway.as_mut().expect("a gateway").ipv6_addresses.push(ROUTER6);
        for vm in self.vms.values().filter(|vm| vm.network != network_id(3)) {
            let address = RoutedAddress {
                external_network: network_id(EXTERNAL),
                router: router_id(1),
                address: vm.address6().into(),
            };
            let host = Some(self.hosts[vm.host].id);
            let port = RoutedPort { network: vm.network, host, addresses: vec![address] };
            self.slice.routed_ports.insert(vm.port, port);
        }
    }

    /// A frame from one VM to an address, through its router.
    pub fn routed6(&self, from: &str, dst: Ipv6Addr, (src_port, dst_port): (u16, u16)) -> Ends<Ipv6Addr> {
        let vm = self.vms[from];
        Ends { src_mac: vm.mac, dst_mac: vm.router_mac, src: vm.address6(), dst, src_port, dst_port }
    }

    /// A frame from one VM to another on the same network.
    pub fn switched6(&self, from: &str, to: &str, (src_port, dst_port): (u16, u16)) -> Ends<Ipv6Addr> {
        let to = self.vms[to];
        Ends { dst_mac: to.mac, ..self.routed6(from, to.address6(), (src_port, dst_port)) }
    }

    /// A frame from the outside router to an address, on a host's provider NIC.
    pub fn outside6(
        &self,
        host: usize,
        (src, src_port): (Ipv6Addr, u16),
        (dst, dst_port): (Ipv6Addr, u16),
    ) -> Ends<Ipv6Addr> {
        let dst_mac = MacAddr(self.hosts[host].facts.dvr_mac.0);
        Ends { src_mac: GATEWAY_MAC, dst_mac, src, dst, src_port, dst_port }
    }

    /// The frame that reached a VM, read and verified.
    ///
    /// # Panics
    /// If the packet arrived anywhere else.
    pub fn at_vm6(&self, name: &str, arrival: &Arrival) -> Read<Ipv6Addr> {
        frames::read6(self.frame_at_vm(name, arrival))
    }

    /// The frame that left by a provider NIC, which host it was, read and verified.
    ///
    /// # Panics
    /// If the packet arrived anywhere else or without the VLAN tag.
    pub fn at_uplink6(&self, arrival: &Arrival) -> (usize, Read<Ipv6Addr>) {
        let (host, frame) = self.frame_at_uplink(arrival);
        (host, frames::read6(frame))
    }
}
