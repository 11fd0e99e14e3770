//! The rules of a lab file. Each function turns one kind of table into its resolved form and notes what is wrong.

use super::rule::{Remote, Rule};
use super::{
    ControllerPlace, ExternalHost, ExternalNetwork, FloatingIp, Host, Index, Network, Place, Plan, Router,
    SecurityGroup, Segment, Subnet, Vm,
};
use crate::error::Problem;
use crate::file::LabFile;
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Names end up in namespaces, files and certificates.
const NAME_LEN_MAX: usize = 32;
/// Names the lab uses for namespaces of its own.
const RESERVED: [&str; 2] = ["fabric", "controller"];
/// Bytes of IP, UDP and Geneve or VXLAN headers in front of an inner packet, with its Ethernet header.
const OVERLAY_BYTES: u32 = 50;
/// What the controller accepts for the network between the hosts.
const UNDERLAY_MTU_MIN: u32 = 1330;
const UNDERLAY_MTU_MAX: u32 = 9216;

/// What the controller accepts as a VM's share: all ports of TCP and UDP of one address.
const PORTS_PER_VM_MAX: u32 = 131_072;

/// What was found wrong so far.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Problem { field: field.into(), reason: reason.into(), fix: fix.into() });
    }

    /// The index of a name; notes a problem and answers `None` if there is none.
    fn resolve(&mut self, field: &str, what: &str, name: &str, names: &[&str]) -> Option<Index> {
        let found = names.iter().position(|candidate| *candidate == name);
        if found.is_none() {
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            self.add(field, format!("there is no {what} \"{name}\""), format!("the file has: {known}"));
        }
        found
    }

    fn vlan(&mut self, field: &str, vlan: Option<u16>) {
        if vlan.is_some_and(|vlan| !(1..=4094).contains(&vlan)) {
            self.add(format!("{field}.vlan"), "a VLAN id is 1 to 4094", "leave the key out for untagged");
        }
    }
}

pub(super) fn validate(file: LabFile) -> Result<Plan, Vec<Problem>> {
    let mut problems = Problems::default();
    names(&file, &mut problems);
    underlay(&file, &mut problems);
    let hosts = hosts(&file, &mut problems);
    let controller = controller(&file, &mut problems);
    let external_hosts = external_hosts(&file, &mut problems);
    let external_networks = external_networks(&file, &mut problems);
    let networks = networks(&file, &mut problems);
    let routers = routers(&file, &networks, &external_networks, &mut problems);
    let security_groups = security_groups(&file, &mut problems);
    let vms = vms(&file, &networks, &mut problems);
    let floating_ips = floating_ips(&file, &vms, &routers, &external_networks, &mut problems);
    if !problems.0.is_empty() {
        return Err(problems.0);
    }
    let plan = Plan {
        name: file.name,
        tunnel: file.tunnel,
        offloads: file.offloads,
        underlay: file.underlay,
        controller,
        physical_networks: file.physical_networks.into_iter().map(|network| network.name).collect(),
        hosts,
        external_hosts,
        external_networks,
        networks,
        routers,
        security_groups,
        vms,
        floating_ips,
    };
    Ok(plan)
}

fn underlay(file: &LabFile, problems: &mut Problems) {
    let mtu = file.underlay.mtu;
    if !(UNDERLAY_MTU_MIN..=UNDERLAY_MTU_MAX).contains(&mtu) {
        let reason = format!("{mtu} is not between {UNDERLAY_MTU_MIN} and {UNDERLAY_MTU_MAX}");
        problems.add("underlay.mtu", reason, "1500 is the default");
    }
    if file.underlay.cidr.prefix_len() > 30 {
        problems.add(
            "underlay.cidr",
            format!("{} has no room for hosts", file.underlay.cidr),
            "use e.g. 10.90.0.0/24",
        );
    }
}

/// Every name is well formed, and unique among those it could be mistaken for.
fn names(file: &LabFile, problems: &mut Problems) {
    let mut machines = BTreeSet::new();
    let hosts = file.hosts.iter().map(|host| ("host", host.name.as_str()));
    let external = file.external_hosts.iter().map(|host| ("external_host", host.name.as_str()));
    let vms = file.vms.iter().map(|vm| ("vm", vm.name.as_str()));
    for (table, name) in hosts.chain(external).chain(vms) {
        let field = format!("{table} \"{name}\".name");
        well_formed(&field, name, problems);
        if RESERVED.contains(&name) {
            problems.add(&field, format!("\"{name}\" is a name of the lab itself"), "choose another");
        }
        if !machines.insert(name) {
            let reason = format!("another host, external host or VM is named \"{name}\"");
            problems.add(&field, reason, "machines of a lab share one set of names");
        }
    }
    well_formed("name", &file.name, problems);
    let external = file.external_networks.iter().map(|network| ("external_network", network.name.as_str()));
    let networks = file.networks.iter().map(|network| ("network", network.name.as_str()));
    unique(external.chain(networks), problems);
    unique(file.routers.iter().map(|router| ("router", router.name.as_str())), problems);
    unique(file.security_groups.iter().map(|group| ("security_group", group.name.as_str())), problems);
    unique(
        file.physical_networks.iter().map(|network| ("physical_network", network.name.as_str())),
        problems,
    );
}

fn unique<'a>(named: impl Iterator<Item = (&'static str, &'a str)>, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (table, name) in named {
        let field = format!("{table} \"{name}\".name");
        well_formed(&field, name, problems);
        if !seen.insert(name) {
            problems.add(field, format!("\"{name}\" is there twice"), "give each a name of its own");
        }
    }
}

fn well_formed(field: &str, name: &str, problems: &mut Problems) {
    let fine = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !fine || !starts || name.len() > NAME_LEN_MAX {
        let reason = format!("\"{name}\" is not a name");
        problems.add(
            field,
            reason,
            format!("use 1 to {NAME_LEN_MAX} letters, digits, '-' and '_', first a letter or digit"),
        );
    }
}

fn hosts(file: &LabFile, problems: &mut Problems) -> Vec<Host> {
    let physical: Vec<&str> = file.physical_networks.iter().map(|network| network.name.as_str()).collect();
    if file.hosts.is_empty() {
        problems.add("host", "a lab needs at least one host", "add a [[host]] with name and vtep");
    }
    let mut taken = BTreeMap::new();
    let mut resolved = Vec::new();
    for host in &file.hosts {
        let field = format!("host \"{}\"", host.name);
        inside(&format!("{field}.vtep"), host.vtep, file.underlay.cidr, problems);
        if let Some(other) = taken.insert(host.vtep, &host.name) {
            let reason = format!("{} is the VTEP of \"{other}\" too", host.vtep);
            problems.add(format!("{field}.vtep"), reason, "give each host an address of its own");
        }
        let mut indices = Vec::new();
        for name in &host.physical_networks {
            let place = format!("{field}.physical_networks");
            if let Some(index) = problems.resolve(&place, "physical network", name, &physical) {
                if indices.contains(&index) {
                    problems.add(
                        &place,
                        format!("\"{name}\" is there twice"),
                        "a host has one uplink per physical network",
                    );
                }
                indices.push(index);
            }
        }
        resolved.push(Host { name: host.name.clone(), vtep: host.vtep, physical_networks: indices });
    }
    resolved
}

/// An address that a machine can have in a subnet.
fn inside(field: &str, address: Ipv4Addr, cidr: Ipv4Net, problems: &mut Problems) {
    if !cidr.contains(&address) {
        problems.add(field, format!("{address} is not in {cidr}"), "");
    } else if address == cidr.network() || address == cidr.broadcast() {
        problems.add(
            field,
            format!("{address} is the first or last address of {cidr}"),
            "no machine can have it",
        );
    }
}

fn controller(file: &LabFile, problems: &mut Problems) -> ControllerPlace {
    let hosts: Vec<&str> = file.hosts.iter().map(|host| host.name.as_str()).collect();
    if let (Some(_), Some(_)) = (&file.controller.host, file.controller.address) {
        problems.add("controller", "both host and address are given", "keep one");
    }
    if let Some(name) = &file.controller.host {
        let index = problems.resolve("controller.host", "host", name, &hosts);
        return ControllerPlace::Host(index.unwrap_or_default());
    }
    let last = Ipv4Addr::from(u32::from(file.underlay.cidr.broadcast()).wrapping_sub(1));
    let address = file.controller.address.unwrap_or(last);
    inside("controller.address", address, file.underlay.cidr, problems);
    if let Some(host) = file.hosts.iter().find(|host| host.vtep == address) {
        let reason = format!("{address} is the VTEP of \"{}\"", host.name);
        problems.add("controller.address", reason, "choose another, or set controller.host");
    }
    ControllerPlace::Own(address)
}

fn external_hosts(file: &LabFile, problems: &mut Problems) -> Vec<ExternalHost> {
    let physical: Vec<&str> = file.physical_networks.iter().map(|network| network.name.as_str()).collect();
    let mut resolved: Vec<ExternalHost> = Vec::new();
    for host in &file.external_hosts {
        let field = format!("external_host \"{}\"", host.name);
        problems.vlan(&field, host.vlan);
        if host.addresses.is_empty() {
            problems.add(
                format!("{field}.addresses"),
                "a machine needs an address",
                "write e.g. [\"172.22.7.1/24\"]",
            );
        }
        let place = match (&host.physical_network, &host.behind) {
            (Some(name), None) => problems
                .resolve(&format!("{field}.physical_network"), "physical network", name, &physical)
                .map(|physical_network| Place::Attached(Segment { physical_network, vlan: host.vlan })),
            (None, Some(name)) => {
                if host.vlan.is_some() {
                    problems.add(
                        format!("{field}.vlan"),
                        "a machine behind another one is on no VLAN",
                        "remove it",
                    );
                }
                let before: Vec<&str> = resolved.iter().map(|host| host.name.as_str()).collect();
                let behind = format!("{field}.behind");
                problems.resolve(&behind, "external host above this one", name, &before).map(Place::Behind)
            }
            _ => {
                problems.add(&field, "exactly one of physical_network and behind must be given", "");
                None
            }
        };
        let place = place.unwrap_or(Place::Attached(Segment { physical_network: 0, vlan: None }));
        resolved.push(ExternalHost {
            name: host.name.clone(),
            place,
            addresses: host.addresses.clone(),
            routes: host.routes.clone(),
        });
    }
    resolved
}

fn external_networks(file: &LabFile, problems: &mut Problems) -> Vec<ExternalNetwork> {
    let physical: Vec<&str> = file.physical_networks.iter().map(|network| network.name.as_str()).collect();
    let mut resolved: Vec<ExternalNetwork> = Vec::new();
    for network in &file.external_networks {
        let field = format!("external_network \"{}\"", network.name);
        problems.vlan(&field, network.vlan);
        inside(&format!("{field}.gateway"), network.gateway, network.cidr, problems);
        let place = format!("{field}.physical_network");
        let index = problems.resolve(&place, "physical network", &network.physical_network, &physical);
        let segment = Segment { physical_network: index.unwrap_or_default(), vlan: network.vlan };
        if let Some(other) = resolved.iter().find(|other| other.segment == segment) {
            let reason = format!("\"{}\" is on the same physical network and VLAN", other.name);
            problems.add(&field, reason, "an external network has a segment of its own");
        }
        prefix64(&field, network.ipv6, problems);
        let pool = network.pool.as_deref().and_then(|text| pool(&field, text, network.cidr, problems));
        if network.block_size.is_some_and(|size| !size.is_power_of_two() || !(64..=4096).contains(&size)) {
            let reason = "a port block has a power of two of ports, 64 to 4096";
            problems.add(format!("{field}.block_size"), reason, "1024 is the default");
        }
        resolved.push(ExternalNetwork {
            name: network.name.clone(),
            segment,
            cidr: network.cidr,
            gateway: network.gateway,
            ipv6: network.ipv6,
            pool,
            egress: network.egress,
            block_size: network.block_size,
        });
    }
    resolved
}

/// `first-last`, both in the subnet and in this order.
fn pool(field: &str, text: &str, cidr: Ipv4Net, problems: &mut Problems) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let field = format!("{field}.pool");
    let parsed = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<Ipv4Addr>().ok()?, last.trim().parse::<Ipv4Addr>().ok()?))
    });
    let Some((first, last)) = parsed else {
        problems.add(field, format!("\"{text}\" is not a range"), "write it as 172.22.7.20-172.22.7.99");
        return None;
    };
    if first > last {
        problems.add(&field, format!("{first} comes after {last}"), "write the lower address first");
    }
    inside(&field, first, cidr, problems);
    inside(&field, last, cidr, problems);
    Some((first, last))
}

fn networks(file: &LabFile, problems: &mut Problems) -> Vec<Network> {
    let mtu_max = file.underlay.mtu.saturating_sub(OVERLAY_BYTES);
    let mut resolved = Vec::new();
    for network in &file.networks {
        let field = format!("network \"{}\"", network.name);
        if network.subnets.is_empty() {
            problems.add(
                format!("{field}.subnets"),
                "a network needs a subnet",
                "write e.g. [{ cidr = \"10.0.0.0/24\" }]",
            );
        }
        if network.mtu.is_some_and(|mtu| mtu < 576 || u32::from(mtu) > mtu_max) {
            let reason = format!(
                "the MTU must be 576 to {mtu_max} (underlay {} less {OVERLAY_BYTES})",
                file.underlay.mtu
            );
            problems.add(format!("{field}.mtu"), reason, "leave it out for the largest");
        }
        let mut subnets: Vec<Subnet> = Vec::new();
        for subnet in &network.subnets {
            let place = format!("{field}.subnets ({})", subnet.cidr);
            if subnet.cidr.network() != subnet.cidr.addr() {
                problems.add(&place, "the prefix has host bits", format!("write {}", subnet.cidr.trunc()));
            }
            let first = Ipv4Addr::from(u32::from(subnet.cidr.network()).wrapping_add(1));
            let gateway = subnet.gateway.unwrap_or(first);
            inside(&format!("{place}.gateway"), gateway, subnet.cidr, problems);
            if subnets.iter().any(|other| overlap(other.cidr, subnet.cidr)) {
                problems.add(place, "it overlaps another subnet of the network", "");
            }
            subnets.push(Subnet { cidr: subnet.cidr, gateway });
        }
        prefix64(&field, network.ipv6, problems);
        let (name, ipv6, mtu) = (network.name.clone(), network.ipv6, network.mtu);
        resolved.push(Network { name, subnets, ipv6, mtu });
    }
    resolved
}

fn prefix64(field: &str, prefix: Option<Ipv6Net>, problems: &mut Problems) {
    if let Some(prefix) = prefix.filter(|prefix| prefix.prefix_len() != 64 || *prefix != prefix.trunc()) {
        let reason = format!("{prefix} is no prefix of 64 bits, which addresses could be made of");
        problems.add(format!("{field}.ipv6"), reason, "write e.g. 2001:db8:10::/64");
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn routers(
    file: &LabFile,
    networks: &[Network],
    external: &[ExternalNetwork],
    problems: &mut Problems,
) -> Vec<Router> {
    let names: Vec<&str> = networks.iter().map(|network| network.name.as_str()).collect();
    let external_names: Vec<&str> = external.iter().map(|network| network.name.as_str()).collect();
    let mut owners: BTreeMap<Index, &str> = BTreeMap::new();
    let mut resolved = Vec::new();
    for router in &file.routers {
        let field = format!("router \"{}\"", router.name);
        let place = format!("{field}.interfaces");
        let mut interfaces: Vec<Index> = Vec::new();
        for name in &router.interfaces {
            let Some(index) = problems.resolve(&place, "network", name, &names) else { continue };
            if let Some(other) = owners.insert(index, &router.name) {
                problems.add(
                    &place,
                    format!("\"{name}\" is on router \"{other}\" already"),
                    "a lab's network has one router",
                );
            }
            let mut joined = interfaces.iter().flat_map(|known| &networks[*known].subnets);
            let ipv6 = interfaces.iter().filter_map(|known| networks[*known].ipv6);
            let twice = ipv6.into_iter().any(|known| networks[index].ipv6 == Some(known));
            if twice
                || joined.any(|known| networks[index].subnets.iter().any(|new| overlap(known.cidr, new.cidr)))
            {
                problems.add(
                    &place,
                    format!("subnets of \"{name}\" overlap another interface"),
                    "one router needs disjoint subnets",
                );
            }
            interfaces.push(index);
        }
        let external_network = router.external_network.as_ref().and_then(|name| {
            problems.resolve(&format!("{field}.external_network"), "external network", name, &external_names)
        });
        if let Some(address) = router.snat_address {
            let place = format!("{field}.snat_address");
            match external_network {
                Some(index) => inside(&place, address, external[index].cidr, problems),
                None => {
                    problems.add(place, "there is no external network to have it on", "set external_network")
                }
            }
        }
        if router.ports_per_vm_max.is_some_and(|max| !(1..=PORTS_PER_VM_MAX).contains(&max)) {
            let reason = format!("a VM may have 1 to {PORTS_PER_VM_MAX} mappings");
            problems.add(format!("{field}.ports_per_vm_max"), reason, "leave the key out for no limit");
        }
        resolved.push(Router {
            name: router.name.clone(),
            interfaces,
            external_network,
            snat_address: router.snat_address,
            ports_per_vm_max: router.ports_per_vm_max,
        });
    }
    different_outside(&resolved, networks, external, problems);
    resolved
}

/// Nothing of IPv6 is translated, so a prefix is behind one router of an external network.
fn different_outside(
    routers: &[Router],
    networks: &[Network],
    external: &[ExternalNetwork],
    problems: &mut Problems,
) {
    let mut owners: BTreeMap<(Index, Ipv6Net), &str> = BTreeMap::new();
    for router in routers {
        let outside = router.external_network.filter(|outside| external[*outside].ipv6.is_some());
        let Some(outside) = outside else { continue };
        for prefix in router.interfaces.iter().filter_map(|index| networks[*index].ipv6) {
            if let Some(other) = owners.insert((outside, prefix), &router.name) {
                let reason = format!("{prefix} is behind \"{other}\" on the same external network");
                let field = format!("router \"{}\".interfaces", router.name);
                problems.add(field, reason, "prefixes outside must be different");
            }
        }
    }
}

fn security_groups(file: &LabFile, problems: &mut Problems) -> Vec<SecurityGroup> {
    let names: Vec<&str> = file.security_groups.iter().map(|group| group.name.as_str()).collect();
    let mut resolved = Vec::new();
    for group in &file.security_groups {
        let place = format!("security_group \"{}\".rules", group.name);
        let mut rules = Vec::new();
        for text in &group.rules {
            match text.parse::<Rule>() {
                Ok(rule) => rules.push(rule),
                Err(reason) => problems.add(&place, format!("\"{text}\": {reason}"), ""),
            }
        }
        for rule in &rules {
            if let Remote::Group(name) = &rule.remote {
                problems.resolve(&place, "security group", name, &names);
            }
        }
        resolved.push(SecurityGroup { name: group.name.clone(), stateful: group.stateful, rules });
    }
    resolved
}

fn vms(file: &LabFile, networks: &[Network], problems: &mut Problems) -> Vec<Vm> {
    let hosts: Vec<&str> = file.hosts.iter().map(|host| host.name.as_str()).collect();
    let names: Vec<&str> = networks.iter().map(|network| network.name.as_str()).collect();
    let groups: Vec<&str> = file.security_groups.iter().map(|group| group.name.as_str()).collect();
    let mut taken = BTreeMap::new();
    let mut resolved = Vec::new();
    for vm in &file.vms {
        let field = format!("vm \"{}\"", vm.name);
        let security_groups = vm.security_groups.as_ref().map(|wanted| {
            let place = format!("{field}.security_groups");
            let found = wanted.iter().map(|name| problems.resolve(&place, "security group", name, &groups));
            found.flatten().collect()
        });
        let host = problems.resolve(&format!("{field}.host"), "host", &vm.host, &hosts);
        let network = problems.resolve(&format!("{field}.network"), "network", &vm.network, &names);
        let (Some(host), Some(network)) = (host, network) else { continue };
        let place = format!("{field}.address");
        let found = networks[network].subnets.iter().position(|subnet| subnet.cidr.contains(&vm.address));
        let Some(subnet) = found else {
            let subnets: Vec<String> = networks[network].subnets.iter().map(|s| s.cidr.to_string()).collect();
            let reason = format!("{} is in no subnet of \"{}\"", vm.address, vm.network);
            problems.add(place, reason, format!("it has {}", subnets.join(", ")));
            continue;
        };
        let Subnet { cidr, gateway } = networks[network].subnets[subnet];
        inside(&place, vm.address, cidr, problems);
        if vm.address == gateway {
            problems.add(&place, format!("{gateway} is the subnet's gateway"), "choose another");
        }
        if let Some(other) = taken.insert((network, vm.address), &vm.name) {
            problems.add(&place, format!("\"{other}\" has {} on that network", vm.address), "choose another");
        }
        resolved.push(Vm {
            name: vm.name.clone(),
            host,
            network,
            subnet,
            address: vm.address,
            kind: vm.kind,
            security_groups,
        });
    }
    resolved
}

fn floating_ips(
    file: &LabFile,
    vms: &[Vm],
    routers: &[Router],
    external: &[ExternalNetwork],
    problems: &mut Problems,
) -> Vec<FloatingIp> {
    let names: Vec<&str> = file.vms.iter().map(|vm| vm.name.as_str()).collect();
    let mut taken: BTreeSet<Ipv4Addr> = routers.iter().filter_map(|router| router.snat_address).collect();
    let mut owners = BTreeSet::new();
    let mut resolved = Vec::new();
    for floating in &file.floating_ips {
        let field = format!("floating_ip \"{}\"", floating.address);
        let known = problems.resolve(&format!("{field}.vm"), "vm", &floating.vm, &names).is_some();
        // A VM that has problems of its own is not in the list: those are told already.
        let Some(vm) = vms.iter().position(|vm| known && vm.name == floating.vm) else { continue };
        let router = routers.iter().find(|router| router.interfaces.contains(&vms[vm].network));
        let place = format!("{field}.address");
        match router.and_then(|router| router.external_network) {
            Some(index) => inside(&place, floating.address, external[index].cidr, problems),
            None => problems.add(
                format!("{field}.vm"),
                "no router leads from its network to an external one",
                "give its router an external_network",
            ),
        }
        if !taken.insert(floating.address) {
            problems.add(
                &place,
                "the address is used already, as floating IP or SNAT address",
                "choose another",
            );
        }
        if !owners.insert(vm) {
            problems.add(
                format!("{field}.vm"),
                format!("\"{}\" has a floating IP already", floating.vm),
                "one per VM",
            );
        }
        resolved.push(FloatingIp { vm, address: floating.address });
    }
    resolved
}

#[cfg(test)]
mod tests;
