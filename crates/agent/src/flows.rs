//! `nanboku flows`: the entries of every stage with what they did.
//!
//! The data path counts sessions, not entries: an established connection does not look at any. What an entry did is
//! the sum of the sessions it decided ([`rules_of`]): those alive are read when somebody asks, those that ended are
//! kept in a [`Ledger`] by the sweep. So packets that have no session here (a gateway's stateless forwarding, drops,
//! ARP) are in no entry's numbers; tables that mostly serve those are told as not counted instead of as unused.

mod rules;

use crate::scene::Scene;
use dataplane::{SessionRow, SessionTables};
use model::question::FlowFilter;
use model::slice::ObjectId;
use pipeline::table_set::TableSet;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use rules::{Rule, rules_of};

/// An entry with its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FlowRow {
    pub(crate) host: String,
    pub(crate) stage: &'static str,
    pub(crate) table: &'static str,
    pub(crate) rule: String,
    pub(crate) action: String,
    /// What made it: kind, id and, where it has one, name.
    pub(crate) object_kind: &'static str,
    pub(crate) object_id: String,
    pub(crate) object: String,
    pub(crate) why: &'static str,
    /// Connections alive that it decided.
    pub(crate) sessions: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Since a packet of those; none: there were none.
    pub(crate) idle_ms: Option<u64>,
    /// `hit`, `never`, or `not counted`: its packets need no session here.
    pub(crate) hits: &'static str,
}

/// What an entry did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    sessions: u64,
    packets: u64,
    bytes: u64,
    last_ns: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

/// Sums over sessions, by entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(HashMap<Rule, Tally>);

impl Ledger {
    /// `alive`: counted among the sessions there are.
    pub(crate) fn note(&mut self, session: &SessionRow, tables: &TableSet, alive: bool) {
        for (rule, directions) in rules_of(session, tables) {
            let mut tally =
                Tally { sessions: u64::from(alive), last_ns: session.last_ns, ..Tally::default() };
            let counts = session.packets.into_iter().zip(session.bytes).zip(directions);
            for ((packets, bytes), _) in counts.filter(|(_, counted)| *counted) {
                tally.packets += packets;
                tally.bytes += bytes;
            }
            self.0.entry(rule).or_default().add(tally);
        }
    }

    /// Forgets entries that are in no table any more: there are never more than entries.
    pub(crate) fn retain(&mut self, rules: &BTreeMap<Rule, rules::Described>) {
        self.0.retain(|rule, _| rules.contains_key(rule));
    }
}

/// Of sessions that ended. Written by the sweep, read by whoever tells.
pub(crate) type SharedLedger = Arc<Mutex<Ledger>>;

/// Every entry with its numbers, stage by stage.
///
/// # Errors
/// The sessions cannot be read to their end.
pub(crate) fn flows(
    scene: &Scene,
    sessions: &SessionTables,
    ended: &SharedLedger,
    filter: &FlowFilter,
) -> Result<Vec<FlowRow>, dataplane::Error> {
    let Some(compiled) = &scene.programmed else { return Ok(Vec::new()) };
    let described = rules::describe(scene, compiled);
    let mut ledger = {
        // Numbers only: whole between any two statements.
        let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(&described);
        ended.clone()
    };
    for session in sessions.rows() {
        ledger.note(&session?, &compiled.tables, true);
    }
    Ok(rows(scene, &described, &ledger, filter, dataplane::clock_ns()))
}

fn rows(
    scene: &Scene,
    described: &BTreeMap<Rule, rules::Described>,
    ledger: &Ledger,
    filter: &FlowFilter,
    now_ns: u64,
) -> Vec<FlowRow> {
    let row = |(rule, described): (&Rule, &rules::Described)| {
        let tally = ledger.0.get(rule).copied().unwrap_or_default();
        let hits = match (tally.packets, rules::is_counted(rule, scene)) {
            (1.., _) => "hit",
            (0, true) => "never",
            (0, false) => "not counted",
        };
        let (object_kind, object_id, object) = describe_object(scene, described.object);
        FlowRow {
            host: scene.host.clone(),
            stage: rule.stage(described.object, &scene.slice).name(),
            table: rule.table,
            rule: described.key.clone(),
            action: described.value.clone(),
            object_kind,
            object_id,
            object,
            why: described.why,
            sessions: tally.sessions,
            packets: tally.packets,
            bytes: tally.bytes,
            idle_ms: (tally.last_ns != 0).then(|| now_ns.saturating_sub(tally.last_ns) / 1_000_000),
            hits,
        }
    };
    let mut rows: Vec<FlowRow> = described.iter().map(row).collect();
    rows.retain(|row| filter.stage.as_ref().is_none_or(|stage| *stage == row.stage));
    let place = |row: &FlowRow| pipeline::Stage::ALL.iter().position(|stage| stage.name() == row.stage);
    rows.sort_by_key(|row| (place(row), row.table));
    rows
}

/// Kind, id and name.
fn describe_object(scene: &Scene, object: Option<ObjectId>) -> (&'static str, String, String) {
    let slice = &scene.slice;
    let named = |name: Option<&String>| name.cloned().unwrap_or_default();
    match object {
        None => ("", String::new(), String::new()),
        Some(ObjectId::Host(id)) => {
            ("host", id.to_string(), named(slice.hosts.get(&id).map(|host| &host.name)))
        }
        Some(ObjectId::Network(id)) => {
            ("network", id.to_string(), named(slice.networks.get(&id).map(|network| &network.name)))
        }
        Some(ObjectId::ExternalNetwork(id)) => {
            let name = slice.external_networks.get(&id).map(|network| &network.name);
            ("external network", id.to_string(), named(name))
        }
        Some(ObjectId::Router(id)) => {
            ("router", id.to_string(), named(slice.routers.get(&id).map(|router| &router.name)))
        }
        Some(ObjectId::Port(id) | ObjectId::RoutedPort(id)) => {
            let address = slice.ports.get(&id).and_then(|port| port.addresses.first());
            ("port", id.to_string(), address.map(ToString::to_string).unwrap_or_default())
        }
        Some(ObjectId::FloatingIp(id)) => {
            let address = slice.floating_ips.get(&id).map(|floating_ip| floating_ip.address);
            ("floating IP", id.to_string(), address.map(|address| address.to_string()).unwrap_or_default())
        }
        Some(ObjectId::PortForwarding(id)) => {
            let endpoint = slice.port_forwardings.get(&id);
            let endpoint = endpoint.map(|own| format!("{}:{}", own.address, own.external_port));
            ("port forwarding", id.to_string(), endpoint.unwrap_or_default())
        }
        Some(ObjectId::Block(id)) => {
            ("port block", id.to_string(), format!("{}:{}", id.address, id.first_port))
        }
        Some(ObjectId::SecurityGroup(id)) => {
            ("security group", id.to_string(), named(slice.security_groups.get(&id).map(|group| &group.name)))
        }
        Some(ObjectId::SecurityGroupRule(id)) => {
            let rule = slice.security_group_rules.get(&id);
            let group = rule.and_then(|rule| slice.security_groups.get(&rule.group));
            ("security group rule", id.to_string(), named(group.map(|group| &group.name)))
        }
        Some(ObjectId::Member(id)) => ("member", id.to_string(), id.addresses.to_string()),
        Some(ObjectId::VirtualAddress(id)) => ("virtual address", id.to_string(), id.address.to_string()),
    }
}

#[cfg(test)]
mod tests;
