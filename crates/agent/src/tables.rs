//! Who has which MAC and which address, as this host's tables say, for people: `nanboku fdb`, `nanboku neighbors`;
//! and its ports with their counters.

use crate::scene::Scene;
use compiler::{Compiled, EntryName};
use model::question::NetworkFilter;
use model::slice::{ExternalNetwork, ObjectId};
use model::{Mac, NetworkId, PortId, ip};
use packet::zerocopy::{Immutable, IntoBytes};
use pipeline::tables::{ExternalAddress, Neighbor, NetworkKey, PortCounters, Station};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// A row of `nanboku fdb`: where frames for a MAC go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MacRow {
    pub(crate) host: String,
    pub(crate) network: String,
    pub(crate) network_id: Option<NetworkId>,
    /// Of an external network; empty: an overlay network.
    pub(crate) physical_network: String,
    pub(crate) vlan: Option<u16>,
    pub(crate) mac: String,
    /// `port tap…`, `vtep 10.0.0.2 (ahv02)`, `router blue`, `uplink eth1`.
    pub(crate) location: String,
    pub(crate) port_id: Option<PortId>,
    /// Since it was last heard of; none: not learned from packets.
    pub(crate) age_ms: Option<u64>,
    pub(crate) known: &'static str,
}

/// A row of `nanboku neighbors`: who has an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NeighborRow {
    pub(crate) host: String,
    pub(crate) network: String,
    pub(crate) network_id: Option<NetworkId>,
    pub(crate) physical_network: String,
    pub(crate) vlan: Option<u16>,
    pub(crate) address: IpAddr,
    /// None: not answered yet, or not this host's to answer.
    pub(crate) mac: Option<String>,
    pub(crate) location: String,
    pub(crate) port_id: Option<PortId>,
    pub(crate) age_ms: Option<u64>,
    pub(crate) known: &'static str,
}

/// A VM's port with what it sent and got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PortRow {
    pub(crate) host: String,
    pub(crate) port_id: Option<PortId>,
    pub(crate) link: String,
    pub(crate) network: String,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) sent_packets: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) delivered_packets: u64,
    pub(crate) delivered_bytes: u64,
}

const CONFIGURED: &str = "configured";
const ARP: &str = "ARP resolved";
/// Learned by ARP, and taken over from the kernel at the start.
const ADOPTED: &str = "ARP, of an earlier agent";
const ASKED: &str = "ARP, not answered";
const OWN: &str = "this host";

/// The stations of overlay networks and what is behind uplinks, in the order of networks and MACs.
pub(crate) fn fdb(scene: &Scene, filter: &NetworkFilter, now: Instant) -> Vec<MacRow> {
    let Some(compiled) = &scene.programmed else { return Vec::new() };
    let mut rows = Vec::new();
    for (key, station) in &compiled.tables.stations {
        let object = object_of(compiled, "stations", key);
        rows.push(MacRow {
            mac: key.mac.to_string(),
            location: station_location(scene, station),
            port_id: port_of(object),
            ..mac_row(scene, key.vni, CONFIGURED)
        });
    }
    for (network, uplink) in uplinks(scene, compiled) {
        let at_uplink = |mac: String, known| MacRow {
            mac,
            location: uplink.clone(),
            ..mac_row(scene, network.vni.get(), known)
        };
        let own = compiled.tables.config.dvr_mac;
        rows.push(MacRow { location: format!("{OWN}, by {uplink}"), ..at_uplink(own.to_string(), OWN) });
        // Several addresses may be behind one MAC: it is as fresh as the freshest of them.
        let mut heard: BTreeMap<Mac, (Option<Instant>, &'static str)> = BTreeMap::new();
        for known in scene.neighbors.iter().filter(|known| known.target.0 == network.vni) {
            let Some(mac) = known.mac else { continue };
            let how = if known.confirmed.is_some() { ARP } else { ADOPTED };
            let entry = heard.entry(mac).or_insert((known.confirmed, how));
            *entry = (*entry).max((known.confirmed, how));
        }
        rows.extend(heard.into_iter().map(|(mac, (confirmed, how))| MacRow {
            age_ms: age_ms(confirmed, now),
            ..at_uplink(mac.to_string(), how)
        }));
    }
    rows.retain(|row| is_wanted(row.network_id, filter));
    rows
}

/// The neighbours of overlay networks, of external ones, and this cluster's own addresses there.
pub(crate) fn neighbors(scene: &Scene, filter: &NetworkFilter, now: Instant) -> Vec<NeighborRow> {
    let Some(compiled) = &scene.programmed else { return Vec::new() };
    let mut rows = Vec::new();
    let external: Vec<u32> =
        scene.slice.external_networks.values().map(|network| network.vni.get()).collect();
    for (key, neighbor) in &compiled.tables.neighbors {
        // External ones are told with all the resolver knows.
        if external.contains(&key.vni) {
            continue;
        }
        let address = key.address.into();
        let stations = &compiled.tables.stations;
        let mut at_mac = stations.iter().filter(|(at, _)| at.vni == key.vni && at.mac == neighbor.mac);
        let location = match at_mac.next() {
            _ if neighbor.flags & Neighbor::FLAG_ROUTER != 0 => "the router".to_owned(),
            Some((_, station)) => station_location(scene, station),
            None => String::new(),
        };
        rows.push(NeighborRow {
            mac: Some(neighbor.mac.to_string()),
            location,
            port_id: port_of(object_of(compiled, "neighbors", key)),
            ..neighbor_row(scene, key.vni, address, CONFIGURED)
        });
    }
    for known in &scene.neighbors {
        let (vni, address) = known.target;
        let how = match (known.mac, known.confirmed) {
            (Some(_), Some(_)) => ARP,
            (Some(_), None) => ADOPTED,
            (None, _) => ASKED,
        };
        let external = compiled.tables.externals.get(&NetworkKey { vni: vni.get() });
        let uplink = external.map_or(0, |external| external.uplink_ifindex);
        rows.push(NeighborRow {
            mac: known.mac.map(|mac| mac.to_string()),
            location: format!("uplink {}", scene.link(uplink)),
            age_ms: age_ms(known.confirmed, now),
            ..neighbor_row(scene, vni.get(), address, how)
        });
    }
    rows.extend(own_addresses(scene, compiled));
    rows.retain(|row| is_wanted(row.network_id, filter));
    rows
}

/// SNAT addresses and floating IPs: which of them this host answers for.
fn own_addresses(scene: &Scene, compiled: &Compiled) -> Vec<NeighborRow> {
    let row = |(key, address): (&pipeline::tables::ExternalAddressKey, &ExternalAddress)| {
        let kind = match address.kind {
            ExternalAddress::FLOATING | ExternalAddress::FORWARDED => "floating IP",
            ExternalAddress::ROUTED => "routed address",
            ExternalAddress::ROUTER => "address of the router",
            _ => "SNAT address",
        };
        let answers = address.flags & ExternalAddress::FLAG_ANSWER != 0;
        let who = if answers { "answered here" } else { "answered by another host" };
        let own = compiled.tables.config.dvr_mac;
        NeighborRow {
            mac: answers.then(|| own.to_string()),
            location: format!("{kind}, {who}"),
            ..neighbor_row(scene, key.external_vni, key.address.into(), CONFIGURED)
        }
    };
    compiled.tables.external_addresses.iter().map(row).collect()
}

/// Every programmed port.
pub(crate) fn ports(scene: &Scene, counters: &BTreeMap<u32, PortCounters>) -> Vec<PortRow> {
    let names: BTreeMap<String, PortId> = scene.slice.ports.keys().map(|id| (id.link_name(), *id)).collect();
    let row = |(ifindex, counters): (&u32, &PortCounters)| {
        let link = scene.link(*ifindex).to_string();
        let port_id = names.get(&link).copied();
        let port = port_id.and_then(|id| scene.slice.ports.get(&id));
        let network = port.and_then(|port| scene.slice.networks.get(&port.network));
        PortRow {
            host: scene.host.clone(),
            port_id,
            link,
            network: network.map(|network| network.name.clone()).unwrap_or_default(),
            address: port.and_then(|port| port.addresses.iter().copied().find_map(ip::ipv4)),
            sent_packets: counters.sent_packets,
            sent_bytes: counters.sent_bytes,
            delivered_packets: counters.delivered_packets,
            delivered_bytes: counters.delivered_bytes,
        }
    };
    counters.iter().map(row).collect()
}

fn is_wanted(network: Option<NetworkId>, filter: &NetworkFilter) -> bool {
    filter.network.is_none_or(|wanted| network == Some(wanted))
}

/// External networks whose NIC is here, and that NIC.
fn uplinks<'a>(
    scene: &'a Scene,
    compiled: &'a Compiled,
) -> impl Iterator<Item = (&'a ExternalNetwork, String)> {
    compiled.tables.uplinks.iter().filter_map(|(key, network)| {
        let mut networks = scene.slice.external_networks.values();
        let external = networks.find(|external| external.vni.get() == network.vni)?;
        Some((external, format!("uplink {}", scene.link(key.ifindex))))
    })
}

fn station_location(scene: &Scene, station: &Station) -> String {
    match station.kind {
        Station::PORT => format!("port {}", scene.link(station.id)),
        Station::ROUTER => format!("router {}", scene.network(station.id)),
        _ => {
            let vtep = Ipv4Addr::from(station.vtep.to_v4());
            format!("vtep {vtep} ({})", scene.host_at(vtep))
        }
    }
}

/// Physical network and VLAN of a network; empty and none for an overlay network.
fn fabric(scene: &Scene, vni: u32) -> (String, Option<u16>) {
    let mut networks = scene.slice.external_networks.values();
    let external = networks.find(|network| network.vni.get() == vni);
    external.map(|network| (network.physical_network.clone(), network.vlan)).unwrap_or_default()
}

fn mac_row(scene: &Scene, vni: u32, known: &'static str) -> MacRow {
    let (physical_network, vlan) = fabric(scene, vni);
    MacRow {
        host: scene.host.clone(),
        network: scene.network(vni).to_owned(),
        network_id: scene.network_id(vni),
        physical_network,
        vlan,
        mac: String::new(),
        location: String::new(),
        port_id: None,
        age_ms: None,
        known,
    }
}

fn neighbor_row(scene: &Scene, vni: u32, address: IpAddr, known: &'static str) -> NeighborRow {
    let (physical_network, vlan) = fabric(scene, vni);
    NeighborRow {
        host: scene.host.clone(),
        network: scene.network(vni).to_owned(),
        network_id: scene.network_id(vni),
        physical_network,
        vlan,
        address,
        mac: None,
        location: String::new(),
        port_id: None,
        age_ms: None,
        known,
    }
}

fn age_ms(confirmed: Option<Instant>, now: Instant) -> Option<u64> {
    let age = now.saturating_duration_since(confirmed?);
    Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// The object that made an entry.
fn object_of<K: IntoBytes + Immutable>(
    compiled: &Compiled,
    table: &'static str,
    key: &K,
) -> Option<ObjectId> {
    let name = EntryName { table, key: key.as_bytes().to_vec() };
    compiled.provenance.get(&name).map(|provenance| provenance.object)
}

fn port_of(object: Option<ObjectId>) -> Option<PortId> {
    match object {
        Some(ObjectId::Port(id)) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
