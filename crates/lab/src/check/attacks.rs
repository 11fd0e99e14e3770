//! What a hostile machine may try: a neighbour outside that routes tenant prefixes to us, a VM that lies about its
//! addresses.

use super::probe::{REACH, SILENCE, nonce};
use super::raw::{Ends, Wire, udp_frame};
use super::station::Station;
use super::{Bench, Check};
use crate::names::GUEST_LINK;
use crate::plan::Index;
use netlink::MacAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Frames of each kind: one could be lost for another reason than policy.
const FRAMES: usize = 3;
/// A MAC that nobody in a lab has.
const STRANGER: MacAddr = MacAddr([0x02, 0, 0, 0, 0xbe, 0xef]);

pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let mut checks = Vec::new();
    for router in 0..bench.plan.routers.len() {
        checks.extend(tenant_routes(bench, router));
    }
    for vm in 0..bench.vms.len() {
        checks.extend(spoofing(bench, vm));
    }
    checks
}

/// A neighbour outside sends packets for tenant addresses to whoever answers for the SNAT address. No VM gets them.
fn tenant_routes(bench: &Arc<Bench>, router: Index) -> Vec<Check> {
    let plan = &bench.plan;
    let Some(network) = plan.routers[router].external_network else { return Vec::new() };
    let Some(snat) =
        bench.state.snat_addresses.get(&plan.routers[router].name).and_then(|all| all.first().copied())
    else {
        return Vec::new();
    };
    let inside: Vec<Arc<Station>> = (0..plan.vms.len())
        .filter(|vm| plan.router_of(plan.vms[*vm].network) == Some(router))
        .map(|vm| bench.vms[vm].clone())
        .collect();
    let checks = bench.outside_of(plan.external_networks[network].segment, true).map(|from| {
        let name = format!(
            "neighbour {} routing tenants of {} via {snat} gets nowhere",
            from.name, plan.routers[router].name
        );
        let (from, inside) = (from.clone(), inside.clone());
        Check::new(name, async move {
            let wire = Wire::open(&from.netns, GUEST_LINK).await?;
            let own = from.address;
            let (wire, mac) = tokio::task::spawn_blocking(move || {
                let mac = wire.resolve(own, snat, REACH)?;
                Ok::<_, String>((wire, mac))
            })
            .await
            .map_err(|error| error.to_string())??;
            let nonce = nonce();
            for vm in &inside {
                let ends =
                    Ends { source_mac: wire.mac, source: own, destination_mac: mac, destination: vm.address };
                send(&wire, &ends, &nonce)?;
            }
            tokio::time::sleep(SILENCE).await;
            match inside.iter().find(|vm| vm.saw(&nonce)) {
                Some(vm) => Err(format!("a packet arrived at {}", vm.name)),
                None => Ok(format!("{} VMs saw nothing", inside.len())),
            }
        })
    });
    checks.collect()
}

fn send(wire: &Wire, ends: &Ends, nonce: &str) -> Result<(), String> {
    let frame = udp_frame(ends, nonce.as_bytes());
    (0..FRAMES).try_for_each(|_| wire.send(&frame))
}

/// A VM with another MAC or address than its own gets nowhere; the same frame told truly arrives.
fn spoofing(bench: &Arc<Bench>, vm: Index) -> Option<Check> {
    let plan = &bench.plan;
    let this = &plan.vms[vm];
    let gateway = plan.networks[this.network].subnets[this.subnet].gateway;
    let peer = (0..plan.vms.len()).find(|other| *other != vm && plan.same_vpc(&plan.vms[*other], this));
    let outside = bench.segment_of_vm(vm).and_then(|segment| bench.outside_of(segment, true).next());
    let target = peer.map(|peer| &bench.vms[peer]).or(outside)?.clone();
    let on_link = peer
        .is_some_and(|peer| plan.vms[peer].network == this.network && plan.vms[peer].subnet == this.subnet);
    let next_hop = if on_link { target.address } else { gateway };
    let from = bench.vms[vm].clone();
    let name = format!("spoofing by {} (MAC, address) towards {} gets nowhere", from.name, target.name);
    Some(Check::new(name, async move {
        let wire = Wire::open(&from.netns, GUEST_LINK).await?;
        let own = from.address;
        let (wire, next_mac) = tokio::task::spawn_blocking(move || {
            let mac = wire.resolve(own, next_hop, REACH)?;
            Ok::<_, String>((wire, mac))
        })
        .await
        .map_err(|error| error.to_string())??;
        let honest = Ends {
            source_mac: wire.mac,
            source: own,
            destination_mac: next_mac,
            destination: target.address,
        };
        let mut other = own.octets();
        other[3] ^= 0x80;
        let lies = [
            ("MAC", Ends { source_mac: STRANGER, ..honest }),
            ("address", Ends { source: Ipv4Addr::from(other), ..honest }),
        ];
        let (truth, tried) = (nonce(), [nonce(), nonce()]);
        for ((_, ends), nonce) in lies.iter().zip(&tried) {
            send(&wire, ends, nonce)?;
        }
        tokio::time::sleep(SILENCE).await;
        if let Some(((what, _), _)) = lies.iter().zip(&tried).find(|(_, nonce)| target.saw(nonce)) {
            return Err(format!("a frame with a false {what} arrived at {}", target.name));
        }
        honest_arrives(&wire, &honest, &target, &truth).await
    }))
}

/// The control: without the lie the frame arrives, so the lie was what stopped it.
async fn honest_arrives(wire: &Wire, ends: &Ends, target: &Station, nonce: &str) -> Result<String, String> {
    let deadline = tokio::time::Instant::now() + REACH;
    while tokio::time::Instant::now() < deadline {
        send(wire, ends, nonce)?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        if target.saw(nonce) {
            return Ok("false MAC and address dropped, the same frame told truly arrives".to_owned());
        }
    }
    Err(format!("even an honest frame does not arrive at {}", target.name))
}
