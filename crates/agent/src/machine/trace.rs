//! Walks of frames that somebody describes, over what this host has programmed.

use super::Machine;
use dataplane::View;
use model::PortId;
use model::slice::ObjectId;
use model::trace::{Entry, NoEntry, Origin, WalkAnswer, WalkRequest};
use std::collections::BTreeMap;
use std::net::IpAddr;
use trace::{Arrival, Link, Names, Surroundings};

/// Questions without an answer that make somebody silent.
const SILENT_FROM: u32 = 3;

impl Machine {
    /// Walks a request's frame over the kernel's tables. Nothing is changed.
    pub(crate) fn walk(&self, view: &View<'_>, request: &WalkRequest) -> WalkAnswer {
        let arrival = match self.arrival(&request.entry) {
            Ok(arrival) => arrival,
            Err((reason, text)) => return no_entry(reason, text),
        };
        let Some(plan) = &self.programmed else {
            return no_entry("not-programmed", "the agent has not programmed this host yet".to_owned());
        };
        let names = self.names();
        let provenance = &plan.compiled.provenance;
        let origin = |table: &'static str, key: &[u8]| {
            let made = provenance.get(&compiler::EntryName { table, key: key.to_vec() })?;
            Some(origin(made.object, made.why))
        };
        let around = Surroundings {
            names: &names,
            programmed: &plan.compiled.tables,
            revision: plan.revision,
            origin: &origin,
        };
        match trace::walk(view, &around, arrival, request) {
            Ok(mut walked) => {
                walked.verdict.neighbor_silent =
                    walked.verdict.neighbor.is_some_and(|address| self.is_silent(address));
                WalkAnswer::Walked(Box::new(walked))
            }
            Err(error) => no_entry("state-unreadable", error.to_string()),
        }
    }

    /// Whether somebody on an external network was asked several times and says nothing.
    fn is_silent(&self, address: IpAddr) -> bool {
        let mut known = self.resolver.known().filter(|known| known.target.1 == address);
        known.any(|known| known.unanswered >= SILENT_FROM || (known.gateway && self.watch.has_silent()))
    }

    /// Where an entry is here; otherwise why it is not.
    fn arrival(&self, entry: &Entry) -> Result<Arrival, (&'static str, String)> {
        match entry {
            Entry::Underlay => Ok(Arrival::Underlay),
            Entry::Uplink(network) => {
                let link = self.settings.physical_networks.get(network).and_then(|name| self.links.get(name));
                let link =
                    link.ok_or(("no-uplink", format!("no link of physical network {network} is here")))?;
                Ok(Arrival::Uplink { ifindex: link.index })
            }
            Entry::Port(id) => {
                let name = id.link_name();
                let link = self.links.get(&name);
                let link =
                    link.ok_or(("no-link", format!("there is no link {name}: the port is not plugged")))?;
                if !link.up {
                    return Err((
                        "link-down",
                        format!("the interface {name} is down: its VM is off or took it down"),
                    ));
                }
                if self.local_ports().any(|(local, _)| local == *id) {
                    Ok(Arrival::Port { ifindex: link.index })
                } else {
                    Err(("port-not-here", format!("this host was not told of port {id}")))
                }
            }
        }
    }

    pub(super) fn names(&self) -> Names {
        let ports: BTreeMap<u32, PortId> = self.local_ports().map(|(id, link)| (link.index, id)).collect();
        let physical_network = |name: &String| {
            let mut networks = self.settings.physical_networks.iter();
            networks.find(|(_, link)| *link == name).map(|(network, _)| network.clone())
        };
        let link = |link: &super::Link| Link {
            name: link.name.clone(),
            up: link.up,
            port: ports.get(&link.index).copied(),
            physical_network: physical_network(&link.name),
        };
        let slice = self.slice.as_ref();
        let hosts = slice.into_iter().flat_map(|slice| slice.hosts.values());
        let tenant = slice.into_iter().flat_map(|slice| slice.networks.values());
        let external = slice.into_iter().flat_map(|slice| slice.external_networks.values());
        let routers = slice.into_iter().flat_map(|slice| slice.routers.values());
        let networks = tenant
            .map(|network| (network.vni, &network.name))
            .chain(external.map(|network| (network.vni, &network.name)))
            .chain(routers.map(|router| (router.vni, &router.name)));
        Names {
            networks: networks.map(|(vni, name)| (vni.get(), name.clone())).collect(),
            links: self.links.values().map(|known| (known.index, link(known))).collect(),
            hosts: hosts.map(|host| (host.vtep, host.name.clone())).collect(),
            rules: slice.map(trace::rules_of).unwrap_or_default(),
        }
    }
}

fn no_entry(reason: &str, text: String) -> WalkAnswer {
    WalkAnswer::NoEntry(NoEntry { reason: reason.to_owned(), text })
}

fn origin(object: ObjectId, why: &str) -> Origin {
    let (kind, id) = match object {
        ObjectId::Host(id) => ("host", id.to_string()),
        ObjectId::Network(id) => ("network", id.to_string()),
        ObjectId::ExternalNetwork(id) => ("external_network", id.to_string()),
        ObjectId::Router(id) => ("router", id.to_string()),
        ObjectId::Port(id) => ("port", id.to_string()),
        ObjectId::FloatingIp(id) => ("floating_ip", id.to_string()),
        ObjectId::PortForwarding(id) => ("port_forwarding", id.to_string()),
        ObjectId::Block(id) => ("block", id.to_string()),
        ObjectId::SecurityGroup(id) => ("security_group", id.to_string()),
        ObjectId::SecurityGroupRule(id) => ("security_group_rule", id.to_string()),
        ObjectId::Member(id) => ("member", id.to_string()),
        ObjectId::VirtualAddress(id) => ("virtual_address", id.to_string()),
        ObjectId::RoutedPort(id) => ("port", id.to_string()),
    };
    Origin { kind: kind.to_owned(), id, why: why.to_owned(), name: None, revision: None }
}
