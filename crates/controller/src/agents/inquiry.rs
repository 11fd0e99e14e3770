//! Questions to agents, and their answers as they come.
//!
//! An answer is a stream of its own from the agent; its parts wait here for whoever asked, few of them, so that a
//! slow reader slows the agents down and nothing else. When the asker leaves, the streams are cancelled.

use super::hub::lock;
use model::HostId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Parts that wait for the asker, of all hosts together. A part is at most some 64 KiB.
const PARTS_MAX: usize = 8;

/// Something of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// JSON objects, each with a line end.
    Rows(Vec<u8>),
    /// The last part of a host: all is told, or why not.
    End(Result<(), String>),
}

/// A part, and whose.
pub(super) type Told = (HostId, Part);

/// Who waits for the answers to which question.
pub(super) type Waiting = Arc<Mutex<HashMap<(u64, HostId), mpsc::Sender<Told>>>>;

/// A question under way.
#[derive(Debug)]
pub struct Inquiry {
    number: u64,
    waiting: Waiting,
    told: mpsc::Receiver<Told>,
    /// Hosts that were not reached to begin with.
    absent: VecDeque<(HostId, String)>,
    /// Hosts that have not told all, and for how long each was waited for in vain.
    silent: BTreeMap<HostId, Duration>,
    names: BTreeMap<HostId, String>,
    patience: Duration,
}

impl Inquiry {
    /// Makes the way for answers of `hosts`, by name. The sender is for [`Inquiry::asked`].
    pub(super) fn new(
        number: u64,
        waiting: Waiting,
        names: BTreeMap<HostId, String>,
        patience: Duration,
    ) -> (Self, mpsc::Sender<Told>) {
        let (sender, told) = mpsc::channel(PARTS_MAX);
        let (absent, silent) = Default::default();
        (Self { number, waiting, told, absent, silent, names, patience }, sender)
    }

    /// The host is about to be asked: its answer is waited for from now on.
    pub(super) fn expect(&mut self, host: HostId, sender: mpsc::Sender<Told>) {
        lock(&self.waiting).insert((self.number, host), sender);
        self.silent.insert(host, Duration::ZERO);
    }

    /// The host was not reached.
    pub(super) fn absent(&mut self, host: HostId, reason: &str) {
        self.forget(host);
        self.absent.push_back((host, reason.to_owned()));
    }

    /// The next part with its host's name; none when every host has told all or was given up.
    pub async fn next(&mut self) -> Option<(String, Part)> {
        if let Some((host, reason)) = self.absent.pop_front() {
            return Some((self.name(host), Part::End(Err(reason))));
        }
        let longest = self.silent.values().max()?;
        let started = Instant::now();
        let told = tokio::time::timeout(self.patience.saturating_sub(*longest), self.told.recv()).await;
        let waited = started.elapsed();
        self.silent.values_mut().for_each(|silent| *silent += waited);
        match told {
            Ok(Some((host, part))) => {
                match part {
                    Part::Rows(_) => drop(self.silent.insert(host, Duration::ZERO)),
                    Part::End(_) => self.forget(host),
                }
                Some((self.name(host), part))
            }
            // Every sender is gone with what it had to say, or nothing was said for too long.
            Ok(None) | Err(_) => {
                let host = *self.silent.iter().max_by_key(|(_, silent)| **silent)?.0;
                self.forget(host);
                Some((self.name(host), Part::End(Err("it did not answer in time".to_owned()))))
            }
        }
    }

    fn name(&self, host: HostId) -> String {
        self.names.get(&host).cloned().unwrap_or_else(|| host.to_string())
    }

    fn forget(&mut self, host: HostId) {
        self.silent.remove(&host);
        lock(&self.waiting).remove(&(self.number, host));
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        let number = self.number;
        lock(&self.waiting).retain(|(question, _), _| *question != number);
    }
}
