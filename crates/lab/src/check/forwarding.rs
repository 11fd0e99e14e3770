//! Ports of one floating IP that lead to VMs on several hosts, for as long as they are forwarded. Makes and deletes the
//! floating IP, so it runs alone.

use super::probe::{Answer, REACH, SILENCE, nonce, tcp_to, udp_to};
use super::station::{ECHO_PORT, Station};
use super::{Bench, Check};
use crate::api::{Api, text};
use crate::plan::Index;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::time::{Instant, sleep};

/// VMs that ports lead to: each host has one of them where there are so many.
const TARGETS_MAX: usize = 3;
const PORT_FIRST: u16 = 4001;
const POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// One check for each router with a way outside and VMs that everything may reach.
pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let routers = 0..bench.plan.routers.len();
    routers.filter_map(|router| check(bench, router)).collect()
}

fn check(bench: &Arc<Bench>, router: Index) -> Option<Check> {
    let plan = &bench.plan;
    plan.routers[router].external_network?;
    let targets = targets(bench, router);
    let first = *targets.first()?;
    let name =
        format!("ports of a floating IP of {} lead to {}", plan.routers[router].name, named(bench, &targets));
    let bench = Arc::clone(bench);
    Some(Check::new(name, async move {
        let api = Api::new(&bench.names).map_err(display)?;
        let network = external_network(&bench, &api, first).await?;
        let made =
            api.create("floatingip", json!({ "floating_network_id": network })).await.map_err(display)?;
        let id = text(&made, "id").map_err(display)?;
        let seen = forwarded(&bench, &api, &made, &targets).await;
        let path = format!("/v2.0/floatingips/{id}");
        for forwarding in forwardings(&api, &path).await? {
            api.delete(&forwarding).await.map_err(display)?;
        }
        api.delete(&path).await.map_err(display)?;
        seen
    }))
}

/// VMs of the router without a floating IP of their own, of different hosts first.
fn targets(bench: &Bench, router: Index) -> Vec<Index> {
    let plan = &bench.plan;
    let open = |vm: &Index| {
        let of = &plan.vms[*vm];
        plan.router_of(of.network) == Some(router)
            && of.security_groups.is_none()
            && plan.floating_of(*vm).is_none()
    };
    let mut vms: Vec<Index> = (0..plan.vms.len()).filter(open).collect();
    vms.sort_by_key(|vm| {
        let host = plan.vms[*vm].host;
        (plan.vms[..*vm].iter().filter(|earlier| earlier.host == host).count(), *vm)
    });
    vms.truncate(TARGETS_MAX);
    vms
}

fn named(bench: &Bench, vms: &[Index]) -> String {
    let names: Vec<&str> = vms.iter().map(|vm| bench.plan.vms[*vm].name.as_str()).collect();
    names.join(", ")
}

async fn external_network(bench: &Bench, api: &Api, vm: Index) -> Result<Value, String> {
    let network = bench.plan.external_of(&bench.plan.vms[vm]).ok_or("no external network")?;
    let name = &bench.plan.external_networks[network].name;
    let answer = api.get(&format!("/v2.0/networks?name={name}")).await.map_err(display)?;
    Ok(answer["networks"][0]["id"].clone())
}

/// The course of the check.
async fn forwarded(
    bench: &Arc<Bench>,
    api: &Api,
    floating_ip: &Value,
    targets: &[Index],
) -> Result<String, String> {
    let address: Ipv4Addr =
        text(floating_ip, "floating_ip_address").map_err(display)?.parse().map_err(|_| "no address")?;
    let path = format!("/v2.0/floatingips/{}", text(floating_ip, "id").map_err(display)?);
    let mut paths = Vec::new();
    for (vm, port) in targets.iter().zip(PORT_FIRST..) {
        for protocol in ["tcp", "udp"] {
            let own = bench.state.ports.get(&bench.plan.vms[*vm].name).ok_or("a VM has no port")?;
            let body = json!({ "port_forwarding": {
                "internal_port_id": own.id, "internal_port": ECHO_PORT, "external_port": port, "protocol": protocol,
            } });
            let made = api.post(&format!("{path}/port_forwardings"), &body).await.map_err(display)?;
            let id = text(&made["port_forwarding"], "id").map_err(display)?;
            paths.push(format!("{path}/port_forwardings/{id}"));
        }
    }
    active(api, &path).await?;
    let segment = bench.segment_of_vm(targets[0]).ok_or("no segment outside")?;
    let outside: Vec<Arc<Station>> = bench.outside_of(segment, false).cloned().collect();
    for (vm, port) in targets.iter().zip(PORT_FIRST..) {
        let to = &bench.vms[*vm];
        for from in &outside {
            reaches(from, (address, port), to, &[from.address]).await?;
        }
        for sibling in targets {
            let from = &bench.vms[*sibling];
            reaches(from, (address, port), to, &bench.external_addresses(*sibling)).await?;
        }
    }
    if tcp_to(&outside[0], (address, PORT_FIRST - 1), &nonce(), SILENCE).await.is_ok() {
        return Err(format!("a port that nothing forwards answers: {}", PORT_FIRST - 1));
    }
    api.delete(&paths[0]).await.map_err(display)?;
    let deadline = Instant::now() + REACH;
    while let Ok(answer) = tcp_to(&outside[0], (address, PORT_FIRST), &nonce(), SILENCE).await {
        if Instant::now() > deadline {
            return Err(format!("{} still answers after its forwarding is gone", answer.name));
        }
    }
    udp_to(&outside[0], (address, PORT_FIRST), &nonce(), REACH)
        .await
        .map_err(|e| format!("the other protocol: {e}"))?;
    Ok(format!(
        "tcp and udp from {} machines outside and {} VMs, until deleted",
        outside.len(),
        targets.len()
    ))
}

/// TCP and UDP; the right machine answers and saw one of `sources`.
async fn reaches(
    from: &Station,
    to: (Ipv4Addr, u16),
    vm: &Station,
    sources: &[Ipv4Addr],
) -> Result<(), String> {
    let nonces = [nonce(), nonce()];
    let (tcp, udp) = tokio::join!(tcp_to(from, to, &nonces[0], REACH), udp_to(from, to, &nonces[1], REACH));
    let right = |answer: &Answer| answer.name == vm.name && sources.contains(&answer.seen);
    for answer in [tcp, udp] {
        let answer = answer.map_err(|error| format!("{} to {}:{}: {error}", from.name, to.0, to.1))?;
        if !right(&answer) {
            let Answer { name, seen } = answer;
            return Err(format!(
                "{name} answered {} on port {} and saw {seen}; {} was meant",
                from.name, to.1, vm.name
            ));
        }
    }
    Ok(())
}

async fn active(api: &Api, path: &str) -> Result<(), String> {
    let deadline = Instant::now() + REACH;
    loop {
        let answer = api.get(path).await.map_err(display)?;
        let status = &answer["floatingip"]["status"];
        if status == "ACTIVE" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the floating IP is {status} after {REACH:?}"));
        }
        sleep(POLL).await;
    }
}

async fn forwardings(api: &Api, path: &str) -> Result<Vec<String>, String> {
    let path = format!("{path}/port_forwardings");
    let answer = api.get(&path).await.map_err(display)?;
    let rows = answer["port_forwardings"].as_array().cloned().unwrap_or_default();
    Ok(rows.iter().filter_map(|row| Some(format!("{path}/{}", row["id"].as_str()?))).collect())
}

fn display(error: anyhow::Error) -> String {
    format!("{error:#}")
}
