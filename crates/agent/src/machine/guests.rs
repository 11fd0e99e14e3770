//! What guests of this host's ports are told: by DHCP, DHCPv6 and router advertisements.

use super::{Machine, Outgoing};
use crate::advertise::{Listener, Wanted};
use crate::dhcp;
use ::dhcp::advertisement::Advertisement;
use model::NetworkId;
use model::slice::{Network, Port, Slice};
use packet::MacAddr;
use std::collections::BTreeMap;
use std::time::Instant;

impl Machine {
    /// What the VM behind a link is told by DHCP; none: no port of this host.
    pub(crate) fn lease(&self, ifindex: u32) -> Option<::dhcp::Lease> {
        let (port, network) = self.port_of(ifindex)?;
        Some(dhcp::lease(port, network, self.settings.dhcp_lease_s))
    }

    /// What the VM behind a link is told by DHCPv6; none: no port of this host, or DHCPv6 is off there.
    pub(crate) fn lease_v6(&self, ifindex: u32) -> Option<::dhcp::v6::Lease> {
        let (port, network) = self.port_of(ifindex)?;
        dhcp::lease_v6(port, network, self.settings.dhcp_lease_s)
    }

    fn port_of(&self, ifindex: u32) -> Option<(&Port, &Network)> {
        let slice = self.slice.as_ref()?;
        let (id, _) = self.local_ports().find(|(_, link)| link.index == ifindex)?;
        let port = slice.ports.get(&id)?;
        Some((port, slice.networks.get(&port.network)?))
    }

    /// The answer to a guest's router solicitation.
    pub(crate) fn solicited(&self, ifindex: u32) -> Vec<Outgoing> {
        let frames = self.advertiser.solicited(ifindex);
        frames.map(|(ifindex, frame)| Outgoing { ifindex, frame }).collect()
    }

    /// To be called when the kernel has a new plan.
    pub(super) fn advertise(&mut self, now: Instant) {
        let Some(slice) = &self.slice else { return };
        let of_network = advertisements(slice);
        let mut wanted = Wanted::new();
        for id in self.programmed_ports() {
            let (Some(port), Some(link)) = (slice.ports.get(&id), self.links.get(&id.link_name())) else {
                continue;
            };
            if let Some(said) = of_network.get(&port.network) {
                wanted.insert(Listener { ifindex: link.index, mac: MacAddr(port.mac.0) }, said.clone());
            }
        }
        let links = &self.links;
        self.advertiser.set(now, &wanted, |ifindex| links.values().any(|link| link.index == ifindex));
    }
}

/// What the routers of each network say there.
fn advertisements(slice: &Slice) -> BTreeMap<NetworkId, Vec<Advertisement>> {
    let mut all: BTreeMap<NetworkId, BTreeMap<MacAddr, Advertisement>> = BTreeMap::new();
    for router in slice.routers.values().filter(|router| router.admin_up) {
        for leg in router.interfaces.iter().filter(|leg| leg.address.is_ipv6()) {
            let Some(network) = slice.networks.get(&leg.network) else { continue };
            let Some(subnet) = network.subnets.get(&leg.subnet) else { continue };
            let own = MacAddr(leg.mac.0);
            let of_network = all.entry(leg.network).or_default();
            let advertisement = of_network.entry(own).or_insert_with(|| dhcp::silent(own, network.mtu));
            dhcp::advertise(subnet, advertisement);
        }
    }
    // A router whose subnets have no mode says nothing.
    let speaking = |routers: BTreeMap<MacAddr, Advertisement>| {
        routers.into_values().filter(|said| !said.prefixes.is_empty()).collect()
    };
    all.into_iter().map(|(network, routers)| (network, speaking(routers))).collect()
}
