//! Which rules of security groups let a session in and out.

use super::Rule;
use dataplane::SessionRow;
use model::security::Direction;
use model::slice::{ObjectId, Slice};
use packet::{icmp, ipv4};
use pipeline::session::Path;
use pipeline::table_set::{Prefix, TableSet};
use pipeline::tables::*;
use pipeline::{Address, Stage};

/// The stage of an entry that a rule made.
pub(super) fn stage(object: Option<ObjectId>, slice: &Slice) -> Stage {
    let rule = match object {
        Some(ObjectId::SecurityGroupRule(id)) => slice.security_group_rules.get(&id),
        _ => None,
    };
    match rule.map(|rule| rule.direction) {
        Some(Direction::Egress) => Stage::EgressAcl,
        _ => Stage::IngressAcl,
    }
}

/// The entries that allowed the packet that began a session: of its sender's port, and of its receiver's.
pub(super) fn rules_of(session: &SessionRow, tables: &TableSet) -> Vec<Rule> {
    let [forward, _] = &session.paths;
    if forward.epoch == 0 {
        return Vec::new();
    }
    let (key, reply) = (&session.key, &session.reply);
    let port = |ifindex: u32| tables.ports.get(&PortKey { ifindex });
    let sender = port(forward.ingress).map(|port| (port.egress_acl, key.dst, key.dst_port));
    let delivered = (forward.output == Path::OUT_PORT).then_some(forward.ifindex);
    let receiver = delivered.and_then(port).map(|port| (port.ingress_acl, reply.dst, reply.src_port));
    let asked = sender.into_iter().chain(receiver);
    let selector = |port: u16| match key.protocol {
        // An echo has its identifier in both, other messages their type.
        ipv4::PROTOCOL_ICMP if key.src_port == key.dst_port => {
            u16::from_be_bytes([icmp::TYPE_ECHO_REQUEST, 0])
        }
        ipv4::PROTOCOL_ICMP => key.src_port,
        _ => port,
    };
    asked
        .filter_map(|(list, remote, port)| allowing(tables, list, remote, (key.protocol, selector(port))))
        .collect()
}

fn allowing(
    tables: &TableSet,
    list: AclId,
    address: Address,
    (protocol, selector): (u8, u16),
) -> Option<Rule> {
    let remote = AclRemoteKey::new(list, address);
    let (_, classes) = Prefix::longest(&tables.acl_remotes, &remote, AclRemoteKey::LPM_LENS)?;
    let of_class = |class: &AclId| {
        let key = AclRuleKey { class: *class, protocol, selector_be: selector.to_be_bytes(), zero: 0 };
        Prefix::longest(&tables.acl_rules, &key, AclRuleKey::LPM_LENS).map(|(prefix, _)| prefix)
    };
    classes.ids.iter().find_map(of_class).map(|prefix| Rule::prefix("acl_rules", &prefix))
}
