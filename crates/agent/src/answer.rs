//! ICMP errors about packets the data path could not forward: which frame, from whom, out of which link.
//!
//! Pure: an event and the tables it was made with in, a frame out. The error goes back the way the packet
//! came: into the VM's port, from the router's address there or, where there is no router, from the address that the
//! packet was sent to; out of the uplink, from the router's address
//! outside; or, if it came between hosts on its way from or to the outside, through the tunnel ([`transit`]).
//! Packets of tenant networks from the tunnel are another host's to answer.

mod transit;
mod v6;

use crate::discovery;
use packet::compose::{ErrorSender, IcmpError, Refusal, icmp_error};
use packet::{MacAddr, arp, ethernet};
use pipeline::event::Event;
use pipeline::table_set::TableSet;
use pipeline::tables::*;
use pipeline::{Address, Ingress, Punt};
use std::net::IpAddr;

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// [`Outgoing::UNDERLAY`]: there is no Ethernet header, and the kernel routes the IPv4 packet.
    pub(crate) ifindex: u32,
    pub(crate) frame: Vec<u8>,
}

impl Outgoing {
    /// No interface has this index.
    pub(crate) const UNDERLAY: u32 = 0;
}

/// Why an event got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// From another host, which knows the sender.
    FromTunnel,
    /// The interface or network is no longer configured.
    Unconfigured,
    /// RFC 1812 forbids it, or the packet was cut.
    Refused(Refusal),
}

/// The bytes of the packet that the event carries.
pub(crate) fn packet_of(event: &Event) -> &[u8] {
    let len = (event.packet_len as usize).min(event.packet.len());
    event.packet.get(..len).unwrap_or_default()
}

/// The ICMP error for an event; `None` if the punt is not about one.
pub(crate) fn error_of(punt: Punt, event: &Event) -> Option<IcmpError> {
    match punt {
        Punt::TtlExceeded => Some(IcmpError::TimeExceeded),
        Punt::FragmentationNeeded => {
            Some(IcmpError::FragmentationNeeded { mtu: u16::try_from(event.detail).unwrap_or(u16::MAX) })
        }
        Punt::Prohibited => Some(IcmpError::AdminProhibited),
        Punt::Unreachable => Some(IcmpError::HostUnreachable),
        Punt::ResolveNeighbor
        | Punt::LearnNeighbor
        | Punt::PortBlockLow
        | Punt::EarlyFragment
        | Punt::FirstFragment
        | Punt::Fragment
        | Punt::Dhcp
        | Punt::RouterSolicitation
        | Punt::Dhcp6
        | Punt::PortControl
        | Punt::AddressAnnounced => None,
    }
}

/// The frame that tells the sender.
pub(crate) fn compose(tables: &TableSet, event: &Event, error: IcmpError) -> Result<Outgoing, Silence> {
    if v6::is_about(event) {
        return v6::compose(tables, event, error);
    }
    if event.ingress == Ingress::TUNNEL_ID {
        return transit::compose(tables, event, error);
    }
    let ifindex = event.ingress;
    let offending = packet_of(event);
    let sender = match tables.ports.get(&PortKey { ifindex }) {
        Some(port) => inside(tables, port, offending)?,
        None => outside(tables, ifindex, event.vni, offending)?,
    };
    let frame = icmp_error(error, offending, &sender).map_err(Silence::Refused)?;
    Ok(Outgoing { ifindex, frame: frame.to_vec() })
}

/// The router as the VM knows it: the interface whose MAC the packet was sent to, or else any of the network. A network
/// without a router still has an MTU, which its VMs have to learn from somebody: from whom they sent to.
fn inside(tables: &TableSet, port: &Port, offending: &[u8]) -> Result<ErrorSender, Silence> {
    let mut routers = routers(tables, port.network_vni).filter(|(key, _)| key.address.is_v4());
    let sent_to: Option<ethernet::Header> = packet::read(offending, 0);
    let Some(first) = routers.next() else {
        let (header, ip) = sent_to.zip(destination(offending)).ok_or(Silence::Refused(Refusal::Truncated))?;
        return Ok(ErrorSender { mac: header.dst, ip, vlan: None });
    };
    let exact = std::iter::once(first)
        .chain(routers)
        .find(|(_, neighbor)| sent_to.is_some_and(|header| header.dst == neighbor.mac));
    let (key, neighbor) = exact.unwrap_or(first);
    Ok(ErrorSender { mac: neighbor.mac, ip: key.address.to_v4(), vlan: None })
}

/// The routers' addresses on a tenant network.
fn routers(tables: &TableSet, vni: u32) -> impl Iterator<Item = (&NeighborKey, &Neighbor)> + Clone {
    let first = NeighborKey { vni, address: Address::ZERO };
    let of_network = tables.neighbors.range(first..).take_while(move |(key, _)| key.vni == vni);
    of_network.filter(|(_, neighbor)| neighbor.flags & Neighbor::FLAG_ROUTER != 0)
}

/// The router as the outside knows it: its SNAT address, or else the address the packet was sent to.
fn outside(tables: &TableSet, ifindex: u32, vni: u32, offending: &[u8]) -> Result<ErrorSender, Silence> {
    let external = tables.externals.get(&NetworkKey { vni }).ok_or(Silence::Unconfigured)?;
    if external.uplink_ifindex != ifindex {
        return Err(Silence::Unconfigured);
    }
    let destination = destination(offending).ok_or(Silence::Refused(Refusal::Truncated))?;
    let key = ExternalAddressKey { external_vni: vni, address: Address::v4(destination) };
    let ours = tables.external_addresses.get(&key).ok_or(Silence::Unconfigured)?;
    let ip = snat_address(tables, vni, ours.router_vni).unwrap_or(destination);
    let vlan = (external.vlan != 0).then_some(external.vlan);
    Ok(ErrorSender { mac: tables.config.dvr_mac, ip, vlan })
}

/// An address that a router has outside: one that is its alone, or one it has a port block of.
fn snat_address(tables: &TableSet, external_vni: u32, router_vni: u32) -> Option<[u8; 4]> {
    let addresses = tables.external_addresses.iter().filter(|(key, address)| {
        key.external_vni == external_vni
            && address.kind == ExternalAddress::SNAT
            && address.router_vni == router_vni
    });
    let blocks = tables.block_owners.iter();
    let blocks =
        blocks.filter(|(key, owner)| key.external_vni == external_vni && owner.router_vni == router_vni);
    let all = addresses.map(|(key, _)| key.address).chain(blocks.map(|(key, _)| key.address));
    all.map(Address::to_v4).next()
}

/// Where the IPv4 packet starts in a frame with at most one VLAN tag.
fn payload_offset(frame: &[u8]) -> Option<usize> {
    let header: ethernet::Header = packet::read(frame, 0)?;
    let tagged = header.ethertype.get() == ethernet::TYPE_VLAN;
    Some(ethernet::LEN + if tagged { 4 } else { 0 })
}

fn destination(frame: &[u8]) -> Option<[u8; 4]> {
    let header: packet::ipv4::Header = packet::read(frame, payload_offset(frame)?)?;
    Some(header.dst)
}

/// Who says to have which address, by ARP or neighbour discovery; none if the event's frame says no such thing.
pub(crate) fn said(event: &Event) -> Option<(MacAddr, IpAddr)> {
    let by_arp = arp_sender(event).map(|(mac, ip)| (mac, IpAddr::from(ip)));
    by_arp.or_else(|| {
        let (mac, address) = discovery::said(packet_of(event))?;
        Some((mac, address.into()))
    })
}

/// Who says to have which address in an ARP message of an event; none if it is no such message.
fn arp_sender(event: &Event) -> Option<(MacAddr, [u8; 4])> {
    let frame = packet_of(event);
    let message: arp::Header = packet::read(frame, payload_offset(frame)?)?;
    let mac = message.sender_mac;
    let usable = message.is_ethernet_ipv4() && !mac.is_multicast() && !mac.is_zero();
    (usable && message.sender_ip != [0; 4]).then_some((mac, message.sender_ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::compose::{ArpSender, arp_reply};

    const VM: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);
    const ROUTER: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 1, 1]);
    const OTHER_ROUTER: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 1, 2]);
    const DVR: MacAddr = MacAddr([0xfa, 0x16, 0x3f, 0, 0, 1]);
    const TAP: u32 = 11;
    const UPLINK: u32 = 3;

    fn tables() -> TableSet {
        let mut tables = TableSet::default();
        tables.config.dvr_mac = DVR;
        tables.ports.insert(PortKey { ifindex: TAP }, Port { network_vni: 101, ..Port::default() });
        for (last, mac, flags) in
            [(1, OTHER_ROUTER, Neighbor::FLAG_ROUTER), (11, VM, 0), (254, ROUTER, Neighbor::FLAG_ROUTER)]
        {
            let key = NeighborKey { vni: 101, address: Address::v4([192, 168, 10, last]) };
            tables.neighbors.insert(key, Neighbor { flags, mac });
        }
        let external = External { uplink_ifindex: UPLINK, vlan: 2207, ..External::default() };
        tables.externals.insert(NetworkKey { vni: 201 }, external);
        for (last, kind) in [(27, ExternalAddress::SNAT), (30, ExternalAddress::FLOATING)] {
            let key = ExternalAddressKey { external_vni: 201, address: Address::v4([172, 22, 7, last]) };
            let value = ExternalAddress { kind, router_vni: 301, ..ExternalAddress::default() };
            tables.external_addresses.insert(key, value);
        }
        tables
    }

    fn event(punt: Punt, (ingress, vni): (u32, u32), frame: &[u8]) -> Event {
        let mut packet = [0; pipeline::bounds::EVENT_PACKET_BYTES];
        packet[..frame.len()].copy_from_slice(frame);
        Event {
            punt: punt as u32,
            ingress,
            vni,
            detail: 0,
            address: Address::ZERO,
            vtep: Address::ZERO,
            frame_len: frame.len() as u32,
            packet_len: frame.len() as u32,
            packet,
        }
    }

    fn datagram(macs: (MacAddr, MacAddr), src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let mut header = packet::ipv4::Header {
            version_ihl: 0x45,
            dscp_ecn: 0,
            total_len: packet::U16::new(28),
            identification: packet::U16::new(1),
            flags_fragment: packet::U16::new(0),
            ttl: 1,
            protocol: packet::ipv4::PROTOCOL_UDP,
            checksum: packet::U16::new(0),
            src,
            dst,
        };
        header.checksum = packet::U16::new(packet::checksum::checksum(&packet::bytes::<_, 20>(header)));
        let (dst, src) = macs;
        let link = ethernet::Header { dst, src, ethertype: packet::U16::new(ethernet::TYPE_IPV4) };
        let mut frame = packet::bytes::<_, 14>(link).to_vec();
        frame.extend(packet::bytes::<_, 20>(header));
        frame.extend([0, 53, 0, 53, 0, 8, 0, 0]);
        frame
    }

    #[test]
    fn a_vm_is_told_by_the_router_it_sent_to() {
        let offending = datagram((ROUTER, VM), [192, 168, 10, 11], [8, 8, 8, 8]);
        let event = event(Punt::TtlExceeded, (TAP, 101), &offending);
        let outgoing = compose(&tables(), &event, IcmpError::TimeExceeded).unwrap();
        let sender = ErrorSender { mac: ROUTER, ip: [192, 168, 10, 254], vlan: None };
        let want = icmp_error(IcmpError::TimeExceeded, &offending, &sender).unwrap();
        assert_eq!(outgoing, Outgoing { ifindex: TAP, frame: want.to_vec() });
    }

    #[test]
    fn a_vm_without_a_router_is_told_by_whom_it_sent_to() {
        let mut tables = tables();
        tables.neighbors.retain(|_, neighbor| neighbor.flags & Neighbor::FLAG_ROUTER == 0);
        let sibling = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 2]);
        let offending = datagram((sibling, VM), [192, 168, 10, 11], [192, 168, 10, 12]);
        let event = event(Punt::FragmentationNeeded, (TAP, 101), &offending);
        let error = IcmpError::FragmentationNeeded { mtu: 1450 };
        let sender = ErrorSender { mac: sibling, ip: [192, 168, 10, 12], vlan: None };
        let want = icmp_error(error, &offending, &sender).unwrap();
        assert_eq!(compose(&tables, &event, error), Ok(Outgoing { ifindex: TAP, frame: want.to_vec() }));
    }

    #[test]
    fn the_outside_is_told_by_the_routers_snat_address_with_the_tag() {
        let offending = datagram((DVR, MacAddr([2, 0, 0, 0, 7, 1])), [8, 8, 8, 8], [172, 22, 7, 30]);
        let event = event(Punt::TtlExceeded, (UPLINK, 201), &offending);
        let outgoing = compose(&tables(), &event, IcmpError::TimeExceeded).unwrap();
        let sender = ErrorSender { mac: DVR, ip: [172, 22, 7, 27], vlan: Some(2207) };
        let want = icmp_error(IcmpError::TimeExceeded, &offending, &sender).unwrap();
        assert_eq!(outgoing, Outgoing { ifindex: UPLINK, frame: want.to_vec() });
    }

    #[test]
    fn silence_has_a_reason() {
        let from_vm = datagram((ROUTER, VM), [192, 168, 10, 11], [8, 8, 8, 8]);
        let mut no_router = tables();
        no_router.neighbors.clear();
        let table = [
            (tables(), Ingress::TUNNEL_ID, 301, from_vm.clone(), Silence::FromTunnel),
            (tables(), 99, 201, from_vm.clone(), Silence::Unconfigured),
            (tables(), UPLINK, 202, from_vm.clone(), Silence::Unconfigured),
            (no_router, TAP, 101, from_vm[..20].to_vec(), Silence::Refused(Refusal::Truncated)),
            (tables(), TAP, 101, from_vm[..20].to_vec(), Silence::Refused(Refusal::Truncated)),
        ];
        for (tables, ingress, vni, frame, want) in table {
            let event = event(Punt::TtlExceeded, (ingress, vni), &frame);
            assert_eq!(compose(&tables, &event, IcmpError::TimeExceeded), Err(want));
        }
    }

    #[test]
    fn the_mtu_is_the_events_detail() {
        let mut event = event(Punt::FragmentationNeeded, (TAP, 101), &[]);
        event.detail = 1400;
        let want = Some(IcmpError::FragmentationNeeded { mtu: 1400 });
        assert_eq!(error_of(Punt::FragmentationNeeded, &event), want);
        assert_eq!(error_of(Punt::LearnNeighbor, &event), None);
    }

    #[test]
    fn arp_senders_are_read_tagged_or_not() {
        for vlan in [None, Some(2207)] {
            let sender = ArpSender { mac: ROUTER, ip: [172, 22, 7, 1], vlan };
            let frame = arp_reply(&sender, (DVR, [0; 4]));
            let event = event(Punt::LearnNeighbor, (UPLINK, 201), &frame);
            assert_eq!(arp_sender(&event), Some((ROUTER, [172, 22, 7, 1])));
        }
        let event = event(Punt::LearnNeighbor, (UPLINK, 201), &[0; 30]);
        assert_eq!(arp_sender(&event), None);
    }
}
