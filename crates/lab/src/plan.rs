//! A valid lab: the lab file with every name resolved to an index and every rule checked.
//!
//! [`Plan::parse`] is the only way to one. It reports everything that is wrong at once, each with the field, the
//! reason and where there is one the fix; after that nobody checks again.

use crate::error::FileError;
use crate::file::{Egress, LabFile, Route, Tunnel, Underlay, VmKind};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) mod rule;
mod validate;

use rule::Rule;

/// Index into [`Plan::hosts`], and so on: a plan's own lists never change.
pub(crate) type Index = usize;

#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    pub tunnel: Tunnel,
    pub offloads: bool,
    pub underlay: Underlay,
    pub controller: ControllerPlace,
    pub physical_networks: Vec<String>,
    pub hosts: Vec<Host>,
    pub external_hosts: Vec<ExternalHost>,
    pub external_networks: Vec<ExternalNetwork>,
    pub networks: Vec<Network>,
    pub routers: Vec<Router>,
    pub security_groups: Vec<SecurityGroup>,
    pub vms: Vec<Vm>,
    pub floating_ips: Vec<FloatingIp>,
}

/// What may differ from the file, so that one file can be up several times and in several ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    pub name: Option<String>,
    pub tunnel: Option<Tunnel>,
    pub offloads: Option<bool>,
    /// Machines alone: networks, routers, ports and floating IPs are whoever's who logs in, and a VM is a namespace
    /// that nothing is plugged into.
    #[serde(default)]
    pub bare: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerPlace {
    Host(Index),
    /// A machine of its own with this address on the underlay.
    Own(Ipv4Addr),
}

#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub vtep: Ipv4Addr,
    pub physical_networks: Vec<Index>,
}

#[derive(Clone, Debug)]
pub struct ExternalHost {
    pub name: String,
    pub place: Place,
    /// The first is the one it answers and asks with.
    pub addresses: Vec<Ipv4Net>,
    pub routes: Vec<Route>,
}

/// Where a machine outside is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Attached(Segment),
    Behind(Index),
}

/// A broadcast domain of a physical network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub physical_network: Index,
    /// None: untagged.
    pub vlan: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct ExternalNetwork {
    pub name: String,
    pub segment: Segment,
    pub cidr: Ipv4Net,
    pub gateway: Ipv4Addr,
    pub ipv6: Option<Ipv6Net>,
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    pub egress: Egress,
    pub block_size: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct Network {
    pub name: String,
    pub subnets: Vec<Subnet>,
    pub ipv6: Option<Ipv6Net>,
    pub mtu: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
pub struct Subnet {
    pub cidr: Ipv4Net,
    pub gateway: Ipv4Addr,
}

#[derive(Clone, Debug)]
pub struct Router {
    pub name: String,
    pub interfaces: Vec<Index>,
    pub external_network: Option<Index>,
    pub snat_address: Option<Ipv4Addr>,
    pub ports_per_vm_max: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct SecurityGroup {
    pub name: String,
    pub stateful: bool,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Vm {
    pub name: String,
    pub host: Index,
    pub network: Index,
    /// Of the network: the one the address is in.
    pub subnet: Index,
    pub address: Ipv4Addr,
    pub kind: VmKind,
    /// None: everything is allowed.
    pub security_groups: Option<Vec<Index>>,
}

#[derive(Clone, Copy, Debug)]
pub struct FloatingIp {
    pub vm: Index,
    pub address: Ipv4Addr,
}

/// Last bits of the first router's address on an IPv6 subnet outside.
const FIRST_ROUTER: u128 = 0x10;

/// The router's, or outside the gateway's, on an IPv6 subnet.
pub(crate) fn first_address(prefix: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(prefix.network()) | 1)
}

impl Plan {
    /// Reads and checks a lab file, with what the overrides change.
    ///
    /// # Errors
    /// `Syntax` with the place in the text, or `Invalid` with everything that is wrong.
    pub fn parse(text: &str, overrides: &Overrides) -> Result<Self, FileError> {
        let mut file: LabFile = toml::from_str(text).map_err(|error| FileError::Syntax(Box::new(error)))?;
        if let Some(name) = &overrides.name {
            file.name.clone_from(name);
        }
        file.tunnel = overrides.tunnel.unwrap_or(file.tunnel);
        file.offloads = overrides.offloads.unwrap_or(file.offloads);
        if overrides.bare {
            // `nanboku port plug` makes nothing else.
            file.vms.iter_mut().for_each(|vm| vm.kind = VmKind::Veth);
        }
        validate::validate(file).map_err(FileError::Invalid)
    }

    /// The router that owns a network's gateway address.
    pub fn router_of(&self, network: Index) -> Option<Index> {
        self.routers.iter().position(|router| router.interfaces.contains(&network))
    }

    /// Two VMs are in one VPC: on one network, or on networks that one router joins.
    pub fn same_vpc(&self, a: &Vm, b: &Vm) -> bool {
        a.network == b.network
            || self.router_of(a.network).is_some_and(|router| self.router_of(b.network) == Some(router))
    }

    /// The external network a VM's router leads to.
    pub fn external_of(&self, vm: &Vm) -> Option<Index> {
        self.router_of(vm.network).and_then(|router| self.routers[router].external_network)
    }

    /// The machine outside that has an external network's gateway address.
    pub(crate) fn gateway_of(&self, network: Index) -> Option<Index> {
        let network = &self.external_networks[network];
        self.external_hosts.iter().position(|host| {
            host.place == Place::Attached(network.segment)
                && host.addresses.iter().any(|address| address.addr() == network.gateway)
        })
    }

    /// A router's own IPv6 address outside, if its external network has IPv6.
    pub(crate) fn router_ipv6(&self, router: Index) -> Option<Ipv6Addr> {
        let prefix = self.external_networks[self.routers[router].external_network?].ipv6?;
        let number = FIRST_ROUTER.saturating_add(u128::try_from(router).ok()?);
        Some(Ipv6Addr::from(u128::from(prefix.network()) | number))
    }

    /// Prefixes of VMs behind an external network, and the address outside of the router that leads there.
    pub(crate) fn routed_ipv6(&self, network: Index) -> Vec<(Ipv6Addr, Ipv6Net)> {
        let mut routed = Vec::new();
        for (index, router) in self.routers.iter().enumerate() {
            let Some(address) = self.router_ipv6(index) else { continue };
            if router.external_network == Some(network) {
                let prefixes = router.interfaces.iter().filter_map(|inside| self.networks[*inside].ipv6);
                routed.extend(prefixes.map(|prefix| (address, prefix)));
            }
        }
        routed
    }

    pub fn floating_of(&self, vm: Index) -> Option<Ipv4Addr> {
        self.floating_ips.iter().find(|floating| floating.vm == vm).map(|floating| floating.address)
    }

    /// Without the VMs that have security groups of their own: what reaches them is not the plan's to say.
    pub(crate) fn unfiltered(mut self) -> Self {
        let place = |index: Index| self.vms[..index].iter().filter(|vm| vm.security_groups.is_none()).count();
        let open = |index: Index| self.vms[index].security_groups.is_none();
        let floating = self.floating_ips.iter().filter(|floating| open(floating.vm));
        self.floating_ips =
            floating.map(|floating| FloatingIp { vm: place(floating.vm), ..*floating }).collect();
        self.vms.retain(|vm| vm.security_groups.is_none());
        self
    }

    /// The segment a machine outside is on, itself or through the machines it is behind.
    pub fn segment_of(&self, external_host: Index) -> Segment {
        let mut index = external_host;
        loop {
            match self.external_hosts[index].place {
                Place::Attached(segment) => return segment,
                // Validation orders them: a host is only behind one that comes before it.
                Place::Behind(nearer) => index = nearer,
            }
        }
    }

    pub fn controller_address(&self) -> Ipv4Addr {
        match self.controller {
            ControllerPlace::Host(host) => self.hosts[host].vtep,
            ControllerPlace::Own(address) => address,
        }
    }

    /// Every machine of the lab by name: what `lab exec` can enter.
    pub fn machines(&self) -> impl Iterator<Item = &str> {
        let hosts = self.hosts.iter().map(|host| host.name.as_str());
        let external = self.external_hosts.iter().map(|host| host.name.as_str());
        let controller = matches!(self.controller, ControllerPlace::Own(_)).then_some("controller");
        hosts.chain(external).chain(self.vms.iter().map(|vm| vm.name.as_str())).chain(controller)
    }
}
