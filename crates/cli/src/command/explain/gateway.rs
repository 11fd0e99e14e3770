//! `nanboku explain gateway ADDRESS`: which host answers for an external address, why that one, and what would
//! change it.

use super::reach::facts::{Facts, is, name, text};
use crate::command::trace::ask;
use crate::output::{Format, table};
use crate::resource::Context;
use anyhow::{Context as _, bail};
use clap::Args;
use model::HostId;
use model::rendezvous;
use model::trace::{Description, HopOutcome, Trace};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Args, Debug)]
pub(crate) struct GatewayArgs {
    /// A floating IP, a SNAT address, or the name or id of a router.
    #[arg(value_name = "ADDRESS|ROUTER")]
    of: String,
}

/// A host that could answer.
struct Candidate {
    host: String,
    score: u64,
    state: String,
    /// Takes part in the choice.
    live: bool,
}

pub(crate) async fn run(args: GatewayArgs, cx: &Context) -> anyhow::Result<String> {
    let mut description = Description { answer: Some(false), fresh: true, ..Description::default() };
    let facts = Facts::load(&description, cx).await?;
    let address = address_of(&facts, &args.of)?;
    let external =
        facts.external_with(address).with_context(|| format!("no external network has {address}"))?;
    description.from_external = Some(text(external, "id").to_owned());
    description.destination_ip = Some(address);
    let anyone = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    description.source_ip = Some(gateway_of(&facts, external, address).unwrap_or(anyone));
    let (_, trace) = ask(&description, cx).await?;
    let answering = answering(&trace);
    let candidates = candidates(&facts, external, address);
    let mut why = why(&facts, external, address, &candidates, &answering);
    why.extend(disagreement(&answering));
    if cx.output.format != Format::Table {
        let rows = candidates.iter().map(|candidate| {
            json!({"host": candidate.host, "score": format!("{:016x}", candidate.score), "state": candidate.state, "live": candidate.live})
        });
        let rows: Vec<Value> = rows.collect();
        let answer = json!({
            "address": address, "external_network": name(external), "answered_by": answering,
            "why": why, "candidates": rows,
        });
        return Ok(cx.output.show(&answer));
    }
    let who = if answering.is_empty() { "nobody".to_owned() } else { answering.join(", ") };
    let mut page = format!("{address} on {} is answered for by {who}\n", name(external));
    page += &why.iter().map(|line| format!("  {line}\n")).collect::<String>();
    let cells = candidates.iter().map(|candidate| {
        vec![candidate.host.clone(), candidate.state.clone(), format!("{:016x}", candidate.score)]
    });
    Ok(format!("{page}\n{}", table(&["host", "state", "score"], cells)))
}

fn address_of(facts: &Facts, of: &str) -> anyhow::Result<IpAddr> {
    if let Ok(address) = of.parse() {
        return Ok(address);
    }
    let router = facts.routers.iter().find(|router| text(router, "id") == of || text(router, "name") == of);
    let Some(router) = router else {
        let names: Vec<String> = facts.routers.iter().map(|router| name(router).to_owned()).collect();
        bail!("'{of}' is neither an address nor a router.{}", crate::nearest::hint(of, &names));
    };
    let info = router.get("external_gateway_info");
    let first = info.and_then(|info| info.get("external_fixed_ips")?.get(0)?.get("ip_address")?.as_str());
    let first = first.with_context(|| format!("router '{of}' has no external gateway"))?;
    first.parse().with_context(|| format!("router '{of}' has the address {first}"))
}

/// Of the address's family.
fn gateway_of(facts: &Facts, external: &Value, like: IpAddr) -> Option<IpAddr> {
    let id = text(external, "id");
    let mut subnets = facts.subnets.iter().filter(|subnet| text(subnet, "network_id") == id);
    subnets.find_map(|subnet| {
        let gateway: IpAddr = text(subnet, "gateway_ip").parse().ok()?;
        (gateway.is_ipv4() == like.is_ipv4()).then_some(gateway)
    })
}

/// The hosts whose own tables answer ARP or neighbour discovery for it.
fn answering(trace: &Trace) -> Vec<String> {
    let answered = trace.forward.arp.iter().filter(|hop| match &hop.outcome {
        HopOutcome::Walked(walked) => walked.verdict.kind == "uplink",
        _ => false,
    });
    answered.map(|hop| hop.host.clone()).collect()
}

/// Hosts with the physical network, by score, highest first.
fn candidates(facts: &Facts, external: &Value, address: IpAddr) -> Vec<Candidate> {
    let hosts = facts.hosts_with(text(external, "provider:physical_network"));
    let candidate = |host: &Value| {
        let id: HostId = text(host, "id").parse().ok()?;
        let (live, drained) = (is(host, "live"), is(host, "drained"));
        let state = match (drained, live, is(host, "connected")) {
            (true, ..) => "drained",
            (_, true, true) => "live",
            (_, true, false) => "live, agent away",
            (_, false, true) => "not programmed yet",
            (_, false, false) => "agent away",
        };
        let score = rendezvous::score(address, id);
        Some(Candidate {
            host: name(host).to_owned(),
            score,
            state: state.to_owned(),
            live: live && !drained,
        })
    };
    let mut all: Vec<Candidate> = hosts.filter_map(candidate).collect();
    all.sort_by_key(|candidate| std::cmp::Reverse(candidate.score));
    all
}

fn why(
    facts: &Facts,
    external: &Value,
    address: IpAddr,
    candidates: &[Candidate],
    answering: &[String],
) -> Vec<String> {
    let mut lines = Vec::new();
    let floating = facts.floating_ip(address);
    let port = floating.and_then(|ip| facts.port(text(ip, "port_id")));
    let direct = text(external, "nanboku:egress") != "gateway";
    if let Some(port) = port {
        let host = text(port, "binding:host_id");
        let has_uplink = candidates.iter().any(|candidate| candidate.host == host);
        if has_uplink && direct {
            lines.push(format!(
                "it is the floating IP of {} on {host}, which has the uplink and answers itself",
                name(port)
            ));
            lines.push(format!("it moves when {} moves, or {host} loses its uplink", name(port)));
            return lines;
        }
        lines
            .push(format!("it is the floating IP of {} on {host}, which leaves it to a gateway", name(port)));
    } else if floating.is_some() {
        lines.push("it is a floating IP that stands for no port: nobody has to answer".to_owned());
        return lines;
    } else if let Some(router) = facts.router_at(address) {
        let what = if address.is_ipv4() { "the SNAT address" } else { "the IPv6 address" };
        lines.push(format!("it is {what} of router {}", name(router)));
    } else {
        lines.push("it is neither a floating IP nor a SNAT address".to_owned());
        return lines;
    }
    let mut live = candidates.iter().filter(|candidate| candidate.live);
    let Some(first) = live.next() else {
        lines.push("no host with the physical network is live".to_owned());
        return lines;
    };
    lines.push(format!("of the live gateways {} has the highest score", first.host));
    match live.next() {
        Some(second) => lines.push(format!(
            "{} takes over when {} is drained (nanboku host drain {}) or dies",
            second.host, first.host, first.host
        )),
        None => lines.push("there is no other live gateway".to_owned()),
    }
    let better: Vec<&str> = candidates
        .iter()
        .filter(|candidate| !candidate.live && candidate.score > first.score)
        .map(|candidate| candidate.host.as_str())
        .collect();
    if !better.is_empty() {
        lines.push(format!("{} would take it over by becoming live", better.join(", ")));
    }
    if !answering.is_empty() && !answering.contains(&first.host) {
        lines.push(format!(
            "{} does not answer: its uplink or the way to it is down as others see it",
            first.host
        ));
    }
    lines
}

/// Hosts that do not hear each other each take what the other has, and a third may hear both.
fn disagreement(answering: &[String]) -> Option<String> {
    let (last, others) = answering.split_last().filter(|(_, others)| !others.is_empty())?;
    Some(format!(
        "{} and {last} all answer: they do not hear each other, and each forwards what it can reach. Look for the way \
         between them on the underlay; the warnings of `nanboku host show` say who misses whom",
        others.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::disagreement;

    #[test]
    fn several_that_answer_are_told_to_miss_each_other() {
        let hosts = ["ahv01", "ahv02", "ahv04"].map(str::to_owned);
        assert_eq!((disagreement(&[]), disagreement(&hosts[..1])), (None, None));
        let text = disagreement(&hosts).unwrap();
        assert!(text.starts_with("ahv01, ahv02 and ahv04 all answer: they do not hear each other"), "{text}");
    }
}
