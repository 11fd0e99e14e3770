//! SNAT: a fixed address leaves as its floating IP, or by an endpoint-independent mapping (RFC 4787 REQ-1)
//! on a port of this host's blocks, chosen at random (RFC 6056, RFC 6888 REQ-15). Floating IP beats SNAT.

use crate::bounds::PORT_PROBES_MAX;
use crate::nat::{BindingKey, Mapping, MappingKey};
use crate::runtime::{InsertError, Packet, Tables};
use crate::session::{Session, SessionKey};
use crate::stage::dnat;
use crate::tables::{BlockKey, ExternalAddress, ExternalAddressKey, FixedKey, RouterKey, Snat};
use crate::verdict::{Punt, Reason, Stage};
use crate::walk::{Hook, Step, Walk, deny};
use packet::ipv4;

/// Probes after which a mapping was hard enough to find that more ports should be asked for: a quarter of
/// new flows get here once two thirds of the ports are taken.
const PROBES_LOW: u32 = 4;

/// A new flow from a VM to the outside: fills `translated.src` and its port.
#[inline(never)]
pub(crate) fn run<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Snat);
    if walk.work.headers.has_ports == 0 {
        return deny(Stage::Snat, dnat::untranslatable(walk));
    }
    let (router_vni, address) = (walk.work.router_vni, walk.work.key.src);
    if let Some(floating) = walk.tables.floating_by_fixed(&FixedKey { router_vni, address })
        && floating.external_vni == walk.work.external_vni
    {
        walk.work.translated.src = floating.address;
        walk.work.translated.flags |= Session::NAT_FLOATING_SRC;
        return Ok(());
    }
    let Some(snat) = walk.tables.snat(&RouterKey { router_vni }) else {
        return refuse(walk, Reason::SnatDisabled);
    };
    if snat.external_vni != walk.work.external_vni {
        return deny(Stage::Snat, Reason::SnatDisabled);
    }
    let internal = mapping_key(router_vni, &walk.work.key);
    match walk.tables.mapping(&internal) {
        Some(mapping) => {
            walk.work.translated.src = mapping.address;
            walk.work.translated.src_port = mapping.port;
        }
        None => allocate(walk, &snat, &internal)?,
    }
    let echo = walk.work.headers.protocol == ipv4::PROTOCOL_ICMP;
    let translated = &mut walk.work.translated;
    if echo {
        translated.dst_port = translated.src_port;
    }
    translated.flags |= Session::NAT_SNAT;
    Ok(())
}

/// The internal endpoint of a flow.
#[inline(always)]
fn mapping_key(router_vni: u32, key: &SessionKey) -> MappingKey {
    MappingKey { router_vni, address: key.src, port: key.src_port, protocol: key.protocol, zero: 0 }
}

// The functions below leave the external endpoint in `translated.src` and its port: a value that does not
// fit a register would be returned through a pointer, which the verifier may find in the return register.

/// Claims a free external port: random probes, each an insert that fails if the port is taken.
#[inline(never)]
fn allocate<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, snat: &Snat, internal: &MappingKey) -> Step<()> {
    if snat.block_count == 0 {
        ask_for_block(walk);
        return refuse(walk, Reason::NoPortBlock);
    }
    let owner = FixedKey { router_vni: internal.router_vni, address: internal.address };
    if snat.ports_max != 0 && !walk.tables.reserve_port(&owner, snat.ports_max) {
        return refuse(walk, Reason::PortQuota);
    }
    for probe in 0..PORT_PROBES_MAX {
        if claim(walk, snat, internal) {
            if probe >= PROBES_LOW {
                ask_for_block(walk);
            }
            return settle(walk, internal);
        }
    }
    if snat.ports_max != 0 {
        walk.tables.release_port(&owner);
    }
    ask_for_block(walk);
    refuse(walk, Reason::PortsExhausted)
}

/// Drops for want of permission or resources, and has the agent tell the VM (RFC 5508 REQ-8, RFC 6888
/// REQ-11).
#[inline(never)]
fn refuse<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, reason: Reason) -> Step<()> {
    if walk.hook == Hook::Port && walk.tables.punt_allowed(walk.work.ingress) {
        let vni = walk.work.key.vni;
        walk.emit(Punt::Prohibited, vni, reason as u32);
    }
    deny(Stage::Snat, reason)
}

/// One probe.
#[inline(never)]
fn claim<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, snat: &Snat, internal: &MappingKey) -> bool {
    let random = walk.tables.random();
    // Which of the addresses follows from the VM, which of its blocks from chance.
    let [_, _, _, last] = internal.address.words();
    let addresses = snat.address_count.max(1);
    let rows = (snat.block_count / addresses).max(1);
    let address = (u32::from_be(last).wrapping_mul(0x9e37_79b1) >> 16) % addresses;
    let slot = ((random >> 16) % rows).wrapping_mul(addresses).wrapping_add(address);
    let Some(block) = walk.tables.own_block(&BlockKey { router_vni: internal.router_vni, slot }) else {
        return false;
    };
    let offset = (random as u16) & block.size.wrapping_sub(1);
    let port = block.first.wrapping_add(offset);
    let binding = BindingKey {
        external_vni: snat.external_vni,
        address: block.address,
        port,
        protocol: internal.protocol,
        zero: 0,
    };
    match walk.tables.insert_binding(&binding, internal) {
        Ok(()) => {
            walk.work.translated.src = block.address;
            walk.work.translated.src_port = port;
            true
        }
        Err(InsertError::Exists | InsertError::Full) => false,
    }
}

/// Publishes the mapping of a claimed port. If another CPU mapped the same endpoint meanwhile, its mapping
/// stands and the claim is given back.
#[inline(never)]
fn settle<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, internal: &MappingKey) -> Step<()> {
    let external_vni = walk.work.external_vni;
    let (address, port) = (walk.work.translated.src, walk.work.translated.src_port);
    let mapping = Mapping {
        external_vni,
        address,
        port,
        zero: 0,
        inside_vni: walk.work.key.vni,
        zero_end: 0,
        created_ns: walk.tables.now_ns(),
    };
    let Err(error) = walk.tables.insert_mapping(internal, &mapping) else {
        return Ok(());
    };
    let claimed = BindingKey { external_vni, address, port, protocol: internal.protocol, zero: 0 };
    walk.tables.remove_binding(&claimed);
    match (error, walk.tables.mapping(internal)) {
        (InsertError::Exists, Some(other)) => {
            walk.work.translated.src = other.address;
            walk.work.translated.src_port = other.port;
            Ok(())
        }
        _ => deny(Stage::Snat, Reason::PortsExhausted),
    }
}

/// Tells the agent that the blocks of the router run low, within the limits of the slow path.
#[inline(never)]
fn ask_for_block<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) {
    if walk.tables.punt_allowed(walk.work.ingress) {
        let (router_vni, external_vni) = (walk.work.router_vni, walk.work.external_vni);
        walk.emit(Punt::PortBlockLow, external_vni, router_vni);
    }
}

/// Whether the configuration still gives a session the translation it has.
#[inline(never)]
pub(crate) fn still_valid<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session) -> bool {
    walk.tables.enter(Stage::Snat);
    source_valid(walk, session) && destination_valid(walk, session)
}

#[inline(always)]
fn source_valid<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session) -> bool {
    if session.flags & (Session::NAT_SNAT | Session::NAT_FLOATING_SRC) == 0 {
        return true;
    }
    let (forward, router_vni) = (&walk.work.forward, session.router_vni);
    let floating = walk.tables.floating_by_fixed(&FixedKey { router_vni, address: forward.src });
    if let Some(floating) = floating
        && floating.external_vni == session.external_vni
    {
        return session.flags & Session::NAT_FLOATING_SRC != 0 && floating.address == session.reply.dst;
    }
    if session.flags & Session::NAT_SNAT == 0 {
        return false;
    }
    let enabled = walk.tables.snat(&RouterKey { router_vni });
    let mapping = walk.tables.mapping(&mapping_key(router_vni, forward));
    enabled.is_some_and(|snat| snat.external_vni == session.external_vni)
        && mapping.is_some_and(|mapping| {
            mapping.address == session.reply.dst && mapping.port == session.reply.dst_port
        })
}

#[inline(always)]
fn destination_valid<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session) -> bool {
    if session.flags & Session::NAT_MAPPED_DST != 0 {
        return mapped_destination_valid(walk, session);
    }
    if session.flags & Session::NAT_FLOATING_DST == 0 {
        return true;
    }
    let key = ExternalAddressKey { external_vni: session.external_vni, address: walk.work.forward.dst };
    walk.tables.external_address(&key).is_some_and(|address| {
        address.kind == ExternalAddress::FLOATING
            && address.vtep.is_zero()
            && address.fixed == session.reply.src
    })
}

#[inline(never)]
fn mapped_destination_valid<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session) -> bool {
    let forward = &walk.work.forward;
    let binding = BindingKey {
        external_vni: session.external_vni,
        address: forward.dst,
        port: forward.dst_port,
        protocol: forward.protocol,
        zero: 0,
    };
    let Some(internal) = walk.tables.binding(&binding) else { return false };
    internal.address == session.reply.src
        && internal.port == session.reply.src_port
        && filters_independently(walk, internal.router_vni)
}

/// Whether anyone outside may use the mappings of a router.
#[inline(always)]
pub(crate) fn filters_independently<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, router_vni: u32) -> bool {
    let snat = walk.tables.snat(&RouterKey { router_vni });
    snat.is_some_and(|snat| snat.flags & Snat::FLAG_INDEPENDENT_FILTERING != 0)
}
