//! `externals`, `uplinks`, `gateways` and the resolved `neighbors` of external networks.

use crate::facts::LocalFacts;
use crate::output::{Builder, EXTERNALS, GATEWAYS, NEIGHBORS, UPLINKS, by, mac};
use model::NetworkId;
use model::slice::{Egress, ExternalNetwork, ObjectId, Slice};
use pipeline::bounds::GATEWAYS_MAX;
use pipeline::tables::{External, GatewayKey, GatewayValue, Neighbor, NeighborKey, NetworkKey, UplinkKey};
use std::net::{IpAddr, Ipv4Addr};

pub(crate) fn compile(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    for (id, network) in &slice.external_networks {
        let gateways = gateways(slice, facts, *id, network, builder);
        external(facts, *id, network, &gateways, builder);
        uplink(facts, *id, network, builder);
    }
    neighbors(slice, facts, builder);
}

/// Tunnel addresses of the hosts that forward for others, in order of host id. A host without a working
/// uplink never lists itself: it would send to itself.
fn gateways(
    slice: &Slice,
    facts: &LocalFacts,
    id: NetworkId,
    network: &ExternalNetwork,
    builder: &mut Builder,
) -> Vec<Ipv4Addr> {
    let ready = facts.uplink_ready(&network.physical_network).is_some();
    let mut vteps = Vec::new();
    for host in facts.live_gateways(network) {
        if host == facts.host {
            vteps.extend(ready.then_some(facts.vtep));
        } else if let Some(remote) = slice.hosts.get(&host) {
            vteps.push(remote.vtep);
        } else {
            let text = format!("its gateway host {host} is not known here");
            builder.problem(ObjectId::ExternalNetwork(id), text);
        }
    }
    if vteps.len() > GATEWAYS_MAX as usize {
        let text = format!("more than {GATEWAYS_MAX} gateways; the rest gets no traffic from here");
        builder.problem(ObjectId::ExternalNetwork(id), text);
        vteps.truncate(GATEWAYS_MAX as usize);
    }
    vteps
}

fn external(
    facts: &LocalFacts,
    id: NetworkId,
    network: &ExternalNetwork,
    gateways: &[Ipv4Addr],
    builder: &mut Builder,
) {
    let object = ObjectId::ExternalNetwork(id);
    let vni = network.vni.get();
    if !network.block_size.is_power_of_two() || !(64..=4096).contains(&network.block_size) {
        builder.problem(object, format!("block size {} is no power of two in 64..4096", network.block_size));
        return;
    }
    let ready = facts.uplink_ready(&network.physical_network);
    let mut flags = 0;
    let sends = facts.may_send(network);
    if sends && network.egress == Egress::Direct {
        flags |= External::FLAG_DIRECT;
    }
    if sends && (network.gateways.contains(&facts.host) || facts.standing.lingering.contains(&network.vni)) {
        flags |= External::FLAG_GATEWAY;
    }
    let mut count = 0;
    for (slot, vtep) in (0u32..).zip(gateways) {
        let value = GatewayValue { vtep: (*vtep).into() };
        builder.put(&GATEWAYS, GatewayKey { external_vni: vni, slot }, value, by(object, "live gateway"));
        count = slot + 1;
    }
    let entry = External {
        uplink_ifindex: ready.unwrap_or(0),
        flags,
        gateway_count: count,
        vlan: network.vlan.unwrap_or(0),
        // A power of two of at most 4096: at most 12.
        block_shift: network.block_size.trailing_zeros() as u16,
    };
    builder.put(&EXTERNALS, NetworkKey { vni }, entry, by(object, "the external network"));
}

fn uplink(facts: &LocalFacts, id: NetworkId, network: &ExternalNetwork, builder: &mut Builder) {
    let Some(uplink) = facts.uplinks.get(&network.physical_network) else { return };
    let key = UplinkKey { ifindex: uplink.ifindex, vlan: u32::from(network.vlan.unwrap_or(0)) };
    let value = NetworkKey { vni: network.vni.get() };
    let origin = by(ObjectId::ExternalNetwork(id), "frames of the uplink with this tag");
    builder.put(&UPLINKS, key, value, origin);
}

fn neighbors(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    for (id, network) in &slice.external_networks {
        let first = (network.vni, IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let own = facts.neighbors.range(first..).take_while(|((vni, _), _)| *vni == network.vni);
        for ((vni, address), resolved) in own {
            let key = NeighborKey { vni: vni.get(), address: (*address).into() };
            let value = Neighbor { flags: 0, mac: mac(*resolved) };
            let origin = by(ObjectId::ExternalNetwork(*id), "resolved on the external network");
            builder.put(&NEIGHBORS, key, value, origin);
        }
    }
}
