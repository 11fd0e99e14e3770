//! `acl_remotes` and `acl_rules`: what the security groups of this host's ports allow
//! ([decision 0017](../../../docs/decisions/0017-security-groups.md)).
//!
//! Ports with the same groups share two lists, one per direction. A list sorts the rules by their remote end into
//! *classes*; an address is looked up for its classes, and each class for the protocol and port. An entry of a
//! longest-prefix table says all that shorter prefixes around it say, too, because only one is found.

mod ports;

use crate::facts::LocalFacts;
use crate::output::{ACL_REMOTES, ACL_RULES, Builder, by};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::security::{Direction, Ethertype, Remote};
use model::slice::{MemberId, MemberOf, ObjectId, SecurityGroupRule, Slice};
use model::{AddressGroupId, SecurityGroupId, SecurityGroupRuleId};
use pipeline::bounds::ACL_CLASSES_MAX;
use pipeline::table_set::Prefix;
use pipeline::tables::{AclClasses, AclId, AclRemoteKey, AclRuleKey, allow};
use std::collections::{BTreeMap, BTreeSet};

/// Groups of a port.
type Groups = BTreeSet<SecurityGroupId>;

/// What filters a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) egress: List,
    pub(crate) ingress: List,
}

/// One direction of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) id: AclId,
    /// Everything is allowed, statefully: nobody needs to look.
    pub(crate) open: bool,
}

impl Policy {
    /// Of ports without port security.
    pub(crate) const NONE: Self = {
        let open = List { id: AclId { words: [0; 2] }, open: true };
        Self { egress: open, ingress: open }
    };
}

/// By the groups of ports; none: what they allow does not fit the tables.
pub(crate) type Policies<'a> = BTreeMap<&'a Groups, Option<Policy>>;

/// Compiles the policies of the ports whose links are here.
pub(crate) fn compile<'a>(slice: &'a Slice, facts: &LocalFacts, builder: &mut Builder) -> Policies<'a> {
    let here = facts.links.keys().filter_map(|id| slice.ports.get(id));
    let wanted: BTreeSet<&Groups> = here.filter_map(|port| port.security_groups.as_ref()).collect();
    let mut rules: BTreeMap<SecurityGroupId, Vec<Rule<'_>>> = BTreeMap::new();
    for (id, rule) in &slice.security_group_rules {
        rules.entry(rule.group).or_default().push((*id, rule));
    }
    let source = Source { slice, rules, members: members(slice) };
    let mut free = facts.acl_sizes;
    let mut policies = Policies::new();
    for groups in wanted {
        let egress = source.list(groups, Direction::Egress);
        let ingress = source.list(groups, Direction::Ingress);
        let needed = [egress.size(), ingress.size()];
        let left = needed.iter().try_fold(free, |free, size| free.less(size));
        let policy = left.map(|left| {
            free = left;
            Policy { egress: egress.put(builder), ingress: ingress.put(builder) }
        });
        policies.insert(groups, policy);
    }
    policies
}

type Rule<'a> = (SecurityGroupRuleId, &'a SecurityGroupRule);

/// Whom a rule is about: a remote end, as far as it speaks that version of IP.
type End = (Ethertype, Remote);

fn members(slice: &Slice) -> BTreeMap<MemberOf, Vec<MemberId>> {
    let mut members: BTreeMap<MemberOf, Vec<MemberId>> = BTreeMap::new();
    for id in slice.members.keys() {
        members.entry(id.of).or_default().push(*id);
    }
    members
}

/// Entries that lists may have, or have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclSizes {
    pub remotes: usize,
    pub rules: usize,
}

impl Default for AclSizes {
    fn default() -> Self {
        use pipeline::bounds::{ACL_REMOTES_MAX, ACL_RULES_MAX};
        Self { remotes: ACL_REMOTES_MAX as usize, rules: ACL_RULES_MAX as usize }
    }
}

impl AclSizes {
    fn less(self, other: &Self) -> Option<Self> {
        let remotes = self.remotes.checked_sub(other.remotes)?;
        Some(Self { remotes, rules: self.rules.checked_sub(other.rules)? })
    }
}

/// The slice, sorted for lookups.
struct Source<'a> {
    slice: &'a Slice,
    rules: BTreeMap<SecurityGroupId, Vec<Rule<'a>>>,
    members: BTreeMap<MemberOf, Vec<MemberId>>,
}

/// A list as entries of tables.
struct Draft {
    list: List,
    remotes: Vec<(Prefix<AclRemoteKey>, AclClasses, ObjectId)>,
    rules: Vec<(Prefix<AclRuleKey>, u32, ObjectId)>,
}

impl Draft {
    fn size(&self) -> AclSizes {
        AclSizes { remotes: self.remotes.len(), rules: self.rules.len() }
    }

    fn put(self, builder: &mut Builder) -> List {
        for (prefix, classes, object) in self.remotes {
            builder.put(&ACL_REMOTES, prefix, classes, by(object, "remote end of rules of security groups"));
        }
        for (prefix, allowed, object) in self.rules {
            builder.put(&ACL_RULES, prefix, allowed, by(object, "rule of a security group"));
        }
        self.list
    }
}

impl Source<'_> {
    fn list(&self, groups: &Groups, direction: Direction) -> Draft {
        let rules = groups.iter().filter_map(|group| self.rules.get(group)).flatten();
        let mut rules: Vec<Rule<'_>> =
            rules.copied().filter(|(_, rule)| rule.direction == direction).collect();
        let all_stateful = groups.iter().all(|group| self.is_stateful(*group));
        let everything = |ethertype| {
            let mut all = rules.iter().filter(|(_, rule)| is_everything(rule));
            all.any(|(_, rule)| rule.ethertype == ethertype)
        };
        let open = all_stateful && everything(Ethertype::Ipv4) && everything(Ethertype::Ipv6);
        if open {
            // They say it all; named by their entries, they can be told of.
            rules.retain(|(_, rule)| is_everything(rule));
        }
        let mut name = Name::new(b"list").with(&[direction as u8]);
        for group in groups {
            name = name.with(group.uuid().as_bytes());
        }
        let list = List { id: name.id(), open };
        let mut by_end: BTreeMap<End, Vec<Rule<'_>>> = BTreeMap::new();
        for rule in rules {
            by_end.entry((rule.1.ethertype, plain(rule.1.remote))).or_default().push(rule);
        }
        let mut classes = Classes { list: list.id, used: BTreeMap::new() };
        let remotes = self.remotes(&by_end, &mut classes);
        let rules = classes.used.into_iter().flat_map(|(class, ends)| {
            let rules = ends.iter().filter_map(|end| by_end.get(end)).flatten();
            let rules = rules.map(|(id, rule)| (*id, *rule, self.kind(rule.group)));
            ports::entries(class, rules)
        });
        Draft { list, remotes, rules: rules.collect() }
    }

    fn is_stateful(&self, group: SecurityGroupId) -> bool {
        self.slice.security_groups.get(&group).is_some_and(|group| group.stateful)
    }

    fn kind(&self, group: SecurityGroupId) -> u32 {
        if self.is_stateful(group) { allow::STATEFUL } else { allow::STATELESS }
    }

    /// Every prefix that a rule names, with the classes of all that cover it.
    fn remotes(
        &self,
        by_end: &BTreeMap<End, Vec<Rule<'_>>>,
        classes: &mut Classes,
    ) -> Vec<(Prefix<AclRemoteKey>, AclClasses, ObjectId)> {
        let mut prefixes: BTreeMap<IpNet, (Vec<End>, ObjectId)> = BTreeMap::new();
        for (end, rules) in by_end {
            let rule = rules.first().map(|(id, _)| ObjectId::SecurityGroupRule(*id));
            for (addresses, member) in self.addresses(*end) {
                let Some(object) = member.map(ObjectId::Member).or(rule) else { continue };
                prefixes.entry(addresses).or_insert_with(|| (Vec::new(), object)).0.push(*end);
            }
        }
        // In this order a prefix comes after every one that covers it.
        let mut around: Vec<(IpNet, Vec<End>)> = Vec::new();
        let mut entries = Vec::new();
        for (addresses, (mut ends, object)) in prefixes {
            while around.last().is_some_and(|(outer, _)| !outer.contains(&addresses)) {
                around.pop();
            }
            ends.extend(around.last().into_iter().flat_map(|(_, outer)| outer));
            ends.sort();
            ends.dedup();
            let network = addresses.network().into();
            let len = AclRemoteKey::lpm_len(network, addresses.prefix_len());
            let prefix = Prefix::new(len, AclRemoteKey::new(classes.list, network));
            entries.push((prefix, classes.of(&ends, by_end), object));
            around.push((addresses, ends));
        }
        entries
    }

    /// The addresses of a remote end, and the member that each is of.
    fn addresses(&self, (ethertype, remote): End) -> Vec<(IpNet, Option<MemberId>)> {
        let everywhere: IpNet = match ethertype {
            Ethertype::Ipv4 => Ipv4Net::default().into(),
            Ethertype::Ipv6 => Ipv6Net::default().into(),
        };
        let members = |of: MemberOf| {
            let members = self.members.get(&of).into_iter().flatten();
            let members = members.map(|member| (member.addresses.trunc(), Some(*member)));
            members.filter(|(addresses, _)| everywhere.contains(addresses)).collect()
        };
        match remote {
            Remote::Any => vec![(everywhere, None)],
            Remote::Prefix(prefix) if everywhere.contains(&prefix) => vec![(prefix, None)],
            Remote::Prefix(_) => Vec::new(),
            Remote::Group(group) => members(MemberOf::SecurityGroup(group)),
            Remote::AddressGroup(group) => members(MemberOf::AddressGroup(group)),
        }
    }
}

/// The same remote end in one way of writing.
fn plain(remote: Remote) -> Remote {
    match remote {
        Remote::Prefix(prefix) if prefix.prefix_len() == 0 => Remote::Any,
        Remote::Prefix(prefix) => Remote::Prefix(prefix.trunc()),
        other => other,
    }
}

fn is_everything(rule: &SecurityGroupRule) -> bool {
    ports::is_any_protocol(rule) && plain(rule.remote) == Remote::Any
}

/// Classes of a list that entries name.
struct Classes {
    list: AclId,
    /// By the class, the remote ends whose rules it has.
    used: BTreeMap<AclId, Vec<End>>,
}

impl Classes {
    /// The classes of these remote ends: one for each, as far as there is room. The ends with the fewest rules share
    /// the last.
    fn of(&mut self, ends: &[End], by_end: &BTreeMap<End, Vec<Rule<'_>>>) -> AclClasses {
        let mut ends = ends.to_vec();
        ends.sort_by_key(|end| (std::cmp::Reverse(by_end.get(end).map_or(0, Vec::len)), *end));
        let alone = if ends.len() > ACL_CLASSES_MAX { ACL_CLASSES_MAX - 1 } else { ends.len() };
        let (alone, sharing) = ends.split_at(alone);
        let sets = alone.chunks(1).chain(Some(sharing).filter(|sharing| !sharing.is_empty()));
        let mut classes = AclClasses::default();
        for (slot, set) in classes.ids.iter_mut().zip(sets) {
            let mut name = Name::new(b"class").with_id(self.list);
            for end in set {
                name = name.with_end(*end);
            }
            *slot = name.id();
            self.used.entry(*slot).or_insert_with(|| set.to_vec());
        }
        classes
    }
}

/// Makes ids: FNV-1a of what they stand for, so that they are the same in every compilation.
#[derive(Clone, Copy)]
struct Name(u64);

impl Name {
    fn new(kind: &[u8]) -> Self {
        Self(0xcbf2_9ce4_8422_2325).with(kind)
    }

    fn with(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    fn with_id(self, AclId { words: [a, b] }: AclId) -> Self {
        self.with(&a.to_le_bytes()).with(&b.to_le_bytes())
    }

    fn with_end(self, (ethertype, remote): End) -> Self {
        self.with(&[ethertype as u8]).with_remote(remote)
    }

    fn with_remote(self, remote: Remote) -> Self {
        match remote {
            Remote::Any => self.with(b"any"),
            Remote::Prefix(prefix) => self.with(b"prefix").with(prefix.to_string().as_bytes()),
            Remote::Group(group) => self.with(b"group").with(group.uuid().as_bytes()),
            Remote::AddressGroup(group) => self.with_address_group(group),
        }
    }

    fn with_address_group(self, group: AddressGroupId) -> Self {
        self.with(b"addresses").with(group.uuid().as_bytes())
    }

    fn id(self) -> AclId {
        // The product alone leaves the low bits to the last bytes.
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).max(1);
        AclId { words: [(mixed >> 32) as u32, mixed as u32] }
    }
}
