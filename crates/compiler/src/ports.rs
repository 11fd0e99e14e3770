//! `ports`, `port_addresses`, `stations` and `neighbors` of VMs.

use crate::facts::LocalFacts;
use crate::output::{Builder, NEIGHBORS, PORT_ADDRESSES, PORTS, STATIONS, by, mac};
use model::PortId;
use model::slice::{AllowedPair, Network, ObjectId, Port, Slice};
use pipeline::tables::{
    Neighbor, NeighborKey, Port as PortEntry, PortAddressKey, PortKey, Station, StationKey,
};
use std::net::Ipv4Addr;

/// Addresses that one allowed pair may cover: presence in a table is the permission, so a prefix costs an
/// entry per address, and the table holds 16,384 for all ports.
const PAIR_ADDRESSES_MAX: u32 = 256;

pub(crate) fn compile(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    for (id, port) in &slice.ports {
        let object = ObjectId::Port(*id);
        let Some(network) = slice.networks.get(&port.network) else {
            builder.problem(object, format!("network {} is not known here", port.network));
            continue;
        };
        let vni = network.vni.get();
        match station(slice, facts, *id, port, builder) {
            None => {}
            Some((station, why)) => {
                let key = StationKey { vni, mac: mac(port.mac), zero: 0 };
                builder.put(&STATIONS, key, station, by(object, why));
                if station.kind == Station::PORT {
                    local(facts, *id, port, network, builder);
                }
            }
        }
        for address in &port.addresses {
            let key = NeighborKey { vni, address: (*address).into() };
            let value = Neighbor { flags: 0, mac: mac(port.mac) };
            builder.put(&NEIGHBORS, key, value, by(object, "address of the port"));
        }
    }
}

/// Where the port is. None: nowhere that packets could be sent to.
fn station(
    slice: &Slice,
    facts: &LocalFacts,
    id: PortId,
    port: &Port,
    builder: &mut Builder,
) -> Option<(Station, &'static str)> {
    let host = port.host?;
    if host == facts.host {
        let link = facts.links.get(&id)?;
        let station = Station { kind: Station::PORT, id: link.ifindex, vtep: pipeline::Address::ZERO };
        return Some((station, "the port's link is here"));
    }
    let Some(remote) = slice.hosts.get(&host) else {
        builder.problem(ObjectId::Port(id), format!("its host {host} is not known here"));
        return None;
    };
    let station = Station { kind: Station::REMOTE, id: 0, vtep: remote.vtep.into() };
    Some((station, "the port is on another host"))
}

fn local(facts: &LocalFacts, id: PortId, port: &Port, network: &Network, builder: &mut Builder) {
    let Some(link) = facts.links.get(&id) else { return };
    let (object, ifindex) = (ObjectId::Port(id), link.ifindex);
    let mut flags = 0;
    if link.veth_peer_elsewhere {
        flags |= PortEntry::FLAG_VETH_PEER;
    }
    if port.admin_up && network.admin_up {
        flags |= PortEntry::FLAG_ACTIVE;
    }
    if !port.port_security {
        flags |= PortEntry::FLAG_UNRESTRICTED;
    }
    let entry = PortEntry { network_vni: network.vni.get(), flags, mac: mac(port.mac), mtu: network.mtu };
    builder.put(&PORTS, PortKey { ifindex }, entry, by(object, "the port is bound here"));
    for address in &port.addresses {
        permit(ifindex, port.mac, *address, by(object, "address of the port"), builder);
    }
    for pair in &port.allowed_pairs {
        permit_pair(ifindex, id, port, pair, builder);
    }
}

fn permit_pair(ifindex: u32, id: PortId, port: &Port, pair: &AllowedPair, builder: &mut Builder) {
    let object = ObjectId::Port(id);
    let first = u32::from(pair.address.network());
    let last = u32::from(pair.address.broadcast());
    if last - first >= PAIR_ADDRESSES_MAX {
        let text = format!("allowed pair {} covers more than {PAIR_ADDRESSES_MAX} addresses", pair.address);
        builder.problem(object, text);
        return;
    }
    for address in first..=last {
        let origin = by(object, "allowed address pair");
        permit(ifindex, pair.mac.unwrap_or(port.mac), Ipv4Addr::from(address), origin, builder);
    }
}

fn permit(
    ifindex: u32,
    from: model::Mac,
    address: Ipv4Addr,
    origin: crate::Provenance,
    builder: &mut Builder,
) {
    let key = PortAddressKey { ifindex, mac: mac(from), zero: 0, address: address.into() };
    builder.put(&PORT_ADDRESSES, key, 1, origin);
}
