//! IPv6 of VMs whose networks have it: the real kernel's own configuration from our router advertisements, inside and
//! between VPCs, and outside.

use super::probe::{REACH, SILENCE, nonce, tcp_text};
use super::station::{ECHO_PORT, Station};
use super::{Bench, Check, tool};
use crate::names::GUEST_LINK;
use crate::plan::{Index, first_address};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Until a guest's kernel has asked, heard, and found nobody else with its address.
const CONFIGURED: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let mut checks = Vec::new();
    for a in 0..bench.vms.len() {
        let Some(address) = bench.ipv6_of(a) else { continue };
        checks.push(configured(bench, a, address));
        checks.extend(router(bench, a));
        for b in (0..bench.vms.len()).filter(|b| *b != a) {
            let Some(to) = bench.ipv6_of(b) else { continue };
            let (from, target) = ((&bench.vms[a], address), (&bench.vms[b], to));
            checks.push(match bench.plan.same_vpc(&bench.plan.vms[a], &bench.plan.vms[b]) {
                true => reach("east-west", from, target),
                false if meet_outside(bench, a, b) => reach("between VPCs that meet outside,", from, target),
                false => isolation(bench, a, b, to),
            });
        }
        checks.extend(outside(bench, a, address));
    }
    checks
}

/// The kernel made the port's address of the router's prefix, and has a default route by the router.
fn configured(bench: &Arc<Bench>, vm: Index, address: Ipv6Addr) -> Check {
    let station = bench.vms[vm].clone();
    Check::new(format!("ipv6 {} configures {address} by router advertisements", station.name), async move {
        on_a_thread(move || {
            let deadline = Instant::now() + CONFIGURED;
            loop {
                let look = |args: &[&str]| tool::run(&station.netns, "ip", args);
                let addresses = look(&[
                    "-6",
                    "-o",
                    "address",
                    "show",
                    "dev",
                    GUEST_LINK,
                    "-tentative",
                    "scope",
                    "global",
                ])?;
                let routes = look(&["-6", "route", "show", "default"])?;
                if addresses.contains(&format!(" {address}/64 ")) && routes.contains("proto ra") {
                    return Ok("address and default route".to_owned());
                }
                if Instant::now() > deadline {
                    return Err(format!("addresses: {addresses:?}; default route: {routes:?}"));
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        })
        .await
    })
}

/// The router answers ping on its addresses inside.
fn router(bench: &Arc<Bench>, vm: Index) -> Option<Check> {
    let plan = &bench.plan;
    let router = &plan.routers[plan.router_of(plan.vms[vm].network)?];
    let prefixes = router.interfaces.iter().filter_map(|network| plan.networks[*network].ipv6);
    let addresses: Vec<Ipv6Addr> = prefixes.map(first_address).collect();
    let station = bench.vms[vm].clone();
    let name = format!("ipv6 router {} answers {} on {addresses:?}", router.name, station.name);
    Some(Check::new(name, async move {
        for address in addresses {
            ping(&station, address, REACH).await?;
        }
        Ok("icmpv6".to_owned())
    }))
}

/// Two VPCs are outside with their own addresses, on one external network: security groups alone are between them.
fn meet_outside(bench: &Arc<Bench>, a: Index, b: Index) -> bool {
    let outside = |vm: Index| {
        let network = bench.plan.external_of(&bench.plan.vms[vm])?;
        bench.plan.external_networks[network].ipv6
    };
    outside(a).is_some() && outside(a) == outside(b)
}

/// A VM is outside with its own address, both ways, and its router answers there.
fn outside(bench: &Arc<Bench>, vm: Index, address: Ipv6Addr) -> Vec<Check> {
    let plan = &bench.plan;
    let (Some(router), Some(network)) =
        (plan.router_of(plan.vms[vm].network), plan.external_of(&plan.vms[vm]))
    else {
        return Vec::new();
    };
    let (Some(prefix), Some(gateway), Some(own)) =
        (plan.external_networks[network].ipv6, plan.gateway_of(network), plan.router_ipv6(router))
    else {
        return Vec::new();
    };
    let (inner, outer) = ((&bench.vms[vm], address), (&bench.outside[gateway], first_address(prefix)));
    let answered = |from: &Arc<Station>| {
        let (from, name) = (from.clone(), format!("ipv6 router {own} answers {} outside", from.name));
        Check::new(name, async move { ping(&from, own, REACH).await.map(|()| "icmpv6".to_owned()) })
    };
    vec![
        reach("north-south", inner, outer),
        reach("north-south", outer, inner),
        answered(inner.0),
        answered(outer.0),
    ]
}

/// ICMPv6 and TCP arrive, at the right machine and with the sender's own address.
fn reach(
    kind: &str,
    (from, source): (&Arc<Station>, Ipv6Addr),
    (target, to): (&Arc<Station>, Ipv6Addr),
) -> Check {
    let (from, target) = (from.clone(), target.name.clone());
    Check::new(format!("ipv6 {kind} {} -> {target}", from.name), async move {
        ping(&from, to, REACH).await?;
        let nonce = nonce();
        let text = tcp_text(&from, (to, ECHO_PORT).into(), &nonce, REACH).await?;
        let want = format!("{target} {source} {nonce}");
        if text.trim_end() == want {
            Ok("icmpv6, tcp".to_owned())
        } else {
            Err(format!("{text:?}, not {want:?}"))
        }
    })
}

/// Only a VM of its own VPC with the same address may answer `a`.
fn isolation(bench: &Arc<Bench>, a: Index, b: Index, to: Ipv6Addr) -> Check {
    let (from, target) = (bench.vms[a].clone(), bench.vms[b].clone());
    Check::new(format!("ipv6 isolation {} -x- {} ({to})", from.name, target.name), async move {
        let nonce = nonce();
        let answer = tcp_text(&from, (to, ECHO_PORT).into(), &nonce, SILENCE).await;
        match answer {
            _ if target.saw(&nonce) => Err(format!("a packet of {} arrived", from.name)),
            Ok(text) => Err(format!("answered: {text:?}")),
            Err(_) => Ok("nothing arrives, nothing answers".to_owned()),
        }
    })
}

async fn ping(from: &Arc<Station>, to: Ipv6Addr, limit: Duration) -> Result<(), String> {
    let (from, deadline) = (from.clone(), Instant::now() + limit);
    on_a_thread(move || {
        loop {
            let said = tool::run(&from.netns, "ping", &["-6", "-n", "-c", "1", "-W", "1", &to.to_string()])?;
            if said.contains(&format!("bytes from {to}")) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("icmpv6: no answer of {to}: {}", said.trim()));
            }
        }
    })
    .await
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
