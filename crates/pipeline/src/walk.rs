//! The walk: entry points of the three hooks.

use crate::address::Address;
use crate::runtime::{Packet, Tables};
use crate::verdict::Verdict;

/// Working memory of one walk. Large, so it lives in a per-CPU array in the eBPF object.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Work {
    pub zero: u64,
}

/// Ingress of a VM's tap or veth.
pub fn from_port<P: Packet, T: Tables>(packet: &mut P, tables: &T, work: &mut Work, ifindex: u32) -> Verdict {
    let _ = (packet, tables, work, ifindex);
    Verdict::Pass
}

/// A decapsulated frame. `lone`: by the program itself, otherwise by the kernel's tunnel device.
pub fn from_tunnel<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    work: &mut Work,
    tunnel: TunnelKey,
) -> Verdict {
    let _ = (packet, tables, work, tunnel);
    Verdict::Pass
}

/// What the outer headers said.
#[derive(Clone, Copy, Debug)]
pub struct TunnelKey {
    pub vni: u32,
    pub vtep: Address,
    /// Decapsulated by the program itself, not by the kernel's device.
    pub lone: bool,
}

/// Ingress of a provider NIC.
pub fn from_uplink<P: Packet, T: Tables>(packet: &mut P, tables: &T, work: &mut Work, ifindex: u32) -> Verdict {
    let _ = (packet, tables, work, ifindex);
    Verdict::Pass
}

/// Ingress of the underlay NIC: takes lone tunnel packets, leaves everything else to the host.
pub fn from_underlay<P: Packet, T: Tables>(packet: &mut P, tables: &T, work: &mut Work) -> Verdict {
    let _ = (packet, tables, work);
    Verdict::Pass
}
