//! The hash that spreads flows: over gateways and over the UDP source ports of the tunnel.

use crate::session::SessionKey;

/// A 32-bit hash of a flow's addresses, ports and protocol; the same on every host and in every build. Not
/// keyed: it spreads, it does not protect.
#[inline(never)]
pub fn flow_hash(key: &SessionKey) -> u32 {
    let [a, b, c, d] = key.src.words();
    let [e, f, g, h] = key.dst.words();
    let ports = (u32::from(key.src_port) << 16) | u32::from(key.dst_port);
    let mut hash = key.vni ^ (u32::from(key.protocol) << 24);
    for word in [a, b, c, d, e, f, g, h, ports] {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b1);
        hash ^= hash >> 15;
    }
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^ (hash >> 13)
}
