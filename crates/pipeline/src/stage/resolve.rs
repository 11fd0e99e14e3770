//! Resolve: turns a target into a path: MACs, the host, the way out and what fits it.

use crate::hash::flow_hash;
use crate::runtime::{Packet, Tables};
use crate::session::Path;
use crate::stage::route::network_mtu;
use crate::tables::{External, GatewayKey, NeighborKey, NetworkKey, Port, PortKey, Station, Vtep, VtepKey};
use crate::tunnel;
use crate::verdict::{Punt, Reason, Stage};
use crate::walk::{Step, Target, Walk, deny};
use packet::MacAddr;

/// Fills `path` from `target` and `station`.
#[inline(never)]
pub(crate) fn run<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Resolve);
    let work = &mut *walk.work;
    let path = &mut work.path;
    path.epoch = work.config.epoch;
    path.ingress = work.ingress;
    path.arrived_dst = work.headers.dst_mac;
    path.src_mac = work.config.dvr_mac;
    path.flags = if work.target.routed != 0 { Path::FLAG_ROUTED } else { 0 };
    path.vlan = 0;
    path.mtu = work.target.mtu;
    path.vni = work.target.vni;
    path.vtep = work.target.vtep;
    path.ifindex = work.config.underlay_ifindex;
    path.source_port = 0;
    path.zero = [0; 3];
    match work.target.kind {
        Target::STATION | Target::ADDRESS => tenant(walk),
        Target::EXTERNAL => external(walk),
        Target::REMOTE => remote(walk),
        _ => deny(Stage::Resolve, Reason::UnknownStation),
    }
}

/// To a VM, here or on another host.
#[inline(always)]
fn tenant<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let Some(network) = walk.tables.network(&NetworkKey { vni: walk.work.target.vni }) else {
        return deny(Stage::Resolve, Reason::UnknownVni);
    };
    let work = &mut *walk.work;
    let path = &mut work.path;
    path.mtu = if path.mtu == 0 { network.mtu } else { path.mtu.min(network.mtu) };
    let switched = work.target.kind == Target::STATION;
    match work.station.kind {
        Station::PORT => {
            path.output = Path::OUT_PORT;
            path.ifindex = work.station.id;
            let routed_mac =
                if work.target.src_mac.is_zero() { network.router_mac } else { work.target.src_mac };
            path.src_mac = if switched { work.target.src_mac } else { routed_mac };
            let port = walk.tables.port(&PortKey { ifindex: path.ifindex });
            if port.is_some_and(|port| port.flags & Port::FLAG_VETH_PEER != 0) {
                path.flags |= Path::FLAG_VETH_PEER;
            }
            Ok(())
        }
        Station::REMOTE => {
            path.vtep = work.station.vtep;
            if switched {
                path.src_mac = work.target.src_mac;
            }
            to_host(walk)?;
            Ok(())
        }
        _ => deny(Stage::Resolve, Reason::UnknownStation),
    }
}

/// Back to the host that the packet came from, over the transit network it came by.
#[inline(never)]
pub(crate) fn back<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let work = &mut *walk.work;
    let path = &mut work.path;
    path.ifindex = work.config.underlay_ifindex;
    path.vni = work.router_vni;
    path.vtep = work.peer;
    path.src_mac = work.config.dvr_mac;
    path.mtu = 0;
    remote(walk)
}

/// To the outside: by this host's uplink, or through a live gateway.
#[inline(always)]
fn external<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let vni = walk.work.target.vni;
    let Some(external) = walk.tables.external(&NetworkKey { vni }) else {
        return deny(Stage::Resolve, Reason::NoGateway);
    };
    let sends = external.flags & (External::FLAG_DIRECT | External::FLAG_GATEWAY) != 0;
    if external.uplink_ifindex != 0 && sends {
        return uplink(walk, &external);
    }
    if walk.work.stateless != 0 {
        return deny(Stage::Resolve, Reason::NotGateway);
    }
    let count = external.gateway_count;
    if count == 0 {
        return deny(Stage::Resolve, Reason::NoGateway);
    }
    let slot = flow_hash(&walk.work.forward) % count;
    let Some(gateway) = walk.tables.gateway(&GatewayKey { external_vni: vni, slot }) else {
        return deny(Stage::Resolve, Reason::NoGateway);
    };
    walk.work.path.vni = walk.work.router_vni;
    walk.work.path.vtep = gateway.vtep;
    remote(walk)
}

#[inline(always)]
fn uplink<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, external: &External) -> Step<()> {
    let (vni, address) = (walk.work.target.vni, walk.work.target.next_hop);
    let Some(neighbor) = walk.tables.neighbor(&NeighborKey { vni, address }) else {
        let verdict = walk.punt(Stage::Resolve, Punt::ResolveNeighbor, vni, 0);
        return Err(verdict);
    };
    let path = &mut walk.work.path;
    path.output = Path::OUT_UPLINK;
    path.ifindex = external.uplink_ifindex;
    path.vlan = external.vlan;
    path.dst_mac = neighbor.mac;
    Ok(())
}

/// To another host over a transit network.
#[inline(always)]
fn remote<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let vtep = to_host(walk)?;
    let mtu = network_mtu(walk, walk.work.path.vni);
    let path = &mut walk.work.path;
    path.dst_mac = if vtep.dvr_mac.is_zero() { MacAddr::BROADCAST } else { vtep.dvr_mac };
    path.mtu = if path.mtu == 0 { mtu } else { path.mtu.min(mtu) };
    Ok(())
}

/// To the host of `path.vtep`.
#[inline(always)]
fn to_host<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Vtep> {
    let address = walk.work.path.vtep;
    let Some(vtep) = walk.tables.vtep(&VtepKey { address }) else {
        return deny(Stage::Resolve, Reason::UnknownVtep);
    };
    let source_port = tunnel::source_port(&walk.work.key);
    let path = &mut walk.work.path;
    path.output = Path::OUT_TUNNEL;
    path.source_port = source_port;
    if vtep.flags & Vtep::FLAG_ON_LINK != 0 {
        path.flags |= Path::FLAG_ON_LINK;
    }
    Ok(vtep)
}
