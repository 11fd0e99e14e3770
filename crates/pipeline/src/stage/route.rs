//! Route: longest-prefix match in the VPC's router, and the router's own addresses.

use crate::address::Address;
use crate::runtime::{Packet, Tables};
use crate::session::Session;
use crate::tables::{Neighbor, NeighborKey, NetworkKey, Route, RouteKey};
use crate::verdict::{Reason, Stage};
use crate::walk::{Step, Target, Walk, deny};

/// Routes the packet by its destination: fills the target, and `external_vni` if it leaves the VPC.
#[inline(never)]
pub(crate) fn run<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Route);
    let dst = walk.work.key.dst;
    if dst.is_link_local() {
        return link_local(walk);
    }
    let route = lookup(walk, dst)?;
    let target = &mut walk.work.target;
    target.vni = route.vni;
    target.next_hop = if route.next_hop.is_zero() { dst } else { route.next_hop };
    target.mtu = route.mtu;
    target.src_mac = route.mac;
    target.routed = 1;
    if route.is_external() {
        target.kind = Target::EXTERNAL;
        walk.work.external_vni = route.vni;
        if route.kind == Route::EXTERNAL_UNTRANSLATED {
            walk.work.translated.flags |= Session::NAT_ROUTED_SRC;
        }
        return Ok(());
    }
    target.kind = Target::ADDRESS;
    if is_own(walk, route.vni, dst) {
        return answer_or_refuse(walk);
    }
    if walk.work.key.src.is_link_local() {
        return deny(Stage::Route, Reason::NoRoute);
    }
    Ok(())
}

/// To an address that no router passes on: its own is the one of its MAC on the network.
#[inline(never)]
fn link_local<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let (vni, dst) = (walk.work.key.vni, walk.work.key.dst);
    match walk.tables.network(&NetworkKey { vni }) {
        Some(network) if dst == Address::link_local(network.router_mac) => answer_or_refuse(walk),
        _ => deny(Stage::Route, Reason::NoRoute),
    }
}

/// The route of the walk's router for an address.
#[inline(always)]
pub(crate) fn lookup<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, dst: Address) -> Step<Route> {
    match walk.tables.route(&RouteKey::new(walk.work.router_vni, dst)) {
        Some(route) if route.kind == Route::BLACKHOLE => deny(Stage::Route, Reason::Blackhole),
        Some(route) => Ok(route),
        None => deny(Stage::Route, Reason::NoRoute),
    }
}

/// Whether an address of a tenant network is a router's interface.
#[inline(always)]
fn is_own<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, vni: u32, address: Address) -> bool {
    let neighbor = walk.tables.neighbor(&NeighborKey { vni, address });
    neighbor.is_some_and(|neighbor| neighbor.flags & Neighbor::FLAG_ROUTER != 0)
}

/// For the router itself: ping is answered, nothing else is served.
#[inline(always)]
pub(crate) fn answer_or_refuse<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    if !walk.work.headers.is_echo_request() {
        return deny(Stage::Route, Reason::NotForRouter);
    }
    walk.work.target.kind = Target::ANSWER;
    Ok(())
}

/// Largest IP packet on a network, 0 if it is unknown.
#[inline(always)]
pub(crate) fn network_mtu<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, vni: u32) -> u16 {
    match walk.tables.network(&NetworkKey { vni }) {
        Some(network) => network.mtu,
        None => 0,
    }
}
