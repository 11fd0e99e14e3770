//! A router's external gateway: the port that holds its SNAT addresses.

use super::addresses::Asking;
use super::port::{self, ROUTER_GATEWAY};
use super::{Write, addresses, find, interface, untranslated};
use api::resources::{FixedIpRequest, GatewayRequest};
use api::{Caller, Error};
use model::resource::{FixedIp, GatewayInfo, Network, Port, Router, Subnet};
use model::slice::Filtering;
use model::{NetworkId, PortId};
use store::Snapshot;

/// Sets, changes or (`None`) clears the gateway of `router`, which the caller writes.
///
/// # Errors
/// What Neutron answers: not an external network, in use by floating IPs, addresses that cannot be had.
pub(super) fn set(
    write: &mut Write<'_>,
    caller: &Caller,
    router: &mut Router,
    request: Option<GatewayRequest>,
) -> Result<(), Error> {
    let Some(request) = request else {
        return clear(write, router);
    };
    let network = find::<Network>(write.tx, request.network_id)?;
    if !network.external {
        return Err(bad_request(format!("Network {} is not an external network", network.id)));
    }
    if let Some(gateway) = router.gateway.as_mut().filter(|gateway| gateway.network == network.id) {
        *gateway = policy(&request, Some(gateway), gateway.port);
        let (port, is_shared) = (gateway.port, gateway.snat_shared);
        untranslated::check(write.tx, router, None)?;
        return match request.external_fixed_ips {
            Some(requests) => change_addresses(write, router, (port, is_shared, caller), &requests),
            None => Ok(()),
        };
    }
    let former = router.gateway.clone();
    clear(write, router)?;
    let is_shared = request.snat_shared == Some(true);
    let fixed_ips = match &request.external_fixed_ips {
        Some(requests) if !requests.is_empty() => {
            addresses(write, router, (None, is_shared, caller), (network.id, requests))?
        }
        _ => addresses::choose_any(write, network.id, Asking::NOBODY)?,
    };
    check_subnets(write.tx, router, &fixed_ips)?;
    let device = (ROUTER_GATEWAY, router.id.to_string());
    let port = port::create_for(write, network.id, fixed_ips, device, String::new())?;
    // Consent was for the addresses it had.
    let former = former.map(|former| GatewayInfo { snat_shared: false, ..former });
    router.gateway = Some(policy(&request, former.as_ref(), port.id));
    untranslated::check(write.tx, router, None)
}

/// The gateway as it is asked for; of Nanboku's own attributes, what is not asked for stays.
fn policy(request: &GatewayRequest, former: Option<&GatewayInfo>, port: PortId) -> GatewayInfo {
    let kept = |of: fn(&GatewayInfo) -> u32, fresh| former.map_or(fresh, of);
    GatewayInfo {
        network: request.network_id,
        enable_snat: request.enable_snat,
        port,
        filtering: request
            .filtering
            .unwrap_or_else(|| former.map_or_else(Filtering::default, |former| former.filtering)),
        ports_per_vm_max: request
            .ports_per_vm_max
            .unwrap_or_else(|| kept(|former| former.ports_per_vm_max, GatewayInfo::PORTS_PER_VM_MAX_DEFAULT)),
        mappings_per_second_max: request
            .mappings_per_second_max
            .unwrap_or_else(|| kept(|former| former.mappings_per_second_max, 0)),
        port_control: request
            .port_control
            .unwrap_or_else(|| former.is_some_and(|former| former.port_control)),
        untranslated_destinations: request.untranslated_destinations.clone().unwrap_or_else(|| {
            former.map_or_else(Vec::new, |former| former.untranslated_destinations.clone())
        }),
        snat_shared: request.snat_shared.unwrap_or_else(|| former.is_some_and(|former| former.snat_shared)),
    }
}

fn clear(write: &mut Write<'_>, router: &mut Router) -> Result<(), Error> {
    let Some(gateway) = router.gateway.take() else { return Ok(()) };
    if write.tx.floating_ips_of_router(router.id).next().is_some() {
        let network = gateway.network;
        return Err(Error::RouterExternalGatewayInUseByFloatingIp { router: router.id, network });
    }
    write.tx.remove::<Port>(gateway.port);
    Ok(())
}

/// Whose gateway port it is if there is one already, whether its addresses may be shared, and who asks.
type ForGateway<'a, P> = (P, bool, &'a Caller);

fn change_addresses(
    write: &mut Write<'_>,
    router: &Router,
    (port, is_shared, caller): ForGateway<'_, PortId>,
    requests: &[FixedIpRequest],
) -> Result<(), Error> {
    let mut port = Port::clone(&*find::<Port>(write.tx, port)?);
    let asking = (Some(port.id), is_shared, caller);
    port.fixed_ips = addresses(write, router, asking, (port.network, requests))?;
    check_subnets(write.tx, router, &port.fixed_ips)?;
    write.put_changed(port);
    Ok(())
}

fn addresses(
    write: &Write<'_>,
    router: &Router,
    (port, is_shared, caller): ForGateway<'_, Option<PortId>>,
    (network, requests): (NetworkId, &[FixedIpRequest]),
) -> Result<Vec<FixedIp>, Error> {
    let agrees = |holder: &Port| is_shared && agrees_to_share(write.tx, holder, router, caller);
    let fixed_ips =
        addresses::choose_or_share(write, network, requests, Asking { owner: port, mac: None }, &agrees)?;
    for fixed_ip in &fixed_ips {
        let subnet = find::<Subnet>(write.tx, fixed_ip.subnet)?;
        if subnet.gateway_ip == Some(fixed_ip.address) {
            let address = fixed_ip.address;
            return Err(bad_request(format!("External IP {address} is the same as the gateway IP")));
        }
    }
    Ok(fixed_ips)
}

/// Whether the holder of an address is a router that shares it with `router`
/// ([decision 0011](../../../../docs/decisions/0011-shared-snat-addresses.md)).
fn agrees_to_share(snapshot: &Snapshot, holder: &Port, router: &Router, caller: &Caller) -> bool {
    let other = holder.device_id.parse().ok().and_then(|id| snapshot.get::<Router>(id));
    let other = other.filter(|other| other.gateway.as_ref().is_some_and(|own| own.port == holder.id));
    other.is_some_and(|other| {
        let is_shared = other.gateway.as_ref().is_some_and(|gateway| gateway.snat_shared);
        is_shared && (caller.is_admin() || other.standard.project_id == router.standard.project_id)
    })
}

/// The outside must not look like the inside.
fn check_subnets(snapshot: &Snapshot, router: &Router, fixed_ips: &[FixedIp]) -> Result<(), Error> {
    for fixed_ip in fixed_ips {
        let subnet = find::<Subnet>(snapshot, fixed_ip.subnet)?;
        interface::check_overlap(snapshot, router.id, &subnet)?;
    }
    Ok(())
}

fn bad_request(reason: String) -> Error {
    Error::BadRequest { resource: "router", reason }
}
