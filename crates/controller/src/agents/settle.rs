//! One step of the control loop as a change of the store: everything the controller decides by itself.
//!
//! Pure but for the transaction it writes to. Run again with the same [`Facts`] and an empty [`Batch`] it changes
//! nothing, whatever the store holds.

use super::liveness::Liveness;
use super::programmed::{Acked, Suspects, corrections};
use super::registration::{Refused, Registration, register};
use crate::blocks::{self, Cooling};
use model::resource::{Host, Port};
use model::{HostId, Mac, PortId, RouterId};
use rand::Rng;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;
use store::{Snapshot, Transaction};
use uuid::Uuid;

/// Characters of a port id that a link's name holds.
const LINK_ID_LENGTH: usize = 11;

/// What the agents' streams told, besides the store.
pub(super) struct Facts {
    pub(super) liveness: Liveness,
    pub(super) acked: HashMap<HostId, Acked>,
    pub(super) cooling: Cooling,
    /// Blocks were asked for and none was free: planned again when one has cooled down.
    pub(super) short: BTreeSet<(RouterId, HostId)>,
}

/// What came in since the last step.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) registrations: Vec<Registration>,
    /// Links that appeared: whole port ids or their first eleven characters.
    pub(super) links: Vec<(HostId, String)>,
    pub(super) blocks_wanted: BTreeSet<(RouterId, HostId)>,
    /// Hosts whose ports and floating IPs have a new ack behind them.
    pub(super) suspects: BTreeSet<HostId>,
}

/// What a step led to, in the order of the batch.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) hosts: Vec<Result<Host, Refused>>,
    pub(super) short: BTreeSet<(RouterId, HostId)>,
    /// The records as the transaction leaves them. Its revision is not yet the one they are published with.
    pub(super) settled: Arc<Snapshot>,
}

/// Now, and what chooses among equals.
pub(super) struct Circumstances<'a, R> {
    pub(super) base_mac: Mac,
    pub(super) now: Instant,
    pub(super) now_s: i64,
    pub(super) rng: &'a mut R,
}

/// Makes the store right. `settled` is the snapshot the last step left, none before the first.
pub(super) fn settle(
    transaction: &mut Transaction,
    settled: Option<&Snapshot>,
    facts: &Facts,
    batch: &Batch,
    mut circumstances: Circumstances<'_, impl Rng>,
) -> Outcome {
    let Circumstances { base_mac, now_s, .. } = circumstances;
    let registrations = batch.registrations.iter();
    let hosts =
        registrations.map(|registration| register(transaction, registration, base_mac, now_s)).collect();
    write_liveness(transaction, facts, circumstances.now);
    for (host, link) in &batch.links {
        bind_link(transaction, *host, link);
    }
    let short = assign_blocks(transaction, settled, facts, &mut circumstances);
    for wanted in &batch.blocks_wanted {
        let Circumstances { now, rng, .. } = &mut circumstances;
        let plan = blocks::more(transaction, *wanted, &facts.cooling, *now, *rng);
        blocks::apply(transaction, &plan);
    }
    write_programmed(transaction, settled, facts, &batch.suspects);
    Outcome { hosts, short, settled: Arc::new(Snapshot::clone(transaction)) }
}

fn write_liveness(transaction: &mut Transaction, facts: &Facts, now: Instant) {
    let wrong = |host: &Host| host.live != facts.liveness.is_live(host.id, now);
    let hosts: Vec<Host> =
        transaction.hosts.values().filter(|host| wrong(host)).map(|host| Host::clone(host)).collect();
    for host in hosts {
        let live = !host.live;
        tracing::info!(host = %host.name, live, "liveness changed");
        transaction.put(Host { live, ..host });
    }
}

/// Binds a port that is bound nowhere to the host its link appeared on.
fn bind_link(transaction: &mut Transaction, host: HostId, link: &str) {
    let Some(name) = transaction.get::<Host>(host).map(|host| host.name.clone()) else { return };
    let Some(port) = port_of_link(transaction, link) else { return };
    if port.is_infrastructure() || !port.binding_host.is_empty() {
        if port.binding_host != name {
            tracing::warn!(port = %port.id, host = %name, bound = %port.binding_host, "link on a host it is not bound to");
        }
        return;
    }
    tracing::info!(port = %port.id, host = %name, "bound to the host of its link");
    transaction.put(Port { binding_host: name, ..port });
}

/// The one port of that id, or with that beginning of its id.
fn port_of_link(snapshot: &Snapshot, link: &str) -> Option<Port> {
    if let Ok(id) = link.parse::<PortId>() {
        return snapshot.get::<Port>(id).map(|port| Port::clone(port));
    }
    if link.len() != LINK_ID_LENGTH {
        return None;
    }
    let bound = |rest: &str| format!("{link}{rest}").parse::<Uuid>().ok().map(PortId::from_uuid);
    let first = bound("00-0000-0000-000000000000")?;
    let last = bound("ff-ffff-ffff-ffffffffffff")?;
    let mut ports = snapshot.ports.range(first..=last).map(|(_, port)| port);
    let port = ports.next()?;
    ports.next().is_none().then(|| Port::clone(port))
}

/// Returns who goes without a block.
fn assign_blocks(
    transaction: &mut Transaction,
    settled: Option<&Snapshot>,
    facts: &Facts,
    circumstances: &mut Circumstances<'_, impl Rng>,
) -> BTreeSet<(RouterId, HostId)> {
    let same = |before: &Snapshot, after: &Snapshot| {
        before.ports.ptr_eq(&after.ports)
            && before.routers.ptr_eq(&after.routers)
            && before.hosts.ptr_eq(&after.hosts)
            && before.networks.ptr_eq(&after.networks)
            && before.blocks.ptr_eq(&after.blocks)
    };
    if facts.short.is_empty() && settled.is_some_and(|settled| same(settled, transaction)) {
        return BTreeSet::new();
    }
    let plan = blocks::plan(transaction, &facts.cooling, circumstances.now, circumstances.rng);
    for (router, host) in plan.short.iter().filter(|short| !facts.short.contains(short)) {
        tracing::warn!(%router, %host, "no port block is free: the host's VMs cannot reach the outside");
    }
    blocks::apply(transaction, &plan);
    plan.short.into_iter().collect()
}

fn write_programmed(
    transaction: &mut Transaction,
    settled: Option<&Snapshot>,
    facts: &Facts,
    hosts: &BTreeSet<HostId>,
) {
    let mut suspects = settled.map_or_else(|| Suspects::all(transaction), |_| Suspects::default());
    if let Some(settled) = settled {
        suspects.add_changes(settled, transaction);
    }
    for host in hosts {
        suspects.add_host(transaction, *host);
    }
    let (ports, floating_ips) = corrections(transaction, &suspects, &facts.acked);
    ports.into_iter().for_each(|port| transaction.put(port));
    floating_ips.into_iter().for_each(|floating_ip| transaction.put(floating_ip));
}
