//! Protocols, ports and ICMP types of rules as prefixes.

use model::SecurityGroupRuleId;
use model::slice::{ObjectId, SecurityGroupRule};
use packet::{ipv4, ipv6};
use pipeline::table_set::Prefix;
use pipeline::tables::{AclId, AclRuleKey};
use std::collections::BTreeMap;

/// Neutron's other way to say "any".
const PROTOCOL_ANY: u8 = 0;
/// Bits of a port, or of ICMP type and code.
const SELECTOR_BITS: u32 = 16;

pub(super) fn is_any_protocol(rule: &SecurityGroupRule) -> bool {
    rule.protocol.is_none_or(|protocol| protocol == PROTOCOL_ANY)
}

/// The entries of a class's rules, each with what all of them say about its prefix and the first rule that made it.
pub(super) fn entries<'a>(
    class: AclId,
    rules: impl Iterator<Item = (SecurityGroupRuleId, &'a SecurityGroupRule, u32)>,
) -> Vec<(Prefix<AclRuleKey>, u32, ObjectId)> {
    let mut own: BTreeMap<Prefix<AclRuleKey>, (u32, ObjectId)> = BTreeMap::new();
    for (id, rule, kind) in rules {
        for prefix in prefixes(class, rule) {
            own.entry(prefix).or_insert((0, ObjectId::SecurityGroupRule(id))).0 |= kind;
        }
    }
    // Shorter ones first: what they say is complete when a longer one asks.
    let mut all: BTreeMap<Prefix<AclRuleKey>, u32> = BTreeMap::new();
    let mut lengths: Vec<u32> = Vec::new();
    for (prefix, (kind, _)) in &own {
        let mut around = lengths.iter().rev().filter(|len| **len < prefix.len);
        let said = around.find_map(|len| all.get(&Prefix::new(*len, prefix.key)));
        all.insert(*prefix, kind | said.copied().unwrap_or(0));
        if lengths.last() != Some(&prefix.len) {
            lengths.push(prefix.len);
        }
    }
    own.into_iter()
        .zip(all.into_values())
        .map(|((prefix, (_, object)), said)| (prefix, said, object))
        .collect()
}

fn prefixes(class: AclId, rule: &SecurityGroupRule) -> Vec<Prefix<AclRuleKey>> {
    let key = |protocol: u8, selector: u16| AclRuleKey {
        class,
        protocol,
        selector_be: selector.to_be_bytes(),
        zero: 0,
    };
    if is_any_protocol(rule) {
        return vec![Prefix::new(AclRuleKey::LPM_LEN_CLASS, key(0, 0))];
    }
    let protocol = rule.protocol.unwrap_or(PROTOCOL_ANY);
    let (first, last) = selectors(protocol, rule);
    let prefix = |(selector, bits)| Prefix::new(AclRuleKey::LPM_LEN_PROTOCOL + bits, key(protocol, selector));
    cover(first, last).into_iter().map(prefix).collect()
}

/// First and last of what a rule has where TCP has a port.
fn selectors(protocol: u8, rule: &SecurityGroupRule) -> (u16, u16) {
    let (min, max) = (rule.port_range_min, rule.port_range_max);
    if !matches!(protocol, ipv4::PROTOCOL_ICMP | ipv6::PROTOCOL_ICMP) {
        return (min.unwrap_or(0), max.unwrap_or(u16::MAX));
    }
    let byte = |value: u16| value.min(255) << 8;
    match (min, max) {
        (None, _) => (0, u16::MAX),
        (Some(kind), None) => (byte(kind), byte(kind) | 0xff),
        (Some(kind), Some(code)) => (byte(kind) | code.min(255), byte(kind) | code.min(255)),
    }
}

/// The fewest prefixes, value and bits, that cover a range.
fn cover(first: u16, last: u16) -> Vec<(u16, u32)> {
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    let mut prefixes = Vec::new();
    while next < end {
        let aligned = if next == 0 { SELECTOR_BITS } else { next.trailing_zeros().min(SELECTOR_BITS) };
        let fits = (end - next).ilog2();
        let size = aligned.min(fits);
        prefixes.push((next as u16, SELECTOR_BITS - size));
        next += 1 << size;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::cover;
    use proptest::prelude::*;

    #[test]
    fn everything_is_one_prefix_and_a_port_is_one() {
        assert_eq!(cover(0, u16::MAX), [(0, 0)]);
        assert_eq!(cover(443, 443), [(443, 16)]);
        assert_eq!(cover(1, 0), []);
        assert_eq!(cover(1, u16::MAX - 1).len(), 30, "the most there can be");
    }

    proptest! {
        #[test]
        fn a_range_is_covered_exactly_once(first: u16, last: u16) {
            let prefixes = cover(first, last);
            let mut covered = Vec::new();
            for (value, bits) in prefixes {
                let size = 1u32 << (16 - bits);
                prop_assert_eq!(u32::from(value) % size, 0);
                covered.push((u32::from(value), u32::from(value) + size));
            }
            prop_assert!(covered.windows(2).all(|pair| pair[0].1 == pair[1].0));
            if first <= last {
                prop_assert_eq!(covered.first().map(|range| range.0), Some(u32::from(first)));
                prop_assert_eq!(covered.last().map(|range| range.1), Some(u32::from(last) + 1));
            }
        }
    }
}
