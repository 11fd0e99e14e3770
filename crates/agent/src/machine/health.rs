//! Who can be a gateway: what BFD says of other hosts, and what this host finds out about itself.

use super::Machine;
use crate::control;
use crate::liveness::{PeerView, Verdicts, Wanted};
use model::HostId;
use std::collections::BTreeSet;
use std::time::Duration;

impl Machine {
    /// What BFD found out about the other hosts.
    pub(crate) fn set_verdicts(&mut self, verdicts: Verdicts) {
        self.stale |= self.verdicts != verdicts;
        self.verdicts = verdicts;
    }

    /// The other dead hosts, and this one if its uplink is of no use. A host whose underlay is down hears nobody
    /// because of that: it takes itself out instead of claiming what it could not deliver.
    pub(super) fn no_gateways(&self, own: HostId) -> BTreeSet<HostId> {
        if self.isolated {
            return BTreeSet::from([own]);
        }
        let mut hosts = self.verdicts.dead.clone();
        hosts.extend(self.path_down.then_some(own));
        hosts
    }

    /// Looks at the uplinks and the gateways behind them.
    pub(super) fn watch_path(&mut self) {
        let down = self.uplink_missing() || self.resolver.has_silent_gateway();
        let mut links = self.links.values();
        let isolated = links.any(|link| link.index == self.settings.underlay_ifindex && !link.up);
        self.stale |= (self.path_down, self.isolated) != (down, isolated);
        (self.path_down, self.isolated) = (down, isolated);
    }

    /// An external network's NIC is configured here and is not up.
    fn uplink_missing(&self) -> bool {
        let mut networks = self.slice.iter().flat_map(|slice| slice.external_networks.values());
        networks.any(|network| {
            let link = self.settings.physical_networks.get(&network.physical_network);
            link.is_some_and(|link| !self.links.get(link).is_some_and(|link| link.up))
        })
    }

    /// The BFD sessions there should be: with every host where either side may be the other's gateway.
    pub(crate) fn liveness_wanted(&self) -> Wanted {
        let serving = self.programmed.is_some();
        let (Some(welcome), Some(slice)) = (&self.welcome, &self.slice) else { return Wanted::default() };
        let here = !self.settings.physical_networks.is_empty();
        let others = slice.hosts.iter().filter(|(id, host)| {
            **id != welcome.host
                && host.vtep != self.settings.vtep
                && (here || !host.physical_networks.is_empty())
        });
        let peers = others.map(|(id, host)| (*id, host.vtep)).collect();
        let tunnel = Some(welcome.tunnel).filter(|_| self.settings.tunnel.liveness);
        Wanted { peers, serving, path_down: self.path_down, tunnel }
    }

    /// The sessions, with names instead of ids.
    pub(crate) fn peer_status(&self, views: Vec<(PeerView, Duration)>) -> Vec<control::PeerStatus> {
        let hosts = self.slice.as_ref().map(|slice| &slice.hosts);
        let name = |id: &HostId| hosts.and_then(|hosts| hosts.get(id)).map(|host| host.name.clone());
        let status = |(view, age): (PeerView, Duration)| control::PeerStatus {
            host: name(&view.host).unwrap_or_else(|| view.host.to_string()),
            address: view.address,
            state: view.state.name().to_owned(),
            usable: view.usable,
            why: view.why.to_string(),
            for_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        };
        views.into_iter().map(status).collect()
    }

    pub(super) fn health_warnings(&self) -> Vec<String> {
        let Some(slice) = &self.slice else { return Vec::new() };
        let name = |id: &HostId| slice.hosts.get(id).map_or_else(|| id.to_string(), |host| host.name.clone());
        let dead = self.verdicts.dead.iter().filter(|id| slice.hosts.contains_key(id));
        let mut warnings: Vec<String> = dead
            .map(|id| format!("host '{}' does not answer, or its uplink is of no use: no gateway", name(id)))
            .collect();
        if self.resolver.has_silent_gateway() {
            warnings.push("a gateway of an external network does not answer ARP".to_owned());
        }
        warnings
    }
}
