//! Inside and between VPCs: every ordered pair of VMs.

use super::probe::{Echo, REACH, SILENCE, nonce, ping, tcp, udp};
use super::station::Station;
use super::{Bench, Check};
use crate::plan::Index;
use std::net::Ipv4Addr;
use std::sync::Arc;

pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let mut checks = Vec::new();
    for a in 0..bench.vms.len() {
        for b in (0..bench.vms.len()).filter(|b| *b != a) {
            let (from, to) = (&bench.plan.vms[a], &bench.plan.vms[b]);
            checks.push(if bench.plan.same_vpc(from, to) {
                reach(bench, a, b)
            } else {
                isolation(bench, a, b)
            });
        }
        checks.extend(router(bench, a));
    }
    checks
}

/// VMs of one VPC reach one another by ICMP, TCP and UDP, with their own addresses.
fn reach(bench: &Arc<Bench>, a: Index, b: Index) -> Check {
    let (from, to) = (&bench.plan.vms[a], &bench.plan.vms[b]);
    let layer = if from.network == to.network && from.subnet == to.subnet { "same subnet" } else { "routed" };
    let place = if from.host == to.host { "same host" } else { "other host" };
    let name = format!("east-west {} -> {} ({layer}, {place})", from.name, to.name);
    let (from, to) = (bench.vms[a].clone(), bench.vms[b].clone());
    Check::new(name, async move {
        let seen = [from.address];
        talk(&from, to.address, &to.name, &seen).await
    })
}

/// ICMP, TCP and UDP to an address; the right machine answers and saw the request come from one of `sources`.
pub(super) async fn talk(
    from: &Station,
    address: Ipv4Addr,
    name: &str,
    sources: &[Ipv4Addr],
) -> Result<String, String> {
    let nonces = [nonce(), nonce()];
    let (echo, tcp, udp) = tokio::join!(
        ping(&from.netns, address, None, REACH),
        tcp(from, address, &nonces[0], REACH),
        udp(from, address, &nonces[1], REACH),
    );
    let mut seen = Vec::new();
    for (protocol, answer) in [("tcp", tcp?), ("udp", udp?)] {
        if answer.name != name {
            return Err(format!("{protocol}: answered by {} instead of {name}", answer.name));
        }
        if !sources.contains(&answer.seen) {
            return Err(format!("{protocol}: {name} saw {} instead of {sources:?}", answer.seen));
        }
        seen.push(answer.seen);
    }
    match echo? {
        Echo::Reply => Ok(format!("icmp, tcp, udp; {name} saw {}", seen[0])),
        other => Err(format!("icmp: {other:?} instead of a reply")),
    }
}

/// VMs of different VPCs never meet: `b` sees nothing of what `a` sends to `b`'s address, and only a VM of `a`'s own VPC
/// with that address may answer.
fn isolation(bench: &Arc<Bench>, a: Index, b: Index) -> Check {
    let plan = &bench.plan;
    let name = format!("isolation {} -x- {} ({})", plan.vms[a].name, plan.vms[b].name, plan.vms[b].address);
    let twin = (0..plan.vms.len()).find(|c| {
        plan.vms[*c].address == plan.vms[b].address && (*c == a || plan.same_vpc(&plan.vms[a], &plan.vms[*c]))
    });
    let twin = twin.map(|index| plan.vms[index].name.clone());
    let (from, to) = (bench.vms[a].clone(), bench.vms[b].clone());
    Check::new(name, async move {
        let nonces = [nonce(), nonce()];
        let limit = if twin.is_some() { REACH } else { SILENCE };
        let (echo, tcp, udp) = tokio::join!(
            ping(&from.netns, to.address, None, limit),
            tcp(&from, to.address, &nonces[0], limit),
            udp(&from, to.address, &nonces[1], limit),
        );
        if nonces.iter().any(|nonce| to.saw(nonce)) {
            return Err(format!("a packet of {} arrived at {}", from.name, to.name));
        }
        match twin {
            Some(twin) => {
                let (tcp, udp) = (tcp?.name, udp?.name);
                if tcp != twin || udp != twin || echo? != Echo::Reply {
                    return Err(format!("answered by {tcp} and {udp} instead of {twin}"));
                }
                Ok(format!("its own {twin} answers"))
            }
            None => match (echo, tcp, udp) {
                (Ok(Echo::Reply), _, _) => Err("an ICMP echo was answered".to_owned()),
                (_, Ok(answer), _) | (_, _, Ok(answer)) => Err(format!("answered by {}", answer.name)),
                _ => Ok("nothing arrives, nothing answers".to_owned()),
            },
        }
    })
}

/// The router answers ping on its interfaces and SNAT addresses, and says so when a TTL expires on it.
fn router(bench: &Arc<Bench>, vm: Index) -> Vec<Check> {
    let plan = &bench.plan;
    let Some(index) = plan.router_of(plan.vms[vm].network) else { return Vec::new() };
    let router = &plan.routers[index];
    let interfaces = router.interfaces.iter().flat_map(|network| &plan.networks[*network].subnets);
    let mut addresses: Vec<Ipv4Addr> = interfaces.map(|subnet| subnet.gateway).collect();
    addresses.extend(bench.state.snat_addresses.get(&router.name).into_iter().flatten());
    let name = format!("router {} answers {} on {}", router.name, plan.vms[vm].name, list(&addresses));
    let from = bench.vms[vm].clone();
    let pings = Check::new(name, async move {
        for address in &addresses {
            match ping(&from.netns, *address, None, REACH).await? {
                Echo::Reply => {}
                other => return Err(format!("{address}: {other:?} instead of a reply")),
            }
        }
        Ok("icmp".to_owned())
    });
    let mut checks = vec![pings];
    checks.extend(first_hop(bench, vm));
    checks
}

/// Traceroute's first hop: a packet with TTL 1 to another network is answered by the gateway.
fn first_hop(bench: &Arc<Bench>, vm: Index) -> Option<Check> {
    let plan = &bench.plan;
    let gateway = plan.networks[plan.vms[vm].network].subnets[plan.vms[vm].subnet].gateway;
    let other = plan
        .vms
        .iter()
        .find(|other| other.network != plan.vms[vm].network && plan.same_vpc(other, &plan.vms[vm]));
    let outside = bench.segment_of_vm(vm).and_then(|segment| bench.outside_of(segment, true).next());
    let target = outside.map(|station| station.address).or(other.map(|other| other.address))?;
    let name = format!("ttl expiry {} -> {target} is answered by {gateway}", plan.vms[vm].name);
    let from = bench.vms[vm].clone();
    Some(Check::new(name, async move {
        match ping(&from.netns, target, Some(1), REACH).await? {
            Echo::TimeExceeded { from } if from == gateway => Ok("time exceeded".to_owned()),
            other => Err(format!("{other:?} instead of time exceeded from {gateway}")),
        }
    }))
}

fn list(addresses: &[Ipv4Addr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
