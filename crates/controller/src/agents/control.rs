//! The control loop: one task that turns what agents and store say into transactions, and publishes the
//! snapshots from which slices are made.
//!
//! All the controller's own writes happen here, one after the other, so they cannot race with one another; with
//! the API's they cannot because each is a transaction of the store. A change of the API is seen here, settled
//! (blocks, bindings, status), and only then published: an agent gets one delta for it, not two.

use super::Settings;
use super::bounds;
use super::hub::{Hub, now_ms};
use super::liveness::Liveness;
use super::programmed::Acked;
use super::registration::{Refused, Registration};
use super::settle::{Batch, Circumstances, Facts, Outcome, settle};
use crate::blocks;
use crate::blocks::retire::Report;
use crate::nat_log::NatLog;
use crate::virtual_addresses::Announcement;
use model::resource::Host;
use model::{HostId, RouterId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Snapshot, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What a stream tells the loop.
pub(super) enum Event {
    Hello(Box<Hello>),
    Acked {
        host: HostId,
        connection: u64,
        acked: Acked,
    },
    /// All links the host has now, and how it uses its port blocks.
    Status {
        host: HostId,
        connection: u64,
        links: BTreeSet<String>,
        blocks: Report,
    },
    BlocksWanted {
        host: HostId,
        router: RouterId,
    },
    Announced(Announcement),
    Closed {
        host: HostId,
        connection: u64,
    },
}

/// A stream that wants to be let in.
pub(super) struct Hello {
    pub(super) registration: Registration,
    pub(super) connection: u64,
    pub(super) questions: mpsc::Sender<proto::Question>,
    pub(super) replaced: CancellationToken,
    pub(super) reply: oneshot::Sender<Result<Host, Refused>>,
}

/// The ends of the loop that streams hold.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) settled: watch::Receiver<Arc<Snapshot>>,
}

/// The loop's own state. Nothing else touches it.
pub struct Control {
    store: Arc<Store>,
    hub: Arc<Hub>,
    settings: Settings,
    facts: Arc<Facts>,
    nat_log: Option<Arc<NatLog>>,
    /// What the NAT log knows.
    logged: Arc<Snapshot>,
    links: HashMap<HostId, BTreeSet<String>>,
    /// None until the first step is done.
    settled: Option<Arc<Snapshot>>,
    published: watch::Sender<Arc<Snapshot>>,
    events: mpsc::Receiver<Event>,
    revisions: watch::Receiver<u64>,
    /// The instant by which the last step decided what is live and what has rested.
    looked_at: Instant,
    /// The same, in milliseconds since 1970.
    looked_at_ms: i64,
    /// What the last step took for lost.
    lost: BTreeSet<HostId>,
    /// The last step failed, or there was none yet.
    retry_at: Option<Instant>,
}

impl Control {
    pub(super) fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        settings: Settings,
        nat_log: Option<Arc<NatLog>>,
    ) -> (Self, Handle) {
        let now = Instant::now();
        let snapshot = store.snapshot();
        let were_live = snapshot.hosts.values().filter(|host| host.live).map(|host| host.id);
        let facts = Facts {
            liveness: Liveness::new(settings.liveness_grace, were_live, now),
            acked: HashMap::new(),
            short: BTreeSet::new(),
            lost: BTreeSet::new(),
            lost_changed: false,
            surplus_since: HashMap::new(),
        };
        let (sender, events) = mpsc::channel(bounds::EVENTS_MAX);
        let (published, settled) = watch::channel(Arc::clone(&snapshot));
        let control = Self {
            revisions: store.watch(),
            store,
            hub,
            settings,
            facts: Arc::new(facts),
            nat_log,
            logged: snapshot,
            links: HashMap::new(),
            settled: None,
            published,
            events,
            looked_at: now,
            looked_at_ms: now_ms(),
            lost: BTreeSet::new(),
            retry_at: Some(now),
        };
        (control, Handle { events: sender, settled })
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut suspects = BTreeSet::new();
        loop {
            let events = tokio::select! {
                () = stop.cancelled() => return,
                events = self.next() => events,
            };
            let mut hellos = Vec::new();
            let mut batch = Batch { suspects: std::mem::take(&mut suspects), ..Batch::default() };
            for event in events {
                self.note(event, &mut hellos, &mut batch);
            }
            let batch = Arc::new(batch);
            let result = self.step(Arc::clone(&batch)).await;
            match result {
                Ok(outcome) => self.admit(hellos, outcome),
                Err(error) => {
                    suspects.clone_from(&batch.suspects);
                    self.postpone(hellos, &batch, error);
                }
            }
        }
    }

    /// Waits for something to do. What arrived together is handled together.
    async fn next(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let wake = self.wake_at();
        tokio::select! {
            count = self.events.recv_many(&mut events, bounds::BATCH_MAX) => {
                if count == 0 {
                    // No stream can come any more: the server has ended, `stop` follows.
                    std::future::pending::<()>().await;
                }
            }
            changed = self.revisions.changed() => {
                if changed.is_err() {
                    // The store is gone, and with it everything to do: wait for `stop`.
                    std::future::pending::<()>().await;
                }
                while events.len() < bounds::BATCH_MAX && let Ok(event) = self.events.try_recv() {
                    events.push(event);
                }
            }
            () = sleep_until(wake) => {}
        }
        self.revisions.mark_unchanged();
        events
    }

    /// When there is something to do though nobody says a word. Reckoned from the moment the last step looked at:
    /// what ended since then is due at once, not missed.
    fn wake_at(&self) -> Option<Instant> {
        if self.retry_at.is_some() {
            return self.retry_at;
        }
        let settled = self.settled.as_ref().filter(|_| !self.facts.short.is_empty());
        let rested = settled.and_then(|settled| blocks::next_rested(settled, self.looked_at_ms));
        let rested =
            rested.map(|end_ms| self.looked_at + Duration::from_millis(end_ms.abs_diff(self.looked_at_ms)));
        let liveness = &self.facts.liveness;
        let after = self.settings.block_reassign_after;
        let lost = after.and_then(|after| liveness.next_lost(after, self.looked_at));
        liveness.next_change(self.looked_at).into_iter().chain(rested).chain(lost).min()
    }

    fn facts(&mut self) -> &mut Facts {
        // Shared only while a step runs, and no step runs now.
        Arc::get_mut(&mut self.facts).expect("the facts are shared only during a step")
    }

    /// Takes what an event says into memory and into the next step.
    fn note(&mut self, event: Event, hellos: &mut Vec<Hello>, batch: &mut Batch) {
        match event {
            Event::Hello(hello) => {
                batch.registrations.push(hello.registration.clone());
                hellos.push(*hello);
            }
            Event::Acked { host, connection, acked } => {
                if self.hub.is_current(host, connection) {
                    self.hub.programmed(host, acked.revision);
                    let facts = self.facts();
                    facts.liveness.programmed(host);
                    facts.acked.insert(host, acked);
                    batch.suspects.insert(host);
                }
            }
            Event::Status { host, connection, links, blocks } => {
                if self.hub.is_current(host, connection) {
                    batch.block_uses.insert(host, blocks);
                    let former = self.links.insert(host, links.clone()).unwrap_or_default();
                    batch.links.extend(links.difference(&former).map(|link| (host, link.clone())));
                }
            }
            Event::BlocksWanted { host, router } => drop(batch.blocks_wanted.insert((router, host))),
            Event::Announced(announcement) => batch.announced.push(announcement),
            Event::Closed { host, connection } => {
                if self.hub.closed(host, connection) {
                    let facts = self.facts();
                    facts.liveness.disconnected(host, Instant::now());
                    facts.acked.remove(&host);
                }
            }
        }
    }

    /// One transaction; then the new state is published.
    async fn step(&mut self, batch: Arc<Batch>) -> Result<Outcome, StoreError> {
        let now = Instant::now();
        let now_ms = now_ms();
        self.look_for_lost(now);
        let store = Arc::clone(&self.store);
        let facts = Arc::clone(&self.facts);
        let (nat_log, logged) = (self.nat_log.clone(), Arc::clone(&self.logged));
        let settled = self.settled.clone();
        let (base_mac, block_hold) = (self.settings.dvr_base_mac, self.settings.block_hold);
        let transact = move || {
            let outcome = store.transact(|transaction| {
                let mut rng = rand::rng();
                let circumstances = Circumstances { base_mac, block_hold, now, now_ms, rng: &mut rng };
                Ok::<_, StoreError>(settle(transaction, settled.as_deref(), &facts, &batch, circumstances))
            })?;
            // Before anybody is told of it.
            if let Some(log) = &nat_log
                && let Err(error) = log.record(&logged, &outcome.settled, now_ms)
            {
                tracing::error!(%error, "the NAT log cannot be written; it is repaired at the next event");
            }
            Ok::<_, StoreError>(outcome)
        };
        let outcome = tokio::task::spawn_blocking(transact).await;
        let outcome = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        (self.looked_at, self.looked_at_ms) = (now, now_ms);
        self.after(&outcome);
        Ok(outcome)
    }

    /// Which hosts have been away for too long to keep their blocks.
    fn look_for_lost(&mut self, now: Instant) {
        let Some(after) = self.settings.block_reassign_after else { return };
        let snapshot = self.store.snapshot();
        let hosts = snapshot.hosts.keys().copied();
        let lost: BTreeSet<HostId> =
            hosts.filter(|host| self.facts.liveness.is_lost(*host, after, now)).collect();
        let lost_changed = lost != self.lost;
        let facts = self.facts();
        facts.lost = lost;
        facts.lost_changed = lost_changed;
    }

    fn after(&mut self, outcome: &Outcome) {
        self.retry_at = None;
        let settled = Arc::clone(&outcome.settled);
        self.logged = Arc::clone(&settled);
        let now_ms = self.looked_at_ms;
        self.lost.clone_from(&self.facts.lost);
        let facts = self.facts();
        facts.short.clone_from(&outcome.short);
        let is_surplus = |router: &RouterId, host: &HostId| {
            outcome.surplus.get(host).is_none_or(|routers| routers.contains(router))
                && settled.hosts.contains_key(host)
        };
        facts.surplus_since.retain(|(router, host), _| is_surplus(router, host));
        for (host, routers) in &outcome.surplus {
            for router in routers {
                facts.surplus_since.entry((*router, *host)).or_insert(now_ms);
            }
        }
        self.hub.retain(|host| settled.hosts.contains_key(&host));
        self.links.retain(|host, _| settled.hosts.contains_key(host));
        self.settled = Some(settled);
        // May be newer than our transaction by one of the API's. That one is settled in the next step, which
        // its revision has caused already, and which starts from what our own transaction left.
        self.published.send_replace(self.store.snapshot());
    }

    /// Answers the streams that came with this step.
    fn admit(&mut self, hellos: Vec<Hello>, outcome: Outcome) {
        let now = Instant::now();
        for (hello, host) in hellos.into_iter().zip(outcome.hosts) {
            if let Ok(host) = &host {
                tracing::info!(host = %host.name, vtep = %host.vtep, "agent connected");
                self.hub.opened(host.id, hello.connection, hello.questions, hello.replaced);
                let facts = self.facts();
                facts.liveness.connected(host.id, now);
                facts.acked.remove(&host.id);
            }
            // The stream may have broken meanwhile; then its Closed follows.
            let _ = hello.reply.send(host);
        }
    }

    /// The store refused: nothing happened, and everything is tried again.
    fn postpone(&mut self, hellos: Vec<Hello>, batch: &Batch, error: StoreError) {
        tracing::error!(error = %chain(&error), "the store refused a change of the controller's own");
        self.retry_at = Some(Instant::now() + bounds::RETRY_AFTER);
        for (host, link) in &batch.links {
            if let Some(links) = self.links.get_mut(host) {
                links.remove(link);
            }
        }
        // Dropping the hellos tells their streams to come again.
        drop(hellos);
    }
}

/// An error with its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
