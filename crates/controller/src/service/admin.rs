//! Views for administrators: hosts, status, port blocks, sessions.

use super::Service;
use crate::agents::{Inquiry, Part};
use api::{Admin, Error};
use model::HostId;
use model::capture::CaptureRequest;
use model::question::Question;
use model::resource::{Host, PortBlock};
use model::trace::{Description, Trace};
use serde_json::{Value, json};
use std::net::SocketAddrV4;
use std::time::Duration;
use store::Snapshot;
use trace::Stage;
use trace::filter::Filter;

/// An agent that says nothing for so long is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

impl Admin for Service {
    fn hosts(&self) -> Vec<Value> {
        let snapshot = self.snapshot();
        let mut hosts: Vec<_> = snapshot.hosts.values().collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts.into_iter().map(|host| self.host_view(&snapshot, host)).collect()
    }

    fn host(&self, id_or_name: &str) -> Result<Value, Error> {
        let snapshot = self.snapshot();
        let host = host(&snapshot, id_or_name)?;
        Ok(self.host_view(&snapshot, host))
    }

    fn status(&self) -> Value {
        let snapshot = self.snapshot();
        let live = snapshot.hosts.values().filter(|host| host.live).count();
        json!({
            "cluster_id": snapshot.cluster_id,
            "revision": snapshot.revision,
            "version": env!("CARGO_PKG_VERSION"),
            "hosts": snapshot.hosts.len(),
            "hosts_live": live,
            "networks": snapshot.networks.len(),
            "subnets": snapshot.subnets.len(),
            "ports": snapshot.ports.len(),
            "routers": snapshot.routers.len(),
            "floating_ips": snapshot.floating_ips.len(),
            "blocks": snapshot.blocks.len(),
        })
    }

    fn blocks(&self) -> Vec<Value> {
        let snapshot = self.snapshot();
        let now = (self.clock)();
        snapshot.blocks.values().map(|block| block_view(&snapshot, block, now)).collect()
    }

    async fn who(&self, endpoint: SocketAddrV4, at: Option<&str>) -> Result<Value, Error> {
        Service::who(self, endpoint, at).await
    }

    type Inquiry = Parts;

    fn ask(&self, mut question: Question, host_wanted: Option<&str>) -> Result<Parts, Error> {
        let snapshot = self.snapshot();
        let connected = self.hub.connected();
        let hosts: Vec<HostId> = match host_wanted {
            None => snapshot.hosts.values().map(|host| host.id).collect(),
            Some(wanted) => {
                let host = host(&snapshot, wanted)?;
                if !connected.contains(&host.id) {
                    let reason = "it is not connected".to_owned();
                    return Err(Error::AgentUnreachable { host: host.name.clone(), reason });
                }
                vec![host.id]
            }
        };
        if let Question::Capture(request) = &question {
            check_capture(request)?;
        }
        if let Question::Sessions(filter) | Question::EndSessions(filter) = &mut question {
            let asked = hosts.iter().filter(|id| connected.contains(id));
            filter.asked = asked.filter_map(|id| Some(snapshot.hosts.get(id)?.vtep)).collect();
        }
        Ok(Parts(self.hub.ask(hosts, &question, PATIENCE)))
    }

    async fn trace(&self, description: Description) -> Result<Trace, Error> {
        Service::trace(self, description).await
    }
}

/// What every host would refuse is refused here.
fn check_capture(request: &CaptureRequest) -> Result<(), Error> {
    let bad = |field: &str, reason: String| Error::bad_request(format!("{field}: {reason}"));
    request.filter.parse::<Filter>().map_err(|error| bad("filter", error.to_string()))?;
    let known =
        |edge: &str| edge == "in" || edge == "out" || Stage::ALL.iter().any(|stage| stage.name() == edge);
    match request.edges.iter().find(|edge| !known(edge)) {
        None => Ok(()),
        Some(edge) => {
            let stages: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
            Err(bad("edge", format!("'{edge}' is none of in, out, {}", stages.join(", "))))
        }
    }
}

/// The answer of the hosts asked.
pub struct Parts(pub(super) Inquiry);

impl api::Parts for Parts {
    async fn next(&mut self) -> Option<api::Part> {
        let (host, part) = self.0.next().await?;
        Some(match part {
            Part::Rows(lines) => api::Part::Rows(lines),
            Part::End(result) => api::Part::End { host, result },
        })
    }
}

impl Service {
    fn host_view(&self, snapshot: &Snapshot, host: &Host) -> Value {
        let presence = self.hub.presence(host.id);
        let age = presence.as_ref().map(|presence| (self.clock)() - presence.last_seen);
        let uplinks = presence.as_ref().map_or(Vec::new(), |presence| {
            let uplink = |uplink: &crate::agents::Uplink| {
                json!({"physical_network": uplink.physical_network, "up": uplink.up})
            };
            presence.uplinks.iter().map(uplink).collect()
        });
        json!({
            "id": host.id,
            "name": host.name,
            "vtep": host.vtep,
            "dvr_mac": host.dvr_mac,
            "physical_networks": host.physical_networks,
            "live": host.live,
            "connected": presence.as_ref().is_some_and(|presence| presence.connected),
            "drained": host.drained,
            "programmed_revision": presence.as_ref().and_then(|presence| presence.programmed_revision),
            "revision": snapshot.revision,
            "age_seconds": age,
            "uplinks": uplinks,
            "nat_ports_used": presence.as_ref().map(|presence| presence.nat_ports_used),
            "counters": presence.map(|presence| presence.counters).unwrap_or_default(),
            "version": host.version,
            "started_at": host.started_at,
            "created_at": host.created_at,
        })
    }
}

/// The host of that id or name.
fn host<'a>(snapshot: &'a Snapshot, id_or_name: &str) -> Result<&'a Host, Error> {
    let by_id = id_or_name.parse::<HostId>().ok().and_then(|id| snapshot.hosts.get(&id));
    let host = by_id.or_else(|| snapshot.host_by_name(id_or_name));
    host.map(AsRef::as_ref).ok_or_else(|| Error::HostNotFound { id: id_or_name.to_owned() })
}

/// `now`: seconds since 1970.
fn block_view(snapshot: &Snapshot, block: &PortBlock, now: i64) -> Value {
    let network = snapshot.networks.get(&block.external_network);
    let size = network.and_then(|network| network.provider.as_ref()).map(|provider| provider.block_size);
    let last_port = size.map(|size| crate::slices::block_id(block).last_port(size));
    let age = now.saturating_sub(block.granted_at_ms.div_euclid(1000)).max(0);
    json!({
        "external_network_id": block.external_network,
        "address": block.address,
        "first_port": block.first_port,
        "last_port": last_port,
        "router_id": block.router,
        "router": snapshot.routers.get(&block.router).map(|router| router.standard.name.clone()),
        "host_id": block.host,
        "host": snapshot.hosts.get(&block.host).map(|host| host.name.clone()),
        "ports": last_port.map(|last| last - block.first_port + 1),
        // Blocks of stores that did not write it down are as old as can be.
        "age_seconds": (block.granted_at_ms != 0).then_some(age),
        "retiring": block.retiring_since_ms.is_some(),
    })
}
