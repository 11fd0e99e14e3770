//! Path MTU discovery in every direction: VMs that believe their link to be wider than their network find out, and so
//! does whoever sends to them from outside. TCP in full packets with "don't fragment" gets through both ways, and the
//! sender's kernel has learned the MTU from the errors.

use super::station::Station;
use super::{Bench, Check, bulk, tool};
use crate::names::GUEST_LINK;
use crate::plan::Index;
use netlink::{Links, Netns};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The largest IP packet of a link that knows nothing of tunnels.
const LINK_MTU: u32 = 1500;

/// One direction: who sends to whom, and by which address.
struct Way {
    kind: String,
    from: Arc<Station>,
    to: Arc<Station>,
    address: Ipv4Addr,
    /// The VMs among them.
    vms: Vec<Index>,
    /// Whose kernel has to learn of the MTU, of packets to which address.
    learns: (Arc<Station>, Ipv4Addr),
    mtu: u32,
}

/// The first example of each kind that the lab has. They change the links of VMs, so one runs at a time.
pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let mut kinds = BTreeMap::new();
    for vm in 0..bench.vms.len() {
        for way in between(bench, vm).into_iter().chain(outward(bench, vm)).chain(by_floating(bench, vm)) {
            kinds.entry(way.kind.clone()).or_insert(way);
        }
    }
    let checks = kinds.into_values().map(|way| {
        let name = format!("path MTU {} -> {} ({}): {}", way.from.name, way.to.name, way.kind, way.mtu);
        let bench = Arc::clone(bench);
        Check::new(name, async move { discover(&bench, &way).await })
    });
    checks.collect()
}

/// To the other VMs of the VPC.
fn between(bench: &Arc<Bench>, vm: Index) -> Vec<Way> {
    let plan = &bench.plan;
    let this = &plan.vms[vm];
    let peers = (0..plan.vms.len()).filter(|peer| *peer != vm && plan.same_vpc(this, &plan.vms[*peer]));
    let ways = peers.filter_map(|peer| {
        let other = &plan.vms[peer];
        let layer = if other.network == this.network { "switched" } else { "routed" };
        let place = if other.host == this.host { "same host" } else { "other host" };
        let (from, to) = (bench.vms[vm].clone(), bench.vms[peer].clone());
        let address = to.address;
        Some(Way {
            kind: format!("{layer}, {place}"),
            learns: (from.clone(), address),
            mtu: mtu_of(bench, vm)?.min(mtu_of(bench, peer)?),
            vms: vec![vm, peer],
            from,
            to,
            address,
        })
    });
    ways.collect()
}

/// To a machine outside, whose answers have to fit the VM's network.
fn outward(bench: &Arc<Bench>, vm: Index) -> Option<Way> {
    let segment = bench.segment_of_vm(vm)?;
    let to = bench.outside_of(segment, true).next()?.clone();
    let by = if bench.plan.floating_of(vm).is_some() { "floating IP" } else { "SNAT" };
    let address = to.address;
    Some(Way {
        kind: format!("{by}, {}", way_out(bench, vm)),
        from: bench.vms[vm].clone(),
        learns: (to.clone(), *bench.external_addresses(vm).first()?),
        mtu: mtu_of(bench, vm)?,
        vms: vec![vm],
        to,
        address,
    })
}

/// To a VM's floating IP: from outside, and from the other VMs.
fn by_floating(bench: &Arc<Bench>, vm: Index) -> Vec<Way> {
    let plan = &bench.plan;
    let Some((address, mtu)) = plan.floating_of(vm).zip(mtu_of(bench, vm)) else { return Vec::new() };
    let to = bench.vms[vm].clone();
    let way = |kind: String, from: Arc<Station>, vms: Vec<Index>, mtu| Way {
        kind,
        learns: (from.clone(), address),
        from,
        to: to.clone(),
        address,
        vms,
        mtu,
    };
    let segment = bench.segment_of_vm(vm);
    let outside = segment.and_then(|segment| bench.outside_of(segment, true).next());
    let kind = format!("to a floating IP, {}", way_out(bench, vm));
    let mut ways: Vec<Way> = outside.map(|from| way(kind, from.clone(), vec![vm], mtu)).into_iter().collect();
    for other in (0..plan.vms.len()).filter(|other| *other != vm) {
        if plan.external_of(&plan.vms[other]) != plan.external_of(&plan.vms[vm]) {
            continue;
        }
        let Some(narrower) = mtu_of(bench, other).map(|other| other.min(mtu)) else { continue };
        let place = if plan.vms[other].host == plan.vms[vm].host { "same host" } else { "other host" };
        ways.push(way(format!("hairpin, {place}"), bench.vms[other].clone(), vec![vm, other], narrower));
    }
    ways
}

fn way_out(bench: &Bench, vm: Index) -> &'static str {
    let plan = &bench.plan;
    let vm = &plan.vms[vm];
    let network = plan.external_of(vm).map(|network| &plan.external_networks[network]);
    let direct = network.is_some_and(|network| {
        network.egress == crate::file::Egress::Direct
            && plan.hosts[vm.host].physical_networks.contains(&network.segment.physical_network)
    });
    if direct { "direct" } else { "through a gateway" }
}

/// Of the VM's network, if that is narrower than its link will be.
fn mtu_of(bench: &Bench, vm: Index) -> Option<u32> {
    bench.state.ports.get(&bench.plan.vms[vm].name).map(|port| port.mtu).filter(|mtu| *mtu < LINK_MTU)
}

async fn discover(bench: &Bench, way: &Way) -> Result<String, String> {
    for vm in &way.vms {
        set_mtu(bench, *vm, LINK_MTU).await?;
    }
    let outcome = transfer(way).await;
    for vm in &way.vms {
        set_mtu(bench, *vm, mtu_of(bench, *vm).unwrap_or(LINK_MTU)).await?;
    }
    outcome
}

async fn transfer(way: &Way) -> Result<String, String> {
    for station in [&way.from, &way.to] {
        tool::run(&station.netns, "ip", &["route", "flush", "cache"])?;
    }
    bulk::tcp(&way.from, way.address).await.map_err(|error| format!("tcp: {error}"))?;
    let (station, address) = &way.learns;
    let route = tool::run(&station.netns, "ip", &["route", "get", &address.to_string()])?;
    match learned(&route) {
        Some(mtu) if mtu == way.mtu => Ok(format!("{} learned it", station.name)),
        other => Err(format!("{} learned {other:?} of packets to {address}", station.name)),
    }
}

/// The MTU in what `ip route get` says.
fn learned(route: &str) -> Option<u32> {
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next()?.parse().ok()
}

/// Of both ends of a VM's link.
async fn set_mtu(bench: &Bench, vm: Index, mtu: u32) -> Result<(), String> {
    let vm = &bench.plan.vms[vm];
    let host = &bench.plan.hosts[vm.host].name;
    let port = bench.state.ports.get(&vm.name).ok_or_else(|| format!("{} has no port", vm.name))?;
    for (machine, link) in [(host.as_str(), port.link.as_str()), (vm.name.as_str(), GUEST_LINK)] {
        set_link_mtu(&bench.names.netns(machine), link, mtu)
            .await
            .map_err(|error| format!("MTU of {link} of {machine}: {error}"))?;
    }
    Ok(())
}

async fn set_link_mtu(netns: &str, link: &str, mtu: u32) -> Result<(), netlink::Error> {
    let links = Links::connect_in(&Netns::open(netns)?)?;
    let index = links.get(link).await?.index;
    links.set_mtu(index, mtu).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mtu_is_read_if_there_is_one() {
        let plain = "10.0.2.14 via 10.0.1.1 dev eth0 src 10.0.1.11 uid 0 \n    cache \n";
        assert_eq!(learned(plain), None);
        let told =
            "10.0.2.14 via 10.0.1.1 dev eth0 src 10.0.1.11 uid 0 \n    cache expires 598sec mtu 1450 \n";
        assert_eq!(learned(told), Some(1450));
    }
}
