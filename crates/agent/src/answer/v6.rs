//! ICMPv6 errors (RFC 4443) about packets that came from a VM or from outside. What is on a transit network is left to
//! the host the packet came from.

use super::{Outgoing, Silence, packet_of, payload_offset, routers};
use packet::compose::{IcmpError, Refusal};
use packet::{MacAddr, U16, U32, ethernet, icmp6, ipv6};
use pipeline::event::Event;
use pipeline::table_set::TableSet;
use pipeline::tables::*;
use pipeline::{Address, Ingress};

/// RFC 4443 §2.4(c): as much of the packet as fits in the least MTU.
const QUOTE_MAX: usize = ipv6::MTU_MIN as usize - ipv6::LEN - ICMP_LEN;
const ICMP_LEN: usize = 8;
const HOP_LIMIT: u8 = 64;
const MULTICAST: u8 = 0xff;

/// Whether the event is about an IPv6 packet.
pub(super) fn is_about(event: &Event) -> bool {
    let frame = packet_of(event);
    let ethertype = payload_offset(frame).and_then(|begin| frame.get(begin.checked_sub(2)?..begin));
    ethertype == Some(&ethernet::TYPE_IPV6.to_be_bytes())
}

/// The frame that tells the sender.
pub(super) fn compose(tables: &TableSet, event: &Event, error: IcmpError) -> Result<Outgoing, Silence> {
    let ifindex = event.ingress;
    if ifindex == Ingress::TUNNEL_ID {
        return Err(Silence::FromTunnel);
    }
    let frame = packet_of(event);
    let truncated = || Silence::Refused(Refusal::Truncated);
    let link: ethernet::Header = packet::read(frame, 0).ok_or_else(truncated)?;
    let offending = payload_offset(frame).and_then(|begin| frame.get(begin..)).ok_or_else(truncated)?;
    let ip: ipv6::Header = packet::read(offending, 0).ok_or_else(truncated)?;
    may_be_told(&ip, offending, error).map_err(Silence::Refused)?;
    let (mac, address, vlan) = match tables.ports.get(&PortKey { ifindex }) {
        Some(port) => inside(tables, port, link.dst)?,
        None => outside(tables, ifindex, event.vni, &ip)?,
    };
    let message = message(error, offending, (&address, &ip.src));
    let header = ipv6::Header {
        version_class_label: U32::new(6 << 28),
        payload_len: U16::new(message.len() as u16),
        next_header: ipv6::PROTOCOL_ICMP,
        hop_limit: HOP_LIMIT,
        src: address,
        dst: ip.src,
    };
    let mut told = [link.src.0, mac.0].concat();
    if vlan != 0 {
        told.extend(ethernet::TYPE_VLAN.to_be_bytes());
        told.extend(vlan.to_be_bytes());
    }
    told.extend(ethernet::TYPE_IPV6.to_be_bytes());
    told.extend(packet::bytes::<_, { ipv6::LEN }>(header));
    told.extend(message);
    Ok(Outgoing { ifindex, frame: told })
}

/// RFC 4443 §2.4(e).
fn may_be_told(ip: &ipv6::Header, offending: &[u8], error: IcmpError) -> Result<(), Refusal> {
    let [first, ..] = ip.src;
    let [to, ..] = ip.dst;
    let kind = offending.get(ipv6::LEN).filter(|_| ip.next_header == ipv6::PROTOCOL_ICMP);
    let is_error = kind.is_some_and(|kind| *kind < icmp6::TYPE_ECHO_REQUEST || *kind == icmp6::TYPE_REDIRECT);
    let to_one = to != MULTICAST || matches!(error, IcmpError::FragmentationNeeded { .. });
    if first == MULTICAST || ip.src == [0; 16] {
        return Err(Refusal::SourceNotUnicast);
    }
    if is_error {
        return Err(Refusal::AboutIcmpError);
    }
    to_one.then_some(()).ok_or(Refusal::DestinationNotUnicast)
}

fn message(error: IcmpError, offending: &[u8], (src, dst): (&[u8; 16], &[u8; 16])) -> Vec<u8> {
    let (kind, code, word) = match error {
        IcmpError::TimeExceeded => (icmp6::TYPE_TIME_EXCEEDED, 0, 0),
        IcmpError::FragmentationNeeded { mtu } => (icmp6::TYPE_PACKET_TOO_BIG, 0, u32::from(mtu)),
        IcmpError::AdminProhibited => (icmp6::TYPE_UNREACHABLE, icmp6::CODE_ADMIN_PROHIBITED, 0),
        IcmpError::NetUnreachable => (icmp6::TYPE_UNREACHABLE, icmp6::CODE_NO_ROUTE, 0),
        IcmpError::PortUnreachable => (icmp6::TYPE_UNREACHABLE, icmp6::CODE_PORT_UNREACHABLE, 0),
        IcmpError::HostUnreachable => (icmp6::TYPE_UNREACHABLE, icmp6::CODE_ADDRESS_UNREACHABLE, 0),
    };
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(offending.iter().take(QUOTE_MAX));
    let checksum = icmp6::checksum(src, dst, &message).to_be_bytes();
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&checksum);
    }
    message
}

/// The router as the VM knows it: the interface whose MAC the packet was sent to, or else any of the network.
fn inside(tables: &TableSet, port: &Port, sent_to: MacAddr) -> Result<(MacAddr, [u8; 16], u16), Silence> {
    let mut routers = routers(tables, port.network_vni).filter(|(key, _)| !key.address.is_v4());
    let exact = routers.clone().find(|(_, neighbor)| neighbor.mac == sent_to);
    let (key, neighbor) = exact.or_else(|| routers.next()).ok_or(Silence::Unconfigured)?;
    Ok((neighbor.mac, key.address.octets(), 0))
}

/// The router as the outside knows it, of whom the packet's destination is.
fn outside(
    tables: &TableSet,
    ifindex: u32,
    vni: u32,
    ip: &ipv6::Header,
) -> Result<(MacAddr, [u8; 16], u16), Silence> {
    let external = tables.externals.get(&NetworkKey { vni }).ok_or(Silence::Unconfigured)?;
    if external.uplink_ifindex != ifindex {
        return Err(Silence::Unconfigured);
    }
    let key = ExternalAddressKey { external_vni: vni, address: Address::v6(ip.dst) };
    let ours = tables.external_addresses.get(&key).ok_or(Silence::Unconfigured)?;
    let mut routers = tables.external_addresses.iter().filter(|(key, address)| {
        key.external_vni == vni
            && address.kind == ExternalAddress::ROUTER
            && address.router_vni == ours.router_vni
    });
    let (router, _) = routers.next().ok_or(Silence::Unconfigured)?;
    Ok((tables.config.dvr_mac, router.address.octets(), external.vlan))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::Punt;

    const VM: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);
    const ROUTER: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 1, 1]);
    const TAP: u32 = 11;

    fn address(last: u8) -> [u8; 16] {
        [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
    }

    fn tables() -> TableSet {
        let mut tables = TableSet::default();
        tables.ports.insert(PortKey { ifindex: TAP }, Port { network_vni: 101, ..Port::default() });
        for address in [Address::v4([10, 0, 0, 1]), Address::v6(address(1))] {
            let neighbor = Neighbor { flags: Neighbor::FLAG_ROUTER, mac: ROUTER };
            tables.neighbors.insert(NeighborKey { vni: 101, address }, neighbor);
        }
        tables
    }

    fn event(next_header: u8, kind: u8, ingress: u32) -> Event {
        let mut frame = [ROUTER.0, VM.0].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, next_header, 1]);
        frame.extend(address(5));
        frame.extend(address(9));
        frame.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
        let mut packet = [0; pipeline::bounds::EVENT_PACKET_BYTES];
        packet[..frame.len()].copy_from_slice(&frame);
        Event {
            punt: Punt::FragmentationNeeded as u32,
            ingress,
            vni: 101,
            detail: 1400,
            address: Address::ZERO,
            vtep: Address::ZERO,
            frame_len: frame.len() as u32,
            packet_len: frame.len() as u32,
            packet,
        }
    }

    #[test]
    fn a_vm_is_told_by_its_router_what_fits() {
        let event = event(17, 0, TAP);
        assert!(is_about(&event));
        let error = IcmpError::FragmentationNeeded { mtu: 1400 };
        let told = compose(&tables(), &event, error).unwrap();
        assert_eq!(told.ifindex, TAP);
        assert_eq!(told.frame[..14], [&VM.0[..], &ROUTER.0, &[0x86, 0xdd]].concat());
        let (ip, message) = told.frame[14..].split_at(40);
        assert_eq!((&ip[8..24], &ip[24..]), (&address(1)[..], &address(5)[..]));
        assert_eq!(message[..2], [icmp6::TYPE_PACKET_TOO_BIG, 0]);
        assert_eq!(message[4..8], 1400u32.to_be_bytes());
        assert_eq!(message[8..], packet_of(&event)[14..]);
        assert_eq!(icmp6::checksum(&address(1), &address(5), message), 0);
    }

    #[test]
    fn errors_about_errors_and_what_nobody_here_can_say_are_not_told() {
        let about_error = event(58, icmp6::TYPE_TIME_EXCEEDED, TAP);
        let refused = Err(Silence::Refused(Refusal::AboutIcmpError));
        assert_eq!(compose(&tables(), &about_error, IcmpError::TimeExceeded), refused);
        let ping = event(58, icmp6::TYPE_ECHO_REQUEST, TAP);
        assert!(compose(&tables(), &ping, IcmpError::TimeExceeded).is_ok());
        let tunnelled = event(17, 0, Ingress::TUNNEL_ID);
        assert_eq!(compose(&tables(), &tunnelled, IcmpError::TimeExceeded), Err(Silence::FromTunnel));
        let nobody = event(17, 0, 99);
        assert_eq!(compose(&tables(), &nobody, IcmpError::TimeExceeded), Err(Silence::Unconfigured));
    }
}
