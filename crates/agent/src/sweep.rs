//! The sweep's thread. A sweep of a full table takes a second and more, and the main loop must not wait for it: it says
//! when and by which tables, and hears what came of it.

use crate::flow_log::FlowLog;
use crate::flows::SharedLedger;
use crate::metering::{Metering, Meters};
use crate::scene::Scene;
use dataplane::{Fate, Sweeper, Swept, Timeouts};
use pipeline::nat::BindingKey;
use pipeline::table_set::TableSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// Between the starts of two sweeps.
const EVERY: Duration = Duration::from_secs(1);
/// A sweep of a full table takes long; it may have this share of the time at most: 1/20.
const SHARE: u32 = 20;

/// What a sweep goes by.
pub(crate) struct Job {
    pub(crate) timeouts: Timeouts,
    /// What the kernel's tables hold.
    pub(crate) programmed: Arc<TableSet>,
    /// External endpoints that were closed: what came in by them ends.
    pub(crate) closed: Vec<BindingKey>,
    /// For the flow log; none: there is none.
    pub(crate) scene: Option<Scene>,
    /// Labels to count for.
    pub(crate) meters: Meters,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) swept: Result<Swept, dataplane::Error>,
    pub(crate) elapsed: Duration,
}

/// The main loop's side: one sweep at a time.
pub(crate) struct Sweeping {
    jobs: SyncSender<Job>,
    /// None: one is under way.
    due: Option<Instant>,
}

impl Sweeping {
    /// Starts the thread; it ends with the main loop. `ledger` is told of sessions that ended.
    ///
    /// # Errors
    /// There are no more threads.
    pub(crate) fn start(
        worker: Worker,
        outcomes: mpsc::Sender<Outcome>,
        now: Instant,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(1);
        let run = move || worker.run(&queue, &outcomes);
        std::thread::Builder::new().name("sweep".to_owned()).spawn(run)?;
        Ok(Self { jobs, due: Some(now + EVERY) })
    }

    /// When the next one is to begin.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn begin(&mut self, job: Job) {
        self.due = None;
        if self.jobs.try_send(job).is_err() {
            tracing::error!("the sweep's thread is gone: sessions that are over stay");
        }
    }

    pub(crate) fn ended(&mut self, now: Instant, outcome: &Outcome) {
        self.due = Some(now + EVERY.max(outcome.elapsed * SHARE).saturating_sub(outcome.elapsed));
        match &outcome.swept {
            Ok(swept) if swept.sessions_removed + swept.mappings_removed > 0 => {
                tracing::debug!(
                    sessions = swept.sessions_removed,
                    mappings = swept.mappings_removed,
                    ports = swept.ports_freed,
                    "swept"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = crate::chain(error), "sweep failed"),
        }
    }
}

/// The thread's side.
pub(crate) struct Worker {
    pub(crate) sweeper: Sweeper,
    pub(crate) flow_log: Option<FlowLog>,
    /// What sessions that ended did.
    pub(crate) ledger: SharedLedger,
    /// What crossed gateways, by label.
    pub(crate) metering: Metering,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>, outcomes: &mpsc::Sender<Outcome>) {
        while let Ok(job) = jobs.recv() {
            let begin = Instant::now();
            self.sweeper.close(job.closed.iter().copied());
            let swept = self.sweep(&job);
            if outcomes.blocking_send(Outcome { swept, elapsed: begin.elapsed() }).is_err() {
                return;
            }
        }
    }

    /// Ends what is over, and takes down what ended and what began.
    fn sweep(&mut self, job: &Job) -> Result<Swept, dataplane::Error> {
        let (clock_ns, time) = (dataplane::clock_ns(), OffsetDateTime::now_utc());
        let mut look = self
            .flow_log
            .as_mut()
            .zip(job.scene.as_ref())
            .map(|(log, scene)| log.look(scene, clock_ns, time));
        let ledger = &self.ledger;
        let mut metering = self.metering.look(&job.meters, &job.programmed, clock_ns);
        let swept = self.sweeper.sweep(clock_ns, &job.timeouts, &job.programmed, &mut |session, fate| {
            if fate == Fate::Ended {
                // Numbers only: whole between any two statements.
                ledger.lock().unwrap_or_else(PoisonError::into_inner).note(session, &job.programmed, false);
            }
            if let Some(look) = &mut look {
                look.seen(session, fate);
            }
            metering.seen(session, fate);
        });
        metering.finish(swept.is_ok());
        if let Some(look) = look {
            look.finish();
        }
        swept
    }
}
