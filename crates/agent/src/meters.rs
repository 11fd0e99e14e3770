//! What the agent measures of itself, and the page for Prometheus.
//!
//! A scrape asks the main loop for what it knows ([`Sample`]) and does the rest, which may take long, beside it.

use crate::Error;
use crate::control::Status;
use crate::machine::BlockUses;
use crate::metering::Count;
use dataplane::{SessionTables, Swept};
use metrics::{Latency, Page, families};
use model::MeteringLabelId;
use pipeline::table_set::TableSet;
use pipeline::tables::PortCounters;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// A question to the main loop.
pub(crate) type SampleQuestion = oneshot::Sender<Sample>;

/// What happened since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters {
    pub(crate) programming: Latency,
    pub(crate) programming_failures: u64,
    pub(crate) sweep: Latency,
    /// Of the last sweep; what was removed: of all.
    pub(crate) swept: Swept,
    /// The first change of the slice that is not programmed.
    changed: Option<Instant>,
}

impl Meters {
    /// The slice changed.
    pub(crate) fn slice_changed(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// The tables are those of the slice.
    pub(crate) fn programmed(&mut self, now: Instant) {
        if let Some(changed) = self.changed.take() {
            self.programming.observe(now.saturating_duration_since(changed));
        }
    }

    pub(crate) fn swept(&mut self, swept: Swept, elapsed: Duration) {
        self.sweep.observe(elapsed);
        self.swept = Swept {
            sessions_removed: self.swept.sessions_removed + swept.sessions_removed,
            mappings_removed: self.swept.mappings_removed + swept.mappings_removed,
            ports_freed: self.swept.ports_freed + swept.ports_freed,
            ..swept
        };
    }
}

/// What the main loop knows at the moment of a scrape.
pub(crate) struct Sample {
    pub(crate) status: Status,
    pub(crate) meters: Meters,
    pub(crate) ports: PortCounters,
    pub(crate) tables: Option<TableSet>,
    /// Without their use.
    pub(crate) blocks: BlockUses,
    pub(crate) sessions: Option<SessionTables>,
    /// What crossed gateways, by metering label.
    pub(crate) metered: BTreeMap<MeteringLabelId, Count>,
}

/// Binds the endpoint.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Metrics { address, source })
}

/// Serves scrapes until the main loop is gone.
pub(crate) async fn run(listener: TcpListener, questions: mpsc::Sender<SampleQuestion>) {
    let page = move || {
        let questions = questions.clone();
        async move {
            let (answer, wait) = oneshot::channel();
            questions.send(answer).await.ok()?;
            let sample = wait.await.ok()?;
            tokio::task::spawn_blocking(move || page(sample)).await.ok()
        }
    };
    if let Err(error) = metrics::serve(listener, page).await {
        tracing::error!(error = crate::chain(&error), "metrics are not served any more");
    }
}

fn page(mut sample: Sample) -> Page {
    count_mappings(&mut sample);
    let mut page = Page::default();
    let Sample { status, meters, ports, tables, blocks, .. } = &sample;
    page.gauge(&families::BUILD, &["agent", &status.version], 1);
    packets(&mut page, status);
    for (direction, packets, bytes) in [
        ("sent", ports.sent_packets, ports.sent_bytes),
        ("delivered", ports.delivered_packets, ports.delivered_bytes),
    ] {
        page.counter(&families::PORT_PACKETS, &[direction], packets);
        page.counter(&families::PORT_BYTES, &[direction], bytes);
    }
    page.gauge(&families::SESSIONS, &[], meters.swept.sessions_alive as u64);
    page.gauge(&families::MAPPINGS, &[], meters.swept.mappings_alive as u64);
    for (what, count) in [
        ("sessions", meters.swept.sessions_removed),
        ("mappings", meters.swept.mappings_removed),
        ("ports", meters.swept.ports_freed),
    ] {
        page.counter(&families::SWEPT, &[what], count as u64);
    }
    for (label, count) in &sample.metered {
        let label = label.to_string();
        page.counter(&families::METERING_PACKETS, &[&label], count.packets);
        page.counter(&families::METERING_BYTES, &[&label], count.bytes);
    }
    page.latency(&families::SWEEP_SECONDS, &[], &meters.sweep);
    page.latency(&families::PROGRAMMING_SECONDS, &[], &meters.programming);
    page.counter(&families::PROGRAMMING_FAILURES, &[], meters.programming_failures);
    let [active, retiring, granted, used] = blocks.sums();
    page.gauge(&families::NAT_BLOCKS, &["active"], active);
    page.gauge(&families::NAT_BLOCKS, &["retiring"], retiring);
    page.gauge(&families::NAT_PORTS, &["granted"], granted);
    page.gauge(&families::NAT_PORTS, &["used"], used);
    tables.iter().for_each(|tables| table_entries(&mut page, tables));
    states(&mut page, status);
    page
}

/// Of a table that cannot be read to its end nothing is told.
fn count_mappings(sample: &mut Sample) {
    let Some(tables) = &sample.sessions else { return };
    for row in tables.mappings() {
        match row {
            Ok((key, mapping)) => sample.blocks.count(&key, &mapping),
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "mappings not counted");
                sample.blocks = BlockUses::default();
                return;
            }
        }
    }
}

/// The status' counters, by the first word of their names.
fn packets(page: &mut Page, status: &Status) {
    for (name, value) in &status.counters {
        let mut words = name.splitn(3, '.');
        match (words.next(), words.next(), words.next()) {
            (Some("drop"), Some(stage), Some(reason)) => {
                page.counter(&families::DROPS, &[stage, reason], *value);
            }
            (Some("punt"), Some(kind), None) => page.counter(&families::PUNTS, &[kind], *value),
            (Some("bfd"), Some("refused"), Some(reason)) => {
                page.counter(&families::BFD_REFUSED, &[reason], *value);
            }
            (Some("agent"), Some(what), None) => page.counter(&families::EVENTS_LEFT, &[what], *value),
            (Some(edge), None, None) => page.counter(&families::PACKETS, &[edge], *value),
            _ => {}
        }
    }
}

fn states(page: &mut Page, status: &Status) {
    let mut count = |family, states: [(&str, usize); 2]| {
        for (state, count) in states {
            page.gauge(family, &[state], count as u64);
        }
    };
    let programmed = status.ports.iter().filter(|port| port.programmed).count();
    count(&families::PORTS, [("programmed", programmed), ("waiting", status.ports.len() - programmed)]);
    let up = status.uplinks.iter().filter(|uplink| uplink.up).count();
    count(&families::UPLINKS, [("up", up), ("down", status.uplinks.len() - up)]);
    let resolved = status.neighbors.iter().filter(|neighbor| neighbor.mac.is_some()).count();
    count(&families::NEIGHBORS, [("resolved", resolved), ("asked", status.neighbors.len() - resolved)]);
    for state in ["up", "init", "down", "admin-down"] {
        let peers = status.peers.iter().filter(|peer| peer.state == state).count();
        page.gauge(&families::BFD_PEERS, &[state], peers as u64);
    }
    page.gauge(&families::REVISION, &["told"], status.revision);
    page.gauge(&families::REVISION, &["programmed"], status.programmed_revision);
    page.gauge(&families::CONNECTED, &[], u64::from(status.connected));
    page.gauge(&families::PROBLEMS, &[], status.problems.len() as u64);
}

fn table_entries(page: &mut Page, tables: &TableSet) {
    macro_rules! entries {
        ($($table:ident)*) => {
            $(page.gauge(&families::TABLE_ENTRIES, &[stringify!($table)], tables.$table.len() as u64);)*
        };
    }
    entries! {
        ports port_addresses networks stations neighbors routes externals uplinks gateways external_addresses
        forwardings floating_by_fixed snat own_blocks block_owners vteps services
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{PortStatus, UplinkStatus};

    #[test]
    fn a_page_tells_what_the_agent_knows() {
        let counters =
            [("in-port", 10), ("drop.route.no-route", 2), ("punt.ttl-exceeded", 1), ("bfd.refused.ttl", 4)];
        let port = PortStatus {
            port_id: crate::scene::fixture::port_id(1),
            link: "tap1".to_owned(),
            ifindex: 11,
            programmed: true,
        };
        let uplink =
            UplinkStatus { physical_network: "p".to_owned(), link: "u".to_owned(), ifindex: 0, up: false };
        let status = Status {
            version: "0.1.0".to_owned(),
            counters: counters.map(|(name, value)| (name.to_owned(), value)).into(),
            ports: vec![port],
            uplinks: vec![uplink],
            connected: true,
            ..Status::default()
        };
        let (mut meters, now) = (Meters::default(), Instant::now());
        meters.slice_changed(now);
        meters.slice_changed(now + Duration::from_millis(30));
        meters.programmed(now + Duration::from_millis(40));
        meters.programmed(now + Duration::from_secs(9));
        let swept = Swept { sessions_alive: 5, sessions_removed: 1, ..Swept::default() };
        meters.swept(swept, Duration::from_millis(1));
        meters.swept(swept, Duration::from_millis(1));
        let sample = Sample {
            status,
            meters,
            ports: PortCounters { sent_packets: 3, ..PortCounters::default() },
            tables: Some(TableSet { vteps: BTreeMap::new(), ..TableSet::default() }),
            blocks: BlockUses::default(),
            sessions: None,
            metered: BTreeMap::from([(MeteringLabelId::MIN, Count { packets: 7, bytes: 700 })]),
        };
        let text = page(sample).text();
        for want in [
            "nanboku_build_info{part=\"agent\",version=\"0.1.0\"} 1.0\n",
            "nanboku_agent_packets_total{edge=\"in-port\"} 10\n",
            "nanboku_agent_drops_total{stage=\"route\",reason=\"no-route\"} 2\n",
            "nanboku_agent_punts_total{kind=\"ttl-exceeded\"} 1\n",
            "nanboku_agent_bfd_refused_total{reason=\"ttl\"} 4\n",
            "nanboku_agent_port_packets_total{direction=\"sent\"} 3\n",
            "nanboku_agent_ports{state=\"programmed\"} 1.0\n",
            "nanboku_agent_uplinks{state=\"down\"} 1.0\n",
            "nanboku_agent_sessions 5.0\n",
            "nanboku_agent_swept_total{what=\"sessions\"} 2\n",
            "nanboku_agent_connected 1.0\n",
            "nanboku_agent_programming_seconds_bucket{le=\"0.05\"} 1\n",
            "nanboku_agent_programming_seconds_count 1\n",
            "nanboku_agent_table_entries{table=\"vteps\"} 0.0\n",
            "nanboku_metering_bytes_total{label_id=\"00000000-0000-0000-0000-000000000000\"} 700\n",
        ] {
            assert!(text.contains(want), "'{want}' in\n{text}");
        }
    }
}
