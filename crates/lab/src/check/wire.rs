//! What is on the uplinks' wires: the right VLAN tag, and none where there is none.

use super::probe::{REACH, ping, split_ip};
use super::{Bench, Check};
use crate::names::{self, FABRIC};
use crate::plan::Index;
use netlink::{Links, Netns, PacketSocket};
use packet::ethernet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let plan = &bench.plan;
    let mut checks = Vec::new();
    for (network, external) in plan.external_networks.iter().enumerate() {
        let vm = (0..plan.vms.len()).find(|vm| plan.external_of(&plan.vms[*vm]) == Some(network));
        let target = bench.outside_of(external.segment, true).next();
        let (Some(vm), Some(target)) = (vm, target) else { continue };
        let tag = external.segment.vlan.map_or("no tag".to_owned(), |vlan| format!("VLAN {vlan}"));
        let name = format!("wire of {}: {tag} on packets of {}", external.name, plan.vms[vm].name);
        let (bench, target) = (Arc::clone(bench), target.address);
        checks.push(Check::new(name, async move { tagged(&bench, network, vm, target).await }));
    }
    checks
}

/// Pings from the VM and finds the request on one of the hosts' uplinks.
async fn tagged(bench: &Bench, network: Index, vm: Index, target: Ipv4Addr) -> Result<String, String> {
    let segment = bench.plan.external_networks[network].segment;
    let fabric = Netns::open(&bench.names.netns(FABRIC)).map_err(|error| error.to_string())?;
    let links = Links::connect_in(&fabric).map_err(|error| error.to_string())?;
    let mut watchers = Vec::new();
    for (index, host) in bench.plan.hosts.iter().enumerate() {
        if !host.physical_networks.contains(&segment.physical_network) {
            continue;
        }
        let port = names::uplink_port(segment.physical_network, index);
        let ifindex = links.get(&port).await.map_err(|error| error.to_string())?.index;
        let socket =
            fabric.run(PacketSocket::open).and_then(|socket| socket).map_err(|error| error.to_string())?;
        socket.listen(ifindex, POLL).map_err(|error| error.to_string())?;
        let sources = bench.external_addresses(vm);
        let watch = move || watch(&socket, &sources, target);
        watchers.push((host.name.clone(), tokio::task::spawn_blocking(watch)));
    }
    ping(&bench.vms[vm].netns, target, None, REACH).await?;
    let mut wrong = format!("no packet to {target} on any uplink");
    for (host, watcher) in watchers {
        match watcher.await.map_err(|error| error.to_string())?? {
            Some(vlan) if vlan == segment.vlan => return Ok(format!("seen on the uplink of {host}")),
            Some(other) => wrong = format!("on the uplink of {host} with VLAN {other:?}"),
            None => {}
        }
    }
    Err(wrong)
}

/// The VLAN of the first packet from one of `sources` to `target` that a host sent, if there is one in time.
fn watch(
    socket: &PacketSocket,
    sources: &[Ipv4Addr],
    target: Ipv4Addr,
) -> Result<Option<Option<u16>>, String> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut buffer = [0; 2048];
    while Instant::now() < deadline {
        let received = socket.receive(&mut buffer).map_err(|error| error.to_string())?;
        let Some(received) = received.filter(|received| !received.outgoing) else { continue };
        let frame = &buffer[..received.len];
        let is_ip = frame.get(12..14) == Some(&ethernet::TYPE_IPV4.to_be_bytes()[..]);
        let Some((header, _)) = frame.get(14..).filter(|_| is_ip).and_then(split_ip) else { continue };
        if sources.contains(&Ipv4Addr::from(header.src)) && Ipv4Addr::from(header.dst) == target {
            return Ok(Some(received.vlan_tci.map(|tci| tci & 0x0fff)));
        }
    }
    Ok(None)
}
