//! SNAT: a fixed address leaves as its floating IP, or by an endpoint-independent mapping (RFC 4787 REQ-1)
//! on a port of this host's blocks, chosen at random (RFC 6056, RFC 6888 REQ-15). Floating IP beats SNAT.

use crate::bounds::{BLOCK_WORDS_MAX, PORT_PROBES_MAX, PORT_SEARCH_MAX};
use crate::nat::{self, BindingKey, ContactKey, Mapping, MappingKey};
use crate::runtime::{InsertError, Packet, Reserved, Share, Tables};
use crate::session::{Session, SessionKey};
use crate::stage::{dnat, routed};
use crate::tables::{BlockKey, ExternalAddress, ExternalAddressKey, FixedKey, RouterKey, Snat};
use crate::verdict::{Punt, Reason, Stage};
use crate::walk::{Hook, Step, Walk, deny};
use core::sync::atomic::Ordering::Relaxed;
use packet::ipv4;

/// Words of one block that a search looks at before it turns to another: a full block is soon left.
const BLOCK_LOOKS: u32 = 16;

/// A new flow from a VM to the outside: fills `translated.src` and its port.
#[inline(never)]
pub(crate) fn run<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Snat);
    if walk.work.translated.flags & Session::NAT_ROUTED_SRC != 0 {
        routed::outbound(walk)?;
        reconsider_filter(walk);
        return Ok(());
    }
    if walk.work.headers.is_ipv6() {
        return deny(Stage::Snat, Reason::NotRouted);
    }
    if walk.work.headers.has_ports == 0 {
        return deny(Stage::Snat, dnat::untranslatable(walk));
    }
    let (router_vni, address) = (walk.work.router_vni, walk.work.key.src);
    if let Some(floating) = walk.tables.floating_by_fixed(&FixedKey { router_vni, address })
        && floating.external_vni == walk.work.external_vni
    {
        walk.work.translated.src = floating.address;
        walk.work.translated.flags |= Session::NAT_FLOATING_SRC;
        reconsider_filter(walk);
        return Ok(());
    }
    let Some(snat) = walk.tables.snat(&RouterKey { router_vni }) else {
        return refuse(walk, Stage::Snat, Reason::SnatDisabled);
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
    if snat.flags & Snat::FLAG_ADDRESS_FILTERING != 0 {
        remember_contact(walk);
    }
    reconsider_filter(walk);
    Ok(())
}

/// Lets the destination's other ports answer the mapping.
#[inline(never)]
fn remember_contact<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) {
    let (translated, key) = (&walk.work.translated, &walk.work.key);
    let binding = BindingKey {
        external_vni: walk.work.external_vni,
        address: translated.src,
        port: translated.src_port,
        protocol: key.protocol,
        zero: 0,
    };
    walk.tables.insert_contact(&ContactKey { binding, remote: key.dst });
}

/// A mapping of this host that filters by address refused the packet before the sender's own external address
/// was known. Now it is.
#[inline(never)]
fn reconsider_filter<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) {
    if walk.work.translated.flags & Session::NAT_PUNCHED == 0 {
        return;
    }
    let key = &walk.work.key;
    let binding = BindingKey {
        external_vni: walk.work.external_vni,
        address: key.dst,
        port: key.dst_port,
        protocol: key.protocol,
        zero: 0,
    };
    let Some(internal) = walk.tables.binding(&binding) else { return };
    let Some(snat) = walk.tables.snat(&RouterKey { router_vni: internal.router_vni }) else { return };
    let known = ContactKey { binding, remote: walk.work.translated.src };
    if snat.flags & Snat::FLAG_ADDRESS_FILTERING != 0 && walk.tables.contact(&known) {
        walk.work.translated.flags &= !Session::NAT_PUNCHED;
    }
}

/// The internal endpoint of a flow.
#[inline(always)]
fn mapping_key(router_vni: u32, key: &SessionKey) -> MappingKey {
    MappingKey { router_vni, address: key.src, port: key.src_port, protocol: key.protocol, zero: 0 }
}

// The functions below leave the external endpoint in `translated.src` and its port: a value that does not
// fit a register would be returned through a pointer, which the verifier may find in the return register.

/// Claims a free external port: random probes, each an insert that fails if the port is taken, then a search.
#[inline(never)]
fn allocate<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, snat: &Snat, internal: &MappingKey) -> Step<()> {
    if snat.block_count == 0 {
        ask_for_block(walk);
        return refuse(walk, Stage::Snat, Reason::NoPortBlock);
    }
    let owner = FixedKey { router_vni: internal.router_vni, address: internal.address };
    let share = Share { ports_max: snat.ports_max, mappings_per_second: snat.mappings_per_second };
    let limited = share.ports_max | share.mappings_per_second != 0;
    if limited {
        match walk.tables.reserve_port(&owner, &share) {
            Reserved::Granted => {}
            Reserved::Full => return refuse(walk, Stage::Snat, Reason::PortQuota),
            Reserved::TooFast => return refuse(walk, Stage::Snat, Reason::MappingRate),
        }
    }
    for attempt in 0..PORT_PROBES_MAX {
        if probe(walk, snat, internal, attempt != 0) {
            return settle(walk, internal);
        }
    }
    ask_for_block(walk);
    if search(walk, snat, internal) {
        return settle(walk, internal);
    }
    if limited {
        walk.tables.release_port(&owner);
    }
    refuse(walk, Stage::Snat, Reason::PortsExhausted)
}

/// Drops for want of permission or resources, and has the agent tell the VM (RFC 5508 REQ-8, RFC 6888
/// REQ-11).
#[inline(never)]
pub(crate) fn refuse<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    stage: Stage,
    reason: Reason,
) -> Step<()> {
    if walk.hook == Hook::Port && walk.tables.punt_allowed(walk.work.ingress) {
        let vni = walk.work.key.vni;
        walk.emit(Punt::Prohibited, vni, reason as u32);
    }
    deny(stage, reason)
}

/// A random port of a random block. `crowded`: others were taken, so what is found is worth remembering.
#[inline(never)]
fn probe<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    snat: &Snat,
    internal: &MappingKey,
    crowded: bool,
) -> bool {
    if !choose_block(walk, snat, internal) {
        return false;
    }
    let offset = below(walk.tables.random(), walk.work.search_size);
    let claimed = claim(walk, offset, internal);
    if crowded || !claimed {
        note_taken(walk, offset);
    }
    claimed
}

/// Remembers that a port of the block in `search` is taken.
#[inline(never)]
fn note_taken<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, offset: u32) {
    let tables = walk.tables;
    if tables.port_bits(&walk.work.search).is_none() {
        tables.insert_port_bits(&walk.work.search, &walk.work.no_bits);
    }
    let Some(bits) = tables.port_bits(&walk.work.search) else { return };
    let word = (offset >> 6) & (BLOCK_WORDS_MAX - 1);
    if let Some(cell) = bits.0.get(word as usize) {
        cell.fetch_or(1 << (offset & 63), Relaxed);
    }
}

/// A number below `limit`, which is at most 65,536, from random bits.
#[inline(always)]
fn below(random: u32, limit: u32) -> u32 {
    (random & 0xffff).wrapping_mul(limit) >> 16
}

/// A block of the VM's address in `search`. Which of the addresses follows from the VM, which of its blocks
/// from chance.
#[inline(never)]
fn choose_block<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, snat: &Snat, internal: &MappingKey) -> bool {
    let random = walk.tables.random();
    let addresses = snat.address_count.max(1);
    let rows = (snat.block_count / addresses).max(1);
    let address = nat::paired_address(&internal.address, addresses);
    let slot = below(random >> 16, rows).wrapping_mul(addresses).wrapping_add(address);
    let Some(block) = walk.tables.own_block(&BlockKey { router_vni: internal.router_vni, slot }) else {
        return false;
    };
    let work = &mut *walk.work;
    work.search.external_vni = snat.external_vni;
    work.search.address = block.address;
    work.search.first = block.first;
    work.search.protocol = internal.protocol;
    work.search.zero = 0;
    work.search_size = u32::from(block.size);
    let words = (work.search_size + 63) >> 6;
    work.search_left = words.min(BLOCK_LOOKS);
    work.search_word = below(random, words);
    true
}

/// Claims a port of the block in `search`, if it is free.
#[inline(never)]
fn claim<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, offset: u32, internal: &MappingKey) -> bool {
    let search = &walk.work.search;
    let (address, port) = (search.address, search.first.wrapping_add(offset as u16));
    let binding =
        BindingKey { external_vni: search.external_vni, address, port, protocol: internal.protocol, zero: 0 };
    match walk.tables.insert_binding(&binding, internal) {
        Ok(()) => {
            walk.work.translated.src = address;
            walk.work.translated.src_port = port;
            true
        }
        Err(InsertError::Exists | InsertError::Full) => false,
    }
}

/// Looks for a free port, block by block, by what is known of their ports.
#[inline(never)]
fn search<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, snat: &Snat, internal: &MappingKey) -> bool {
    let tables = walk.tables;
    walk.work.search_left = 0;
    let mut found = false;
    tables.repeat(PORT_SEARCH_MAX, || {
        if walk.work.search_left == 0 && !choose_block(walk, snat, internal) {
            return true;
        }
        found = search_word(walk, internal);
        found
    });
    found
}

/// One step: the next 64 ports, of which one that is not known to be taken is tried.
#[inline(always)]
fn search_word<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, internal: &MappingKey) -> bool {
    let tables = walk.tables;
    if tables.port_bits(&walk.work.search).is_none() {
        tables.insert_port_bits(&walk.work.search, &walk.work.no_bits);
    }
    let Some(bits) = tables.port_bits(&walk.work.search) else { return false };
    let (word, size) = (walk.work.search_word & (BLOCK_WORDS_MAX - 1), walk.work.search_size);
    let Some(cell) = bits.0.get(word as usize) else { return false };
    let taken = cell.load(Relaxed) | beyond(size, word);
    if taken == u64::MAX {
        let words = (size + 63) >> 6;
        let next = word + 1;
        walk.work.search_word = if next >= words { 0 } else { next };
        walk.work.search_left = walk.work.search_left.wrapping_sub(1);
        return false;
    }
    // The first free one from a random place on: the next port must not follow from the last.
    let start = tables.random() & 63;
    let bit = ((!taken).rotate_right(start).trailing_zeros() + start) & 63;
    let claimed = claim(walk, (word << 6) + bit, internal);
    cell.fetch_or(1 << bit, Relaxed);
    claimed
}

/// The bits of a word that stand for no port of the block.
#[inline(always)]
const fn beyond(size: u32, word: u32) -> u64 {
    let ports = size.saturating_sub(word << 6);
    if ports >= 64 { 0 } else { u64::MAX << ports }
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
    (session.flags == 0 || routed::still_valid(walk, session))
        && source_valid(walk, session)
        && destination_valid(walk, session)
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
    if session.flags & Session::NAT_FORWARDED_DST != 0 {
        return forwarded_destination_valid(walk, session);
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
fn forwarded_destination_valid<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session) -> bool {
    let key = forward_binding(walk, session);
    walk.tables.forwarding(&key).is_some_and(|forwarding| {
        forwarding.vtep.is_zero()
            && forwarding.address == session.reply.src
            && forwarding.port == session.reply.src_port
    })
}

/// The external endpoint that a session's first packet was sent to.
#[inline(always)]
fn forward_binding<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session) -> BindingKey {
    let forward = &walk.work.forward;
    BindingKey {
        external_vni: session.external_vni,
        address: forward.dst,
        port: forward.dst_port,
        protocol: forward.protocol,
        zero: 0,
    }
}

#[inline(never)]
fn mapped_destination_valid<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session) -> bool {
    let binding = forward_binding(walk, session);
    let Some(internal) = walk.tables.binding(&binding) else { return false };
    let same = internal.address == session.reply.src && internal.port == session.reply.src_port;
    // Both ends asked for this connection, whatever the filter; the one that was refused may have to begin anew.
    let punched = session.flags & Session::NAT_PUNCHED != 0;
    let flags = flags_of(walk, internal.router_vni);
    let open = flags & FILTERS != 0 || is_opened(walk, flags, &binding);
    same && if punched { !open || session.is_answered() } else { open }
}

/// Whether the VM behind an external endpoint opened it to anyone, and its router lets it. `flags`: the router's.
#[inline(always)]
fn is_opened<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, flags: u32, binding: &BindingKey) -> bool {
    flags & Snat::FLAG_PORT_CONTROL != 0 && walk.tables.opening(binding)
}

/// Of them a router has one or none, which is the narrowest.
const FILTERS: u32 = Snat::FLAG_INDEPENDENT_FILTERING | Snat::FLAG_ADDRESS_FILTERING;

/// The flags of a router's [`Snat`].
#[inline(always)]
fn flags_of<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, router_vni: u32) -> u32 {
    walk.tables.snat(&RouterKey { router_vni }).map_or(0, |snat| snat.flags)
}

/// Whether the packet may use the mapping of a claimed port, as its router filters, or because the mapping's own VM
/// said so.
#[inline(always)]
pub(crate) fn lets_in<P: Packet, T: Tables>(
    walk: &Walk<'_, P, T>,
    router_vni: u32,
    binding: &BindingKey,
) -> bool {
    let flags = flags_of(walk, router_vni);
    if is_opened(walk, flags, binding) {
        return true;
    }
    match flags & FILTERS {
        Snat::FLAG_INDEPENDENT_FILTERING => true,
        Snat::FLAG_ADDRESS_FILTERING => {
            // The address of a VM of ours is not yet the one that the outside sees.
            let contact = ContactKey { binding: *binding, remote: walk.work.key.src };
            walk.hook != Hook::Port && walk.tables.contact(&contact)
        }
        _ => false,
    }
}
