//! What RFC 8512 says of the nodes that are served: name, place and type of each, as in its tree. Lists have their key in
//! brackets. Everything served must be in this table.

use serde_json::Value;

const PORT: &str = "0..65535";
const U8: &str = "0..255";
const U32: &str = "0..4294967295";
const FLAVORS: &str = "basic-nat44|napt44|dst-nat|nat64|siit|clat|eam|nptv6";
const FRAGMENTS: &str = "unsupported|in-order|out-of-order";

const NODES: [(&str, &str); 77] = [
    ("/instances/instance[id]/id", "1..4294967295"),
    ("/instances/instance[id]/name", "text"),
    ("/instances/instance[id]/enable", "boolean"),
    ("/instances/instance[id]/capabilities/nat-flavor", FLAVORS),
    ("/instances/instance[id]/capabilities/per-interface-binding", "unsupported|layer-2|dslite"),
    ("/instances/instance[id]/capabilities/transport-protocols[protocol-id]/protocol-id", U8),
    ("/instances/instance[id]/capabilities/transport-protocols[protocol-id]/protocol-name", "text"),
    ("/instances/instance[id]/capabilities/restricted-port-support", "boolean"),
    ("/instances/instance[id]/capabilities/static-mapping-support", "boolean"),
    ("/instances/instance[id]/capabilities/port-randomization-support", "boolean"),
    ("/instances/instance[id]/capabilities/port-range-allocation-support", "boolean"),
    ("/instances/instance[id]/capabilities/port-preservation-suport", "boolean"),
    ("/instances/instance[id]/capabilities/port-parity-preservation-support", "boolean"),
    ("/instances/instance[id]/capabilities/address-roundrobin-support", "boolean"),
    ("/instances/instance[id]/capabilities/paired-address-pooling-support", "boolean"),
    ("/instances/instance[id]/capabilities/endpoint-independent-mapping-support", "boolean"),
    ("/instances/instance[id]/capabilities/address-dependent-mapping-support", "boolean"),
    ("/instances/instance[id]/capabilities/address-and-port-dependent-mapping-support", "boolean"),
    ("/instances/instance[id]/capabilities/endpoint-independent-filtering-support", "boolean"),
    ("/instances/instance[id]/capabilities/address-dependent-filtering", "boolean"),
    ("/instances/instance[id]/capabilities/address-and-port-dependent-filtering", "boolean"),
    ("/instances/instance[id]/capabilities/fragment-behavior", FRAGMENTS),
    ("/instances/instance[id]/type", FLAVORS),
    ("/instances/instance[id]/per-interface-binding", "disabled|layer-2|dslite"),
    ("/instances/instance[id]/nat-pass-through[id]/id", U32),
    ("/instances/instance[id]/nat-pass-through[id]/prefix", "prefix"),
    ("/instances/instance[id]/policy[id]/id", U32),
    ("/instances/instance[id]/policy[id]/external-ip-address-pool[pool-id]/pool-id", "1..4294967295"),
    ("/instances/instance[id]/policy[id]/external-ip-address-pool[pool-id]/external-ip-pool", "prefix"),
    ("/instances/instance[id]/policy[id]/port-set-restrict/start-port-number", PORT),
    ("/instances/instance[id]/policy[id]/port-set-restrict/end-port-number", PORT),
    ("/instances/instance[id]/policy[id]/transport-protocols[protocol-id]/protocol-id", U8),
    ("/instances/instance[id]/policy[id]/transport-protocols[protocol-id]/protocol-name", "text"),
    ("/instances/instance[id]/policy[id]/subscriber-match[match-id]/match-id", U32),
    ("/instances/instance[id]/policy[id]/subscriber-match[match-id]/subnet", "prefix"),
    ("/instances/instance[id]/policy[id]/address-allocation-type", "arbitrary|roundrobin|paired"),
    (
        "/instances/instance[id]/policy[id]/port-allocation-type",
        "random|port-preservation|port-parity-preservation|port-range-allocation",
    ),
    ("/instances/instance[id]/policy[id]/mapping-type", "eim|adm|edm"),
    ("/instances/instance[id]/policy[id]/filtering-type", "eif|adf|edf"),
    ("/instances/instance[id]/policy[id]/fragment-behavior", "drop-all|in-order|out-of-order"),
    ("/instances/instance[id]/policy[id]/port-quota[quota-type]/port-limit", PORT),
    ("/instances/instance[id]/policy[id]/port-quota[quota-type]/quota-type", U8),
    ("/instances/instance[id]/policy[id]/port-set/port-set-size", PORT),
    ("/instances/instance[id]/policy[id]/port-set/port-set-timeout", U32),
    ("/instances/instance[id]/policy[id]/timers/udp-timeout", U32),
    ("/instances/instance[id]/policy[id]/timers/tcp-idle-timeout", U32),
    ("/instances/instance[id]/policy[id]/timers/tcp-trans-open-timeout", U32),
    ("/instances/instance[id]/policy[id]/timers/tcp-trans-close-timeout", U32),
    ("/instances/instance[id]/policy[id]/timers/icmp-timeout", U32),
    ("/instances/instance[id]/policy[id]/timers/hold-down-timeout", U32),
    ("/instances/instance[id]/policy[id]/all-algs-enable", "boolean"),
    ("/instances/instance[id]/connection-limits/limit-per-subscriber", U32),
    ("/instances/instance[id]/mapping-table/mapping-entry[index]/index", U32),
    (
        "/instances/instance[id]/mapping-table/mapping-entry[index]/type",
        "static|dynamic-implicit|dynamic-explicit",
    ),
    ("/instances/instance[id]/mapping-table/mapping-entry[index]/transport-protocol", U8),
    ("/instances/instance[id]/mapping-table/mapping-entry[index]/internal-src-address", "prefix"),
    ("/instances/instance[id]/mapping-table/mapping-entry[index]/internal-src-port/start-port-number", PORT),
    ("/instances/instance[id]/mapping-table/mapping-entry[index]/external-src-address", "prefix"),
    ("/instances/instance[id]/mapping-table/mapping-entry[index]/external-src-port/start-port-number", PORT),
    ("/instances/instance[id]/statistics/discontinuity-time", "time"),
    ("/instances/instance[id]/statistics/mappings-statistics/total-active-subscribers", U32),
    ("/instances/instance[id]/statistics/mappings-statistics/total-address-mappings", U32),
    ("/instances/instance[id]/statistics/mappings-statistics/total-port-mappings", U32),
    (
        "/instances/instance[id]/statistics/mappings-statistics/total-per-protocol[protocol-id]/protocol-id",
        U8,
    ),
    ("/instances/instance[id]/statistics/mappings-statistics/total-per-protocol[protocol-id]/total", U32),
    ("/instances/instance[id]/statistics/pools-stats/addresses-allocated", U32),
    ("/instances/instance[id]/statistics/pools-stats/addresses-free", U32),
    ("/instances/instance[id]/statistics/pools-stats/ports-stats/ports-allocated", U32),
    ("/instances/instance[id]/statistics/pools-stats/ports-stats/ports-free", U32),
    ("/instances/instance[id]/statistics/pools-stats/per-pool-stats[pool-id]/pool-id", U32),
    ("/instances/instance[id]/statistics/pools-stats/per-pool-stats[pool-id]/discontinuity-time", "time"),
    (
        "/instances/instance[id]/statistics/pools-stats/per-pool-stats[pool-id]/pool-stats/addresses-allocated",
        U32,
    ),
    ("/instances/instance[id]/statistics/pools-stats/per-pool-stats[pool-id]/pool-stats/addresses-free", U32),
    (
        "/instances/instance[id]/statistics/pools-stats/per-pool-stats[pool-id]/port-stats/ports-allocated",
        U32,
    ),
    ("/instances/instance[id]/statistics/pools-stats/per-pool-stats[pool-id]/port-stats/ports-free", U32),
    ("/instances/instance[id]/policy[id]/timers/fragment-min-timeout", U32),
    ("/instances/instance[id]/mapping-table/mapping-entry[index]/lifetime", U32),
];

/// Panics with the path of the first node that the model does not have so.
pub(super) fn check(nat: &Value) {
    check_node(nat, "");
}

fn check_node(node: &Value, path: &str) {
    match node {
        Value::Object(children) => {
            children.iter().for_each(|(name, child)| check_node(child, &format!("{path}/{name}")))
        }
        Value::Array(entries) if entries.iter().all(Value::is_object) => {
            // Of one list all entries have different keys.
            let list = NODES.iter().find_map(|(known, _)| known.strip_prefix(path)?.strip_prefix('['));
            let Some((key, _)) = list.and_then(|rest| rest.split_once(']')) else {
                panic!("{path} is no list")
            };
            let mut keys: Vec<String> = entries.iter().map(|entry| entry[key].to_string()).collect();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), entries.len(), "{path}: keys are given twice");
            entries.iter().for_each(|entry| check_node(entry, &format!("{path}[{key}]")));
        }
        Value::Array(leaves) => leaves.iter().for_each(|leaf| check_leaf(leaf, path)),
        leaf => check_leaf(leaf, path),
    }
}

fn check_leaf(leaf: &Value, path: &str) {
    let Some((_, kind)) = NODES.iter().find(|(known, _)| *known == path) else { panic!("{path} is unknown") };
    let text = leaf.as_str();
    let is_so = match *kind {
        "boolean" => leaf.is_boolean(),
        "text" => text.is_some(),
        // The host's bits of a prefix are zero.
        "prefix" => {
            let prefix = text.and_then(|text| text.parse::<ipnet::IpNet>().ok());
            prefix.is_some_and(|prefix| prefix.trunc() == prefix)
        }
        "time" => text.is_some_and(|text| text.len() == 20 && text.ends_with('Z')),
        other => match other.split_once("..") {
            Some((low, high)) => {
                let number = leaf.as_u64();
                number.is_some_and(|number| (low.parse().unwrap()..=high.parse().unwrap()).contains(&number))
            }
            None => text.is_some_and(|text| other.split('|').any(|word| word == text)),
        },
    };
    assert!(is_so, "{path} is {leaf}, which is not {kind}");
}
