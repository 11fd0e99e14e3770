//! One step of the control loop as a change of the store: everything the controller decides by itself.
//!
//! Pure but for the transaction it writes to. Run again with the same [`Facts`] and an empty [`Batch`] it changes
//! nothing, whatever the store holds.

use super::liveness::Liveness;
use super::programmed::{Acked, Suspects, corrections};
use super::registration::{Refused, Registration, register};
use crate::blocks::retire::{self, Report};
use crate::blocks::{self, Moment};
use crate::virtual_addresses::{self, Announcement};
use model::resource::{Host, Port};
use model::slice::BlockId;
use model::{HostId, Mac, PortId, RouterId};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Snapshot, Transaction};
use uuid::Uuid;

/// Characters of a port id that a link's name holds.
const LINK_ID_LENGTH: usize = 11;

/// What the agents' streams told, besides the store.
pub(super) struct Facts {
    pub(super) liveness: Liveness,
    pub(super) acked: HashMap<HostId, Acked>,
    /// Blocks were asked for and none was free: planned again when one has rested.
    pub(super) short: BTreeSet<(RouterId, HostId)>,
    /// Away for so long that others get their blocks.
    pub(super) lost: BTreeSet<HostId>,
    /// The last step knew of other lost hosts.
    pub(super) lost_changed: bool,
    /// Since when (milliseconds since 1970) a host has blocks of a router too many.
    pub(super) surplus_since: HashMap<(RouterId, HostId), i64>,
}

/// What came in since the last step.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) registrations: Vec<Registration>,
    /// Links that appeared: whole port ids or their first eleven characters.
    pub(super) links: Vec<(HostId, String)>,
    pub(super) blocks_wanted: BTreeSet<(RouterId, HostId)>,
    /// Virtual addresses, in the order they were announced.
    pub(super) announced: Vec<Announcement>,
    /// How hosts use their blocks.
    pub(super) block_uses: BTreeMap<HostId, Report>,
    /// Hosts whose ports and floating IPs have a new ack behind them.
    pub(super) suspects: BTreeSet<HostId>,
}

/// What a step led to, in the order of the batch.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) hosts: Vec<Result<Host, Refused>>,
    pub(super) short: BTreeSet<(RouterId, HostId)>,
    /// Of the hosts that told how they use their blocks: the routers of which they have too many.
    pub(super) surplus: BTreeMap<HostId, BTreeSet<RouterId>>,
    /// The records as the transaction leaves them. Its revision is not yet the one they are published with.
    pub(super) settled: Arc<Snapshot>,
}

/// Now, and what chooses among equals.
pub(super) struct Circumstances<'a, R> {
    pub(super) base_mac: Mac,
    pub(super) block_hold: Duration,
    pub(super) now: Instant,
    /// Since 1970.
    pub(super) now_ms: i64,
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
    let Circumstances { base_mac, now_ms, block_hold, .. } = circumstances;
    let now_s = now_ms.div_euclid(1000);
    let registrations = batch.registrations.iter();
    let hosts =
        registrations.map(|registration| register(transaction, registration, base_mac, now_s)).collect();
    write_liveness(transaction, facts, circumstances.now);
    for (host, link) in &batch.links {
        bind_link(transaction, *host, link);
    }
    move_addresses(transaction, settled, &batch.announced);
    let short = assign_blocks(transaction, settled, facts, &mut circumstances);
    for wanted in &batch.blocks_wanted {
        let moment = Moment { now_ms, lost: &facts.lost };
        let plan = blocks::more(transaction, *wanted, moment, circumstances.rng);
        blocks::apply(transaction, &plan, now_ms);
    }
    let surplus = take_back(transaction, facts, &batch.block_uses, block_hold, now_ms);
    write_programmed(transaction, settled, facts, &batch.suspects);
    Outcome { hosts, short, surplus, settled: Arc::new(Snapshot::clone(transaction)) }
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

/// Virtual addresses follow those who announced them, and end with what allowed them.
fn move_addresses(transaction: &mut Transaction, settled: Option<&Snapshot>, announced: &[Announcement]) {
    for announcement in announced {
        virtual_addresses::note(transaction, *announcement);
    }
    let same = |before: &Snapshot| {
        before.ports.ptr_eq(&transaction.ports) && before.hosts.ptr_eq(&transaction.hosts)
    };
    if !settled.is_some_and(same) {
        virtual_addresses::prune(transaction);
    }
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
    let due = !facts.short.is_empty() || facts.lost_changed;
    if !due && settled.is_some_and(|settled| same(settled, transaction)) {
        return BTreeSet::new();
    }
    let now_ms = circumstances.now_ms;
    let plan = blocks::plan(transaction, Moment { now_ms, lost: &facts.lost }, circumstances.rng);
    for (router, host) in plan.short.iter().filter(|short| !facts.short.contains(short)) {
        tracing::warn!(%router, %host, "no port block is free: the host's VMs cannot reach the outside");
    }
    blocks::apply(transaction, &plan, now_ms);
    plan.short.into_iter().collect()
}

/// Releases what hosts have emptied, and has those give up blocks that have had too many for long enough.
/// Returns who has too many.
fn take_back(
    transaction: &mut Transaction,
    facts: &Facts,
    uses: &BTreeMap<HostId, Report>,
    hold: Duration,
    now_ms: i64,
) -> BTreeMap<HostId, BTreeSet<RouterId>> {
    let mut surplus: BTreeMap<HostId, BTreeSet<RouterId>> = BTreeMap::new();
    for (host, report) in uses {
        let release = retire::released(transaction, *host, report, now_ms);
        blocks::apply(transaction, &blocks::Plan { release, ..blocks::Plan::default() }, now_ms);
        let routers = surplus.entry(*host).or_default();
        for (router, extra) in retire::surplus(transaction, *host, report) {
            let since = facts.surplus_since.get(&(router, *host)).copied().unwrap_or(now_ms);
            if u128::from(now_ms.abs_diff(since)) >= hold.as_millis() {
                tracing::info!(%router, %host, blocks = extra.len(), "port blocks are not needed: given up");
                retire::apply(transaction, &extra.into_iter().collect::<BTreeSet<BlockId>>(), now_ms);
            } else {
                routers.insert(router);
            }
        }
    }
    surplus
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
