//! Switch, for IPv6: neighbour discovery (RFC 4861) is answered here from the model, as ARP is, before any group is
//! asked; what only the host may answer, router solicitations and DHCPv6, goes to the agent.
//!
//! A link-local address is the one that follows from a MAC (RFC 4291 appendix A), so no table has it. Nothing is
//! passed on: neither a solicitation nor an advertisement ever gets from one VM to another. What a VM advertises may be
//! news to the agent: an address of its allowed pairs that another one had.

use crate::address::Address;
use crate::bounds::{FRAME_BYTES, NEIGHBOR_OPTIONS_MAX};
use crate::runtime::{Packet, PacketError, Tables};
use crate::stage::{port_security, switch};
use crate::tables::{ExternalAddress, ExternalAddressKey, Neighbor, NeighborKey, Port, Station, StationKey};
use crate::verdict::{Punt, Reason, Stage, Verdict};
use crate::walk::{Step, Walk, deny, end};
use packet::{MacAddr, U32, bytes, ethernet, icmp6, ipv4, ipv6, nd, udp, view};
use zerocopy::transmute_ref;

const ETHERNET_LEN: u32 = ethernet::LEN as u32;
/// ff02::1:2, every DHCPv6 server and relay on the link (RFC 8415 §7.1).
const ALL_DHCP_SERVERS: Address = Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);

/// Takes from a VM's classified packets what the host answers. `Ok`: an ordinary packet. (A result with a verdict on both
/// sides would be larger than a register, and is refused by the kernel as a pointer into the caller's stack.)
#[inline(never)]
pub(crate) fn from_vm<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<()> {
    let headers = &walk.work.headers;
    let (key, protocol) = (&walk.work.key, headers.protocol);
    if protocol == ipv4::PROTOCOL_UDP
        && (key.src_port == udp::PORT_DHCP6_SERVER || key.dst_port == udp::PORT_DHCP6_SERVER)
    {
        return dhcp(walk, port);
    }
    if protocol == ipv6::PROTOCOL_ICMP {
        match headers.icmp_type {
            icmp6::TYPE_NEIGHBOR_SOLICITATION => return end(solicitation(walk, port)),
            icmp6::TYPE_NEIGHBOR_ADVERTISEMENT => return end(advertisement(walk, port)),
            icmp6::TYPE_ROUTER_SOLICITATION => return end(router_solicitation(walk, port)),
            icmp6::TYPE_ROUTER_ADVERTISEMENT | icmp6::TYPE_REDIRECT => {
                return deny(Stage::Switch, Reason::RogueRouter);
            }
            icmp6::TYPE_MLD_QUERY..=icmp6::TYPE_MLD_DONE | icmp6::TYPE_MLD_REPORT_V2 => {
                return deny(Stage::Switch, Reason::ArpIgnored);
            }
            _ => {}
        }
    }
    if key.src.is_zero() {
        return deny(Stage::Classify, Reason::SourceMulticast);
    }
    Ok(())
}

/// From a tunnel: every host answers its own VMs, so none of it has a reason to be there.
#[inline(always)]
pub(crate) fn from_host<P, T>(walk: &Walk<'_, P, T>) -> Step<()> {
    let headers = &walk.work.headers;
    let discovery = matches!(headers.icmp_type, icmp6::TYPE_MLD_QUERY..=icmp6::TYPE_REDIRECT);
    if headers.protocol == ipv6::PROTOCOL_ICMP && discovery {
        return deny(Stage::Switch, Reason::ArpIgnored);
    }
    Ok(())
}

/// "Who has this address?"
#[inline(never)]
fn solicitation<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<Verdict> {
    walk.tables.enter(Stage::Switch);
    let target = target(walk, port)?;
    let (src, src_mac) = (walk.work.key.src, walk.work.headers.src_mac);
    let probe_of_own = src.is_zero() && src_mac == port.mac;
    if !probe_of_own && !port_security::owns(walk, port, &src) {
        return deny(Stage::PortSecurity, Reason::SpoofedNeighbor);
    }
    if !find(walk, port.network_vni, target) {
        return deny(Stage::Switch, Reason::ArpUnknownTarget);
    }
    if walk.work.neighbor.message.option.mac == src_mac {
        // It asks whether anybody else has its own address: an answer would be a conflict.
        return deny(Stage::Switch, Reason::ArpIgnored);
    }
    answer(walk)?;
    Ok(Verdict::Port { ifindex: walk.work.ingress })
}

/// "I have this address": known from the model, if it is true, or an address of its pairs that another one had.
#[inline(never)]
fn advertisement<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<Verdict> {
    walk.tables.enter(Stage::Switch);
    let own = advertised(walk, port)
        && port_security::owns(walk, port, &walk.work.target.next_hop)
        && port_security::owns(walk, port, &walk.work.key.src);
    if !own {
        return deny(Stage::PortSecurity, Reason::SpoofedNeighbor);
    }
    if !port_security::names(walk, &walk.work.target.next_hop) {
        return deny(Stage::Switch, Reason::ArpIgnored);
    }
    switch::announced(walk, port.network_vni)
}

/// Writes a sound message's target to `target.next_hop`.
#[inline(never)]
fn advertised<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> bool {
    let Ok(target) = target(walk, port) else { return false };
    walk.work.target.next_hop = target;
    true
}

#[inline(never)]
fn router_solicitation<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<Verdict> {
    const LEN: u32 = 8;
    walk.tables.enter(Stage::Switch);
    let src = walk.work.key.src;
    let own = src.is_zero() || port_security::owns(walk, port, &src);
    if !own || walk.work.headers.ttl != nd::HOP_LIMIT || !options_own(walk, LEN, port) {
        return deny(Stage::PortSecurity, Reason::SpoofedNeighbor);
    }
    hand_over(walk, Punt::RouterSolicitation)
}

/// A packet from or to a DHCPv6 server's port. What is meant for the host is the agent's to answer.
#[inline(never)]
fn dhcp<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<()> {
    walk.tables.enter(Stage::Switch);
    let key = &walk.work.key;
    if key.src_port == udp::PORT_DHCP6_SERVER {
        return deny(Stage::Switch, Reason::DhcpServer);
    }
    let (src, dst) = (key.src, key.dst);
    if dst != ALL_DHCP_SERVERS && !dst.is_link_local() {
        return Ok(());
    }
    if !port_security::owns(walk, port, &src) {
        return deny(Stage::PortSecurity, Reason::SpoofedAddress);
    }
    end(hand_over(walk, Punt::Dhcp6))
}

#[inline(always)]
fn hand_over<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, punt: Punt) -> Step<Verdict> {
    if walk.packet.len() > FRAME_BYTES as u32 {
        return deny(Stage::Switch, Reason::NotServed);
    }
    Ok(walk.punt_frame(Stage::Switch, punt, 0))
}

/// The target of a valid message from a VM (RFC 4861 §7.1) that names no MAC but its sender's.
#[inline(always)]
fn target<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<Address> {
    let target = load_target(walk);
    if target.is_zero() || !options_own(walk, nd::LEN as u32, port) {
        return deny(Stage::PortSecurity, Reason::SpoofedNeighbor);
    }
    Ok(target)
}

/// Zero: the message is malformed, or came by a router.
#[inline(always)]
fn load_target<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> Address {
    let headers = &walk.work.headers;
    let end = headers.ip_len + ETHERNET_LEN;
    let offset = headers.l4_offset;
    let whole = offset + nd::LEN as u32 <= end;
    if !whole || headers.ttl != nd::HOP_LIMIT || headers.icmp_code != 0 {
        return Address::ZERO;
    }
    match walk.packet.load::<16>(offset + nd::OFFSET_TARGET) {
        Ok(target) if !Address::v6(target).is_v6_multicast() && !Address::v6(target).is_v4() => {
            Address::v6(target)
        }
        _ => Address::ZERO,
    }
}

/// Whether the options behind the first `len` bytes of the message are well formed, and name the sender's MAC where
/// they name one.
#[inline(always)]
fn options_own<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, len: u32, port: &Port) -> bool {
    let mut offset = walk.work.headers.l4_offset + len;
    let end = walk.work.headers.ip_len + ETHERNET_LEN;
    let trusted = u32::from(port.flags & Port::FLAG_UNRESTRICTED != 0);
    let mut left = NEIGHBOR_OPTIONS_MAX;
    while offset < end && left > 0 {
        let len = option(walk, offset, trusted);
        if len == 0 {
            return false;
        }
        offset += len;
        left -= 1;
    }
    offset == end
}

/// Bytes of the option at `offset`; 0: it is malformed, or names another's MAC and is not trusted.
#[inline(never)]
fn option<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, offset: u32, trusted: u32) -> u32 {
    let Ok(bytes) = walk.packet.load::<{ nd::Option::LEN }>(offset) else { return 0 };
    let option: nd::Option = view(bytes);
    let names_mac = option.kind == nd::OPTION_SOURCE_MAC || option.kind == nd::OPTION_TARGET_MAC;
    if names_mac && trusted == 0 && (option.len != 1 || option.mac != walk.work.headers.src_mac) {
        return 0;
    }
    u32::from(option.len) << 3
}

/// Writes who has an address on a network to `neighbor`. False: nobody.
#[inline(never)]
fn find<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32, target: Address) -> bool {
    const FLAGS: u8 = nd::FLAG_OVERRIDE;
    let (mac, router) = match walk.tables.neighbor(&NeighborKey { vni, address: target }) {
        Some(neighbor) => (neighbor.mac, neighbor.flags & Neighbor::FLAG_ROUTER != 0),
        None => {
            let mac = target.eui_mac();
            let station = walk.tables.station(&StationKey { vni, mac, zero: 0 });
            match station {
                Some(station) if target == Address::link_local(mac) => (mac, station.kind == Station::ROUTER),
                _ => return false,
            }
        }
    };
    let flags = if router { FLAGS | nd::FLAG_ROUTER } else { FLAGS };
    prepare(walk, target, mac, flags);
    true
}

#[inline(always)]
fn prepare<P, T>(walk: &mut Walk<'_, P, T>, target: Address, mac: MacAddr, flags: u8) {
    let neighbor = &mut walk.work.neighbor;
    neighbor.ipv6.version_class_label = U32::new(6 << 28);
    neighbor.ipv6.next_header = ipv6::PROTOCOL_ICMP;
    neighbor.ipv6.hop_limit = nd::HOP_LIMIT;
    neighbor.message = nd::Message::advertisement(flags, target.octets(), mac);
}

/// Turns a solicitation in place into the answer in `neighbor`. One without an option has no room for the answer's MAC:
/// it was sent to it, or by somebody who only wants to know that there is an answer (RFC 4861 §7.2.4, RFC 4862 §5.4).
#[inline(never)]
fn answer<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let src = walk.work.key.src;
    let with_mac = walk.work.headers.ip_len >= nd::Packet::LEN as u32;
    let reply = &mut walk.work.neighbor;
    let mac = reply.message.option.mac;
    let asked_by = walk.work.headers.src_mac;
    let (dst, dst_mac) = if src.is_zero() {
        (nd::ALL_NODES, nd::multicast_mac(&nd::ALL_NODES))
    } else {
        reply.message.header.flags |= nd::FLAG_SOLICITED;
        (src.octets(), asked_by)
    };
    reply.ipv6.src = reply.message.header.target;
    reply.ipv6.dst = dst;
    reply.seal(with_mac);
    match write(walk, with_mac).and_then(|()| walk.packet.store::<12>(0, &bytes([dst_mac, mac]))) {
        Ok(()) => Ok(()),
        Err(PacketError) => deny(Stage::Output, Reason::OutputFailed),
    }
}

#[inline(always)]
fn write<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, with_mac: bool) -> Result<(), PacketError> {
    const MESSAGE: u32 = ETHERNET_LEN + ipv6::LEN as u32;
    let nd::Packet { ipv6, message: nd::Message { header, option } } = &walk.work.neighbor;
    walk.packet.store::<{ ipv6::LEN }>(ETHERNET_LEN, transmute_ref!(ipv6))?;
    walk.packet.store::<{ nd::LEN }>(MESSAGE, transmute_ref!(header))?;
    if with_mac {
        walk.packet.store::<{ nd::Option::LEN }>(MESSAGE + nd::LEN as u32, transmute_ref!(option))?;
    }
    Ok(())
}

/// On an external network: solicitations for addresses this host answers for are answered, what neighbours say of
/// themselves goes to the agent, and the host's own stack sees everything else.
#[inline(never)]
pub(crate) fn from_uplink<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Switch);
    let target = load_target(walk);
    let kind = walk.work.headers.icmp_type;
    let asks = kind == icmp6::TYPE_NEIGHBOR_SOLICITATION;
    if target.is_zero() || !(asks || kind == icmp6::TYPE_NEIGHBOR_ADVERTISEMENT) {
        return Err(Verdict::Pass);
    }
    let external_vni = walk.work.external_vni;
    let ours = walk.tables.external_address(&ExternalAddressKey { external_vni, address: target });
    let dvr_mac = walk.work.config.dvr_mac;
    if asks {
        let answers = ours.is_some_and(|address| address.flags & ExternalAddress::FLAG_ANSWER != 0)
            || target == Address::link_local(dvr_mac);
        if !answers {
            return Err(Verdict::Pass);
        }
        prepare(walk, target, dvr_mac, nd::FLAG_OVERRIDE | nd::FLAG_ROUTER);
        answer(walk)?;
        return Err(Verdict::Uplink { ifindex: walk.work.ingress });
    }
    // Of those that were not asked only known ones matter: a storm of others must not use up the tokens.
    let matters = walk.work.headers.dst_mac == dvr_mac
        || ours.is_some()
        || walk.tables.neighbor(&NeighborKey { vni: external_vni, address: target }).is_some();
    if matters && walk.tables.punt_allowed(walk.work.ingress) {
        walk.work.target.next_hop = target;
        walk.emit(Punt::LearnNeighbor, external_vni, 0);
    }
    Err(Verdict::Pass)
}
