//! What a host knows of itself and the controller does not: links, uplinks, resolved neighbours.

use crate::acl::AclSizes;
use ipnet::Ipv4Net;
use model::slice::ExternalNetwork;
use model::{HostId, Mac, PortId, Vni};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// The facts of one host at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFacts {
    pub host: HostId,
    /// This host's tunnel address.
    pub vtep: Ipv4Addr,
    /// The network of that address on the underlay NIC: hosts in it are reached without a router.
    pub underlay_net: Ipv4Net,
    pub dvr_mac: Mac,
    pub underlay_ifindex: u32,
    /// Largest IP packet on the underlay: what goes through a tunnel is smaller by its headers.
    pub underlay_mtu: u16,
    pub tunnel: TunnelFacts,
    /// Links of ports that exist on this host, by the port each belongs to.
    pub links: BTreeMap<PortId, LinkFacts>,
    /// By physical network. Absent: the host does not have it.
    pub uplinks: BTreeMap<String, UplinkFacts>,
    /// Resolved neighbours on external networks.
    pub neighbors: BTreeMap<(Vni, IpAddr), Mac>,
    /// Hosts that must not be used as gateways whatever the slice says: they do not answer, or say that their
    /// uplink is of no use. This host too, if that is what it found out about itself.
    pub dead_hosts: BTreeSet<HostId>,
    /// The link behind which the host's services are, and who takes packets there; none: it serves none.
    pub service: Option<ServiceFacts>,
    /// Most sessions of one VM's port on this host, 0: no limit.
    pub sessions_per_vm_max: u32,
    pub standing: Standing,
    /// Room for what security groups allow.
    pub acl_sizes: AclSizes,
}

/// How this host stands to the others, as far as it matters for who answers for an address
/// ([decision 0013](../../../docs/decisions/0013-who-answers.md)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Dead hosts that said so themselves: they are there, their uplink is of no use. The others are silent.
    pub withdrawn: BTreeSet<HostId>,
    /// No other host can be heard: this one is cut off, or the last.
    pub isolated: bool,
    /// Addresses that another answers for, or may; only while isolated.
    pub withheld: BTreeSet<(Vni, IpAddr)>,
    /// External networks of which this host was a gateway until a moment ago: it goes on forwarding.
    pub lingering: BTreeSet<Vni>,
    /// Of these, the ones where it goes on answering, until others have said that they do.
    pub still_answering: BTreeSet<Vni>,
}

/// See [`LocalFacts::service`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    pub ifindex: u32,
    pub mac: Mac,
}

/// The link of a port: a tap, or the host's end of a veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    pub ifindex: u32,
    /// One end of a veth pair whose other end is in another namespace: the kernel can hand a packet to that
    /// end without queueing it once more.
    pub veth_peer_elsewhere: bool,
}

/// The NIC of a physical network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkFacts {
    pub ifindex: u32,
    /// Has carrier. A NIC that is down receives (if anything comes), but nothing is sent through it.
    pub up: bool,
}

/// How this host speaks to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelFacts {
    pub protocol: TunnelProtocol,
    /// UDP destination port.
    pub port: u16,
    /// Lone packets are decapsulated by the program on the underlay NIC.
    pub lone_path: bool,
    /// The kernel has no Geneve; its VXLAN device stands in.
    pub geneve_as_vxlan: bool,
    /// Hosts speak BFD inside the tunnel.
    pub liveness: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelProtocol {
    Geneve,
    Vxlan,
}

impl LocalFacts {
    /// The gateways of an external network that can be used, ascending. If none can, all of them: what looks
    /// dead from here may forward, what is not tried does not.
    pub(crate) fn live_gateways(&self, network: &ExternalNetwork) -> Vec<HostId> {
        let mut all = network.gateways.clone();
        all.sort();
        all.dedup();
        let live: Vec<HostId> = all.iter().copied().filter(|host| !self.dead_hosts.contains(host)).collect();
        if live.is_empty() { all } else { live }
    }

    /// Whether somebody else can take over from a host.
    pub(crate) fn has_other_gateway(&self, network: &ExternalNetwork, than: HostId) -> bool {
        network.gateways.iter().any(|host| *host != than && !self.dead_hosts.contains(host))
    }

    /// Whether this host sends to the network itself: its NIC is up, and it did not withdraw for others.
    pub(crate) fn may_send(&self, network: &ExternalNetwork) -> bool {
        let withdrawn = self.dead_hosts.contains(&self.host)
            && network.gateways.iter().any(|host| !self.dead_hosts.contains(host));
        self.uplink_ready(&network.physical_network).is_some() && !withdrawn
    }

    /// The NIC that frames to a physical network leave by, if there is one that is up.
    pub(crate) fn uplink_ready(&self, physical_network: &str) -> Option<u32> {
        self.uplinks.get(physical_network).filter(|uplink| uplink.up).map(|uplink| uplink.ifindex)
    }
}
