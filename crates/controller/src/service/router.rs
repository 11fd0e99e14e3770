//! Routers. Their gateway is in `gateway`, their interfaces in `interface`, extra routes in `routes`.

use super::port::ROUTER_INTERFACE;
use super::standard::check_precondition;
use super::{Service, Write, find, gateway, interface, owned, routes};
use api::resources::{
    FixedIpView, InterfaceRequest, InterfaceView, RouteList, RouterCreate, RouterUpdate, RouterView,
};
use api::{Caller, Error, Handles, Hints, Precondition, RouterActions, TagChange};
use model::RouterId;
use model::quota::Counted;
use model::resource::{Port, Router};
use std::sync::Arc;
use store::Snapshot;
use store::allocate::free_vni;

impl Handles<Router> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<RouterView> {
        let snapshot = self.snapshot();
        let routers = owned::<Router>(&snapshot, hints);
        routers.iter().map(|router| view(&snapshot, router)).collect()
    }

    fn show(&self, _caller: &Caller, id: RouterId) -> Result<RouterView, Error> {
        let snapshot = self.snapshot();
        Ok(view(&snapshot, &*find::<Router>(&snapshot, id)?))
    }

    fn create(&self, caller: &Caller, requests: Vec<RouterCreate>) -> Result<Vec<RouterView>, Error> {
        self.write(|write| {
            let create = |request| {
                let router = create(write, caller, request)?;
                write.within_quota(Counted::Router, &router.standard.project_id)?;
                Ok(view(write.tx, &router))
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        caller: &Caller,
        id: RouterId,
        change: RouterUpdate,
        precondition: Precondition,
    ) -> Result<RouterView, Error> {
        self.write(|write| {
            let router = update(write, caller, (id, precondition), change)?;
            Ok(view(write.tx, &router))
        })
    }

    fn delete(&self, caller: &Caller, id: RouterId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| delete(write, caller, id, precondition))
    }

    fn change_tags(&self, _caller: &Caller, id: RouterId, change: TagChange) -> Result<Vec<String>, Error> {
        self.change_tags_of::<Router>(id, change)
    }
}

impl RouterActions for Service {
    fn add_interface(
        &self,
        _caller: &Caller,
        router: RouterId,
        request: InterfaceRequest,
    ) -> Result<InterfaceView, Error> {
        self.write(|write| interface::add(write, router, request))
    }

    fn remove_interface(
        &self,
        _caller: &Caller,
        router: RouterId,
        request: InterfaceRequest,
    ) -> Result<InterfaceView, Error> {
        self.write(|write| interface::remove(write, router, request))
    }

    fn add_routes(&self, _caller: &Caller, id: RouterId, list: RouteList) -> Result<RouterView, Error> {
        self.write(|write| {
            let router = routes::add(write, id, list)?;
            Ok(view(write.tx, &router))
        })
    }

    fn remove_routes(&self, _caller: &Caller, id: RouterId, list: RouteList) -> Result<RouterView, Error> {
        self.write(|write| {
            let router = routes::remove(write, id, list)?;
            Ok(view(write.tx, &router))
        })
    }
}

fn view(snapshot: &Snapshot, router: &Router) -> RouterView {
    let port = router.gateway.as_ref().and_then(|gateway| snapshot.ports.get(&gateway.port));
    let ips = port.into_iter().flat_map(|port| &port.fixed_ips);
    let ips = ips.map(|ip| FixedIpView { subnet_id: ip.subnet, ip_address: ip.address });
    RouterView::new(router, ips.collect())
}

/// The ports that connect the router to tenant networks.
pub(super) fn interfaces(snapshot: &Snapshot, router: RouterId) -> Vec<Arc<Port>> {
    let ports = snapshot.ports_of_device(&router.to_string());
    ports.filter(|port| port.device_owner == ROUTER_INTERFACE).cloned().collect()
}

fn create(write: &mut Write<'_>, caller: &Caller, request: RouterCreate) -> Result<Router, Error> {
    let vni = free_vni(write.tx, write.settings.vnis).map_err(|_| Error::NoNetworkAvailable {})?;
    let mut router = Router {
        id: RouterId::random(),
        standard: write.standard(caller, request.standard),
        admin_state_up: request.admin_state_up,
        vni,
        gateway: None,
        routes: Vec::new(),
        availability_zone_hints: api::known_zones(request.availability_zone_hints)?,
    };
    gateway::set(write, caller, &mut router, request.external_gateway_info)?;
    write.tx.put(router.clone());
    Ok(router)
}

fn update(
    write: &mut Write<'_>,
    caller: &Caller,
    (id, precondition): (RouterId, Precondition),
    change: RouterUpdate,
) -> Result<Router, Error> {
    let mut router = Router::clone(&*find::<Router>(write.tx, id)?);
    check_precondition(&router.standard, precondition)?;
    change.standard.apply(&mut router.standard);
    router.admin_state_up = change.admin_state_up.unwrap_or(router.admin_state_up);
    if let Some(request) = change.external_gateway_info {
        gateway::set(write, caller, &mut router, request)?;
    }
    if let Some(list) = change.routes {
        router.routes = list.into_iter().map(Into::into).collect();
        routes::check(write.tx, &router)?;
    }
    Ok(write.put_changed(router))
}

fn delete(
    write: &mut Write<'_>,
    caller: &Caller,
    id: RouterId,
    precondition: Precondition,
) -> Result<(), Error> {
    let router = find::<Router>(write.tx, id)?;
    check_precondition(&router.standard, precondition)?;
    if !interfaces(write.tx, id).is_empty() {
        return Err(Error::RouterInUse { router: id, reason: "still has ports" });
    }
    gateway::set(write, caller, &mut Router::clone(&router), None)?;
    write.tx.remove::<Router>(id);
    Ok(())
}
