//! Switch: ARP is answered here from the model (RFC 826), and the destination MAC is found on the network.
//! Nothing is flooded: an address or MAC that the model does not know has no owner.

use crate::address::Address;
use crate::runtime::{Packet, Tables};
use crate::stage::port_security;
use crate::stage::service::{SERVICE_ADDRESS, SERVICE_MAC};
use crate::tables::{ExternalAddress, ExternalAddressKey, NeighborKey, Port, Station, StationKey};
use crate::tables::{NetworkKey, VtepKey};
use crate::verdict::{Punt, Reason, Stage, Verdict};
use crate::walk::{Hook, Step, Target, Walk, deny};
use packet::{MacAddr, arp, bytes, ethernet, view};

const ETHERNET_LEN: u32 = ethernet::LEN as u32;

/// ARP from a VM: the sender must be the port's own; a request is answered from the model. What a VM announces unasked
/// may be news: an address of its allowed pairs that another one had.
#[inline(never)]
pub(crate) fn arp<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<Verdict> {
    walk.tables.enter(Stage::Switch);
    let message = load_arp(walk)?;
    let sender = Address::v4(message.sender_ip);
    let probe = message.sender_ip == [0; 4];
    let src_mac = walk.work.headers.src_mac;
    let own = message.sender_mac == src_mac
        && if probe { src_mac == port.mac } else { port_security::allowed(walk, src_mac, sender) };
    if !own && port.flags & Port::FLAG_UNRESTRICTED == 0 {
        return deny(Stage::PortSecurity, Reason::SpoofedArp);
    }
    if message.operation.get() != arp::OP_REQUEST || message.sender_ip == message.target_ip {
        if !own || probe {
            return deny(Stage::Switch, Reason::ArpIgnored);
        }
        walk.work.target.next_hop = sender;
        return announced(walk, port.network_vni);
    }
    let key = NeighborKey { vni: port.network_vni, address: Address::v4(message.target_ip) };
    let mac = match walk.tables.neighbor(&key) {
        _ if message.target_ip == SERVICE_ADDRESS => SERVICE_MAC,
        Some(neighbor) => neighbor.mac,
        None => return deny(Stage::Switch, Reason::ArpUnknownTarget),
    };
    if mac == message.sender_mac {
        // A probe for the VM's own address (RFC 5227): an answer would be a conflict.
        return deny(Stage::Switch, Reason::ArpIgnored);
    }
    answer_arp(walk, &message, mac)?;
    Ok(Verdict::Port { ifindex: walk.work.ingress })
}

/// ARP from another host: what a VM there announced. VMs' own ARP never gets into a tunnel.
#[inline(never)]
pub(crate) fn arp_overlay<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<Verdict> {
    walk.tables.enter(Stage::Switch);
    let message = load_arp(walk)?;
    let own = message.sender_mac == walk.work.headers.src_mac && message.sender_ip == message.target_ip;
    if !own || message.sender_ip == [0; 4] {
        return deny(Stage::Switch, Reason::ArpIgnored);
    }
    walk.work.target.next_hop = Address::v4(message.sender_ip);
    announced(walk, vni)
}

/// The sender says that it has `target.next_hop`. Only what is news goes to the agent: an address that is known to be
/// elsewhere, or nowhere yet.
#[inline(never)]
pub(crate) fn announced<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, vni: u32) -> Step<Verdict> {
    let (mac, address) = (walk.work.headers.src_mac, walk.work.target.next_hop);
    let known = walk.tables.neighbor(&NeighborKey { vni, address });
    if known.is_some_and(|known| known.mac == mac) {
        let station = walk.tables.station(&StationKey { vni, mac, zero: 0 });
        let here = station.is_some_and(|station| match station.kind {
            Station::PORT => station.id == walk.work.ingress,
            Station::REMOTE => walk.hook == Hook::Overlay && station.vtep == walk.work.peer,
            _ => false,
        });
        if here {
            return deny(Stage::Switch, Reason::ArpIgnored);
        }
    }
    Ok(walk.punt(Stage::Switch, Punt::AddressAnnounced, vni, 0))
}

/// ARP on an external network: requests for addresses this host answers for are answered, what neighbours
/// say of themselves goes to the agent, and the host's own stack sees everything else.
#[inline(never)]
pub(crate) fn arp_uplink<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Verdict> {
    walk.tables.enter(Stage::Switch);
    let Ok(message) = load_arp(walk) else { return Ok(Verdict::Pass) };
    let external_vni = walk.work.external_vni;
    let target = Address::v4(message.target_ip);
    let ours = walk.tables.external_address(&ExternalAddressKey { external_vni, address: target });
    let (dst_mac, dvr_mac) = (walk.work.headers.dst_mac, walk.work.config.dvr_mac);
    let announced = message.sender_ip == message.target_ip;
    if let Some(address) = ours.filter(|_| !announced) {
        let request = message.operation.get() == arp::OP_REQUEST;
        if !request || address.flags & ExternalAddress::FLAG_ANSWER == 0 {
            return Ok(Verdict::Pass);
        }
        answer_arp(walk, &message, dvr_mac)?;
        return Ok(Verdict::Uplink { ifindex: walk.work.ingress });
    }
    // Of those that were not asked only known ones matter: a storm of others must not use up the tokens.
    let sender = NeighborKey { vni: external_vni, address: Address::v4(message.sender_ip) };
    let matters =
        dst_mac == dvr_mac || (announced && (ours.is_some() || walk.tables.neighbor(&sender).is_some()));
    if matters && message.sender_ip != [0; 4] && walk.tables.punt_allowed(walk.work.ingress) {
        walk.work.target.next_hop = Address::v4(message.sender_ip);
        walk.emit(Punt::LearnNeighbor, external_vni, 0);
    }
    Ok(Verdict::Pass)
}

#[inline(always)]
fn load_arp<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> Step<arp::Header> {
    let Ok(message) = walk.packet.load::<{ arp::LEN }>(ETHERNET_LEN) else {
        return deny(Stage::Switch, Reason::Truncated);
    };
    let message: arp::Header = view(message);
    if message.is_ethernet_ipv4() { Ok(message) } else { deny(Stage::Switch, Reason::MalformedArp) }
}

/// Turns the request in place into the answer "`target_ip` is at `mac`".
#[inline(always)]
fn answer_arp<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    request: &arp::Header,
    mac: MacAddr,
) -> Step<()> {
    let reply =
        arp::Header::new(arp::OP_REPLY, (mac, request.target_ip), (request.sender_mac, request.sender_ip));
    let macs = [walk.work.headers.src_mac, mac];
    let written = walk
        .packet
        .store::<{ arp::LEN }>(ETHERNET_LEN, &bytes(reply))
        .and_then(|()| walk.packet.store::<12>(0, &bytes(macs)));
    if written.is_err() {
        return deny(Stage::Output, Reason::OutputFailed);
    }
    Ok(())
}

/// Finds the station with the destination MAC. A router makes `router_vni`; anything else becomes the
/// target.
#[inline(never)]
pub(crate) fn run<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Switch);
    let (vni, mac) = (walk.work.key.vni, walk.work.headers.dst_mac);
    if mac.is_multicast() {
        return deny(Stage::Switch, Reason::MulticastUnsupported);
    }
    let Some(station) = walk.tables.station(&StationKey { vni, mac, zero: 0 }) else {
        return deny(Stage::Switch, Reason::UnknownStation);
    };
    if station.kind == Station::ROUTER {
        if walk.hook != Hook::Port {
            return deny(Stage::Switch, Reason::NotLocal);
        }
        walk.work.router_vni = station.id;
        return Ok(());
    }
    if station.kind == Station::PORT && station.id == walk.work.ingress {
        return deny(Stage::Switch, Reason::SelfAddressed);
    }
    if walk.hook == Hook::Overlay && station.kind != Station::PORT {
        return deny(Stage::Switch, Reason::NotLocal);
    }
    let Some(network) = walk.tables.network(&NetworkKey { vni }) else {
        return deny(Stage::Switch, Reason::UnknownVni);
    };
    let target = &mut walk.work.target;
    target.kind = Target::STATION;
    target.vni = vni;
    target.mtu = network.mtu;
    target.routed = 0;
    target.src_mac = walk.work.headers.src_mac;
    walk.work.station = station;
    restore_src_mac(walk, network.router_mac);
    Ok(())
}

/// What another host routed comes with that host's DVR MAC; the VM sees its router's instead.
#[inline(never)]
fn restore_src_mac<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, router_mac: MacAddr) {
    if walk.hook != Hook::Overlay {
        return;
    }
    let Some(vtep) = walk.tables.vtep(&VtepKey { address: walk.work.peer }) else { return };
    if vtep.dvr_mac == walk.work.headers.src_mac {
        walk.work.target.src_mac = router_mac;
    }
}
