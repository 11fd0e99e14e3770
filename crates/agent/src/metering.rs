//! Counters of metering labels: what crosses the external gateways of routers, by label.
//!
//! Packets cost nothing more for it: the sessions count exactly already, and the sweep sees all of them once a second.
//! What a session has counted since it was seen last goes to the labels that its router has now. So a label counts from
//! its beginning, and a rule what passes while it is there, both to a second. Remembered of a session are four numbers,
//! and only of those of routers with labels.
//!
//! Not here: what passed without a session on this host (gateways forward for others without one: the VM's host counts),
//! and what a session did after the last sweep if it ended otherwise than by the sweep (`docs/decisions/0022`).

use crate::sessions::Id;
use dataplane::{Fate, SessionRow};
use model::MeteringLabelId;
use model::security::Direction;
use model::slice::{Meter, Slice};
use pipeline::Address;
use pipeline::session::Session;
use pipeline::table_set::TableSet;
use pipeline::tables::ExternalAddressKey;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, PoisonError};

/// Labels whose counts are kept when no router of the host has them any more.
const LABELS_KEPT: usize = 1024;
/// A session is in its table this long after the time it has as its beginning, at most: 10 ms.
const LATE_NS: u64 = 10_000_000;

/// What a label counted since the agent's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    /// Of IP packets.
    pub(crate) bytes: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

/// Written by the sweep, read by whoever tells.
pub(crate) type SharedCounts = Arc<Mutex<BTreeMap<MeteringLabelId, Count>>>;

/// Numbers only: whole between any two statements.
pub(crate) fn counts(shared: &SharedCounts) -> BTreeMap<MeteringLabelId, Count> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A row of `GET /nanboku/v1/metering`.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    pub(crate) host: &'a str,
    pub(crate) label_id: MeteringLabelId,
    #[serde(flatten)]
    pub(crate) count: Count,
}

/// The labels of routers, by the routers' VNIs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Meters(HashMap<u32, Vec<Meter>>);

impl Meters {
    pub(crate) fn of(slice: &Slice) -> Self {
        let meters = slice.routers.values().filter_map(|router| {
            let gateway = router.gateway.as_ref().filter(|gateway| !gateway.meters.is_empty())?;
            Some((router.vni.get(), gateway.meters.clone()))
        });
        Self(meters.collect())
    }

    fn labels(&self) -> HashSet<MeteringLabelId> {
        self.0.values().flatten().map(|meter| meter.label).collect()
    }
}

/// What a session had counted when it was seen last: packets and bytes, forward and reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl Mark {
    fn of(session: &SessionRow) -> Self {
        Self { packets: session.packets, bytes: session.bytes }
    }

    fn since(self, earlier: Self) -> [Count; 2] {
        let [forward, reply] = [0, 1].map(|direction: usize| {
            let grown = |now: [u64; 2], then: [u64; 2]| {
                let at = |numbers: [u64; 2]| numbers.get(direction).copied().unwrap_or(0);
                at(now).saturating_sub(at(then))
            };
            Count { packets: grown(self.packets, earlier.packets), bytes: grown(self.bytes, earlier.bytes) }
        });
        [forward, reply]
    }
}

/// A VM of this host at one end of a session that crosses the gateway of its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Crossing {
    router_vni: u32,
    vm: Address,
    outside: Address,
    /// Of the session's forward packets.
    direction: Direction,
}

/// The crossings of a session: one, or two if it turns around here between VMs of two routers.
fn crossings(session: &SessionRow, tables: &TableSet) -> [Option<Crossing>; 2] {
    const SENT: u32 = Session::NAT_SNAT | Session::NAT_FLOATING_SRC | Session::NAT_ROUTED_SRC;
    const RECEIVED: u32 = Session::NAT_DST | Session::NAT_ROUTED_DST;
    let SessionRow { key, reply, external_vni, router_vni, .. } = session;
    let router_at = |address| {
        let key = ExternalAddressKey { external_vni: *external_vni, address };
        tables.external_addresses.get(&key).map_or(0, |found| found.router_vni)
    };
    let sent = (session.flags & SENT != 0).then_some(Crossing {
        router_vni: *router_vni,
        vm: key.src,
        outside: key.dst,
        direction: Direction::Egress,
    });
    let received = (session.flags & RECEIVED != 0).then(|| Crossing {
        router_vni: if sent.is_some() { router_at(key.dst) } else { *router_vni },
        vm: reply.src,
        outside: reply.dst,
        direction: Direction::Ingress,
    });
    // What a router sends to itself crosses nothing.
    let leaves = |crossing: &Crossing| crossing.router_vni != router_at(crossing.outside);
    [sent.filter(leaves), received.filter(leaves)]
}

/// The counters, and what is known of the sessions.
#[derive(Debug)]
pub(crate) struct Metering {
    counts: SharedCounts,
    marks: HashMap<Id, Mark>,
    /// When the last whole look began, or the agent: a session without mark that is older was not to be counted then.
    since_ns: u64,
}

impl Metering {
    /// `now_ns` of the monotonic clock. Sessions that are there already count from what they are at the first look.
    pub(crate) fn new(counts: SharedCounts, now_ns: u64) -> Self {
        Self { counts, marks: HashMap::new(), since_ns: now_ns }
    }

    /// Begins a look at all sessions.
    pub(crate) fn look<'a>(&'a mut self, meters: &'a Meters, tables: &'a TableSet, now_ns: u64) -> Look<'a> {
        let seen = HashMap::with_capacity(self.marks.len());
        Look { metering: self, meters, tables, now_ns, seen, grown: HashMap::new() }
    }
}

/// One look at all sessions.
pub(crate) struct Look<'a> {
    metering: &'a mut Metering,
    meters: &'a Meters,
    tables: &'a TableSet,
    now_ns: u64,
    seen: HashMap<Id, Mark>,
    grown: HashMap<MeteringLabelId, Count>,
}

impl Look<'_> {
    pub(crate) fn seen(&mut self, session: &SessionRow, fate: Fate) {
        if self.meters.0.is_empty() || session.router_vni == 0 {
            return;
        }
        let crossings = crossings(session, self.tables);
        let is_metered = |crossing: &Crossing| self.meters.0.contains_key(&crossing.router_vni);
        if !crossings.iter().flatten().any(is_metered) {
            return;
        }
        let id = Id::of(session);
        let now = Mark::of(session);
        let known = self.seen.get(&id).or_else(|| self.metering.marks.get(&id)).copied();
        let is_new = session.created_ns.saturating_add(LATE_NS) >= self.metering.since_ns;
        let earlier = known.unwrap_or(if is_new { Mark::default() } else { now });
        let grown = now.since(earlier);
        for crossing in crossings.into_iter().flatten() {
            self.add(&crossing, grown);
        }
        if fate == Fate::Alive {
            self.seen.insert(id, now);
        }
    }

    fn add(&mut self, crossing: &Crossing, [forward, reply]: [Count; 2]) {
        let back = match crossing.direction {
            Direction::Egress => Direction::Ingress,
            Direction::Ingress => Direction::Egress,
        };
        let (vm, outside) = (crossing.vm.into(), crossing.outside.into());
        for (direction, grown) in [(crossing.direction, forward), (back, reply)] {
            if grown.packets == 0 {
                continue;
            }
            for meter in self.meters.0.get(&crossing.router_vni).into_iter().flatten() {
                if meter.counts(direction, vm, outside) {
                    *self.grown.entry(meter.label).or_default() += grown;
                }
            }
        }
    }

    /// `whole`: every session was seen.
    pub(crate) fn finish(mut self, whole: bool) {
        let metering = self.metering;
        if whole {
            metering.marks = self.seen;
            metering.since_ns = self.now_ns;
        } else {
            metering.marks.extend(self.seen.drain());
        }
        let labels = self.meters.labels();
        let mut counts = metering.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for label in &labels {
            *counts.entry(*label).or_default() += self.grown.get(label).copied().unwrap_or_default();
        }
        if counts.len() > labels.len() + LABELS_KEPT {
            counts.retain(|label, _| labels.contains(label));
        }
    }
}

#[cfg(test)]
mod tests;
