//! To the outside and back: SNAT, floating IPs both ways, hairpin.

use super::east_west::talk;
use super::probe::{Echo, REACH, SILENCE, nonce, ping, tcp, udp};
use super::station::Station;
use super::{Bench, Check};
use crate::plan::Index;
use std::net::Ipv4Addr;
use std::sync::Arc;

pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let mut checks = Vec::new();
    for vm in 0..bench.vms.len() {
        checks.extend(outward(bench, vm));
    }
    for floating in 0..bench.plan.floating_ips.len() {
        checks.extend(inward(bench, floating));
        checks.extend(hairpin(bench, floating));
    }
    for router in 0..bench.plan.routers.len() {
        checks.extend(snat_addresses(bench, router));
        checks.extend(from_other_vpcs(bench, router));
    }
    checks
}

/// A SNAT address answers ping from the VMs of other VPCs on the same external network.
fn from_other_vpcs(bench: &Arc<Bench>, router: Index) -> Vec<Check> {
    let plan = &bench.plan;
    let (index, router) = (router, &plan.routers[router]);
    let addresses = bench.state.snat_addresses.get(&router.name).cloned().unwrap_or_default();
    let others = (0..plan.vms.len()).filter(|vm| {
        let vm = &plan.vms[*vm];
        plan.external_of(vm) == router.external_network && plan.router_of(vm.network) != Some(index)
    });
    let pairs = others.flat_map(|vm| addresses.iter().map(move |address| (vm, *address)));
    let checks = pairs.map(|(vm, address)| {
        let station = Arc::clone(&bench.vms[vm]);
        let name = format!("router {} answers {} of another VPC on {address}", router.name, station.name);
        Check::new(name, async move { answers_ping(&station, address).await })
    });
    checks.collect()
}

async fn answers_ping(from: &Station, address: Ipv4Addr) -> Result<String, String> {
    match ping(&from.netns, address, None, REACH).await? {
        Echo::Reply => Ok("icmp".to_owned()),
        other => Err(format!("{other:?} instead of a reply")),
    }
}

/// A VM reaches every machine outside, which sees its floating IP or its router's SNAT address.
fn outward(bench: &Arc<Bench>, vm: Index) -> Vec<Check> {
    let Some(segment) = bench.segment_of_vm(vm) else { return Vec::new() };
    let sources = bench.external_addresses(vm);
    let kind = if bench.plan.floating_of(vm).is_some() { "floating IP" } else { "SNAT" };
    let checks = bench.outside_of(segment, false).map(|to| {
        let (from, to, sources) = (bench.vms[vm].clone(), to.clone(), sources.clone());
        let name = format!("north-south {} -> {} ({}, {kind})", from.name, to.name, to.address);
        Check::new(name, async move { talk(&from, to.address, &to.name, &sources).await })
    });
    checks.collect()
}

/// Every machine outside reaches a VM by its floating IP, which the VM sees come from that machine.
fn inward(bench: &Arc<Bench>, floating: Index) -> Vec<Check> {
    let floating = bench.plan.floating_ips[floating];
    let Some(segment) = bench.segment_of_vm(floating.vm) else { return Vec::new() };
    let checks = bench.outside_of(segment, false).map(|from| {
        let (from, to) = (from.clone(), bench.vms[floating.vm].clone());
        let name = format!("floating IP {} -> {} ({})", from.name, floating.address, to.name);
        Check::new(name, async move { talk(&from, floating.address, &to.name, &[from.address]).await })
    });
    checks.collect()
}

/// VMs reach a floating IP of their external network from inside: their own, a sibling's, and another VPC's. They are
/// seen with their external address.
fn hairpin(bench: &Arc<Bench>, floating: Index) -> Vec<Check> {
    let plan = &bench.plan;
    let floating = plan.floating_ips[floating];
    let target = &plan.vms[floating.vm];
    let inside =
        (0..plan.vms.len()).filter(|vm| plan.external_of(&plan.vms[*vm]) == plan.external_of(target));
    let checks = inside.map(|vm| {
        let kind = match plan.same_vpc(&plan.vms[vm], target) {
            _ if vm == floating.vm => "hairpin, its own",
            true => "hairpin, a sibling's",
            false => "another VPC's",
        };
        let sources = bench.external_addresses(vm);
        let (from, to) = (bench.vms[vm].clone(), bench.vms[floating.vm].clone());
        let name = format!("floating IP {} -> {} ({}; {kind})", from.name, floating.address, to.name);
        Check::new(name, async move { talk(&from, floating.address, &to.name, &sources).await })
    });
    checks.collect()
}

/// A SNAT address answers ping from outside, and lets no connection in.
fn snat_addresses(bench: &Arc<Bench>, router: Index) -> Vec<Check> {
    let router = &bench.plan.routers[router];
    let Some(network) = router.external_network else { return Vec::new() };
    let segment = bench.plan.external_networks[network].segment;
    let addresses = bench.state.snat_addresses.get(&router.name).cloned().unwrap_or_default();
    let mut checks = Vec::new();
    for address in addresses {
        for from in bench.outside_of(segment, true) {
            let name = format!("router {} answers {} on {address}", router.name, from.name);
            let station = from.clone();
            checks.push(Check::new(name, async move { answers_ping(&station, address).await }));
            let name = format!("unsolicited {} -> {address} (SNAT of {}) is refused", from.name, router.name);
            let (station, bench) = (from.clone(), Arc::clone(bench));
            checks.push(Check::new(name, async move {
                let nonces = [nonce(), nonce()];
                let (tcp, udp) = tokio::join!(
                    tcp(&station, address, &nonces[0], SILENCE),
                    udp(&station, address, &nonces[1], SILENCE),
                );
                if let (Ok(answer), _) | (_, Ok(answer)) = (tcp, udp) {
                    return Err(format!("{} answered", answer.name));
                }
                match bench.vms.iter().find(|vm| nonces.iter().any(|nonce| vm.saw(nonce))) {
                    Some(vm) => Err(format!("a packet arrived at {}", vm.name)),
                    None => Ok("tcp and udp: no answer".to_owned()),
                }
            }));
        }
    }
    checks
}
