//! What the rest of the controller may ask about agents: who is there, and what they see.

use super::bounds;
use super::inquiry::{Inquiry, Part, Told, Waiting};
use model::HostId;
use model::question::Question;
use proto::Status;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::Store;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What is known of a host's agent, with the age of it. Of a host that never came since the controller started
/// there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    pub connected: bool,
    /// Seconds since 1970: the stream was opened, or broke.
    pub since: i64,
    /// Seconds since 1970: last message of the agent.
    pub last_seen: i64,
    /// Last revision the agent has in its tables.
    pub programmed_revision: Option<u64>,
    /// Revision of what the agent was told last.
    pub told: u64,
    /// External ports in use on the host, as it said last: of each block the protocol that uses most.
    pub nat_ports_used: u64,
    pub uplinks: Vec<Uplink>,
    pub counters: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub physical_network: String,
    pub up: bool,
}

/// Shared by the streams, the control loop and the API. Locks are held for moments only, never across an await.
pub struct Hub {
    store: Arc<Store>,
    presences: Mutex<BTreeMap<HostId, Presence>>,
    streams: Mutex<HashMap<HostId, Stream>>,
    waiting: Waiting,
    next_number: AtomicU64,
}

/// How to reach a connected agent.
struct Stream {
    connection: u64,
    questions: mpsc::Sender<proto::Question>,
    /// Ends the stream.
    replaced: CancellationToken,
}

impl Hub {
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            presences: Mutex::default(),
            streams: Mutex::default(),
            waiting: Waiting::default(),
            next_number: AtomicU64::new(1),
        }
    }

    pub fn presence(&self, host: HostId) -> Option<Presence> {
        lock(&self.presences).get(&host).cloned()
    }

    /// Hosts whose agent can be asked now.
    pub fn connected(&self) -> BTreeSet<HostId> {
        lock(&self.streams).keys().copied().collect()
    }

    /// Asks these hosts. Whoever says nothing for `patience` is given up; who is not connected, at once.
    pub fn ask(
        &self,
        hosts: impl IntoIterator<Item = HostId>,
        question: &Question,
        patience: Duration,
    ) -> Inquiry {
        let number = self.next_number();
        let snapshot = self.store.snapshot();
        let hosts: Vec<HostId> = hosts.into_iter().collect();
        let name = |host: &HostId| Some((*host, snapshot.hosts.get(host)?.name.clone()));
        let names = hosts.iter().filter_map(name).collect();
        let (mut inquiry, sender) = Inquiry::new(number, Arc::clone(&self.waiting), names, patience);
        // A question is plain data: it always has a JSON.
        let text = serde_json::to_vec(question).unwrap_or_default();
        for host in hosts {
            let questions = lock(&self.streams).get(&host).map(|stream| stream.questions.clone());
            let Some(questions) = questions else {
                inquiry.absent(host, "it is not connected");
                continue;
            };
            inquiry.expect(host, sender.clone());
            if questions.try_send(proto::Question { number, question: text.clone() }).is_err() {
                inquiry.absent(host, "it has too many questions to answer");
            }
        }
        inquiry
    }

    /// All rows of one host's answer. None: it did not answer.
    pub async fn ask_one(
        &self,
        host: HostId,
        question: &Question,
        patience: Duration,
    ) -> Option<Vec<serde_json::Value>> {
        let mut inquiry = self.ask([host], question, patience);
        let mut rows = Vec::new();
        while let Some((name, part)) = inquiry.next().await {
            match part {
                Part::Rows(lines) => rows.extend(parse_rows(&name, &lines)?),
                Part::End(result) => result.ok()?,
            }
        }
        Some(rows)
    }

    /// Who waits for that host's answer to that question, if anybody does.
    pub(super) fn waiting(&self, number: u64, host_name: &str) -> Option<(HostId, mpsc::Sender<Told>)> {
        let host = self.store.snapshot().host_by_name(host_name)?.id;
        let sender = lock(&self.waiting).get(&(number, host)).cloned()?;
        Some((host, sender))
    }

    /// A stream opened. A stream the host had before ends.
    pub(super) fn opened(
        &self,
        host: HostId,
        connection: u64,
        questions: mpsc::Sender<proto::Question>,
        replaced: CancellationToken,
    ) {
        let former = lock(&self.streams).insert(host, Stream { connection, questions, replaced });
        if let Some(former) = former {
            former.replaced.cancel();
        }
        let now = now_s();
        self.update(host, |presence| {
            *presence = Presence { connected: true, since: now, last_seen: now, ..Presence::default() };
        });
    }

    /// A stream ended. False if another one of the host has taken its place.
    pub(super) fn closed(&self, host: HostId, connection: u64) -> bool {
        let mut streams = lock(&self.streams);
        if streams.get(&host).is_none_or(|stream| stream.connection != connection) {
            return false;
        }
        streams.remove(&host);
        drop(streams);
        self.update(host, |presence| {
            presence.connected = false;
            presence.since = now_s();
        });
        true
    }

    /// Is that the host's stream?
    pub(super) fn is_current(&self, host: HostId, connection: u64) -> bool {
        lock(&self.streams).get(&host).is_some_and(|stream| stream.connection == connection)
    }

    pub(super) fn heard(&self, host: HostId) {
        self.update(host, |presence| presence.last_seen = now_s());
    }

    /// The agent was sent what brings it to that revision.
    pub(super) fn told(&self, host: HostId, revision: u64) {
        self.update(host, |presence| presence.told = revision);
    }

    pub(super) fn programmed(&self, host: HostId, revision: u64) {
        self.update(host, |presence| presence.programmed_revision = Some(revision));
    }

    pub(super) fn status(&self, host: HostId, status: Status) {
        let uplinks = status.uplinks.into_iter().take(bounds::PORTS_MAX);
        let uplinks = uplinks
            .map(|uplink| Uplink { physical_network: uplink.physical_network, up: uplink.up })
            .collect();
        let counters = status.counters.into_iter().take(bounds::PORTS_MAX);
        let counters = counters.map(|counter| (counter.name, counter.value)).collect();
        let used = status.blocks.iter().map(|block| u64::from(block.ports_used)).sum();
        self.update(host, |presence| {
            presence.nat_ports_used = used;
            presence.uplinks = uplinks;
            presence.counters = counters;
        });
    }

    /// Hosts that were deleted are forgotten.
    pub(super) fn retain(&self, exists: impl Fn(HostId) -> bool) {
        lock(&self.presences).retain(|host, _| exists(*host));
    }

    /// For connections and queries.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn update(&self, host: HostId, change: impl FnOnce(&mut Presence)) {
        change(lock(&self.presences).entry(host).or_default());
    }
}

fn parse_rows(host_name: &str, lines: &[u8]) -> Option<Vec<serde_json::Value>> {
    let rows = serde_json::Deserializer::from_slice(lines).into_iter().collect::<Result<_, _>>();
    rows.inspect_err(|error| tracing::warn!(host = host_name, %error, "answer does not parse")).ok()
}

/// What these locks guard is whole between any two statements: a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    now_ms().div_euclid(1000)
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
