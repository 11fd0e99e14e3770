//! Two VMs of one network on one host, and a datagram between them: the least that has a session.

use packet::MacAddr;
use pipeline::Address;
use pipeline::table_set::TableSet;
use pipeline::tables::*;

pub const VM_A: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 0xa]);
pub const VM_B: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 0xb]);
pub const ADDRESS_A: [u8; 4] = [10, 0, 0, 1];
pub const ADDRESS_B: [u8; 4] = [10, 0, 0, 2];
const VNI: u32 = 100;

/// Two VMs of one network on this host, at the interfaces given.
pub fn two_ports(a: u32, b: u32) -> TableSet {
    let mut tables = TableSet::default();
    tables.config.dvr_mac = MacAddr([0x0e, 0, 0, 0, 0, 1]);
    tables
        .networks
        .insert(NetworkKey { vni: VNI }, Network { kind: Network::TENANT, mtu: 1450, ..Network::default() });
    for (ifindex, mac, address) in [(a, VM_A, ADDRESS_A), (b, VM_B, ADDRESS_B)] {
        let address = Address::v4(address);
        tables.ports.insert(
            PortKey { ifindex },
            Port {
                network_vni: VNI,
                flags: Port::FLAG_ACTIVE | Port::FLAG_EGRESS_OPEN | Port::FLAG_INGRESS_OPEN,
                mac,
                mtu: 1450,
                ..Port::default()
            },
        );
        tables.port_addresses.insert(PortAddressKey::new(ifindex, mac, address), 1);
        tables.stations.insert(
            StationKey { vni: VNI, mac, zero: 0 },
            Station { kind: Station::PORT, id: ifindex, vtep: Address::ZERO },
        );
        tables.neighbors.insert(NeighborKey { vni: VNI, address }, Neighbor { flags: 0, mac });
    }
    tables
}

/// A UDP datagram from A to B, without checksum.
pub fn a_to_b(src_port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(VM_B.0);
    frame.extend(VM_A.0);
    frame.extend([0x08, 0x00]);
    let mut ip = [0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let checksum = packet::checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(ip);
    frame.extend(src_port.to_be_bytes());
    frame.extend([0x03, 0xe8, 0, 12, 0, 0, 1, 2, 3, 4]);
    frame
}
