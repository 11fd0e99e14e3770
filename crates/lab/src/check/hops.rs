//! `traceroute` in every direction: each router on the way answers, by the address that belongs there.

use super::probe::REACH;
use super::station::Station;
use super::{Bench, Check, tool};
use crate::plan::{Index, Place};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

/// Routers of ours between two VMs that meet by external addresses: the other VPC's, and the gateway's if the sender's
/// host has no uplink there.
const BETWEEN_MAX: usize = 2;

/// A hop as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hop {
    /// One of these.
    Of(Vec<Ipv4Addr>),
    /// A machine outside on its way, by whichever address.
    Outside,
    /// At most so many of these, or none.
    Some(usize, Vec<Ipv4Addr>),
}

pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let mut checks = Vec::new();
    for vm in 0..bench.vms.len() {
        checks.extend(outward(bench, vm));
        checks.extend(east_west(bench, vm));
    }
    for floating in 0..bench.plan.floating_ips.len() {
        checks.extend(inward(bench, floating));
        checks.extend(hairpin(bench, floating));
    }
    checks
}

fn check(way: &str, from: &Arc<Station>, to: (&str, Ipv4Addr), hops: Vec<Hop>) -> Check {
    let name = format!("hops {} -> {} ({}, {way})", from.name, to.0, to.1);
    let (from, to) = (from.clone(), to.1);
    Check::new(name, async move {
        let seen = tokio::task::spawn_blocking(move || trace(&from, to, &hops)).await;
        seen.map_err(|error| error.to_string())?
    })
}

/// To the farthest machine outside.
fn outward(bench: &Arc<Bench>, vm: Index) -> Option<Check> {
    let (network, to) = farthest(bench, vm)?;
    let way = if bench.plan.floating_of(vm).is_some() { "floating IP" } else { "SNAT" };
    let mut hops = vec![Hop::Of(vec![gateway(bench, vm)])];
    for level in 0..levels(bench, to) {
        let gateway = bench.plan.external_networks[network].gateway;
        hops.push(if level == 0 { Hop::Of(vec![gateway]) } else { Hop::Outside });
    }
    let to = &bench.outside[to];
    hops.push(Hop::Of(vec![to.address]));
    Some(check(way, &bench.vms[vm], (&to.name, to.address), hops))
}

/// From there to a floating IP: the router shows its own address outside.
fn inward(bench: &Arc<Bench>, floating: Index) -> Option<Check> {
    let floating = bench.plan.floating_ips[floating];
    let (_, from) = farthest(bench, floating.vm)?;
    let mut hops = vec![Hop::Outside; levels(bench, from)];
    hops.push(Hop::Of(router_addresses(bench, floating.vm)));
    hops.push(Hop::Of(vec![floating.address]));
    let to = (bench.plan.vms[floating.vm].name.as_str(), floating.address);
    Some(check("floating IP", &bench.outside[from], to, hops))
}

/// To a VM of every network of the VPC.
fn east_west(bench: &Arc<Bench>, vm: Index) -> Vec<Check> {
    let plan = &bench.plan;
    let this = &plan.vms[vm];
    let mut checks = Vec::new();
    for network in 0..plan.networks.len() {
        let peer = (0..plan.vms.len()).rev().find(|peer| {
            let peer_vm = &plan.vms[*peer];
            *peer != vm && peer_vm.network == network && plan.same_vpc(this, peer_vm)
        });
        let Some(peer) = peer else { continue };
        let switched = plan.vms[peer].network == this.network && plan.vms[peer].subnet == this.subnet;
        let to = &bench.vms[peer];
        let mut hops = if switched { Vec::new() } else { vec![Hop::Of(vec![gateway(bench, vm)])] };
        hops.push(Hop::Of(vec![to.address]));
        let way = if switched { "switched" } else { "routed" };
        checks.push(check(way, &bench.vms[vm], (&to.name, to.address), hops));
    }
    checks
}

/// From every VM of the external network: its own router first, then those of ours on the way, if any.
fn hairpin(bench: &Arc<Bench>, floating: Index) -> Vec<Check> {
    let plan = &bench.plan;
    let floating = plan.floating_ips[floating];
    let target = &plan.vms[floating.vm];
    let inside =
        (0..plan.vms.len()).filter(|vm| plan.external_of(&plan.vms[*vm]) == plan.external_of(target));
    let checks = inside.map(|vm| {
        let between = [router_addresses(bench, vm), router_addresses(bench, floating.vm)].concat();
        let hops = vec![
            Hop::Of(vec![gateway(bench, vm)]),
            Hop::Some(BETWEEN_MAX, between),
            Hop::Of(vec![floating.address]),
        ];
        check("hairpin", &bench.vms[vm], (&target.name, floating.address), hops)
    });
    checks.collect()
}

fn gateway(bench: &Bench, vm: Index) -> Ipv4Addr {
    let vm = &bench.plan.vms[vm];
    bench.plan.networks[vm.network].subnets[vm.subnet].gateway
}

/// What a VM's router may be seen with outside: its SNAT addresses, or, without any, the VM's own floating IP.
fn router_addresses(bench: &Bench, vm: Index) -> Vec<Ipv4Addr> {
    let router = bench.plan.router_of(bench.plan.vms[vm].network);
    let known = router.and_then(|index| bench.state.snat_addresses.get(&bench.plan.routers[index].name));
    let known = known.filter(|addresses| !addresses.is_empty()).cloned();
    known.unwrap_or_else(|| bench.plan.floating_of(vm).into_iter().collect())
}

/// The VM's external network, and the machine outside that is behind most others there.
fn farthest(bench: &Bench, vm: Index) -> Option<(Index, Index)> {
    let network = bench.plan.external_of(&bench.plan.vms[vm])?;
    let segment = bench.plan.external_networks[network].segment;
    let there = (0..bench.outside.len()).filter(|host| bench.plan.segment_of(*host) == segment);
    Some((network, there.max_by_key(|host| levels(bench, *host))?))
}

/// How many machines outside one is behind.
fn levels(bench: &Bench, host: Index) -> usize {
    let nearer = |host: &Index| match bench.plan.external_hosts[*host].place {
        Place::Attached(_) => None,
        Place::Behind(nearer) => Some(nearer),
    };
    std::iter::successors(Some(host), nearer).count() - 1
}

/// Traces until all is as it should be; a hop that is silent once has until [`REACH`]. Blocks.
fn trace(from: &Station, to: Ipv4Addr, want: &[Hop]) -> Result<String, String> {
    let deadline = Instant::now() + REACH;
    let to = to.to_string();
    loop {
        let args = ["-n", "-I", "-q", "1", "-w", "1", "-m", "8", &to];
        let output = tool::run(&from.netns, "traceroute", &args)?;
        let seen = parse(&output);
        if is_as(&seen, want) {
            let seen: Vec<String> = seen.iter().flatten().map(ToString::to_string).collect();
            return Ok(seen.join(", "));
        }
        if Instant::now() >= deadline {
            return Err(format!("{seen:?} instead of {want:?}"));
        }
    }
}

/// The hops in the output; none: no answer.
fn parse(output: &str) -> Vec<Option<Ipv4Addr>> {
    let rows = output.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    rows.map(|hop| hop.parse().ok()).collect()
}

fn is_as(seen: &[Option<Ipv4Addr>], want: &[Hop]) -> bool {
    let Some((first, rest)) = want.split_first() else { return seen.is_empty() };
    let among =
        |hop: &Option<Ipv4Addr>, addresses: &[Ipv4Addr]| hop.is_some_and(|hop| addresses.contains(&hop));
    match (first, seen.split_first()) {
        (Hop::Of(addresses), Some((hop, later))) => among(hop, addresses) && is_as(later, rest),
        (Hop::Outside, Some((hop, later))) => hop.is_some() && is_as(later, rest),
        (Hop::Some(max, addresses), _) => {
            let runs = seen.iter().take(*max).take_while(|hop| among(hop, addresses)).count();
            (0..=runs).any(|taken| is_as(&seen[taken..], rest))
        }
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "traceroute to 203.0.113.44 (203.0.113.44), 8 hops max, 60 byte packets
 1  10.0.1.1  0.511 ms
 2  *
 3  203.0.113.10  0.011 ms
 4  203.0.113.44  0.076 ms
";

    #[test]
    fn hops_are_read_and_compared() {
        let address = |last: u8| Ipv4Addr::new(203, 0, 113, last);
        let router = Ipv4Addr::new(10, 0, 1, 1);
        let seen = parse(OUTPUT);
        assert_eq!(seen, [Some(router), None, Some(address(10)), Some(address(44))]);
        let of = |address| Hop::Of(vec![address]);
        let some = |max| Hop::Some(max, vec![address(10)]);
        let told = [seen[0], seen[2], seen[3]];
        for (seen, want, ok) in [
            (&seen[..], vec![of(router), some(2), of(address(44))], false),
            (&told, vec![of(router), some(2), of(address(44))], true),
            (&told, vec![of(router), some(0), of(address(44))], false),
            (&told, vec![of(router), Hop::Outside, of(address(44))], true),
            (&told, vec![of(router), of(address(44))], false),
            (&told[..2], vec![of(router), some(1), of(address(44))], false),
            (&[seen[0], seen[3]], vec![of(router), some(2), of(address(44))], true),
        ] {
            assert_eq!(is_as(seen, &want), ok, "{want:?}");
        }
    }
}
