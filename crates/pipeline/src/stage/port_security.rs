//! Port security: a VM uses the MAC and addresses of its port, nothing else (Neutron `port_security`).
//!
//! The MAC is checked on every packet. The address is checked when a path is evaluated, and the path is
//! bound to the ingress interface, so another port can never ride on it.

use crate::address::Address;
use crate::runtime::{Packet, Tables};
use crate::tables::{Port, PortAddressKey};
use crate::verdict::{Reason, Stage};
use crate::walk::{Step, Walk, deny};
use packet::MacAddr;

/// Every packet: the MAC is the port's own, or one it was allowed together with this address.
#[inline(always)]
pub(crate) fn mac<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<()> {
    // The address of an ICMP error is not part of the key that paths are bound to, so it is checked here.
    let plain = walk.work.headers.error_offset == 0;
    if port.flags & Port::FLAG_UNRESTRICTED != 0 || (plain && walk.work.headers.src_mac == port.mac) {
        return Ok(());
    }
    let (mac, address) = (walk.work.headers.src_mac, walk.work.headers.src);
    if allowed(walk, mac, address) { Ok(()) } else { deny(Stage::PortSecurity, Reason::SpoofedMac) }
}

/// Likewise for IPv6, whose errors may come from the link-local address.
#[inline(always)]
pub(crate) fn mac6<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, port: &Port) -> Step<()> {
    if walk.work.headers.error_offset == 0 && walk.work.headers.src_mac == port.mac {
        return Ok(());
    }
    let address = walk.work.headers.src;
    if owns(walk, port, &address) { Ok(()) } else { deny(Stage::PortSecurity, Reason::SpoofedMac) }
}

/// When a path is evaluated: the address.
#[inline(never)]
pub(crate) fn run<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::PortSecurity);
    let ifindex = walk.work.ingress;
    let Some(port) = walk.tables.port(&crate::tables::PortKey { ifindex }) else {
        return deny(Stage::PortSecurity, Reason::NoPort);
    };
    let address = walk.work.headers.src;
    if may_have(walk, &port, &address) { Ok(()) } else { deny(Stage::PortSecurity, Reason::SpoofedAddress) }
}

/// [`may_have`] where the stack has room for one more call.
#[inline(never)]
pub(crate) fn owns<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, port: &Port, address: &Address) -> bool {
    may_have(walk, port, address)
}

/// Whether the port, or one of its pairs, has an address with the sender's MAC by name, and not because it follows from
/// the MAC.
#[inline(never)]
pub(crate) fn names<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, address: &Address) -> bool {
    allowed(walk, walk.work.headers.src_mac, *address)
}

/// Whether the sender of the packet may have an address: one of the port's, or the link-local one of the port's MAC.
#[inline(always)]
fn may_have<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, port: &Port, address: &Address) -> bool {
    let mac = walk.work.headers.src_mac;
    port.flags & Port::FLAG_UNRESTRICTED != 0
        || allowed(walk, mac, *address)
        || (mac == port.mac && *address == Address::link_local(mac))
}

/// Whether the ingress port may use this pair.
#[inline(always)]
pub(crate) fn allowed<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, mac: MacAddr, address: Address) -> bool {
    let key = PortAddressKey::new(walk.work.ingress, mac, address);
    walk.tables.port_address(&key) || walk.tables.port_prefix(&key)
}
