//! What a host knows at one moment, for telling people about it: taken from the machine, owned, and carried to
//! whatever thread does the telling.

use crate::neighbors::Known;
use compiler::Compiled;
use dataplane::Timeouts;
use model::slice::Slice;
use model::{HostId, NetworkId, PortId, RouterId};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    pub(crate) host: String,
    pub(crate) host_id: Option<HostId>,
    pub(crate) slice: Slice,
    /// What the kernel has; none before anything was programmed.
    pub(crate) programmed: Option<Compiled>,
    /// By ifindex.
    pub(crate) links: BTreeMap<u32, String>,
    /// Neighbours on external networks.
    pub(crate) neighbors: Vec<Known>,
    /// Idle times of sessions.
    pub(crate) timeouts: Timeouts,
    index: Index,
}

/// What is looked up for every row.
#[derive(Debug, Default)]
struct Index {
    /// Names of networks and routers, by VNI.
    names: HashMap<u32, String>,
    network_ids: HashMap<u32, NetworkId>,
    router_ids: HashMap<u32, RouterId>,
    /// A VM's port by the VNI of its network, or of its network's router, and its address.
    places: HashMap<(u32, IpAddr), (PortId, Option<HostId>)>,
    /// VNI of the router by the VNI of a network it has an interface on.
    routers: HashMap<u32, u32>,
}

impl Scene {
    pub(crate) fn new(
        host: String,
        host_id: Option<HostId>,
        slice: Slice,
        programmed: Option<Compiled>,
        links: BTreeMap<u32, String>,
        neighbors: Vec<Known>,
        timeouts: Timeouts,
    ) -> Self {
        let index = Index::of(&slice);
        Self { host, host_id, slice, programmed, links, neighbors, timeouts, index }
    }

    /// The VM's port with that address on a network, or on any network of a router.
    pub(crate) fn place(&self, vni: u32, address: IpAddr) -> Option<(PortId, Option<HostId>)> {
        let place = |vni| self.index.places.get(&(vni, address)).copied();
        place(vni).or_else(|| place(*self.index.routers.get(&vni)?))
    }

    /// Name of a network or router; empty: unknown, or none.
    pub(crate) fn network(&self, vni: u32) -> &str {
        self.index.names.get(&vni).map_or("", String::as_str)
    }

    /// Names of networks and routers by VNI.
    pub(crate) fn names(&self) -> BTreeMap<u32, String> {
        self.index.names.iter().map(|(vni, name)| (*vni, name.clone())).collect()
    }

    pub(crate) fn network_id(&self, vni: u32) -> Option<NetworkId> {
        self.index.network_ids.get(&vni).copied()
    }

    pub(crate) fn vni_of(&self, network: NetworkId) -> Option<u32> {
        let tenant = self.slice.networks.get(&network).map(|network| network.vni);
        let external = || self.slice.external_networks.get(&network).map(|network| network.vni);
        tenant.or_else(external).map(|vni| vni.get())
    }

    pub(crate) fn router_of(&self, router: RouterId) -> Option<u32> {
        self.slice.routers.get(&router).map(|router| router.vni.get())
    }

    /// The router with that transit network.
    pub(crate) fn router_id(&self, vni: u32) -> Option<RouterId> {
        self.index.router_ids.get(&vni).copied()
    }

    /// VNI of the router with an interface on a network; 0: none.
    pub(crate) fn router_behind(&self, vni: u32) -> u32 {
        self.index.routers.get(&vni).copied().unwrap_or(0)
    }

    pub(crate) fn host_name(&self, host: HostId) -> &str {
        self.slice.hosts.get(&host).map_or("", |host| host.name.as_str())
    }

    pub(crate) fn vtep_of(&self, host: HostId) -> Option<Ipv4Addr> {
        self.slice.hosts.get(&host).map(|host| host.vtep)
    }

    /// The host with that tunnel address.
    pub(crate) fn host_at(&self, vtep: Ipv4Addr) -> &str {
        self.slice.hosts.values().find(|host| host.vtep == vtep).map_or("", |host| host.name.as_str())
    }

    /// A link's name; of one that is gone, its number.
    pub(crate) fn link(&self, ifindex: u32) -> LinkName<'_> {
        LinkName { name: self.links.get(&ifindex).map(String::as_str), ifindex }
    }
}

/// See [`Scene::link`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkName<'a> {
    name: Option<&'a str>,
    ifindex: u32,
}

impl std::fmt::Display for LinkName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "link {}", self.ifindex),
        }
    }
}

impl Index {
    fn of(slice: &Slice) -> Self {
        let mut index = Self::default();
        for (id, network) in &slice.networks {
            index.names.insert(network.vni.get(), network.name.clone());
            index.network_ids.insert(network.vni.get(), *id);
        }
        for (id, network) in &slice.external_networks {
            index.names.insert(network.vni.get(), network.name.clone());
            index.network_ids.insert(network.vni.get(), *id);
        }
        for (id, router) in &slice.routers {
            index.router_ids.insert(router.vni.get(), *id);
            index.names.insert(router.vni.get(), router.name.clone());
            for interface in &router.interfaces {
                if let Some(network) = slice.networks.get(&interface.network) {
                    index.routers.insert(network.vni.get(), router.vni.get());
                }
            }
        }
        for (id, port) in &slice.ports {
            let Some(network) = slice.networks.get(&port.network) else { continue };
            let vni = network.vni.get();
            let router = index.routers.get(&vni).copied();
            for address in port.addresses.iter().copied() {
                for scope in [Some(vni), router].into_iter().flatten() {
                    index.places.insert((scope, address), (*id, port.host));
                }
            }
        }
        index
    }
}

#[cfg(test)]
pub(crate) mod fixture;
