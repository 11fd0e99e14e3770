//! What the rest of the controller may ask about agents: who is there, and the sessions they hold.

use super::bounds;
use model::HostId;
use proto::{SessionsQuery, Status};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;
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
    pub uplinks: Vec<Uplink>,
    pub counters: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub physical_network: String,
    pub up: bool,
}

/// A host's sessions, as its agent told them.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionsOf {
    pub host: HostId,
    pub host_name: String,
    /// None: the host did not answer in time, or is not connected.
    pub rows: Option<Vec<serde_json::Value>>,
}

/// Shared by the streams, the control loop and the API. Locks are held for moments only, never across an await.
pub struct Hub {
    store: Arc<Store>,
    presences: Mutex<BTreeMap<HostId, Presence>>,
    streams: Mutex<HashMap<HostId, Stream>>,
    answers: Mutex<Answers>,
    next_number: AtomicU64,
}

/// Who waits for the answer of a host to a query.
type Answers = HashMap<(u64, HostId), oneshot::Sender<Vec<u8>>>;

/// How to reach a connected agent.
struct Stream {
    connection: u64,
    queries: mpsc::Sender<SessionsQuery>,
    /// Ends the stream.
    replaced: CancellationToken,
}

impl Hub {
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            presences: Mutex::default(),
            streams: Mutex::default(),
            answers: Mutex::default(),
            next_number: AtomicU64::new(1),
        }
    }

    pub fn presence(&self, host: HostId) -> Option<Presence> {
        lock(&self.presences).get(&host).cloned()
    }

    /// Asks every connected agent for up to `rows_max` of its sessions and waits until all have answered or
    /// `timeout` is over. One entry per host of the cluster, by name.
    pub async fn sessions(&self, rows_max: u32, timeout: Duration) -> Vec<SessionsOf> {
        let deadline = tokio::time::Instant::now() + timeout;
        let query = self.next_number();
        let snapshot = self.store.snapshot();
        let mut hosts: Vec<_> = snapshot.hosts.values().collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        let asked: Vec<_> = hosts
            .iter()
            .map(|host| self.ask(host.id, SessionsQuery { query, rows_max, ..Default::default() }))
            .collect();
        let mut sessions = Vec::with_capacity(hosts.len());
        for (host, answer) in hosts.iter().zip(asked) {
            let rows = match answer {
                Some(answer) => timeout_at(deadline, answer).await.ok().and_then(Result::ok),
                None => None,
            };
            let rows = rows.and_then(|rows| parse_rows(&host.name, &rows));
            lock(&self.answers).remove(&(query, host.id));
            sessions.push(SessionsOf { host: host.id, host_name: host.name.clone(), rows });
        }
        sessions
    }

    /// Asks one host for the sessions whose sender the outside sees as that endpoint. None: it did not answer.
    pub async fn sessions_outside(
        &self,
        host: HostId,
        (address, port): (Ipv4Addr, u16),
        rows_max: u32,
        timeout: Duration,
    ) -> Option<Vec<serde_json::Value>> {
        let query = self.next_number();
        let (outside_address, outside_port) = (address.to_string(), port.into());
        let answer = self.ask(host, SessionsQuery { query, rows_max, outside_address, outside_port });
        let answer = match answer {
            Some(answer) => tokio::time::timeout(timeout, answer).await.ok().and_then(Result::ok),
            None => None,
        };
        lock(&self.answers).remove(&(query, host));
        parse_rows(&host.to_string(), &answer?)
    }

    fn ask(&self, host: HostId, query: SessionsQuery) -> Option<oneshot::Receiver<Vec<u8>>> {
        let queries = lock(&self.streams).get(&host)?.queries.clone();
        let (sender, receiver) = oneshot::channel();
        lock(&self.answers).insert((query.query, host), sender);
        queries.try_send(query).ok()?;
        Some(receiver)
    }

    /// An agent's answer; one that nobody waits for any more is dropped.
    pub(super) fn answered(&self, host: HostId, answer: proto::SessionsAnswer) {
        if let Some(waiting) = lock(&self.answers).remove(&(answer.query, host)) {
            // The asker may have left this very moment.
            let _ = waiting.send(answer.rows);
        }
    }

    /// A stream opened. A stream the host had before ends.
    pub(super) fn opened(
        &self,
        host: HostId,
        connection: u64,
        queries: mpsc::Sender<SessionsQuery>,
        replaced: CancellationToken,
    ) {
        let former = lock(&self.streams).insert(host, Stream { connection, queries, replaced });
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
        self.update(host, |presence| {
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

fn parse_rows(host_name: &str, rows: &[u8]) -> Option<Vec<serde_json::Value>> {
    serde_json::from_slice(rows)
        .inspect_err(|error| tracing::warn!(host = host_name, %error, "answer about sessions does not parse"))
        .ok()
}

/// What these locks guard is whole between any two statements: a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    now_ms().div_euclid(1000)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
