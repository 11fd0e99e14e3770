//! A router's external gateway: the port that holds its SNAT addresses.

use super::port::{self, ROUTER_GATEWAY};
use super::{Write, addresses, find, interface};
use api::Error;
use api::resources::{FixedIpRequest, GatewayRequest};
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
        gateway.enable_snat = request.enable_snat;
        let port = gateway.port;
        return match request.external_fixed_ips {
            Some(requests) => change_addresses(write, router, port, &requests),
            None => Ok(()),
        };
    }
    clear(write, router)?;
    let fixed_ips = match &request.external_fixed_ips {
        Some(requests) if !requests.is_empty() => addresses(write, network.id, requests, None)?,
        _ => addresses::choose_one(write, network.id)?,
    };
    check_subnets(write.tx, router, &fixed_ips)?;
    let device = (ROUTER_GATEWAY, router.id.to_string());
    let port = port::create_for(write, network.id, fixed_ips, device, String::new())?;
    let kept = router.gateway.as_ref();
    router.gateway = Some(GatewayInfo {
        network: network.id,
        enable_snat: request.enable_snat,
        port: port.id,
        filtering: kept.map_or_else(Filtering::default, |gateway| gateway.filtering),
        ports_per_vm_max: kept.map_or(0, |gateway| gateway.ports_per_vm_max),
    });
    Ok(())
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

fn change_addresses(
    write: &mut Write<'_>,
    router: &Router,
    port: PortId,
    requests: &[FixedIpRequest],
) -> Result<(), Error> {
    let mut port = Port::clone(&*find::<Port>(write.tx, port)?);
    port.fixed_ips = addresses(write, port.network, requests, Some(port.id))?;
    check_subnets(write.tx, router, &port.fixed_ips)?;
    write.put_changed(port);
    Ok(())
}

fn addresses(
    write: &Write<'_>,
    network: NetworkId,
    requests: &[FixedIpRequest],
    port: Option<PortId>,
) -> Result<Vec<FixedIp>, Error> {
    let fixed_ips = addresses::choose(write, network, requests, port)?;
    for fixed_ip in &fixed_ips {
        let subnet = find::<Subnet>(write.tx, fixed_ip.subnet)?;
        if subnet.gateway_ip == Some(fixed_ip.address) {
            let address = fixed_ip.address;
            return Err(bad_request(format!("External IP {address} is the same as the gateway IP")));
        }
    }
    Ok(fixed_ips)
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
