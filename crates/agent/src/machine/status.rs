//! What the machine tells of itself: to the controller, to the control socket, to whoever plugs a port.

use super::{BlockUses, Machine};
use crate::control;
use crate::scene::Scene;
use model::slice::Slice;
use model::{Mac, PortId, ip};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// A port bound to this host, as the other end of its link needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortView {
    pub(crate) mac: Mac,
    /// With the prefix length of the subnet.
    pub(crate) addresses: Vec<(Ipv4Addr, u8)>,
    pub(crate) mtu: u16,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) programmed: bool,
}

impl Machine {
    pub(super) fn status_message(&self, counters: BTreeMap<String, u64>, blocks: BlockUses) -> proto::Status {
        let known: BTreeMap<String, PortId> =
            self.slice.iter().flat_map(|slice| slice.ports.keys()).map(|id| (id.link_name(), *id)).collect();
        let present = self.links.keys().filter(|name| super::is_port_link(name));
        // Of a port that is not in the slice, only the beginning of its id is known.
        let ids = present.map(|name| match known.get(name) {
            Some(id) => id.to_string(),
            None => name.trim_start_matches("tap").to_owned(),
        });
        let uplinks = self.settings.physical_networks.iter().map(|(network, link)| proto::UplinkStatus {
            physical_network: network.clone(),
            up: self.links.get(link).is_some_and(|link| link.up),
        });
        proto::Status {
            link_port_ids: ids.collect(),
            uplinks: uplinks.collect(),
            counters: counters.into_iter().map(|(name, value)| proto::Counter { name, value }).collect(),
            blocks: blocks.to_proto(),
        }
    }

    /// Every port bound to this host, whether its link is there or not.
    pub(crate) fn views(&self) -> BTreeMap<PortId, PortView> {
        let (Some(welcome), Some(slice)) = (&self.welcome, &self.slice) else { return BTreeMap::new() };
        let programmed = self.programmed_ports();
        let here = slice.ports.iter().filter(|(_, port)| port.host == Some(welcome.host));
        here.filter_map(|(id, port)| {
            let network = slice.networks.get(&port.network)?;
            let subnet_of =
                |address: IpAddr| network.subnets.values().find(|subnet| subnet.cidr.contains(&address));
            // Of IPv6 the router's advertisements tell the guest.
            let addresses = port.addresses.iter().copied().filter_map(ip::ipv4).map(|address| {
                (address, subnet_of(address.into()).map_or(32, |subnet| subnet.cidr.prefix_len()))
            });
            let first = port.addresses.iter().copied().find(IpAddr::is_ipv4).and_then(subnet_of);
            let view = PortView {
                mac: port.mac,
                addresses: addresses.collect(),
                mtu: network.mtu,
                gateway: first.and_then(|subnet| ip::ipv4(subnet.gateway?)),
                programmed: programmed.contains(id),
            };
            Some((*id, view))
        })
        .collect()
    }

    /// The parts of the status that the machine knows.
    pub(crate) fn control_status(&self) -> control::Status {
        let welcome = self.welcome.as_ref();
        let programmed = self.programmed.as_ref();
        let programmed_ports = self.programmed_ports();
        let ports = self.local_ports().map(|(port_id, link)| control::PortStatus {
            port_id,
            link: link.name.clone(),
            ifindex: link.index,
            programmed: programmed_ports.contains(&port_id),
        });
        let uplinks = self.settings.physical_networks.iter().map(|(network, name)| {
            let link = self.links.get(name);
            control::UplinkStatus {
                physical_network: network.clone(),
                link: name.clone(),
                ifindex: link.map_or(0, |link| link.index),
                up: link.is_some_and(|link| link.up),
            }
        });
        let neighbors = self.resolver.all().map(|((vni, address), mac)| control::NeighborStatus {
            vni: vni.get(),
            address,
            mac: mac.map(|mac| mac.to_string()),
        });
        let problems = programmed.iter().flat_map(|plan| &plan.compiled.problems);
        control::Status {
            connected: self.connected,
            revision: self.slice.as_ref().map_or(0, |slice: &Slice| slice.revision),
            programmed_revision: programmed.map_or(0, |plan| plan.revision),
            vtep: self.settings.vtep.to_string(),
            dvr_mac: welcome.map(|welcome| welcome.dvr_mac.to_string()).unwrap_or_default(),
            tunnel: self.tunnel_text(),
            ports: ports.collect(),
            uplinks: uplinks.collect(),
            neighbors: neighbors.collect(),
            problems: problems
                .map(|problem| control::ProblemStatus {
                    object: format!("{:?}", problem.object),
                    text: problem.text.clone(),
                })
                .collect(),
            warnings: self.warnings(),
            ..control::Status::default()
        }
    }

    fn tunnel_text(&self) -> String {
        let Some(welcome) = &self.welcome else { return String::new() };
        match self.tunnel {
            Some(tunnel) if tunnel.geneve_as_vxlan => format!("{} by a VXLAN device", welcome.tunnel),
            Some(_) => welcome.tunnel.to_string(),
            None => format!("{} (no device)", welcome.tunnel),
        }
    }

    /// What keeps this host from doing its part.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.slice.is_none() {
            warnings.push("the controller was never reached: nothing is programmed yet".to_owned());
        }
        for (network, link) in &self.settings.physical_networks {
            match self.links.get(link) {
                None => warnings.push(format!("link '{link}' of physical network '{network}' is missing")),
                Some(link) if !link.up => {
                    warnings.push(format!("link '{}' of physical network '{network}' is down", link.name));
                }
                Some(_) => {}
            }
        }
        warnings.extend(self.health_warnings());
        warnings
    }

    /// By ifindex.
    pub(crate) fn link_names(&self) -> BTreeMap<u32, String> {
        self.links.values().map(|link| (link.index, link.name.clone())).collect()
    }

    /// Everything there is to tell people about, as of now.
    pub(crate) fn scene(&self, host: &str) -> Scene {
        Scene::new(
            host.to_owned(),
            self.welcome.as_ref().map(|welcome| welcome.host),
            self.slice.clone().unwrap_or_default(),
            self.programmed.as_ref().map(|plan| plan.compiled.clone()),
            self.link_names(),
            self.resolver.known().collect(),
            crate::kernel::timeouts(self.nat_timeouts()),
        )
    }
}
