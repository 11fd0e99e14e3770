//! Who can be a gateway: what BFD says of other hosts, and what this host finds out about itself.

use super::Machine;
use crate::control;
use crate::liveness::{PeerView, Verdicts, Wanted};
use crate::neighbors::Probe;
use compiler::Standing;
use model::{HostId, ip};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

impl Machine {
    /// What BFD found out about the other hosts.
    pub(crate) fn set_verdicts(&mut self, now: Instant, verdicts: Verdicts) {
        if !verdicts.dead.is_subset(&self.verdicts.dead) {
            self.announcer.defend(now);
        }
        self.stale |= self.verdicts != verdicts;
        self.verdicts = verdicts;
    }

    /// The other hosts that are dead or not ready yet, and this one if its uplink is of no use.
    pub(super) fn no_gateways(&self, own: HostId) -> BTreeSet<HostId> {
        let mut hosts = self.verdicts.dead.clone();
        hosts.extend(self.membership.joining());
        hosts.extend(self.path_down.then_some(own));
        hosts
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            withdrawn: self.verdicts.withdrawn.clone(),
            isolated: self.isolated,
            withheld: self.rivals.withheld(),
            lingering: self.membership.lingering(),
            still_answering: self.membership.answering().clone(),
        }
    }

    /// Everything that time alone changes. Returns the ARP requests that are due.
    pub(super) fn poll_health(&mut self, now: Instant) -> Vec<Probe> {
        let mut probes = self.watch.poll(now, self.uplink_frames);
        self.watch_path();
        self.stale |= self.membership.expire(now);
        let facts = self.facts().filter(|_| self.isolated && self.stale);
        match (&self.slice, facts) {
            (Some(slice), Some(facts)) => self.rivals.set(now, &compiler::contested(slice, &facts)),
            _ if !self.isolated => self.rivals.set(now, &BTreeMap::new()),
            _ => {}
        }
        let (questions, takes) = self.rivals.poll(now);
        self.stale |= takes;
        probes.extend(questions);
        probes
    }

    pub(super) fn health_deadlines(&self) -> [Option<Instant>; 3] {
        [self.watch.deadline(), self.rivals.deadline(), self.membership.deadline()]
    }

    /// Whether [`Machine::set_uplink_frames`] is to be called before the next tick.
    pub(crate) fn wants_uplink_frames(&self, now: Instant) -> bool {
        self.watch.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// How many frames came from the uplinks so far.
    pub(crate) fn set_uplink_frames(&mut self, frames: u64) {
        self.uplink_frames = frames;
    }

    /// The gateways behind the uplinks that others use this host for.
    pub(super) fn watch_gateways(&mut self, now: Instant) {
        let slice = self.slice.as_ref();
        let networks = slice.iter().flat_map(|slice| slice.external_networks.values());
        let usable = networks.filter(|network| {
            let link = self.settings.physical_networks.get(&network.physical_network);
            let up = link.and_then(|link| self.links.get(link)).is_some_and(|link| link.up);
            up && self.membership.is_gateway_of(network.vni)
        });
        let resolved = self.resolver.resolved();
        let gateways = usable.flat_map(|network| {
            let addresses =
                network.subnets.values().filter_map(|subnet| ip::ipv4(subnet.gateway?)).map(IpAddr::from);
            addresses.map(|address| (network.vni, address))
        });
        let watched = gateways.filter_map(|target| Some((target, *resolved.get(&target)?)));
        self.watch.set(now, &watched.collect());
    }

    /// Notes who became a gateway and who ceased to be one.
    pub(super) fn note_membership(&mut self, now: Instant) {
        if let (Some(welcome), Some(slice)) = (&self.welcome, &self.slice) {
            self.membership.note(now, welcome.host, slice);
        }
    }

    /// Looks at the uplinks, the gateways behind them and the other hosts.
    fn watch_path(&mut self) {
        let silent = self.resolver.has_silent_gateway() || self.watch.has_silent();
        let down = silent || self.uplink_missing();
        let mut links = self.links.values();
        let cut = links.any(|link| link.index == self.settings.underlay_ifindex && !link.up);
        let isolated = self.verdicts.alone || cut;
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
        if self.isolated {
            warnings.push("no other host can be heard: this one is cut off, or it is the last".to_owned());
        }
        if self.resolver.has_silent_gateway() || self.watch.has_silent() {
            warnings.push("a gateway of an external network does not answer ARP".to_owned());
        }
        warnings
    }
}
