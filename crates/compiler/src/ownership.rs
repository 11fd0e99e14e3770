//! Who answers ARP, or neighbour solicitations, for an external address.
//!
//! Every host decides alone, from the same part of the slice and its own view of who is alive. While the views
//! agree exactly one answers; while they do not, each one that answers forwards what it can
//! ([decision 0013](../../../docs/decisions/0013-who-answers.md)). In short: a floating IP stays with its VM's host
//! unless that host itself says that its uplink is of no use; everything else goes by rendezvous hash over the live
//! gateways; a host that hears nobody keeps what it would have with all hosts alive and takes what nobody else
//! answers for.

use crate::facts::LocalFacts;
use model::slice::{Egress, ExternalNetwork, Slice};
use model::{HostId, Vni, rendezvous};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An address, and where it is.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) external: &'a ExternalNetwork,
    pub(crate) address: IpAddr,
    /// Of a floating IP: its VM's host.
    pub(crate) floating_host: Option<HostId>,
}

/// Whether this host answers.
pub(crate) fn answers(slice: &Slice, facts: &LocalFacts, address: Subject<'_>) -> bool {
    if facts.uplink_ready(&address.external.physical_network).is_none() {
        return false;
    }
    match fixed_owner(slice, facts, address) {
        Some(owner) => owner == facts.host,
        None => {
            let target = (address.external.vni, address.address);
            shared_claim(slice, facts, address).is_some() && !facts.standing.withheld.contains(&target)
        }
    }
}

/// What a host that hears nobody would answer for on behalf of all; true: it owns it when all are alive, too.
/// Whoever runs the host finds out whether another answers ([`crate::facts::Standing::withheld`]).
pub fn contested(slice: &Slice, facts: &LocalFacts) -> BTreeMap<(Vni, IpAddr), bool> {
    let floating = slice.floating_ips.values().filter_map(|floating_ip| {
        let external = slice.external_networks.get(&floating_ip.external_network)?;
        Some(Subject { external, address: floating_ip.address.into(), floating_host: floating_ip.host })
    });
    let gateways = slice.routers.values().filter_map(|router| router.gateway.as_ref());
    let snat = gateways.flat_map(|gateway| {
        let external = slice.external_networks.get(&gateway.network);
        gateway
            .all_addresses()
            .filter_map(move |address| Some(Subject { external: external?, address, floating_host: None }))
    });
    let forwarded = slice.port_forwardings.values().filter_map(|forwarding| {
        let external = slice.external_networks.get(&forwarding.external_network)?;
        Some(Subject { external, address: forwarding.address.into(), floating_host: None })
    });
    let shared = floating.chain(snat).chain(forwarded).filter(|address| {
        facts.uplink_ready(&address.external.physical_network).is_some()
            && fixed_owner(slice, facts, *address).is_none()
    });
    let claim = |address: Subject<'_>| {
        let natural = shared_claim(slice, facts, address)?;
        Some(((address.external.vni, address.address), natural))
    };
    shared.filter_map(claim).collect()
}

/// The VM's host of a floating IP, if that answers itself. Silence moves nothing: a silent host may be cut off from
/// the others and reach the outside all the same, and nobody else could deliver to it. Its own word does.
fn fixed_owner(slice: &Slice, facts: &LocalFacts, address: Subject<'_>) -> Option<HostId> {
    let Subject { external, floating_host, .. } = address;
    let host = floating_host.filter(|host| {
        external.egress == Egress::Direct && has_physical_network(slice, facts, *host, external)
    })?;
    let gave_up = if host == facts.host {
        facts.dead_hosts.contains(&host)
    } else {
        facts.standing.withdrawn.contains(&host)
    };
    Some(host).filter(|host| !gave_up || !facts.has_other_gateway(external, *host))
}

/// Whether this host answers for an address on behalf of all, and whether it would with all hosts alive.
fn shared_claim(slice: &Slice, facts: &LocalFacts, address: Subject<'_>) -> Option<bool> {
    let Subject { external, address: ip, floating_host } = address;
    let of = |mut gateways: Vec<HostId>| {
        gateways.extend(facts.standing.still_answering.contains(&external.vni).then_some(facts.host));
        rendezvous::owner(ip, &gateways) == Some(facts.host)
    };
    if !facts.standing.isolated {
        return of(facts.live_gateways(external)).then_some(true);
    }
    let natural = of(external.gateways.clone());
    let own_blocks = floating_host.is_none()
        && slice.blocks.iter().any(|(id, block)| IpAddr::from(id.address) == ip && block.host == facts.host);
    (natural || own_blocks).then_some(natural)
}

fn has_physical_network(slice: &Slice, facts: &LocalFacts, host: HostId, external: &ExternalNetwork) -> bool {
    match slice.hosts.get(&host) {
        Some(known) => known.physical_networks.contains(&external.physical_network),
        None => host == facts.host && facts.uplinks.contains_key(&external.physical_network),
    }
}
