//! Egress and ingress ACL: where security groups act, on the VM's own addresses. A port without its policy
//! forwards nothing in either direction.
//!
//! A packet that begins a connection is asked about at both of its ends, as far as they are here. Packets of a
//! session are asked about when their path is evaluated, in either direction as the packet that began it, so that a
//! connection ends with the rule that allowed it; the session stays until it idles out, because whoever it keeps
//! out would else begin it anew from the other end. How the lists lie in tables:
//! [decision 0017](../../../../docs/decisions/0017-security-groups.md).

use crate::bounds::ACL_CLASSES_MAX;
use crate::runtime::{Packet, Tables};
use crate::session::Direction;
use crate::tables::{AclRuleKey, Neighbor, NeighborKey, Port, PortKey, Station, StationKey, allow};
use crate::verdict::{Reason, Stage};
use crate::walk::{Step, Target, Walk, deny};
use packet::{icmp, icmp6, ipv4, ipv6};

/// Traffic from the VM. `direction`: of its session; none: it begins one.
#[inline(always)]
pub(crate) fn egress<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    direction: Option<Direction>,
) -> Step<()> {
    walk.tables.enter(Stage::EgressAcl);
    judge(walk, walk.work.ingress, Stage::EgressAcl, direction)
}

/// Traffic to a VM of this host: finds its station, and its policy must be there.
#[inline(never)]
pub(crate) fn ingress<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    direction: Option<Direction>,
) -> Step<()> {
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
    judge(walk, walk.work.station.id, Stage::IngressAcl, direction)
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

/// Whether the port that a packet comes from (`EgressAcl`) or goes to (`IngressAcl`) lets it.
#[inline(never)]
fn judge<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    ifindex: u32,
    stage: Stage,
    direction: Option<Direction>,
) -> Step<()> {
    let leaves = matches!(stage, Stage::EgressAcl);
    let Some(port) =
        walk.tables.port(&PortKey { ifindex }).filter(|port| port.flags & Port::FLAG_ACTIVE != 0)
    else {
        return deny(stage, if leaves { Reason::PortInactive } else { Reason::PortPolicyMissing });
    };
    if direction == Some(Direction::Reply) {
        let begun = granted(walk, &port, !leaves, leaves, true);
        if begun & allow::STATEFUL != 0 {
            return Ok(());
        }
        // A stateless rule speaks for itself; any other only in a connection that may be.
        let own = granted(walk, &port, leaves, leaves, false);
        let enough = if begun == 0 { allow::STATELESS } else { u32::MAX };
        return if own & enough != 0 { Ok(()) } else { deny(stage, Reason::RuleGone) };
    }
    if granted(walk, &port, leaves, leaves, false) != 0 {
        return Ok(());
    }
    deny(stage, if direction.is_none() { Reason::NoRule } else { Reason::RuleGone })
}

/// What one of a port's lists grants the packet, or, `answered`, the one it answers: bits of [`allow`]. `egress`:
/// which list; `leaves`: the packet comes from the VM.
#[inline(always)]
fn granted<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    port: &Port,
    egress: bool,
    leaves: bool,
    answered: bool,
) -> u32 {
    let (open, list) = if egress {
        (Port::FLAG_EGRESS_OPEN, port.egress_acl)
    } else {
        (Port::FLAG_INGRESS_OPEN, port.ingress_acl)
    };
    if port.flags & open != 0 {
        return allow::STATEFUL;
    }
    let work = &mut *walk.work;
    work.acl.remote.list = list.of_family(!work.headers.is_ipv6());
    work.acl.remote.address = if leaves { work.key.dst } else { work.translated.src };
    let (src_port, dst_port) = if leaves {
        (work.key.src_port, work.key.dst_port)
    } else {
        (work.translated.src_port, work.translated.dst_port)
    };
    let (icmp_protocol, echo) = if work.headers.is_ipv6() {
        (ipv6::PROTOCOL_ICMP, icmp6::TYPE_ECHO_REQUEST)
    } else {
        (ipv4::PROTOCOL_ICMP, icmp::TYPE_ECHO_REQUEST)
    };
    let selector = if work.key.protocol == icmp_protocol {
        let headers = &work.headers;
        match (headers.error_offset != 0, answered) {
            // What it quotes is an echo.
            (true, _) => icmp_selector(echo, 0),
            (false, true) => icmp_selector(icmp_answer(headers.icmp_type), headers.icmp_code),
            (false, false) => icmp_selector(headers.icmp_type, headers.icmp_code),
        }
    } else if answered {
        src_port
    } else {
        dst_port
    };
    work.acl.rule.protocol = work.key.protocol;
    work.acl.rule.selector_be = selector.to_be_bytes();
    work.acl.rule.zero = 0;
    look_up(walk)
}

/// Asks the list for the rules of every class that the remote end belongs to.
#[inline(never)]
fn look_up<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> u32 {
    let (tables, acl) = (walk.tables, &mut walk.work.acl);
    if !tables.acl_remote(&acl.remote, &mut acl.classes) {
        return 0;
    }
    let mut granted = 0;
    let mut slot = 0;
    while slot < ACL_CLASSES_MAX {
        let Some(class) = acl.classes.ids.get(slot) else { break };
        if class.is_zero() || granted & allow::STATEFUL != 0 {
            break;
        }
        granted |= tables.acl_rule(&AclRuleKey { class: *class, ..acl.rule });
        slot += 1;
    }
    granted
}

/// An ICMP type and code where rules have a port.
#[inline(always)]
pub(crate) const fn icmp_selector(kind: u8, code: u8) -> u16 {
    u16::from_be_bytes([kind, code])
}

/// The ICMP type that answers one, or is answered by it; 255, which is reserved: none. No type of a pair has another
/// meaning in the other family.
#[inline(always)]
pub(crate) const fn icmp_answer(kind: u8) -> u8 {
    match kind {
        icmp::TYPE_ECHO_REQUEST => icmp::TYPE_ECHO_REPLY,
        icmp::TYPE_ECHO_REPLY => icmp::TYPE_ECHO_REQUEST,
        icmp6::TYPE_ECHO_REQUEST => icmp6::TYPE_ECHO_REPLY,
        icmp6::TYPE_ECHO_REPLY => icmp6::TYPE_ECHO_REQUEST,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        17 => 18,
        18 => 17,
        _ => 255,
    }
}
