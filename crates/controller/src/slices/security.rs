//! Security groups of a slice. The cost is that of what the host's own ports name: their groups' rules, and the
//! members of the groups that are remote ends of these.

use ipnet::IpNet;
use model::resource::Port;
use model::security::Remote;
use model::slice::{Member, MemberId, MemberOf, SecurityGroup, SecurityGroupRule, Slice};
use model::{AddressGroupId, SecurityGroupId};
use std::collections::BTreeSet;
use store::Snapshot;

/// The groups that filter a port of the host; none: it is another host's, or not filtered.
pub(super) fn groups_of(port: &Port, host_name: &str) -> Option<BTreeSet<SecurityGroupId>> {
    let filtered = port.port_security_enabled && port.binding_host == host_name;
    port.security_groups.as_ref().filter(|_| filtered).map(|groups| groups.iter().copied().collect())
}

/// The groups of the ports in the slice, their rules, and the members these name.
pub(super) fn add(snapshot: &Snapshot, slice: &mut Slice) {
    let groups: BTreeSet<SecurityGroupId> =
        slice.ports.values().filter_map(|port| port.security_groups.as_ref()).flatten().copied().collect();
    let mut remotes = BTreeSet::new();
    for id in groups {
        let Some(group) = snapshot.security_groups.get(&id) else { continue };
        let told = SecurityGroup { name: group.standard.name.clone(), stateful: group.stateful };
        slice.security_groups.insert(id, told);
        for rule in snapshot.rules_of_group(id) {
            let told = SecurityGroupRule {
                group: id,
                ethertype: rule.ethertype,
                direction: rule.direction,
                protocol: rule.protocol.as_ref().map(|protocol| protocol.number),
                port_range_min: rule.port_range_min,
                port_range_max: rule.port_range_max,
                remote: rule.remote,
            };
            slice.security_group_rules.insert(rule.id, told);
            remotes.insert(rule.remote);
        }
    }
    for remote in remotes {
        match remote {
            Remote::Group(group) => add_ports(snapshot, slice, group),
            Remote::AddressGroup(group) => add_addresses(snapshot, slice, group),
            Remote::Any | Remote::Prefix(_) => {}
        }
    }
}

/// Every address that a port with the group may have.
fn add_ports(snapshot: &Snapshot, slice: &mut Slice, group: SecurityGroupId) {
    let of = MemberOf::SecurityGroup(group);
    for port in snapshot.ports_of_group(group) {
        let fixed = port.fixed_ips.iter().map(|fixed_ip| IpNet::from(fixed_ip.address));
        let pairs = port.allowed_address_pairs.iter().map(|pair| pair.address.trunc());
        for addresses in fixed.chain(pairs) {
            slice.members.entry(MemberId { of, addresses }).or_insert(Member { port: Some(port.id) });
        }
    }
}

fn add_addresses(snapshot: &Snapshot, slice: &mut Slice, group: AddressGroupId) {
    let Some(found) = snapshot.address_groups.get(&group) else { return };
    let of = MemberOf::AddressGroup(group);
    for addresses in &found.addresses {
        slice.members.insert(MemberId { of, addresses: addresses.trunc() }, Member { port: None });
    }
}
