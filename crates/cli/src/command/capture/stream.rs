//! What hosts tell of packets, in the order of time.
//!
//! Hosts tell one after the other, a moment late; rows wait here for that moment, so many of them at most.

use crate::answers::Answers;
use crate::client::Query;
use crate::resource::Context;
use model::capture::{CaptureRow, Count, Seen};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How much later than another a host may tell.
const HOLD: Duration = Duration::from_millis(150);
/// The first capture of a host begins when its programs are loaded, and is waited for so long at most.
const BEGIN: Duration = Duration::from_secs(10);
/// Rows that wait at most; beyond, the oldest goes without waiting.
const WAITING_MAX: usize = 50_000;

pub(crate) enum Item {
    Seen(Box<Seen>),
    /// Nothing for now: a good moment to flush.
    Idle,
}

pub(crate) struct Stream {
    answers: Answers,
    /// By time, and by order of arrival where that is the same; with the moment it came here.
    waiting: BTreeMap<(u64, u64), (Instant, Box<Seen>)>,
    number: u64,
    counts: BTreeMap<String, Count>,
    counted_anew: bool,
    until: Option<Instant>,
    /// How long it lasts, from the moment on that a host looks.
    lasts: Option<Duration>,
    interrupt: Signal,
    terminate: Signal,
    ended: bool,
    flushed: bool,
}

impl Stream {
    pub(crate) async fn open(cx: &Context, query: &Query, lasts: Option<Duration>) -> anyhow::Result<Self> {
        let lent: Vec<(&str, &str)> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let answers = cx.client.answers("/nanboku/v1/capture", &lent).await?;
        Ok(Self {
            answers,
            waiting: BTreeMap::new(),
            number: 0,
            counts: BTreeMap::new(),
            counted_anew: false,
            until: lasts.map(|lasts| Instant::now() + BEGIN + lasts),
            lasts,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            ended: false,
            flushed: true,
        })
    }

    /// None: it is over, by itself or because somebody interrupted.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        loop {
            if let Some(seen) = self.due() {
                self.flushed = false;
                return Ok(Some(Item::Seen(seen)));
            }
            if self.ended && self.waiting.is_empty() {
                return Ok(None);
            }
            if !std::mem::replace(&mut self.flushed, true) {
                return Ok(Some(Item::Idle));
            }
            self.wait().await?;
        }
    }

    /// The oldest row, if it has waited long enough.
    fn due(&mut self) -> Option<Box<Seen>> {
        let due = Instant::now().checked_sub(HOLD);
        let (_, (came, _)) = self.waiting.first_key_value()?;
        let waited = due.is_some_and(|due| *came <= due) || self.waiting.len() > WAITING_MAX;
        if !(self.ended || waited) {
            return None;
        }
        self.waiting.pop_first().map(|(_, (_, seen))| seen)
    }

    async fn wait(&mut self) -> anyhow::Result<()> {
        let hold = self.waiting.first_key_value().map(|(_, (came, _))| *came + HOLD);
        let wake = [hold, self.until].into_iter().flatten().min();
        let sleep = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake.into()).await,
                None => std::future::pending().await,
            }
        };
        if self.ended {
            return Ok(());
        }
        tokio::select! {
            row = self.answers.next() => match row? {
                Some(row) => {
                    let row = serde_json::from_slice(row)?;
                    self.take(row);
                }
                None => self.ended = true,
            },
            () = sleep => {}
            _ = self.interrupt.recv() => self.ended = true,
            _ = self.terminate.recv() => self.ended = true,
        }
        if self.until.is_some_and(|until| until <= Instant::now()) {
            self.ended = true;
        }
        Ok(())
    }

    fn take(&mut self, row: CaptureRow) {
        match row {
            CaptureRow::Seen(seen) => {
                let key = (seen.at_ns, self.number);
                self.number += 1;
                self.waiting.insert(key, (Instant::now(), seen));
            }
            CaptureRow::Count(count) => {
                self.counted_anew = true;
                if let Some(lasts) = self.lasts.take_if(|_| count.looking) {
                    self.until = Some(Instant::now() + lasts);
                }
                self.counts.insert(count.host.clone(), count);
            }
        }
    }

    /// Whether hosts have counted since the last time this was asked.
    pub(crate) fn counted_anew(&mut self) -> bool {
        std::mem::take(&mut self.counted_anew)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.counts.values().map(|count| count.lost).sum()
    }

    /// Hosts that look on.
    pub(crate) fn hosts(&self) -> usize {
        self.counts.values().filter(|count| count.looking).count()
    }

    /// Says who did not look on.
    pub(crate) fn warn(&self) {
        self.answers.warn();
    }
}
