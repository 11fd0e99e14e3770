//! Routers that leave addresses as they are towards some destinations (RFC 6888 REQ-6).
//!
//! What comes back for a tenant's own address has nothing but that address to find its router by: on one external
//! network, the subnets of all such routers are different.

use super::router::interfaces;
use api::Error;
use model::ip::{IpVersion, overlap};
use model::resource::{Router, Subnet};
use std::sync::Arc;
use store::Snapshot;

/// Whether the subnets of `router`, and the one that is about to be `added`, are its alone.
///
/// # Errors
/// `BadRequest` with both subnets and the other router.
pub(super) fn check(snapshot: &Snapshot, router: &Router, added: Option<&Subnet>) -> Result<(), Error> {
    let Some(network) = external_network(router) else { return Ok(()) };
    let own = subnets(snapshot, router);
    let own =
        own.iter().map(AsRef::as_ref).chain(added).filter(|subnet| subnet.ip_version() == IpVersion::V4);
    let own: Vec<&Subnet> = own.collect();
    let others = snapshot.routers_of_external_network(network);
    for other in others.filter(|other| other.id != router.id && external_network(other).is_some()) {
        for theirs in subnets(snapshot, other) {
            if let Some(mine) = own.iter().find(|mine| overlap(mine.cidr, theirs.cidr)) {
                return Err(ambiguous(mine, &theirs, other));
            }
        }
    }
    Ok(())
}

/// Of a router that leaves some addresses as they are.
fn external_network(router: &Router) -> Option<model::NetworkId> {
    let gateway = router.gateway.as_ref()?;
    (!gateway.untranslated_destinations.is_empty()).then_some(gateway.network)
}

fn subnets(snapshot: &Snapshot, router: &Router) -> Vec<Arc<Subnet>> {
    let legs = interfaces(snapshot, router.id);
    let ids = legs.iter().flat_map(|leg| &leg.fixed_ips).map(|ip| ip.subnet);
    ids.filter_map(|id| snapshot.subnets.get(&id).cloned()).collect()
}

fn ambiguous(mine: &Subnet, theirs: &Subnet, other: &Router) -> Error {
    let reason = format!(
        "Cidr {} of subnet {} overlaps with cidr {} of subnet {} of router {}: both routers have \
         nanboku:untranslated_destinations on one external network, where only addresses tell their VMs apart",
        mine.cidr, mine.id, theirs.cidr, theirs.id, other.id
    );
    Error::BadRequest { resource: "router", reason }
}
