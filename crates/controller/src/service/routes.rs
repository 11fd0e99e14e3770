//! Extra routes of a router.

use super::{Write, find};
use api::Error;
use api::resources::RouteList;
use model::RouterId;
use model::resource::{Port, Route, Router};
use std::sync::Arc;
use store::Snapshot;

/// Neutron's default quota.
const ROUTES_MAX: usize = 30;

/// # Errors
/// Those of [`check`].
pub(super) fn add(write: &mut Write<'_>, id: RouterId, list: RouteList) -> Result<Router, Error> {
    let mut router = Router::clone(&*find::<Router>(write.tx, id)?);
    for route in list.routes.into_iter().map(Route::from) {
        if !router.routes.contains(&route) {
            router.routes.push(route);
        }
    }
    check(write.tx, &router)?;
    Ok(write.put_changed(router))
}

/// Routes that are not there are no error, as in Neutron.
pub(super) fn remove(write: &mut Write<'_>, id: RouterId, list: RouteList) -> Result<Router, Error> {
    let mut router = Router::clone(&*find::<Router>(write.tx, id)?);
    let gone: Vec<Route> = list.routes.into_iter().map(Into::into).collect();
    router.routes.retain(|route| !gone.contains(route));
    Ok(write.put_changed(router))
}

/// # Errors
/// Too many, or a next hop that is the router's own or on none of its subnets.
pub(super) fn check(snapshot: &Snapshot, router: &Router) -> Result<(), Error> {
    if router.routes.len() > ROUTES_MAX {
        return Err(Error::RoutesExhausted { router: router.id, quota: ROUTES_MAX });
    }
    let ports: Vec<&Arc<Port>> = snapshot.ports_of_device(&router.id.to_string()).collect();
    let ips: Vec<_> = ports.iter().flat_map(|port| &port.fixed_ips).collect();
    for route in &router.routes {
        if ips.iter().any(|ip| ip.address == route.next_hop) {
            return Err(invalid(route, "the nexthop is used by router"));
        }
        let subnets = ips.iter().filter_map(|ip| snapshot.subnets.get(&ip.subnet));
        if !subnets.into_iter().any(|subnet| subnet.cidr.contains(&route.next_hop)) {
            return Err(invalid(route, "the nexthop is not connected with router"));
        }
    }
    Ok(())
}

fn invalid(route: &Route, reason: &str) -> Error {
    let Route { destination, next_hop } = route;
    Error::InvalidRoutes {
        routes: format!("[{{'destination': '{destination}', 'nexthop': '{next_hop}'}}]"),
        reason: reason.to_owned(),
    }
}
