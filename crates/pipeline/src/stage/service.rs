//! What the host itself serves to its VMs: DHCP (RFC 2131), metadata at 169.254.169.254, and, where their router lets
//! them ask for mappings, PCP (RFC 6887). It comes before security
//! groups, as in Neutron, and before any route: a VM without a router or a rule is served too.
//!
//! DHCP and PCP are handed to the agent. Metadata is TCP, and goes to a link with a service behind it, which must tell apart VMs
//! with equal addresses: on that link each has an address of its own. Nothing is remembered: both directions look
//! the guest up in `services`.

use crate::address::Address;
use crate::bounds::FRAME_BYTES;
use crate::runtime::{Packet, PacketError, Tables};
use crate::stage::{output, port_security};
use crate::tables::{
    Neighbor, NeighborKey, Port, PortKey, RouterKey, Service, ServiceKey, Snat, Station, StationKey,
};
use crate::verdict::{Punt, Reason, Stage, Verdict};
use crate::walk::{Step, Walk, deny, end};
use packet::{MacAddr, bytes, ipv4, udp};

/// Where VMs find their host, on every network: the metadata service's address, and the DHCP server's.
pub const SERVICE_ADDRESS: [u8; 4] = [169, 254, 169, 254];
/// Who has it (locally administered). Whatever is sent to the address is taken from the VM, to which MAC ever.
pub const SERVICE_MAC: MacAddr = MacAddr([0x02, 0x00, 0xa9, 0xfe, 0xa9, 0xfe]);

/// The router of whoever asks, as a PCP server (RFC 7723).
const PCP_ANYCAST: [u8; 4] = [192, 0, 0, 9];

const BROADCAST: [u8; 4] = [255; 4];
const METADATA_PORT: u16 = 80;

/// Whether an IPv4 header is that of somebody without an address who asks for one (RFC 2131 §4.1).
#[inline(always)]
pub(crate) fn has_no_address(header: &ipv4::Header) -> bool {
    header.src == [0; 4] && header.dst == BROADCAST && header.protocol == ipv4::PROTOCOL_UDP
}

/// Takes from a VM's classified packets what is the host's to serve. `Ok`: an ordinary packet.
#[inline(never)]
pub(crate) fn run<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let key = &walk.work.key;
    // Of an ICMP error the key is the quotation's, and its protocol too.
    let udp = walk.work.headers.protocol == ipv4::PROTOCOL_UDP;
    if udp && (key.src_port == udp::PORT_DHCP_SERVER || key.dst_port == udp::PORT_DHCP_SERVER) {
        return dhcp(walk);
    }
    if udp && key.dst_port == udp::PORT_PCP_SERVER {
        return port_control(walk);
    }
    if key.dst == Address::v4(SERVICE_ADDRESS) {
        return end(to_service(walk));
    }
    if key.src == Address::v4([0; 4]) {
        return deny(Stage::Classify, Reason::SourceMulticast);
    }
    Ok(())
}

/// A packet from or to the DHCP server's port. What is meant for the host is the agent's to answer.
#[inline(never)]
fn dhcp<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::Switch);
    let (key, whole) = (&walk.work.key, walk.work.headers.fragment == 0);
    if key.src_port == udp::PORT_DHCP_SERVER {
        return deny(Stage::Switch, Reason::DhcpServer);
    }
    let to_host = key.dst == Address::v4(BROADCAST) || key.dst == Address::v4(SERVICE_ADDRESS);
    match (to_host, whole && walk.packet.len() <= FRAME_BYTES as u32) {
        (true, true) => Err(walk.punt_frame(Stage::Switch, Punt::Dhcp, 0)),
        (true, false) => deny(Stage::Switch, Reason::NotServed),
        (false, _) => Ok(()),
    }
}

/// A packet to a PCP server's port. What is for the router that the frame goes to is the agent's to answer, if the
/// router lets its VMs ask.
#[inline(never)]
fn port_control<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let key = &walk.work.key;
    let (vni, address, mac) = (key.vni, key.dst, walk.work.headers.dst_mac);
    let station = walk.tables.station(&StationKey { vni, mac, zero: 0 });
    let Some(router) = station.filter(|station| station.kind == Station::ROUTER) else { return Ok(()) };
    let allowed = walk.tables.snat(&RouterKey { router_vni: router.id });
    if allowed.is_none_or(|snat| snat.flags & Snat::FLAG_PORT_CONTROL == 0) {
        return Ok(());
    }
    let own = walk.tables.neighbor(&NeighborKey { vni, address });
    let own = own.is_some_and(|own| own.flags & Neighbor::FLAG_ROUTER != 0 && own.mac == mac);
    let whole = walk.work.headers.fragment == 0 && walk.packet.len() <= FRAME_BYTES as u32;
    if !whole || !(own || address == Address::v4(PCP_ANYCAST)) {
        return Ok(());
    }
    port_security::run(walk)?;
    walk.tables.enter(Stage::Switch);
    Err(walk.punt_frame(Stage::Switch, Punt::PortControl, 0))
}

/// A VM's packet to the service address.
#[inline(never)]
fn to_service<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Verdict> {
    port_security::run(walk)?;
    walk.tables.enter(Stage::Switch);
    if walk.work.key.dst_port != METADATA_PORT || !is_whole_tcp(walk) {
        return deny(Stage::Switch, Reason::NotServed);
    }
    let address = walk.work.key.src;
    let guest = other_side(walk, address)?;
    pass(walk, address, &guest, ipv4::OFFSET_SRC)
}

/// The service's answer to a VM.
#[inline(always)]
pub(crate) fn to_vm<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Verdict> {
    walk.tables.enter(Stage::Switch);
    let from_service = walk.work.key.src == Address::v4(SERVICE_ADDRESS);
    if !from_service || walk.work.key.src_port != METADATA_PORT || !is_whole_tcp(walk) {
        return deny(Stage::Switch, Reason::NotServed);
    }
    let address = walk.work.key.dst;
    let guest = other_side(walk, address)?;
    match walk.tables.port(&PortKey { ifindex: guest.ifindex }) {
        Some(port) if port.flags & Port::FLAG_ACTIVE != 0 => {}
        _ => return deny(Stage::Switch, Reason::PortPolicyMissing),
    }
    let (segments, len) = (walk.packet.gso_segments(), walk.packet.len());
    walk.tables.count_port(guest.ifindex, false, segments, len);
    pass(walk, address, &guest, ipv4::OFFSET_DST)
}

#[inline(always)]
fn is_whole_tcp<P, T>(walk: &Walk<'_, P, T>) -> bool {
    walk.work.headers.protocol == ipv4::PROTOCOL_TCP && walk.work.headers.fragment == 0
}

/// The guest with this address, as the other side knows it.
#[inline(always)]
fn other_side<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, address: Address) -> Step<Service> {
    match walk.tables.service(&ServiceKey { ifindex: walk.work.ingress, address }) {
        Some(guest) => Ok(guest),
        None => deny(Stage::Switch, Reason::NotServed),
    }
}

/// Sends a packet on to the other side. The guest's address here stands at `offset`.
#[inline(always)]
fn pass<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    address: Address,
    guest: &Service,
    offset: u32,
) -> Step<Verdict> {
    let word = |address: Address| u32::from_ne_bytes(address.to_v4());
    let macs = [guest.mac, SERVICE_MAC];
    let written = output::replace_address(walk, offset, word(address), word(guest.address))
        .and_then(|()| walk.packet.store::<12>(0, &bytes(macs)));
    match written {
        Ok(()) => Ok(Verdict::Port { ifindex: guest.ifindex }),
        Err(PacketError) => deny(Stage::Output, Reason::OutputFailed),
    }
}
