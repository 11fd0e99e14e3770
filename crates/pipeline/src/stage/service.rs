//! What the host itself serves to its VMs: DHCP (RFC 2131). It comes before security groups, as in Neutron, and before
//! any route: a VM without an address, router or rule gets its address too.

use crate::address::Address;
use crate::bounds::FRAME_BYTES;
use crate::runtime::{Packet, Tables};
use crate::verdict::{Punt, Reason, Stage, Verdict};
use crate::walk::{Step, Walk, deny};
use packet::{MacAddr, ipv4, udp};

/// Where VMs find their host, on every network: the metadata service's address, and the DHCP server's.
pub const SERVICE_ADDRESS: [u8; 4] = [169, 254, 169, 254];
/// Who has it (locally administered). Whatever is sent to the address is taken from the VM, to which MAC ever.
pub const SERVICE_MAC: MacAddr = MacAddr([0x02, 0x00, 0xa9, 0xfe, 0xa9, 0xfe]);

const BROADCAST: [u8; 4] = [255; 4];

/// Whether an IPv4 header is that of somebody without an address who asks for one (RFC 2131 §4.1).
#[inline(always)]
pub(crate) fn has_no_address(header: &ipv4::Header) -> bool {
    header.src == [0; 4] && header.dst == BROADCAST && header.protocol == ipv4::PROTOCOL_UDP
}

/// Takes from a VM's classified packets what is the host's to serve. None: an ordinary packet.
#[inline(always)]
pub(crate) fn run<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Option<Verdict>> {
    let key = &walk.work.key;
    let udp = key.protocol == ipv4::PROTOCOL_UDP;
    if udp && (key.src_port == udp::PORT_DHCP_SERVER || key.dst_port == udp::PORT_DHCP_SERVER) {
        return dhcp(walk);
    }
    if key.dst == Address::v4(SERVICE_ADDRESS) {
        return deny(Stage::Switch, Reason::NotServed);
    }
    if key.src == Address::v4([0; 4]) {
        return deny(Stage::Classify, Reason::SourceMulticast);
    }
    Ok(None)
}

/// A packet from or to the DHCP server's port. What is meant for the host is the agent's to answer.
#[inline(never)]
fn dhcp<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Option<Verdict>> {
    walk.tables.enter(Stage::Switch);
    let (key, whole) = (&walk.work.key, walk.work.headers.fragment == 0);
    if key.src_port == udp::PORT_DHCP_SERVER {
        return deny(Stage::Switch, Reason::DhcpServer);
    }
    let to_host = key.dst == Address::v4(BROADCAST) || key.dst == Address::v4(SERVICE_ADDRESS);
    match (to_host, whole && walk.packet.len() <= FRAME_BYTES as u32) {
        (true, true) => Ok(Some(walk.punt_frame(Stage::Switch, Punt::Dhcp, 0))),
        (true, false) => deny(Stage::Switch, Reason::NotServed),
        (false, _) => Ok(None),
    }
}
