//! A model built by name, straight into a store. Ids follow from names, so that tests can say names.

use model::resource::{
    AddressRange, Association, FixedIp, FloatingIp, ForwardedProtocol, GatewayInfo, Host, Network, Port,
    PortForwarding, Provider, Router, Standard, Subnet, device_owner,
};
use model::slice::{Egress, Slice};
use model::{FloatingIpId, HostId, Mac, NetworkId, PortForwardingId, PortId, RouterId, SubnetId, Vni};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use store::{Record, Snapshot, Store, StoreError};
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    next: AtomicU32,
}

fn uuid(kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{kind}/{name}").as_bytes())
}

pub(crate) fn host_id(name: &str) -> HostId {
    HostId::from_uuid(uuid("host", name))
}

pub(crate) fn network_id(name: &str) -> NetworkId {
    NetworkId::from_uuid(uuid("network", name))
}

pub(crate) fn subnet_id(name: &str) -> SubnetId {
    SubnetId::from_uuid(uuid("subnet", name))
}

pub(crate) fn router_id(name: &str) -> RouterId {
    RouterId::from_uuid(uuid("router", name))
}

pub(crate) fn port_id(name: &str) -> PortId {
    PortId::from_uuid(uuid("port", name))
}

pub(crate) fn floating_ip_id(address: &str) -> FloatingIpId {
    FloatingIpId::from_uuid(uuid("floating_ip", address))
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(Store::open(None).unwrap()))
    }

    /// Builds into a store that is there already.
    pub(crate) fn over(store: Arc<Store>) -> Self {
        Self { store, next: AtomicU32::new(1) }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    pub(crate) fn put<R: Record>(&self, record: R) {
        let put = self.store.transact::<_, StoreError>(|transaction| {
            transaction.put(record);
            Ok(())
        });
        put.unwrap();
    }

    pub(crate) fn remove<R: Record>(&self, id: R::Id) {
        self.store.transact::<_, StoreError>(|transaction| Ok(transaction.remove::<R>(id))).unwrap();
    }

    /// Changes a record that exists.
    pub(crate) fn change<R: Record>(&self, id: R::Id, change: impl FnOnce(&mut R)) {
        let changed = self.store.transact::<_, StoreError>(|transaction| {
            let mut record = R::clone(transaction.get::<R>(id).unwrap());
            change(&mut record);
            transaction.put(record);
            Ok(())
        });
        changed.unwrap();
    }

    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn vni(&self) -> Vni {
        Vni::new(self.number()).unwrap()
    }

    fn mac(&self) -> Mac {
        let [a, b, c, d] = self.number().to_be_bytes();
        Mac([0xfa, 0x16, a, b, c, d])
    }

    /// A live host with a tunnel address.
    pub(crate) fn host(&self, name: &str, vtep: &str, physical_networks: &[&str]) -> HostId {
        self.put(Host {
            id: host_id(name),
            name: name.into(),
            vtep: address(vtep),
            dvr_mac: self.mac(),
            physical_networks: physical_networks.iter().map(|name| (*name).to_owned()).collect(),
            version: "0.1.0".into(),
            created_at: 0,
            started_at: 0,
            drained: false,
            description: String::new(),
            live: true,
        });
        host_id(name)
    }

    /// A tenant network with one subnet of the same name.
    pub(crate) fn network(&self, name: &str, cidr: &str) {
        self.put(self.bare_network(name, None));
        self.subnet(name, name, cidr);
    }

    pub(crate) fn external_network(&self, name: &str, physical_network: &str, vlan: Option<u16>, cidr: &str) {
        let provider = Provider {
            physical_network: physical_network.into(),
            vlan,
            egress: Egress::Direct,
            block_size: 1024,
        };
        self.put(self.bare_network(name, Some(provider)));
        self.subnet(name, name, cidr);
    }

    fn bare_network(&self, name: &str, provider: Option<Provider>) -> Network {
        Network {
            id: network_id(name),
            standard: standard(name),
            admin_state_up: true,
            shared: None,
            mtu: 1450,
            vni: self.vni(),
            external: provider.is_some(),
            provider,
            is_default: false,
            port_security_enabled: true,
            availability_zone_hints: Vec::new(),
        }
    }

    fn subnet(&self, name: &str, network: &str, cidr: &str) {
        let cidr: ipnet::Ipv4Net = cidr.parse().unwrap();
        let gateway = cidr.hosts().next();
        self.put(Subnet {
            id: subnet_id(name),
            standard: standard(name),
            network: network_id(network),
            cidr: cidr.into(),
            gateway_ip: gateway.map(Into::into),
            enable_dhcp: true,
            allocation_pools: vec![AddressRange {
                start: cidr.hosts().next().unwrap().into(),
                end: cidr.broadcast().into(),
            }],
            dns_nameservers: vec![],
            host_routes: vec![],
            service_types: vec![],
            pool: None,
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
        });
    }

    pub(crate) fn router(&self, name: &str) {
        self.put(Router {
            id: router_id(name),
            standard: standard(name),
            admin_state_up: true,
            vni: self.vni(),
            gateway: None,
            routes: vec![],
            availability_zone_hints: vec![],
        });
    }

    /// Gives a router an interface on a network.
    pub(crate) fn attach(&self, router: &str, network: &str, at: &str) {
        let name = format!("{router}:{network}");
        let owner = (device_owner::ROUTER_INTERFACE, router_id(router).to_string());
        self.put(self.bare_port(&name, network, at, owner));
    }

    /// Gives a router an external gateway with SNAT.
    pub(crate) fn gateway(&self, router: &str, network: &str, snat_address: &str) {
        let name = format!("{router}:{network}");
        let owner = (device_owner::ROUTER_GATEWAY, router_id(router).to_string());
        self.put(self.bare_port(&name, network, snat_address, owner));
        self.change::<Router>(router_id(router), |router| {
            let gateway = GatewayInfo {
                network: network_id(network),
                enable_snat: true,
                port: port_id(&name),
                filtering: Default::default(),
                ports_per_vm_max: 0,
                mappings_per_second_max: 0,
                port_control: false,
                untranslated_destinations: Vec::new(),
                snat_shared: false,
            };
            router.gateway = Some(gateway);
        });
    }

    /// A VM's port; bound unless `host` is empty.
    pub(crate) fn port(&self, name: &str, network: &str, at: &str, host: &str) {
        let port = self.bare_port(name, network, at, ("compute:nova", String::new()));
        self.put(Port { binding_host: host.into(), ..port });
    }

    fn bare_port(&self, name: &str, network: &str, at: &str, (owner, device): (&str, String)) -> Port {
        Port {
            id: port_id(name),
            standard: standard(name),
            network: network_id(network),
            mac: self.mac(),
            fixed_ips: vec![FixedIp { subnet: subnet_id(network), address: address(at).into() }],
            admin_state_up: true,
            device_id: device,
            device_owner: owner.into(),
            binding_host: String::new(),
            binding_profile: Default::default(),
            vnic_type: "normal".into(),
            port_security_enabled: true,
            allowed_address_pairs: vec![],
            extra_dhcp_options: vec![],
            security_groups: None,
            programmed_on: None,
        }
    }

    /// A floating IP for the port's address, through the router.
    pub(crate) fn floating_ip(&self, at: &str, network: &str, port: &str, router: &str) {
        let snapshot = self.snapshot();
        let fixed_address = snapshot.get::<Port>(port_id(port)).unwrap().fixed_ips[0].ipv4().unwrap();
        self.put(FloatingIp {
            id: floating_ip_id(at),
            standard: standard(at),
            network: network_id(network),
            address: address(at),
            holder: port_id(at),
            association: Some(Association { port: port_id(port), fixed_address, router: router_id(router) }),
            forwardings: Vec::new(),
            programmed: false,
        });
    }
}

impl World {
    /// A TCP port of a floating IP leads to a port's first address; the floating IP stands for nothing else.
    pub(crate) fn forward(&self, at: &str, external_port: u16, port: &str, router: &str) {
        let snapshot = self.snapshot();
        let internal_address = snapshot.get::<Port>(port_id(port)).unwrap().fixed_ips[0].ipv4().unwrap();
        self.change::<FloatingIp>(floating_ip_id(at), |floating_ip| {
            floating_ip.association = None;
            floating_ip.forwardings.push(PortForwarding {
                id: PortForwardingId::from_uuid(uuid("forwarding", &format!("{at}:{external_port}"))),
                description: String::new(),
                router: router_id(router),
                protocol: ForwardedProtocol::Tcp,
                external_port,
                port: port_id(port),
                internal_address,
                internal_port: 22,
            });
        });
    }
}

fn standard(name: &str) -> Standard {
    Standard { name: name.into(), project_id: "demo".into(), ..Standard::default() }
}

/// A slice as text, one object per line, by names.
pub(crate) fn shown(snapshot: &Snapshot, slice: &Slice) -> String {
    let host = |id: &HostId| snapshot.get::<Host>(*id).unwrap().name.clone();
    let at = |id: &Option<HostId>| id.as_ref().map_or("nowhere".to_owned(), host);
    let network = |id: &NetworkId| snapshot.get::<Network>(*id).unwrap().standard.name.clone();
    let router = |id: &RouterId| snapshot.get::<Router>(*id).unwrap().standard.name.clone();
    let port = |id: &PortId| snapshot.get::<Port>(*id).unwrap().standard.name.clone();
    let mut lines: Vec<String> = Vec::new();
    lines.extend(
        slice.hosts.values().map(|h| format!("host {}{}", h.name, if h.live { "" } else { " down" })),
    );
    lines.extend(slice.networks.values().map(|n| format!("network {}", n.name)));
    lines.extend(slice.external_networks.values().map(|n| {
        let mut gateways: Vec<_> = n.gateways.iter().map(host).collect();
        gateways.sort();
        format!("external {} gateways {}", n.name, gateways.join(","))
    }));
    lines.extend(slice.routers.values().map(|r| {
        let mut legs: Vec<_> =
            r.interfaces.iter().map(|i| format!("{}={}", network(&i.network), i.address)).collect();
        legs.sort();
        let snat = r.gateway.iter().flat_map(|g| &g.addresses).map(ToString::to_string).collect::<Vec<_>>();
        format!("router {} [{}] snat {}", r.name, legs.join(" "), snat.join(","))
    }));
    lines.extend(slice.ports.iter().map(|(id, p)| format!("port {} @{}", port(id), at(&p.host))));
    lines.extend(
        slice
            .floating_ips
            .values()
            .map(|f| format!("floating {} -> {} @{}", f.address, port(&f.port), at(&f.host))),
    );
    lines.extend(slice.blocks.iter().map(|(id, b)| {
        format!("block {}:{} {} @{}", id.address, id.first_port, router(&b.router), host(&b.host))
    }));
    lines.sort();
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}
