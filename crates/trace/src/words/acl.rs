//! What security groups said, in words.

use super::{Family, Names};
use crate::walk::Surroundings;
use model::SecurityGroupRuleId;
use model::security::{Direction, Ethertype, Remote};
use model::slice::SecurityGroupRule;
use packet::zerocopy::IntoBytes;
use pipeline::host::{Look, Step};
use pipeline::table_set::Prefix;
use pipeline::tables::*;
use pipeline::{Address, Stage};

/// What a stage came to; none: the packet goes to no port of this host.
pub(super) fn summary(step: &Step, around: &Surroundings<'_>, family: Family) -> Option<String> {
    let port = step.looks.iter().rev().find_map(|look| match look {
        Look::Port(_, port) => Some(*port),
        _ => None,
    });
    let Some(port) = port else { return elsewhere(step, around) };
    let Some(port) = port else { return Some("the port is not known here".to_owned()) };
    let rules: Vec<_> = step.looks.iter().filter_map(allowing).collect();
    if let Some(key) = rules.last() {
        return Some(match rule(key, around) {
            Some(id) => format!("allowed by {}", around.names.rule(id)),
            None => "allowed".to_owned(),
        });
    }
    let asked = step.looks.iter().find_map(|look| match look {
        Look::AclRemote(key, _) => Some(key.address),
        _ => None,
    });
    Some(match asked {
        Some(address) => refusal(address, step.stage),
        None => open(&port, step.stage, around, family),
    })
}

/// The receiver's host asks its rules.
fn elsewhere(step: &Step, around: &Surroundings<'_>) -> Option<String> {
    step.looks.iter().find_map(|look| match look {
        Look::Station(_, Some(station)) if station.kind == Station::REMOTE => {
            Some(format!("left to {}", around.names.host_of(station.vtep)))
        }
        _ => None,
    })
}

fn allowing(look: &Look) -> Option<&AclRuleKey> {
    match look {
        Look::AclRule(key, 1..) => Some(key),
        _ => None,
    }
}

fn refusal(address: Address, stage: Stage) -> String {
    match stage {
        Stage::EgressAcl => format!("no rule allows this to {address}"),
        _ => format!("no rule allows this from {address}"),
    }
}

/// Of a port that may send, or be sent, everything; an answer passes by the list that let its question pass.
fn open(port: &Port, stage: Stage, around: &Surroundings<'_>, family: Family) -> String {
    let egress_open = port.flags & Port::FLAG_EGRESS_OPEN != 0;
    let ingress_open = port.flags & Port::FLAG_INGRESS_OPEN != 0;
    let egress = if stage == Stage::EgressAcl { egress_open } else { !ingress_open };
    let list = if egress { port.egress_acl } else { port.ingress_acl };
    let any = match family {
        Family::Ipv4 => Address::v4([0; 4]),
        Family::Ipv6 => Address::ZERO,
    };
    let anyone = Prefix::new(AclRemoteKey::lpm_len(any, 0), AclRemoteKey::new(list, any));
    let class = around.programmed.acl_remotes.get(&anyone).and_then(|classes| classes.ids.first());
    let named = class.and_then(|class| rule(&AclRuleKey { class: *class, ..AclRuleKey::default() }, around));
    match named {
        Some(id) => format!("allowed by {}", around.names.rule(id)),
        None => "no security groups filter this port".to_owned(),
    }
}

/// The rule that made the entry that is found for a key.
fn rule(key: &AclRuleKey, around: &Surroundings<'_>) -> Option<SecurityGroupRuleId> {
    let rules = &around.programmed.acl_rules;
    let (prefix, _) = Prefix::longest(rules, key, AclRuleKey::LPM_LENS)?;
    let origin = (around.origin)("acl_rules", &entry_key(prefix.len, prefix.key.as_bytes()))?;
    origin.id.parse().ok()
}

/// A longest-prefix table's key, as the compiler names its entries.
pub(super) fn entry_key(len: u32, key: &[u8]) -> Vec<u8> {
    [&len.to_ne_bytes(), key].concat()
}

/// A question to `acl_rules`.
pub(super) fn rule_key_text(key: &AclRuleKey) -> String {
    let selector = u16::from_be_bytes(key.selector_be);
    let protocol = crate::frames::protocol_name(key.protocol);
    match key.protocol {
        packet::ipv4::PROTOCOL_ICMP | packet::ipv6::PROTOCOL_ICMP => {
            let [kind, code] = key.selector_be;
            format!("{protocol} type {kind} code {code}")
        }
        _ => format!("{protocol} {selector}"),
    }
}

/// Bits of [`allow`].
pub(super) fn allowed_text(allowed: u32) -> String {
    let how = if allowed & allow::STATEFUL != 0 { "with its answers" } else { "stateless" };
    format!("allowed, {how}")
}

/// An entry of `acl_rules`.
pub fn rule_entry_text(prefix: &Prefix<AclRuleKey>) -> String {
    let protocol = crate::frames::protocol_name(prefix.key.protocol);
    let bits = prefix.len.saturating_sub(AclRuleKey::LPM_LEN_PROTOCOL);
    let first = u16::from_be_bytes(prefix.key.selector_be);
    let last = first | (0xffffu32 >> bits) as u16;
    match (prefix.len, prefix.key.protocol) {
        (AclRuleKey::LPM_LEN_CLASS, _) => "every protocol".to_owned(),
        (AclRuleKey::LPM_LEN_PROTOCOL, _) => protocol,
        (AclRuleKey::LPM_LEN, packet::ipv4::PROTOCOL_ICMP | packet::ipv6::PROTOCOL_ICMP) => {
            rule_key_text(&prefix.key)
        }
        (_, packet::ipv4::PROTOCOL_ICMP | packet::ipv6::PROTOCOL_ICMP) => {
            format!("{protocol} type {}", first >> 8)
        }
        _ if first == last => format!("{protocol} {first}"),
        _ => format!("{protocol} {first} to {last}"),
    }
}

impl Names {
    fn rule(&self, id: SecurityGroupRuleId) -> String {
        self.rules.get(&id).cloned().unwrap_or_else(|| format!("rule {id}"))
    }
}

/// What a rule allows: `ingress tcp 443 from 10.0.0.0/8`.
pub(super) fn rule_text(rule: &SecurityGroupRule) -> String {
    let (direction, preposition) = match rule.direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    };
    let protocol = match (rule.protocol, rule.ethertype) {
        (Some(protocol), _) => crate::frames::protocol_name(protocol),
        (None, Ethertype::Ipv4) => "everything".to_owned(),
        (None, Ethertype::Ipv6) => "all IPv6".to_owned(),
    };
    let icmp = matches!(rule.protocol, Some(packet::ipv4::PROTOCOL_ICMP | packet::ipv6::PROTOCOL_ICMP));
    let what = match (icmp, rule.port_range_min, rule.port_range_max) {
        (_, None, None) => String::new(),
        (true, Some(kind), Some(code)) => format!(" type {kind} code {code}"),
        (true, kind, _) => format!(" type {}", kind.unwrap_or_default()),
        (false, Some(min), Some(max)) if min == max => format!(" {min}"),
        (false, min, max) => format!(" {} to {}", min.unwrap_or(0), max.unwrap_or(u16::MAX)),
    };
    let remote = match rule.remote {
        Remote::Any => "anyone".to_owned(),
        Remote::Prefix(prefix) => prefix.to_string(),
        Remote::Group(group) => format!("group {group}"),
        Remote::AddressGroup(group) => format!("address group {group}"),
    };
    format!("{direction} {protocol}{what} {preposition} {remote}")
}
