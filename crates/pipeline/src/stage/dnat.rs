//! DNAT and steering: destinations that are ours on an external network. A floating IP becomes its fixed
//! address on the VM's host, a forwarded port of one its internal endpoint; anything else of ours is sent to the host that knows: the floating IP's, or
//! the owner of the port block.

use crate::address::Address;
use crate::nat::BindingKey;
use crate::runtime::{Packet, Tables};
use crate::session::Session;
use crate::stage::{route, routed, snat};
use crate::tables::{
    BlockOwnerKey, External, ExternalAddress, ExternalAddressKey, Forwarding, NetworkKey, Route,
};
use crate::verdict::{Reason, Stage};
use crate::walk::{Hook, Step, Target, Walk, deny};
use packet::ipv4;

/// From a VM to the outside: the destination may be one of our own addresses there (hairpin, RFC 4787
/// REQ-9).
#[inline(never)]
pub(crate) fn outbound<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Dnat);
    let dst = walk.work.key.dst;
    match external_address(walk, dst) {
        Some(address) if is_known_elsewhere(walk, &address) => Ok(()),
        Some(address) => steer(walk, &address),
        None => Ok(()),
    }
}

/// A port of a SNAT address whose owner only gateways know: one is asked, as for any address outside.
#[inline(always)]
fn is_known_elsewhere<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, address: &ExternalAddress) -> bool {
    address.kind == ExternalAddress::SNAT
        && walk.work.headers.has_ports != 0
        && !walk.work.headers.is_echo_request()
        && !knows_block(walk, walk.work.key.dst, walk.work.key.dst_port)
}

/// From an uplink or over a transit network, without a session.
#[inline(never)]
pub(crate) fn inbound<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Dnat);
    let dst = walk.work.key.dst;
    if let Some(address) = external_address(walk, dst) {
        return steer(walk, &address);
    }
    if walk.hook == Hook::Uplink {
        return deny(Stage::Dnat, Reason::ExternalDestinationUnknown);
    }
    forward_outside(walk)
}

/// Sends to the place that knows one of our own addresses.
#[inline(always)]
fn steer<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, address: &ExternalAddress) -> Step<()> {
    if address.is_of_vm() {
        if !address.vtep.is_zero() {
            return to_host(walk, address.router_vni, address.vtep);
        }
        return if address.kind == ExternalAddress::ROUTED {
            routed::inbound(walk, address)
        } else {
            to_fixed(walk, address)
        };
    }
    if walk.work.headers.is_echo_request() {
        return route::answer_or_refuse(walk);
    }
    if address.kind == ExternalAddress::ROUTER {
        return deny(Stage::Dnat, Reason::NotForRouter);
    }
    if walk.work.headers.has_ports == 0 {
        return deny(Stage::Dnat, untranslatable(walk));
    }
    if address.kind == ExternalAddress::FORWARDED {
        return to_forwarded(walk);
    }
    let (address, port) = (walk.work.key.dst, walk.work.key.dst_port);
    steer_by_block(walk, address, port)
}

/// The endpoint that a port of a floating IP stands for, or the host that has it.
#[inline(never)]
fn to_forwarded<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let Some(forwarding) = forwarding(walk, walk.work.key.dst, walk.work.key.dst_port) else {
        return deny(Stage::Dnat, Reason::NoMapping);
    };
    if !forwarding.vtep.is_zero() {
        return to_host(walk, forwarding.router_vni, forwarding.vtep);
    }
    if walk.work.headers.error_offset != 0 {
        return deny(Stage::Dnat, Reason::IcmpErrorNotTranslated);
    }
    if walk.hook != Hook::Port {
        walk.work.router_vni = forwarding.router_vni;
    }
    walk.work.translated.dst = forwarding.address;
    walk.work.translated.dst_port = forwarding.port;
    walk.work.translated.flags |= Session::NAT_FORWARDED_DST;
    to_tenant(walk, forwarding.network_vni, forwarding.address);
    Ok(())
}

/// A forwarded port of the walk's external network and protocol.
#[inline(always)]
fn forwarding<P: Packet, T: Tables>(
    walk: &Walk<'_, P, T>,
    address: Address,
    port: u16,
) -> Option<Forwarding> {
    let (external_vni, protocol) = (walk.work.external_vni, walk.work.key.protocol);
    walk.tables.forwarding(&BindingKey { external_vni, address, port, protocol, zero: 0 })
}

/// To the owner of the port block; on the owner itself there was no session for the packet.
#[inline(always)]
fn steer_by_block<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, address: Address, port: u16) -> Step<()> {
    let external_vni = walk.work.external_vni;
    let Some(block) = block_of(walk, port) else {
        return deny(Stage::Dnat, Reason::NoMapping);
    };
    let key = BlockOwnerKey { external_vni, block, address };
    let Some(owner) = walk.tables.block_owner(&key) else {
        return deny(Stage::Dnat, Reason::NoMapping);
    };
    if !owner.vtep.is_zero() {
        return to_host(walk, owner.router_vni, owner.vtep);
    }
    to_mapping(walk, address, port)
}

/// On the owner of the block, without a session: the mapping's internal endpoint, if its router lets anyone
/// in.
#[inline(never)]
fn to_mapping<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, address: Address, port: u16) -> Step<()> {
    let (external_vni, protocol) = (walk.work.external_vni, walk.work.key.protocol);
    let binding = BindingKey { external_vni, address, port, protocol, zero: 0 };
    let Some(internal) = walk.tables.binding(&binding) else {
        return deny(Stage::Dnat, Reason::NoMapping);
    };
    let Some(mapping) = walk.tables.mapping(&internal) else {
        return deny(Stage::Dnat, Reason::NoMapping);
    };
    if walk.work.headers.error_offset != 0 || protocol == ipv4::PROTOCOL_ICMP {
        return deny(Stage::Dnat, Reason::Filtered);
    }
    if !snat::lets_in(walk, internal.router_vni, &binding) {
        if walk.hook != Hook::Port {
            return deny(Stage::Dnat, Reason::Filtered);
        }
        // The sender gets its session all the same, or the other's answer would be refused as well.
        walk.work.translated.flags |= Session::NAT_PUNCHED;
    }
    if walk.hook != Hook::Port {
        walk.work.router_vni = internal.router_vni;
    }
    walk.work.translated.dst = internal.address;
    walk.work.translated.dst_port = internal.port;
    walk.work.translated.flags |= Session::NAT_MAPPED_DST;
    to_tenant(walk, mapping.inside_vni, internal.address);
    Ok(())
}

/// The block number of a port on the walk's external network.
#[inline(always)]
fn block_of<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, port: u16) -> Option<u32> {
    let external: External = walk.tables.external(&NetworkKey { vni: walk.work.external_vni })?;
    Some(external.block_of(port))
}

/// A floating IP whose VM is on this host.
#[inline(always)]
fn to_fixed<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, address: &ExternalAddress) -> Step<()> {
    if walk.work.headers.has_ports == 0 || walk.work.headers.error_offset != 0 {
        return deny(Stage::Dnat, untranslatable(walk));
    }
    if walk.hook != Hook::Port {
        walk.work.router_vni = address.router_vni;
    }
    walk.work.translated.dst = address.fixed;
    walk.work.translated.flags |= Session::NAT_FLOATING_DST;
    to_tenant(walk, address.network_vni, address.fixed);
    Ok(())
}

/// Routed delivery to an address of a tenant network.
#[inline(always)]
pub(crate) fn to_tenant<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32, address: Address) {
    let target = &mut walk.work.target;
    target.kind = Target::ADDRESS;
    target.vni = vni;
    target.next_hop = address;
    target.src_mac = packet::MacAddr::ZERO;
    target.mtu = 0;
    target.routed = 1;
}

/// Over the transit network to the host that knows. What came over the transit network itself is routed
/// once more (TTL), so that two hosts that disagree about an owner cannot bounce a packet for ever.
#[inline(always)]
fn to_host<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, router_vni: u32, vtep: Address) -> Step<()> {
    if walk.hook == Hook::Transit && vtep == walk.work.peer {
        return deny(Stage::Dnat, Reason::PathLoop);
    }
    let routed = u32::from(walk.hook != Hook::Uplink);
    walk.work.stateless = u32::from(walk.hook != Hook::Port);
    let target = &mut walk.work.target;
    target.kind = Target::REMOTE;
    target.vni = router_vni;
    target.vtep = vtep;
    target.mtu = 0;
    target.routed = routed;
    Ok(())
}

/// The gateway's part: a translated packet from another host leaves by this host's uplink, if the sender
/// owns the address and port it uses.
#[inline(always)]
fn forward_outside<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    if !sender_owns_source(walk) {
        return deny(Stage::Dnat, Reason::SourceNotOwned);
    }
    let route = route::lookup(walk, walk.work.key.dst)?;
    let Some(external) = walk.tables.external(&NetworkKey { vni: walk.work.external_vni }) else {
        return deny(Stage::Dnat, Reason::NotGateway);
    };
    if external.uplink_ifindex == 0 || !route.is_external() {
        return deny(Stage::Dnat, Reason::NotGateway);
    }
    walk.work.stateless = 1;
    set_external(walk, &route);
    walk.work.target.routed = 0;
    Ok(())
}

#[inline(always)]
fn sender_owns_source<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> bool {
    let (address, port) = (walk.work.key.src, walk.work.key.src_port);
    let external_vni = walk.work.external_vni;
    if walk.work.headers.src != address && !is_told_by_a_router(walk) {
        return false;
    }
    match external_address(walk, address) {
        Some(known) if known.is_of_vm() => known.vtep == walk.work.peer,
        Some(known) if known.kind == ExternalAddress::FORWARDED => {
            forwarding(walk, address, port).is_some_and(|own| own.vtep == walk.work.peer)
        }
        Some(_) => match block_of(walk, port) {
            Some(block) => {
                let owner = walk.tables.block_owner(&BlockOwnerKey { external_vni, block, address });
                owner.is_some_and(|owner| owner.vtep == walk.work.peer)
            }
            None => false,
        },
        None => false,
    }
}

/// Whether the packet is an ICMP error from an address of the router, which on the sender's host found that
/// the packet quoted could not go on.
#[inline(always)]
fn is_told_by_a_router<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> bool {
    walk.work.headers.error_offset != 0
        && external_address(walk, walk.work.headers.src).is_some_and(|known| known.is_of_router())
}

/// Towards the outside, or towards another host of ours that an outside address belongs to; for directions
/// of existing sessions.
#[inline(always)]
pub(crate) fn to_outside<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    dst: Address,
    dst_port: u16,
) -> Step<()> {
    walk.tables.enter(Stage::Dnat);
    match external_address(walk, dst) {
        Some(address) if address.is_of_vm() => {
            if address.vtep.is_zero() {
                return deny(Stage::Dnat, Reason::SessionEnded);
            }
            to_host(walk, address.router_vni, address.vtep)
        }
        Some(address) if address.kind == ExternalAddress::FORWARDED => {
            to_forwarding_host(walk, dst, dst_port)
        }
        Some(_) if knows_block(walk, dst, dst_port) => steer_by_block(walk, dst, dst_port),
        // Only gateways know every owner: elsewhere a gateway is asked, as for any address outside.
        _ => {
            let route = route::lookup(walk, dst)?;
            if !route.is_external() {
                return deny(Stage::Route, Reason::SessionEnded);
            }
            set_external(walk, &route);
            Ok(())
        }
    }
}

/// The host behind a forwarded port; here it would have been a session's own endpoint.
#[inline(never)]
fn to_forwarding_host<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    address: Address,
    port: u16,
) -> Step<()> {
    match forwarding(walk, address, port) {
        Some(forwarding) if !forwarding.vtep.is_zero() => {
            to_host(walk, forwarding.router_vni, forwarding.vtep)
        }
        _ => deny(Stage::Dnat, Reason::SessionEnded),
    }
}

/// Whether this host knows the owner of a SNAT address' port, or would know if there were one.
#[inline(always)]
fn knows_block<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, address: Address, port: u16) -> bool {
    let external_vni = walk.work.external_vni;
    let Some(external) = walk.tables.external(&NetworkKey { vni: external_vni }) else { return true };
    let block = external.block_of(port);
    external.flags & External::FLAG_GATEWAY != 0
        || walk.tables.block_owner(&BlockOwnerKey { external_vni, block, address }).is_some()
}

#[inline(always)]
fn set_external<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, route: &Route) {
    let dst = walk.work.translated.dst;
    let target = &mut walk.work.target;
    target.kind = Target::EXTERNAL;
    target.vni = route.vni;
    target.next_hop = if route.next_hop.is_zero() { dst } else { route.next_hop };
    target.mtu = route.mtu;
    target.routed = 1;
}

#[inline(always)]
pub(crate) fn external_address<P: Packet, T: Tables>(
    walk: &Walk<'_, P, T>,
    address: Address,
) -> Option<ExternalAddress> {
    let external_vni = walk.work.external_vni;
    walk.tables.external_address(&ExternalAddressKey { external_vni, address })
}

/// Why a packet without ports cannot be translated.
#[inline(always)]
pub(crate) fn untranslatable<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> Reason {
    if walk.work.headers.fragment != 0 && walk.work.headers.protocol != ipv4::PROTOCOL_ICMP {
        Reason::FragmentNotTranslated
    } else if walk.work.headers.protocol == ipv4::PROTOCOL_ICMP {
        Reason::IcmpErrorNotTranslated
    } else {
        Reason::ProtocolNotTranslated
    }
}
