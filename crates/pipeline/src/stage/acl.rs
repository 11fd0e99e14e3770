//! Egress and ingress ACL: where security groups act, on the VM's own addresses. A port without its policy
//! forwards nothing in either direction.

use crate::runtime::{Packet, Tables};
use crate::tables::{Neighbor, NeighborKey, Port, PortKey, Station, StationKey};
use crate::verdict::{Reason, Stage};
use crate::walk::{Step, Target, Walk, deny};

/// Traffic from the VM. The port's policy was required at classification already.
#[inline(always)]
pub(crate) fn egress<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::EgressAcl);
    require_policy(walk, walk.work.ingress, Reason::PortInactive, Stage::EgressAcl)
}

/// Traffic to a VM of this host: finds its station, and its policy must be there.
#[inline(never)]
pub(crate) fn ingress<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    walk.tables.enter(Stage::IngressAcl);
    if walk.work.target.kind == Target::ADDRESS {
        locate(walk)?;
    } else if walk.work.target.kind != Target::STATION {
        return Ok(());
    } else {
        walk.work.path.dst_mac = walk.work.headers.dst_mac;
    }
    if walk.work.station.kind != Station::PORT {
        return Ok(());
    }
    require_policy(walk, walk.work.station.id, Reason::PortPolicyMissing, Stage::IngressAcl)
}

/// The station of an address on a tenant network.
#[inline(always)]
fn locate<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let (vni, address) = (walk.work.target.vni, walk.work.target.next_hop);
    let Some(neighbor) = walk.tables.neighbor(&NeighborKey { vni, address }) else {
        return deny(Stage::Resolve, Reason::UnknownStation);
    };
    if neighbor.flags & Neighbor::FLAG_ROUTER != 0 {
        return deny(Stage::Resolve, Reason::NotForRouter);
    }
    let Some(station) = walk.tables.station(&StationKey { vni, mac: neighbor.mac, zero: 0 }) else {
        return deny(Stage::Resolve, Reason::UnknownStation);
    };
    walk.work.path.dst_mac = neighbor.mac;
    walk.work.station = station;
    Ok(())
}

#[inline(always)]
fn require_policy<P: Packet, T: Tables>(
    walk: &Walk<'_, P, T>,
    ifindex: u32,
    reason: Reason,
    stage: Stage,
) -> Step<()> {
    match walk.tables.port(&PortKey { ifindex }) {
        Some(port) if port.flags & Port::FLAG_ACTIVE != 0 => Ok(()),
        _ => deny(stage, reason),
    }
}
