//! Goal: every rule refuses what it should, names the field, and a wrong file reports all its faults at once.
//! Method: a small valid file, with one line replaced per case.

use super::*;
use crate::error::FileError;
use crate::plan::Overrides;

const GOOD: &str = r#"
name = "t"
[[physical_network]]
name = "phys"
[[host]]
name = "h1"
vtep = "10.90.0.1"
physical_networks = ["phys"]
[[host]]
name = "h2"
vtep = "10.90.0.2"
[[external_host]]
name = "gw"
physical_network = "phys"
vlan = 7
addresses = ["192.0.2.1/24"]
[[external_host]]
name = "far"
behind = "gw"
addresses = ["8.8.8.8/32"]
[[external_network]]
name = "ext"
physical_network = "phys"
vlan = 7
cidr = "192.0.2.0/24"
gateway = "192.0.2.1"
pool = "192.0.2.10-192.0.2.20"
[[network]]
name = "net"
subnets = [{ cidr = "10.0.0.0/24" }]
[[router]]
name = "r"
interfaces = ["net"]
external_network = "ext"
snat_address = "192.0.2.10"
[[vm]]
name = "vm1"
host = "h1"
network = "net"
address = "10.0.0.11"
[[floating_ip]]
vm = "vm1"
address = "192.0.2.11"
"#;

fn problems(text: &str) -> Vec<String> {
    match Plan::parse(text, &Overrides::default()) {
        Ok(_) => Vec::new(),
        Err(FileError::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(other) => vec![other.to_string()],
    }
}

#[test]
fn the_good_file_is_good() {
    let plan =
        Plan::parse(GOOD, &Overrides { name: Some("renamed".to_owned()), ..Overrides::default() }).unwrap();
    assert_eq!(plan.name, "renamed");
    assert_eq!(plan.controller, ControllerPlace::Own("10.90.0.254".parse().unwrap()));
    assert_eq!(plan.networks[0].subnets[0].gateway, "10.0.0.1".parse::<Ipv4Addr>().unwrap());
    assert_eq!(plan.segment_of(1), Segment { physical_network: 0, vlan: Some(7) });
    assert_eq!(plan.floating_of(0), Some("192.0.2.11".parse().unwrap()));
}

/// What is replaced in the good file, by what, and a part of the message that must follow.
const CASES: &[(&str, &str, &str)] = &[
    ("name = \"t\"", "name = \"t t\"", "name: \"t t\" is not a name; use 1 to 32"),
    ("name = \"h2\"", "name = \"h1\"", "host \"h1\".name: another host, external host or VM is named \"h1\""),
    ("name = \"h2\"", "name = \"fabric\"", "host \"fabric\".name: \"fabric\" is a name of the lab itself"),
    ("10.90.0.2\"", "10.90.0.1\"", "host \"h2\".vtep: 10.90.0.1 is the VTEP of \"h1\" too"),
    ("10.90.0.2\"", "10.91.0.2\"", "host \"h2\".vtep: 10.91.0.2 is not in 10.90.0.0/24"),
    ("10.90.0.2\"", "10.90.0.254\"", "controller.address: 10.90.0.254 is the VTEP of \"h2\""),
    (
        "[\"phys\"]",
        "[\"fiz\"]",
        "host \"h1\".physical_networks: there is no physical network \"fiz\"; the file has: phys",
    ),
    (
        "behind = \"gw\"",
        "behind = \"far\"",
        "external_host \"far\".behind: there is no external host above this one \"far\"",
    ),
    ("behind = \"gw\"", "", "external_host \"far\": exactly one of physical_network and behind"),
    (
        "addresses = [\"8.8.8.8/32\"]",
        "addresses = []",
        "external_host \"far\".addresses: a machine needs an address",
    ),
    (
        "gateway = \"192.0.2.1\"",
        "gateway = \"192.0.3.1\"",
        "external_network \"ext\".gateway: 192.0.3.1 is not in",
    ),
    (
        "gateway = \"192.0.2.1\"",
        "gateway = \"192.0.2.1\"\nipv6 = \"2001:db8::/48\"",
        "external_network \"ext\".ipv6: 2001:db8::/48 is no prefix of 64 bits",
    ),
    ("192.0.2.10-192.0.2.20", "192.0.2.10", "external_network \"ext\".pool: \"192.0.2.10\" is not a range"),
    (
        "192.0.2.10-192.0.2.20",
        "192.0.2.30-192.0.2.20",
        "external_network \"ext\".pool: 192.0.2.30 comes after",
    ),
    (
        "cidr = \"10.0.0.0/24\"",
        "cidr = \"10.0.0.5/24\"",
        "network \"net\".subnets (10.0.0.5/24): the prefix has host bits; write 10.0.0.0/24",
    ),
    (
        "interfaces = [\"net\"]",
        "interfaces = [\"nte\"]",
        "router \"r\".interfaces: there is no network \"nte\"",
    ),
    (
        "snat_address = \"192.0.2.10\"",
        "snat_address = \"192.0.9.1\"",
        "router \"r\".snat_address: 192.0.9.1 is not in",
    ),
    (
        "snat_address = \"192.0.2.10\"",
        "ports_per_vm_max = 0",
        "router \"r\".ports_per_vm_max: a VM may have 1 to 131072 mappings; leave the key out for no limit",
    ),
    (
        "address = \"10.0.0.11\"",
        "address = \"10.0.1.11\"",
        "vm \"vm1\".address: 10.0.1.11 is in no subnet of \"net\"; it has 10.0.0.0/24",
    ),
    (
        "address = \"10.0.0.11\"",
        "address = \"10.0.0.1\"",
        "vm \"vm1\".address: 10.0.0.1 is the subnet's gateway",
    ),
    ("host = \"h1\"", "host = \"h9\"", "vm \"vm1\".host: there is no host \"h9\"; the file has: h1, h2"),
    ("vm = \"vm1\"", "vm = \"vm9\"", "floating_ip \"192.0.2.11\".vm: there is no vm \"vm9\""),
    ("192.0.2.11\"", "192.0.2.10\"", "floating_ip \"192.0.2.10\".address: the address is used already"),
    ("host = \"h1\"", "host = \"h1\"\ncolour = 1", "unknown field `colour`"),
];

#[test]
fn each_rule_names_the_field_and_the_reason() {
    for (from, to, want) in CASES {
        assert!(GOOD.contains(from), "{from} is in the good file");
        let found = problems(&GOOD.replacen(from, to, 1));
        assert!(found.iter().any(|problem| problem.contains(want)), "{to}: want {want:?} in {found:#?}");
    }
}

#[test]
fn vlans_blocks_and_mtus_have_their_ranges() {
    let cases = [
        ("vlan = 7\ncidr", "vlan = 4095\ncidr", "external_network \"ext\".vlan: a VLAN id is 1 to 4094"),
        (
            "pool =",
            "block_size = 1000\npool =",
            "external_network \"ext\".block_size: a port block has a power of two",
        ),
        ("subnets = [", "mtu = 1451\nsubnets = [", "network \"net\".mtu: the MTU must be 576 to 1450"),
    ];
    for (from, to, want) in cases {
        let found = problems(&GOOD.replacen(from, to, 1));
        assert!(found.iter().any(|problem| problem.contains(want)), "{to}: want {want:?} in {found:#?}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let text = GOOD
        .replace("host = \"h1\"", "host = \"h9\"")
        .replace("interfaces = [\"net\"]", "interfaces = [\"nte\"]");
    assert_eq!(problems(&text).len(), 2, "{:#?}", problems(&text));
}

#[test]
fn routers_refuse_overlapping_and_shared_networks() {
    let overlapping = GOOD.replace("interfaces = [\"net\"]", "interfaces = [\"net\", \"two\"]")
        + "[[network]]\nname = \"two\"\nsubnets = [{ cidr = \"10.0.0.0/16\" }]\n";
    assert!(problems(&overlapping)[0].contains("subnets of \"two\" overlap another interface"));
    let shared = format!("{GOOD}[[router]]\nname = \"r2\"\ninterfaces = [\"net\"]\n");
    assert!(problems(&shared)[0].contains("\"net\" is on router \"r\" already"));
}

#[test]
fn ipv6_prefixes_behind_one_external_network_are_different() {
    let outside = GOOD.replace("pool = ", "ipv6 = \"2001:db8:9::/64\"\npool = ");
    let one = outside.replace(
        "[[router]]",
        "ipv6 = \"2001:db8:1::/64\"\n[[network]]\nname = \"other\"\nsubnets = [{ cidr = \"10.0.1.0/24\" }]\nipv6 = \"2001:db8:2::/64\"\n\
         [[router]]\nname = \"s\"\ninterfaces = [\"other\"]\nexternal_network = \"ext\"\n[[router]]",
    );
    let plan = Plan::parse(&one, &Overrides::default()).unwrap();
    assert_eq!(plan.gateway_of(0), Some(0));
    let routed = [
        ("2001:db8:9::10".parse().unwrap(), "2001:db8:2::/64".parse().unwrap()),
        ("2001:db8:9::11".parse().unwrap(), "2001:db8:1::/64".parse().unwrap()),
    ];
    assert_eq!(plan.routed_ipv6(0), routed);
    let twice = problems(&one.replace("2001:db8:2::", "2001:db8:1::"));
    let reason = "router \"r\".interfaces: 2001:db8:1::/64 is behind \"s\" on the same external network";
    assert!(twice.len() == 1 && twice[0].contains(reason), "{twice:#?}");
}
