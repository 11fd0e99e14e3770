//! `ports`, `port_addresses`, `port_prefixes`, `stations` and `neighbors` of VMs.

use crate::acl::{Policies, Policy};
use crate::facts::LocalFacts;
use crate::output::{Builder, NEIGHBORS, PORT_ADDRESSES, PORT_PREFIXES, PORTS, STATIONS, by, mac};
use crate::services;
use model::PortId;
use model::slice::{AllowedPair, Network, ObjectId, Port, Slice};
use pipeline::table_set::Prefix;
use pipeline::tables::{
    Neighbor, NeighborKey, Port as PortEntry, PortAddressKey, PortKey, Station, StationKey,
};

pub(crate) fn compile(slice: &Slice, facts: &LocalFacts, policies: &Policies<'_>, builder: &mut Builder) {
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
                    let policy = policy(*id, port, policies, facts, builder);
                    local(facts, *id, port, (network, policy), builder);
                }
            }
        }
        // Whoever announced the address of a port that is nowhere has it.
        for address in port.addresses.iter().filter(|_| port.host.is_some()) {
            let key = NeighborKey { vni, address: (*address).into() };
            let value = Neighbor { flags: 0, mac: mac(port.mac) };
            builder.put(&NEIGHBORS, key, value, by(object, "address of the port"));
        }
    }
    virtual_addresses(slice, facts, builder);
    for (id, port) in slice.ports.iter().filter(|(_, port)| port.host.is_none()) {
        let Some(network) = slice.networks.get(&port.network) else { continue };
        let key = |address| NeighborKey { vni: network.vni.get(), address };
        let value = Neighbor { flags: 0, mac: mac(port.mac) };
        for address in &port.addresses {
            let origin = by(ObjectId::Port(*id), "address of the port, which is nowhere");
            builder.put_default(&NEIGHBORS, key((*address).into()), value, origin);
        }
    }
}

/// Addresses of allowed pairs, at the ports that announced them last. A port that is there keeps its own address, and
/// routers theirs.
fn virtual_addresses(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    for (id, holder) in &slice.virtual_addresses {
        let object = ObjectId::VirtualAddress(*id);
        let network = slice.networks.get(&id.network);
        let port = slice.ports.get(&holder.port).filter(|port| {
            port.network == id.network && port.host.is_some() && port.may_announce(id.address, holder.mac)
        });
        let (Some(network), Some(port)) = (network, port) else { continue };
        let key = NeighborKey { vni: network.vni.get(), address: id.address.into() };
        let value = Neighbor { flags: 0, mac: mac(holder.mac) };
        builder.put_default(&NEIGHBORS, key, value, by(object, "announced by a port that may have it"));
        if let Some((station, _)) = station(slice, facts, holder.port, port, builder) {
            let key = StationKey { vni: network.vni.get(), mac: mac(holder.mac), zero: 0 };
            builder.put_default(&STATIONS, key, station, by(object, "MAC of an allowed pair"));
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

/// What filters the port; none: its policy cannot be programmed.
fn policy(
    id: PortId,
    port: &Port,
    policies: &Policies<'_>,
    facts: &LocalFacts,
    builder: &mut Builder,
) -> Option<Policy> {
    let Some(groups) = &port.security_groups else { return Some(Policy::NONE) };
    let policy = policies.get(groups).copied().flatten();
    if policy.is_none() {
        let sizes = facts.acl_sizes;
        let text = format!(
            "what its security groups allow does not fit the {} remote ends (acl_remotes_max) and {} rules \
             (acl_rules_max) of this host's agent; the port stays down",
            sizes.remotes, sizes.rules
        );
        builder.problem(ObjectId::Port(id), text);
    }
    policy
}

fn local(
    facts: &LocalFacts,
    id: PortId,
    port: &Port,
    (network, policy): (&Network, Option<Policy>),
    builder: &mut Builder,
) {
    let Some(link) = facts.links.get(&id) else { return };
    let (object, ifindex) = (ObjectId::Port(id), link.ifindex);
    let mut flags = 0;
    if link.veth_peer_elsewhere {
        flags |= PortEntry::FLAG_VETH_PEER;
    }
    if port.admin_up && network.admin_up && policy.is_some() {
        flags |= PortEntry::FLAG_ACTIVE;
    }
    let policy = policy.unwrap_or(Policy::NONE);
    if policy.egress.open {
        flags |= PortEntry::FLAG_EGRESS_OPEN;
    }
    if policy.ingress.open {
        flags |= PortEntry::FLAG_INGRESS_OPEN;
    }
    if !port.port_security {
        flags |= PortEntry::FLAG_UNRESTRICTED;
    }
    let entry = PortEntry {
        network_vni: network.vni.get(),
        flags,
        mac: mac(port.mac),
        mtu: network.mtu,
        egress_acl: policy.egress.id,
        ingress_acl: policy.ingress.id,
    };
    builder.put(&PORTS, PortKey { ifindex }, entry, by(object, "the port is bound here"));
    for address in &port.addresses {
        let pair = AllowedPair { mac: None, address: (*address).into() };
        permit(ifindex, port, &pair, by(object, "address of the port"), builder);
    }
    for pair in &port.allowed_pairs {
        permit(ifindex, port, pair, by(object, "allowed address pair"), builder);
    }
    if let Some(service) = facts.service {
        services::compile(service, ifindex, (object, port), builder);
    }
}

/// A single address has an entry that is found at once; a prefix is looked for when there is none.
fn permit(ifindex: u32, port: &Port, pair: &AllowedPair, origin: crate::Provenance, builder: &mut Builder) {
    let address = pair.address.network().into();
    let key = PortAddressKey::new(ifindex, mac(pair.mac.unwrap_or(port.mac)), address);
    let bits = pair.address.prefix_len();
    if bits == pair.address.max_prefix_len() {
        builder.put(&PORT_ADDRESSES, key, 1, origin);
    } else {
        let prefix = Prefix::new(PortAddressKey::lpm_len(address, bits), key);
        builder.put(&PORT_PREFIXES, prefix, 1, origin);
    }
}
