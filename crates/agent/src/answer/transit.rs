//! ICMP errors about packets on a transit network: on their way between a gateway and a VM's host, or from VM to VM by
//! external addresses.
//!
//! The addresses in them are those of the outside, so the error finds its way by them too: to the host that owns the
//! sender's address and port, or else back to the host the packet came from, which is a gateway and sends it outside.

use super::{Outgoing, Silence, packet_of, snat_address};
use packet::compose::{ErrorSender, IcmpError, Refusal, icmp_error};
use packet::{ethernet, icmp, ipv4};
use pipeline::Address;
use pipeline::event::Event;
use pipeline::host::encapsulate;
use pipeline::nat::BindingKey;
use pipeline::table_set::TableSet;
use pipeline::tables::*;

/// What is sent through the tunnel.
pub(super) fn compose(tables: &TableSet, event: &Event, error: IcmpError) -> Result<Outgoing, Silence> {
    let external_vni = event.vni;
    let external = tables.externals.get(&NetworkKey { vni: external_vni }).ok_or(Silence::FromTunnel)?;
    let offending = packet_of(event);
    let ends = Ends::of(offending).ok_or(Silence::Refused(Refusal::Truncated))?;
    let owner = |(address, port): (Address, u16)| {
        let known = tables.external_addresses.get(&ExternalAddressKey { external_vni, address })?;
        if known.kind == ExternalAddress::FLOATING {
            return Some(BlockOwner { router_vni: known.router_vni, vtep: known.vtep });
        }
        if known.kind == ExternalAddress::FORWARDED {
            let key = BindingKey { external_vni, address, port, protocol: ends.protocol, zero: 0 };
            let forwarding = tables.forwardings.get(&key)?;
            return Some(BlockOwner { router_vni: forwarding.router_vni, vtep: forwarding.vtep });
        }
        let block = external.block_of(port);
        tables.block_owners.get(&BlockOwnerKey { external_vni, block, address }).copied()
    };
    let (sender, receiver) = (owner(ends.src), owner(ends.dst));
    let (router_vni, vtep) = match (sender, receiver) {
        (Some(sender), _) if !sender.vtep.is_zero() => (sender.router_vni, sender.vtep),
        (None, Some(receiver)) => (receiver.router_vni, event.vtep),
        _ => return Err(Silence::FromTunnel),
    };
    // The router that has the packet's destination turned it away, or else the one it came from.
    let told_by = receiver.map_or(router_vni, |receiver| receiver.router_vni);
    let (itself, _) = if receiver.is_some() { ends.dst } else { ends.src };
    let ip = snat_address(tables, external_vni, told_by).unwrap_or(itself.to_v4());
    let sender = ErrorSender { mac: tables.config.dvr_mac, ip, vlan: None };
    let frame = icmp_error(error, offending, &sender).map_err(Silence::Refused)?;
    let packet = encapsulate(&tables.config, (router_vni, vtep), frame.to_vec());
    let frame = packet.ok_or(Silence::Refused(Refusal::Truncated))?;
    Ok(Outgoing { ifindex: Outgoing::UNDERLAY, frame })
}

/// Addresses and ports of a packet; echo: the identifier in both, and 0 where there is none.
struct Ends {
    src: (Address, u16),
    dst: (Address, u16),
    protocol: u8,
}

impl Ends {
    fn of(frame: &[u8]) -> Option<Self> {
        let header: ipv4::Header = packet::read(frame, ethernet::LEN)?;
        let message = frame.get(ethernet::LEN + header.header_len() as usize..)?;
        let word = |at: usize| {
            let bytes = message.get(at..at + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
            bytes.map_or(0, u16::from_be_bytes)
        };
        let echo = header.protocol == ipv4::PROTOCOL_ICMP
            && matches!(message.first(), Some(&icmp::TYPE_ECHO_REQUEST | &icmp::TYPE_ECHO_REPLY));
        let (src_port, dst_port) = match header.protocol {
            ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => (word(0), word(2)),
            _ if echo => (word(4), word(4)),
            _ => (0, 0),
        };
        Some(Self {
            src: (Address::v4(header.src), src_port),
            dst: (Address::v4(header.dst), dst_port),
            protocol: header.protocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::{MacAddr, U16};
    use pipeline::{Ingress, Punt};

    const EXTERNAL: u32 = 201;
    const BLUE: u32 = 301;
    const GREEN: u32 = 302;
    const OUTSIDE: [u8; 4] = [8, 8, 8, 8];
    const FLOATING_BLUE: [u8; 4] = [172, 22, 7, 30];
    const FLOATING_GREEN: [u8; 4] = [172, 22, 7, 40];
    const SNAT: [u8; 4] = [172, 22, 7, 27];
    /// Whom the packet came from, and another host.
    const PEER: [u8; 4] = [10, 0, 0, 1];
    const OTHER: [u8; 4] = [10, 0, 0, 2];

    /// Of a host with the VM of a floating IP of blue and a block of it, and, if it is a gateway, with all blocks.
    fn tables(gateway: bool) -> TableSet {
        let mut tables = TableSet::default();
        tables.config.flags = Config::FLAG_GENEVE;
        tables.config.tunnel_port = 6081;
        tables.config.vtep = Address::v4([10, 0, 0, 3]);
        let external = External { block_shift: 10, ..External::default() };
        tables.externals.insert(NetworkKey { vni: EXTERNAL }, external);
        let mut address = |octets, kind, router_vni, vtep| {
            let key = ExternalAddressKey { external_vni: EXTERNAL, address: Address::v4(octets) };
            let known = ExternalAddress { kind, router_vni, vtep, ..ExternalAddress::default() };
            tables.external_addresses.insert(key, known);
        };
        address(FLOATING_BLUE, ExternalAddress::FLOATING, BLUE, Address::ZERO);
        address(FLOATING_GREEN, ExternalAddress::FLOATING, GREEN, Address::v4(OTHER));
        // Shared by both.
        address(SNAT, ExternalAddress::SNAT, BLUE, Address::ZERO);
        let mut block = |block, router_vni, vtep| {
            let key = BlockOwnerKey { external_vni: EXTERNAL, block, address: Address::v4(SNAT) };
            tables.block_owners.insert(key, BlockOwner { router_vni, vtep });
        };
        block(1, BLUE, Address::ZERO);
        if gateway {
            block(2, GREEN, Address::v4(OTHER));
        }
        tables
    }

    fn event((src, src_port): ([u8; 4], u16), (dst, dst_port): ([u8; 4], u16)) -> Event {
        let mut header = ipv4::Header {
            version_ihl: 0x45,
            dscp_ecn: 0,
            total_len: U16::new(28),
            identification: U16::new(1),
            flags_fragment: U16::new(0),
            ttl: 1,
            protocol: ipv4::PROTOCOL_UDP,
            checksum: U16::new(0),
            src,
            dst,
        };
        header.checksum = U16::new(packet::checksum::checksum(&packet::bytes::<_, 20>(header)));
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let link = ethernet::Header { dst: mac, src: mac, ethertype: U16::new(ethernet::TYPE_IPV4) };
        let ports = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
        let frame =
            [&packet::bytes::<_, 14>(link)[..], &packet::bytes::<_, 20>(header), &ports, &[0, 8, 0, 0]]
                .concat();
        let mut packet = [0; pipeline::bounds::EVENT_PACKET_BYTES];
        packet[..frame.len()].copy_from_slice(&frame);
        let len = frame.len() as u32;
        Event {
            punt: Punt::TtlExceeded as u32,
            ingress: Ingress::TUNNEL_ID,
            vni: EXTERNAL,
            detail: 0,
            address: Address::ZERO,
            vtep: Address::v4(PEER),
            frame_len: len,
            packet_len: len,
            packet,
        }
    }

    /// Host and network an error is sent to, and its sender and receiver.
    type Told = ([u8; 4], u32, [u8; 4], [u8; 4]);

    fn told(tables: &TableSet, event: &Event) -> Result<Told, Silence> {
        let outgoing = compose(tables, event, IcmpError::TimeExceeded)?;
        assert_eq!(outgoing.ifindex, Outgoing::UNDERLAY);
        let outer: ipv4::Header = packet::read(&outgoing.frame, 0).unwrap();
        let tunnel: packet::geneve::Header = packet::read(&outgoing.frame, 28).unwrap();
        let inner: ipv4::Header = packet::read(&outgoing.frame, 50).unwrap();
        assert_eq!(outer.total_len.get() as usize, outgoing.frame.len());
        assert_eq!(outgoing.frame[70], icmp::TYPE_TIME_EXCEEDED);
        Ok((outer.dst, tunnel.vni(), inner.src, inner.dst))
    }

    #[test]
    fn the_error_goes_to_whoever_has_the_senders_address_or_back_to_the_gateway() {
        let table = [
            ("from outside, back by the gateway", false, (OUTSIDE, 53), (FLOATING_BLUE, 9), PEER, BLUE),
            ("an answer to a mapping", false, (OUTSIDE, 53), (SNAT, 1025), PEER, BLUE),
            ("from a floating IP, to its host", false, (FLOATING_GREEN, 9), (FLOATING_BLUE, 9), OTHER, GREEN),
            ("from a mapping only gateways know", false, (SNAT, 2048), (FLOATING_BLUE, 9), PEER, BLUE),
            ("from a mapping, at a gateway", true, (SNAT, 2048), (FLOATING_BLUE, 9), OTHER, GREEN),
            ("to the outside, at a gateway", true, (SNAT, 2048), (OUTSIDE, 53), OTHER, GREEN),
        ];
        for (name, gateway, from, to, host, vni) in table {
            let told = told(&tables(gateway), &event(from, to)).unwrap();
            assert_eq!(told, (host, vni, SNAT, from.0), "{name}");
        }
    }

    #[test]
    fn a_router_without_snat_speaks_by_the_floating_ip() {
        let mut tables = tables(false);
        tables.block_owners.clear();
        tables.external_addresses.retain(|_, address| address.kind == ExternalAddress::FLOATING);
        let told = told(&tables, &event((OUTSIDE, 53), (FLOATING_BLUE, 9))).unwrap();
        assert_eq!(told, (PEER, BLUE, FLOATING_BLUE, OUTSIDE));
    }

    #[test]
    fn what_is_nobodys_is_left_alone() {
        let neither = event((OUTSIDE, 53), ([9, 9, 9, 9], 53));
        let own = event((FLOATING_BLUE, 9), (OUTSIDE, 53));
        let tenants = Event { vni: 101, ..event((OUTSIDE, 53), (FLOATING_BLUE, 9)) };
        for event in [neither, own, tenants] {
            assert_eq!(told(&tables(true), &event), Err(Silence::FromTunnel));
        }
        let cut = Event { packet_len: 20, ..event((OUTSIDE, 53), (FLOATING_BLUE, 9)) };
        assert_eq!(told(&tables(true), &cut), Err(Silence::Refused(Refusal::Truncated)));
    }
}
