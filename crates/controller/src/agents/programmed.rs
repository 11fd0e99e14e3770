//! From acks to status: which ports and floating IPs a host has in its tables.
//!
//! Pure. A port is programmed where it is bound, when that host names it in its last ack. A floating IP is
//! programmed when the host of its port has acked a slice that holds it as it is now. Of a host that is not
//! connected the last word stands.

use crate::slices;
use model::resource::{self, FloatingIp, Port};
use model::{FloatingIpId, HostId, PortForwardingId, PortId, slice};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use store::Snapshot;

/// What a host last acked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acked {
    pub revision: u64,
    pub ports: BTreeSet<PortId>,
    /// Floating IPs of its own ports, as in the acked slice.
    pub floating_ips: Arc<OwnFloatingIps>,
}

/// Of a host's ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnFloatingIps {
    pub whole: BTreeMap<FloatingIpId, slice::FloatingIp>,
    pub forwarded: BTreeMap<PortForwardingId, slice::PortForwarding>,
}

/// The floating IPs of the host's own ports.
pub fn own_floating_ips(slice: &slice::Slice, host: HostId) -> OwnFloatingIps {
    let whole = slice.floating_ips.iter().filter(|(_, floating_ip)| floating_ip.host == Some(host));
    let forwarded = slice.port_forwardings.iter().filter(|(_, forwarding)| forwarding.host == Some(host));
    OwnFloatingIps {
        whole: whole.map(|(id, floating_ip)| (*id, floating_ip.clone())).collect(),
        forwarded: forwarded.map(|(id, forwarding)| (*id, forwarding.clone())).collect(),
    }
}

/// What has to be looked at again.
#[derive(Clone, Debug, Default)]
pub struct Suspects {
    pub ports: BTreeSet<PortId>,
    pub floating_ips: BTreeSet<FloatingIpId>,
}

impl Suspects {
    /// Everything a host's ack can change.
    pub fn add_host(&mut self, snapshot: &Snapshot, host: HostId) {
        let Some(host) = snapshot.get::<resource::Host>(host) else { return };
        let ports: Vec<PortId> = snapshot.ports_of_host(&host.name).map(|port| port.id).collect();
        ports.into_iter().for_each(|port| self.add_port(snapshot, port));
    }

    /// Everything that changed from one snapshot to the next. Cost: the changes, not the snapshots.
    pub fn add_changes(&mut self, before: &Snapshot, after: &Snapshot) {
        use imbl::ordmap::DiffItem;
        for change in before.ports.diff(&after.ports) {
            if let DiffItem::Add(id, _) | DiffItem::Update { new: (id, _), .. } = change {
                self.add_port(after, *id);
            }
        }
        for change in before.floating_ips.diff(&after.floating_ips) {
            if let DiffItem::Add(id, _) | DiffItem::Update { new: (id, _), .. } = change {
                self.floating_ips.insert(*id);
            }
        }
        for change in before.virtual_addresses.diff(&after.virtual_addresses) {
            let (DiffItem::Add(id, _) | DiffItem::Remove(id, _) | DiffItem::Update { new: (id, _), .. }) =
                change;
            let ports: Vec<PortId> =
                after.ports_by_address(id.network, id.address).map(|port| port.id).collect();
            ports.into_iter().for_each(|port| self.add_port(after, port));
        }
    }

    /// All there is, for a start.
    pub fn all(snapshot: &Snapshot) -> Self {
        Self {
            ports: snapshot.ports.keys().copied().collect(),
            floating_ips: snapshot.floating_ips.keys().copied().collect(),
        }
    }

    fn add_port(&mut self, snapshot: &Snapshot, port: PortId) {
        self.ports.insert(port);
        self.floating_ips.extend(snapshot.floating_ips_of_port(port).map(|floating_ip| floating_ip.id));
    }
}

/// The records among the suspects whose status is not what the acks say, with the status they should have.
pub fn corrections(
    snapshot: &Snapshot,
    suspects: &Suspects,
    acked: &HashMap<HostId, Acked>,
) -> (Vec<Port>, Vec<FloatingIp>) {
    let ports = suspects.ports.iter().filter_map(|id| snapshot.get::<Port>(*id));
    let ports = ports.filter_map(|port| {
        let programmed_on = port_programmed_on(snapshot, port, acked);
        (programmed_on != port.programmed_on).then(|| Port { programmed_on, ..Port::clone(port) })
    });
    let floating_ips = suspects.floating_ips.iter().filter_map(|id| snapshot.get::<FloatingIp>(*id));
    let floating_ips = floating_ips.filter_map(|floating_ip| {
        let programmed = floating_ip_programmed(snapshot, floating_ip, acked);
        (programmed != floating_ip.programmed)
            .then(|| FloatingIp { programmed, ..FloatingIp::clone(floating_ip) })
    });
    (ports.collect(), floating_ips.collect())
}

fn port_programmed_on(snapshot: &Snapshot, port: &Port, acked: &HashMap<HostId, Acked>) -> Option<HostId> {
    let host = slices::host_of(snapshot, port).filter(|_| !port.is_infrastructure())?;
    match acked.get(&host) {
        Some(acked) => acked.ports.contains(&port.id).then_some(host),
        None => port.programmed_on.filter(|programmed_on| *programmed_on == host),
    }
}

fn floating_ip_programmed(
    snapshot: &Snapshot,
    floating_ip: &FloatingIp,
    acked: &HashMap<HostId, Acked>,
) -> bool {
    if !floating_ip.forwardings.is_empty() {
        return forwardings_programmed(snapshot, floating_ip, acked);
    }
    let Some(told) = slices::told_floating_ip(snapshot, floating_ip) else { return false };
    let Some(host) = told.host else { return false };
    match acked.get(&host) {
        Some(acked) => acked.floating_ips.whole.get(&floating_ip.id) == Some(&told),
        None => floating_ip.programmed,
    }
}

/// All whose ports are bound are, and there is one at least.
fn forwardings_programmed(
    snapshot: &Snapshot,
    floating_ip: &FloatingIp,
    acked: &HashMap<HostId, Acked>,
) -> bool {
    let told = slices::told_forwardings(snapshot, floating_ip);
    let mut bound = told.filter_map(|(id, told)| Some((id, told.host?, told))).peekable();
    bound.peek().is_some()
        && bound.all(|(id, host, told)| match acked.get(&host) {
            Some(acked) => acked.floating_ips.forwarded.get(&id) == Some(&told),
            None => floating_ip.programmed,
        })
}
