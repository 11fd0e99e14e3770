//! Security groups of a [`World`], in words.

use crate::World;
use ipnet::IpNet;
use model::security::{Direction, Ethertype, Remote};
use model::slice::{Member, MemberId, MemberOf, SecurityGroup, SecurityGroupRule};
use model::{AddressGroupId, SecurityGroupId, SecurityGroupRuleId};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

pub fn group_id(number: u32) -> SecurityGroupId {
    SecurityGroupId::from_uuid(Uuid::from_u128(0x7_0000_0000 | u128::from(number)))
}

pub fn address_group_id(number: u32) -> AddressGroupId {
    AddressGroupId::from_uuid(Uuid::from_u128(0x8_0000_0000 | u128::from(number)))
}

pub fn rule_id(number: u32) -> SecurityGroupRuleId {
    SecurityGroupRuleId::from_uuid(Uuid::from_u128(0x9_0000_0000 | u128::from(number)))
}

/// A rule from words: `ingress tcp 80-90 from 10.0.0.0/8`, `egress icmp 8/0 to any`, `ingress any from group 2`,
/// `egress 132 5 to addresses 1`. Of IPv6 with `ingress6` and `egress6`.
///
/// # Panics
/// The words are none of these.
pub fn rule(group: u32, words: &str) -> SecurityGroupRule {
    let all: Vec<&str> = words.split_whitespace().collect();
    let place = all.iter().position(|word| matches!(*word, "from" | "to")).expect("a remote end");
    let (what, remote) = (&all[..place], &all[place + 1..]);
    let protocol = match what[1] {
        "any" => None,
        "icmp" => Some(1),
        "icmp6" => Some(58),
        "tcp" => Some(6),
        "udp" => Some(17),
        number => Some(number.parse().expect("a protocol")),
    };
    let range = what.get(2).map(|range| range.split_once(['-', '/']).unwrap_or((range, "")));
    let number =
        |text: &str| Some(text).filter(|text| !text.is_empty()).map(|text| text.parse().expect("a number"));
    let (min, max) = range.map_or((None, None), |(min, max)| (number(min), number(max)));
    SecurityGroupRule {
        group: group_id(group),
        ethertype: if what[0].ends_with('6') { Ethertype::Ipv6 } else { Ethertype::Ipv4 },
        direction: if what[0].starts_with("egress") { Direction::Egress } else { Direction::Ingress },
        protocol,
        port_range_min: min,
        port_range_max: if matches!(protocol, Some(1 | 58)) { max } else { max.or(min) },
        remote: match remote {
            ["any"] => Remote::Any,
            ["group", number] => Remote::Group(group_id(number.parse().expect("a group"))),
            ["addresses", number] => Remote::AddressGroup(address_group_id(number.parse().expect("a group"))),
            [prefix] => Remote::Prefix(prefix.parse().expect("a prefix")),
            _ => panic!("{words}: no remote end"),
        },
    }
}

/// What takes effect with the next [`World::program`].
impl World {
    /// Makes a group, or one anew, with these rules.
    pub fn add_group(&mut self, number: u32, stateful: bool, rules: &[&str]) {
        let group = group_id(number);
        let name = format!("group{number}");
        self.slice.security_groups.insert(group, SecurityGroup { name, stateful });
        self.slice.security_group_rules.retain(|_, rule| rule.group != group);
        for (index, words) in rules.iter().enumerate() {
            let id = rule_id(number * 100_000 + index as u32);
            self.slice.security_group_rules.insert(id, rule(number, words));
        }
    }

    /// The groups of a VM's port, which makes it a member of each.
    pub fn set_groups(&mut self, vm: &str, groups: &[u32]) {
        self.put_groups(vm, Some(groups.iter().copied().map(group_id).collect()));
    }

    /// A VM's port is not filtered, as without port security.
    pub fn unset_groups(&mut self, vm: &str) {
        self.put_groups(vm, None);
    }

    fn put_groups(&mut self, vm: &str, groups: Option<BTreeSet<SecurityGroupId>>) {
        let port = self.slice.ports.get_mut(&self.vms[vm].port).expect("the VM's port");
        port.security_groups = groups;
        self.slice.members.retain(|id, _| matches!(id.of, MemberOf::AddressGroup(_)));
        let mut members = BTreeMap::new();
        for (id, port) in &self.slice.ports {
            for group in port.security_groups.iter().flatten() {
                for address in &port.addresses {
                    let of = MemberOf::SecurityGroup(*group);
                    members.insert(MemberId { of, addresses: (*address).into() }, Member { port: Some(*id) });
                }
            }
        }
        self.slice.members.extend(members);
    }

    /// Adds an address to a group, as a port elsewhere does that has it.
    pub fn add_member(&mut self, number: u32, prefix: &str) {
        let addresses: IpNet = prefix.parse().expect("a prefix");
        let of = MemberOf::SecurityGroup(group_id(number));
        self.slice.members.insert(MemberId { of, addresses }, Member { port: None });
    }

    /// Adds a prefix to an address group.
    pub fn add_addresses(&mut self, number: u32, prefix: &str) {
        let addresses: IpNet = prefix.parse().expect("a prefix");
        let of = MemberOf::AddressGroup(address_group_id(number));
        self.slice.members.insert(MemberId { of, addresses }, Member { port: None });
    }
}
