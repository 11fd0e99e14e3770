//! What a capture looks at, as numbers of this host.

use super::Machine;
use crate::capture::{Request, Router};
use model::capture::CaptureRequest;
use model::{NetworkId, RouterId, ip};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Machine {
    /// None: nothing of what is looked at is here.
    pub(crate) fn look_on(&self, host: &str, request: &CaptureRequest) -> Option<Request> {
        let ifindex = match (request.port, &request.physical_network) {
            (Some(port), _) => Some(self.local_ports().find(|(id, _)| *id == port)?.1.index),
            (None, Some(network)) => {
                let name = self.settings.physical_networks.get(network)?;
                Some(self.links.get(name)?.index)
            }
            (None, None) => None,
        };
        let vni = match request.network {
            Some(network) => Some(self.vni_of(network)?),
            None => None,
        };
        let router = match request.router {
            Some(router) => Some(self.router(router)?),
            None => None,
        };
        let (host, names, request) = (host.to_owned(), self.names(), request.clone());
        Some(Request { host, ifindex, vni, router, names, request })
    }

    fn vni_of(&self, network: NetworkId) -> Option<u32> {
        let slice = self.slice.as_ref()?;
        let tenant = slice.networks.get(&network).map(|network| network.vni);
        tenant.or_else(|| Some(slice.external_networks.get(&network)?.vni)).map(|vni| vni.get())
    }

    fn router(&self, router: RouterId) -> Option<Router> {
        let router = self.slice.as_ref()?.routers.get(&router)?;
        let inside = router.interfaces.iter().filter_map(|interface| self.vni_of(interface.network));
        let inside: BTreeSet<u32> = inside.collect();
        let addresses = router.interfaces.iter().map(|interface| interface.address);
        let outside =
            router.gateway.iter().flat_map(|gateway| gateway.addresses.iter().copied().map(IpAddr::from));
        Some(Router {
            vni: router.vni.get(),
            inside,
            addresses: addresses.chain(outside).filter_map(ip::ipv4).collect(),
        })
    }
}
